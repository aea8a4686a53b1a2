"""What a report says, before it becomes Markdown or HTML: tables of cells, and the words around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vae_variants.analysis.advice import Advice, advise
from vae_variants.analysis.entries import LOOKS, SUPPORTS, Entry, best, distinct, prominent, ranks
from vae_variants.analysis.formatting import NOTHING, number
from vae_variants.analysis.run_summary import Facts, facts
from vae_variants.analysis.statistics import Interval, holm
from vae_variants.analysis.tables import metrics_of
from vae_variants.evaluation.metrics import data_name
from vae_variants.evaluation.sharpness import is_noise
from vae_variants.report.sections import BESIDE, LIKELIHOOD, SECTIONS, SHARP

__all__ = ["ROWS", "Cell", "Content", "Sheet", "content", "figure", "leaders", "noisy", "seeds", "sign"]

SIGNIFICANT = 0.05
ROWS = 200  # of a table, at most: GitHub shows no page of 500 kB


@dataclass(frozen=True)
class Cell:
    """`value` is what it is sorted by; `best` says that it cannot be told from the best of its column."""

    text: str = NOTHING
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: of each row its entry, and a cell for each of the columns."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, tuple[Cell, ...]], ...]
    of: int  # rows that there would be, if none was left out
    after: str = ""

    @property
    def kept(self) -> list[int]:
        """Those columns that are not empty throughout."""
        return [i for i in range(len(self.columns)) if any(cells[i].text != NOTHING for _, cells in self.rows)]


@dataclass(frozen=True)
class Content:
    """Everything that a report says of its entries. `shown` are the rows of its tables, `drawn` is how many its figures show."""

    suite: str
    entries: tuple[Entry, ...]
    shown: tuple[Entry, ...]
    drawn: int
    command: str
    missing: tuple[str, ...]
    older: tuple[str, ...]
    facts: Facts
    advice: Advice
    likelihood: tuple[Sheet, ...]
    sheets: tuple[Sheet, ...]


def content(suite: str, entries: Sequence[Entry], command: str, missing: Sequence[str] = (), older: Sequence[str] = ()) -> Content:
    shown, drawn = prominent(entries, ROWS), len(prominent(entries, LOOKS))
    parts = (tuple(entries), tuple(shown), drawn, command, tuple(missing), tuple(older), facts(entries), advise(entries))
    return Content(suite, *parts, tuple(likelihoods(entries, shown)), tuple(sections(entries, shown)))


def leaders(group: Sequence[Entry], metric: str) -> set[str]:
    """Keys of those runs that cannot be told from the best of several. Raises as `rankable` does."""
    runs = distinct(group)
    top = set(best(runs, metric))
    return {e.record.key for e in group if e.label in top} if len(runs) > 1 else set()


def likelihoods(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[Sheet]:
    """A table for each kind of pixels: ranks and differences are over all `entries`, and those `shown` are its rows."""
    found = []
    for support, title in SUPPORTS.items():
        group = [e for e in entries if e.record.support == support and e.interval("log_likelihood")]
        if not group:
            continue
        baseline, top = group[0], leaders(group, "log_likelihood")
        compared = {e.record.key: c for e in group if e.record.key != baseline.record.key and (c := e.compared("log_likelihood", baseline))}
        adjusted = dict(zip(compared, holm([c.p for c in compared.values()]), strict=True))
        least = min((c.smallest_p for c in compared.values()), default=1.0) * len(compared)
        tested = bool(compared) and least <= SIGNIFICANT
        places = ranks(distinct(group), "log_likelihood")
        place = {e.record.key: places[e.label] for e in distinct(group) if e.label in places and len(places) > 1}
        header = [LIKELIHOOD["log_likelihood"], "rank", f"Δ to {baseline.label}", "p"]
        header += [LIKELIHOOD[m] for m in ("elbo", "gap", "rate", "distortion", "bound_samples", "ess", "bits_per_dim", "active_units")]
        rows = []
        for e in shown:
            if e.record.support != support or not e.interval("log_likelihood"):
                continue
            key, mark = e.record.key, "≥ " if e.kind("log_likelihood") == "lower-bound" else ""
            change, elbo = compared.get(key), e.interval("elbo")
            cells = [cell(e.interval("log_likelihood"), mark, best=key in top)]
            cells += [Cell("–".join(map(str, dict.fromkeys(place[key]))), place[key][0]) if key in place else Cell()]
            cells += [Cell(number(change.difference, sign=True), change.difference.mean) if change else Cell()]
            cells += [Cell(f"{adjusted[key]:.3f}", adjusted[key]) if change and tested else Cell()]
            cells += [cell(elbo, "≥ "), cell(e.interval("gap"), mark) if elbo else Cell()]
            cells += [cell(e.interval(m)) for m in ("rate", "distortion", "bound_samples", "ess")]
            cells += [cell(e.interval("bits_per_dim"), sign(e, "bits_per_dim")), cell(e.interval("active_units")), seeds(e)]
            rows.append((e, tuple(cells)))
        after = ""
        if tested:
            after = f"p: exact sign-flip test of Δ over seeds, Holm-adjusted; it cannot be under {least:.2g} here."
        elif compared:
            alone = min(c.smallest_p for c in compared.values())
            after = f"No p is shown: over so few seeds an exact sign-flip test of Δ cannot give less than {alone:.2g}, "
            after += f"and {min(1.0, least):.2g} when Holm-adjusted."
        found.append(Sheet(f"{title[0].upper()}{title[1:]}", "", (*header, "n"), tuple(rows), len(group), after))
    return found


def sections(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[Sheet]:
    """The tables of `SECTIONS`, and one of the metrics that none of them names: a plug-in's."""
    data, found = data_name(entries[0].record.dataset["name"]), []
    known = set(LIKELIHOOD)
    for title, text, patterns in SECTIONS:
        columns = [(header.format(data=data), metric.format(data=data), scale) for header, metric, scale in patterns]
        known |= {metric for _, metric, _ in columns}
        found.append(section(title, text, entries, shown, columns, classifier(entries) if title == BESIDE else ""))
    arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
    better = {r["metric"]: f"{arrows[r['better']]} ({r['unit']})" for e in entries for r in e.record.rows}
    further = [(m + better[m], m, 1.0) for m in metrics_of(entries) if m not in known]
    found.append(section("Further metrics", "Not part of the tables above.", entries, shown, further))
    return [sheet for sheet in found if sheet.of]


def classifier(entries: Sequence[Entry]) -> str:
    """Which one the samples were compared by."""
    found = next((e.record.classifier for e in entries if e.record.classifier), None)
    return f"The classifier: digest `{found['digest'][:12]}`, test accuracy {found['test_accuracy']:.4f}." if found else ""


def section(
    title: str,
    text: str,
    entries: Sequence[Entry],
    shown: Sequence[Entry],
    columns: Sequence[tuple[str, str, float]],
    after: str = "",
) -> Sheet:
    """A column for each (header, metric, scale), a row for each of those `shown` that have any of them."""

    def has(e: Entry) -> bool:
        return any(e.interval(metric) for _, metric, _ in columns)

    rows = tuple((e, (*(figure(e, metric, scale) for _, metric, scale in columns), seeds(e))) for e in filter(has, shown))
    return Sheet(title, text, (*(header for header, _, _ in columns), "n"), rows, sum(map(has, entries)), after)


def cell(found: Interval | None, mark: str = "", scale: float = 1.0, best: bool = False) -> Cell:
    return Cell() if found is None else Cell(mark + number(found, scale=scale), found.mean * scale, best)


def figure(entry: Entry, metric: str, scale: float = 1.0, best: bool = False) -> Cell:
    """A metric as tables show it: a bound as one, and what noise has sharpened as noise."""
    mark = "noise: " if metric in SHARP and noisy(entry) else sign(entry, metric)
    return cell(entry.interval(metric), mark, scale, best)


def seeds(entry: Entry) -> Cell:
    """How many seeds there are, and of how many."""
    status = list(entry.record.status.values())
    ok = status.count("ok")
    return Cell(str(ok) if ok == len(status) else f"{ok} of {len(status)}", ok)


def sign(entry: Entry, metric: str) -> str:
    """What goes before a value: a bound is shown as one."""
    above = metric == "marginal_kl" or (metric == "bits_per_dim" and entry.kind("log_likelihood") == "lower-bound")
    return "≤ " if above else "≥ " if entry.kind(metric) == "lower-bound" else ""


def noisy(entry: Entry) -> bool:
    """Whether the noise control says that the samples of a row are sharp for the wrong reason."""
    kept, ratio = entry.interval("noise_ratio"), entry.interval("sharpness_ratio")
    return kept is not None and ratio is not None and is_noise(kept.mean, ratio.mean)
