"""What a report says, before it becomes Markdown or HTML: tables of cells, and the sentences around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vae_variants.analysis.advice import Advice, advise
from vae_variants.analysis.cards import published
from vae_variants.analysis.entries import LOOKS, SUPPORTS, Entry, best, busy, distinct, ranks
from vae_variants.analysis.formatting import NOTHING, number
from vae_variants.analysis.notes import Note, counted
from vae_variants.analysis.prominence import prominent
from vae_variants.analysis.questions import Answer, answers, noisy
from vae_variants.analysis.run_summary import Failure, failed_runs, failed_values, run_summary, same_runs
from vae_variants.analysis.statistics import Comparison, holm
from vae_variants.analysis.tables import metrics_of
from vae_variants.evaluation import METRICS, Metric
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.sections import AGAINST_REAL, LEFT_OUT, LIKELIHOOD, PUBLISHED_TEXT, PUBLISHED_TITLE, SECTIONS, SHARP, TIE

SIGNIFICANT = 0.05
ROWS = 200  # of a table, at most: GitHub shows no page of 500 kB


@dataclass(frozen=True)
class Cell:
    """`value` is what its column is sorted by; `best` is the best of its column, `tied` statistically tied with it; `note` explains it."""

    text: str = NOTHING
    value: float | None = None
    best: bool = False
    note: str = ""
    tied: bool = False

    @property
    def marked(self) -> str:
        """The text, with the sign of a tie."""
        return self.text + TIE * self.tied


@dataclass(frozen=True)
class Sheet:
    """A table: for each row its entry and a cell for each column; `of` counts the rows before any are left out."""

    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, tuple[Cell, ...]], ...]
    of: int
    after: str = ""

    @property
    def kept(self) -> list[int]:
        """Columns that are not empty."""
        return [i for i in range(len(self.columns)) if any(cells[i].text != NOTHING for _, cells in self.rows)]


@dataclass(frozen=True)
class Content:
    """Everything that a report says about its entries, written as Markdown by `readme` and as HTML by `page`."""

    suite: str
    command: str
    entries: tuple[Entry, ...]
    shown: tuple[Entry, ...]  # rows of the tables
    drawn: tuple[Entry, ...]  # variants in the figures
    missing: tuple[str, ...]
    stale: tuple[str, ...]
    runs: dict[str, Any]  # as `run_summary`
    advice: Advice
    answers: tuple[Answer, ...]
    likelihood: tuple[Sheet, ...]
    sheets: tuple[Sheet, ...]
    metrics: tuple[tuple[str, Metric], ...]  # with their published names
    failed: tuple[Failure, ...]
    skipped: tuple[Failure, ...]
    same: tuple[tuple[str, str], ...]

    @property
    def left_out(self) -> str:
        """Which variants the tables or figures leave out; empty if none."""
        counts = {"all": len(self.entries), "shown": len(self.shown), "drawn": len(self.drawn)}
        return LEFT_OUT.format(**counts) if len(self.drawn) < len(self.entries) else ""

    @property
    def notes(self) -> list[Note]:
        """Which labels name the same run, have not run yet, or are stale."""
        same = [f"`{label}` is the same run as `{first}`" for label, first in self.same]
        missing, stale = ([f"`{label}`" for label in labels] for labels in (self.missing, self.stale))
        notes = (
            (same, "label has the run of another", "labels have the run of another"),
            (missing, "variant has not run yet", "variants have not run yet"),
            (stale, "row is stale, made by other code than this report", "rows are stale, made by other code than this report"),
        )
        return [Note(counted(len(items), one, many), tuple(items)) for items, one, many in notes if items]


def content(suite: str, entries: Sequence[Entry], command: str, missing: Sequence[str] = (), stale: Sequence[str] = ()) -> Content:
    """Everything that a report says. `missing` are labels without a run, `stale` those whose run other code made."""
    runs, shown, recorded = run_summary(entries), prominent(entries, ROWS), set(metrics_of(entries))
    return Content(
        suite=suite,
        command=command,
        entries=tuple(entries),
        shown=tuple(shown),
        drawn=tuple(prominent(entries, LOOKS)),
        missing=tuple(missing),
        stale=tuple(stale),
        runs=runs,
        advice=advise(entries),
        answers=tuple(answers(entries)),
        likelihood=tuple(likelihoods(entries, shown)),
        sheets=tuple(sections(entries, shown)),
        metrics=tuple((name, m) for m in METRICS.values() if (name := m.published_for(runs["data"])) in recorded),
        failed=tuple(failed_runs(entries)),
        skipped=tuple(failed_values(entries)),
        same=tuple(same_runs(entries)),
    )


def likelihoods(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[Sheet]:
    """A table for each pixel type. Ranks and differences consider all `entries`; the rows are those `shown`."""
    groups = {s: [e for e in entries if e.record.support == s and e.interval("log_likelihood")] for s in SUPPORTS}
    return [likelihood(SUPPORTS[support], group, shown) for support, group in groups.items() if group]


def likelihood(title: str, group: Sequence[Entry], shown: Sequence[Entry]) -> Sheet:
    baseline, keys, top = group[0], {e.label: e.record.key for e in group}, best(distinct(group), "log_likelihood")
    compared = {e.record.key: c for e in group if e.record.key != baseline.record.key and (c := e.compared("log_likelihood", baseline))}
    adjusted = dict(zip(compared, holm([c.p for c in compared.values()]), strict=True))
    tested, after = significance(list(compared.values()))
    places = ranks(distinct(group), "log_likelihood")
    place = {e.record.key: places[e.label] for e in distinct(group) if e.label in places and len(places) > 1}
    first, *others = LIKELIHOOD.values()
    rows = []
    for e in shown:
        if e.label not in keys:
            continue
        key = e.record.key
        change, rank = compared.get(key), place.get(key)
        at_top = [keys[label] for label in top]
        cells = [figure(e, "log_likelihood", best=key in at_top[:1], tied=key in at_top[1:])]
        cells += [Cell("–".join(map(str, dict.fromkeys(rank))), rank[0]) if rank else Cell()]
        cells += [Cell(number(change.difference, sign=True), change.difference.mean) if change else Cell()]
        cells += [Cell(f"{adjusted[key]:.3f}", adjusted[key]) if change and tested else Cell()]
        cells += [figure(e, metric) for metric in list(LIKELIHOOD)[1:]]
        rows.append((e, (*cells, reported(e), seeds(e))))
    columns = (first, "rank", f"Δ to {baseline.label}", "p", *others, "published", "n")
    return Sheet(f"{title[0].upper()}{title[1:]}", "", columns, tuple(rows), len(group), after)


def reported(entry: Entry) -> Cell:
    """The published log p(x) of a variant on this data set."""
    found = published(entry)
    return Cell(f"{found.value:.2f}", found.value, note=f"{found.source}. Unlike here: {found.unlike}.") if found else Cell()


def beside(shown: Sequence[Entry]) -> Sheet:
    """Published figures beside those of this report, with what differs."""
    known = [(e, found) for e in shown if (found := published(e)) and e.interval("log_likelihood")]
    rows = [(e, (reported(e), figure(e, "log_likelihood"), Cell(found.unlike), Cell(found.source))) for e, found in known]
    return Sheet(PUBLISHED_TITLE, PUBLISHED_TEXT, ("published log p(x)", "here", "unlike here", "source"), tuple(rows), len(rows))


def significance(compared: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether the tests of Δ can reach 5 %, and the sentence that says so."""
    alone = min((c.smallest_p for c in compared), default=1.0)
    least = min(1.0, alone * len(compared))
    if compared and least <= SIGNIFICANT:
        return True, f"p: exact sign-flip test of Δ over seeds, Holm-adjusted; its smallest possible value here is {least:.2g}."
    few = f"No exact p: with so few seeds a sign-flip test of Δ cannot give less than {alone:.2g}, Holm-adjusted {least:.2g}. "
    few += "What this report calls significant is so by paired t-tests, which assume that differences are normal."
    return False, few if compared else ""


def sections(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[Sheet]:
    """The tables of `SECTIONS`, and one of the metrics that none of them names: a plug-in's."""
    data, found, known = data_name(entries[0].record.dataset["name"]), list[Sheet](), set(LIKELIHOOD)
    classifier = next((e.record.classifier for e in entries if e.record.classifier), None)
    of = f"Classifier: digest `{classifier['digest'][:12]}`, test accuracy {classifier['test_accuracy']:.4f}." if classifier else ""
    for title, text, patterns in SECTIONS:
        columns = [(header.replace("{data}", data), metric.replace("{data}", data), scale) for header, metric, scale in patterns]
        known |= {metric for _, metric, _ in columns}
        found.append(section(title, text, entries, shown, columns, of if title == AGAINST_REAL else ""))
    arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
    better = {r["metric"]: f"{arrows[r['better']]} ({r['unit']})" for e in entries for r in e.record.rows}
    further = [(m + better[m], m, 1.0) for m in metrics_of(entries) if m not in known]
    found.append(section("Further metrics", "Metrics that are in no other table.", entries, shown, further))
    found.append(beside(shown))
    return [sheet for sheet in found if sheet.of]


def section(
    title: str, text: str, entries: Sequence[Entry], shown: Sequence[Entry], columns: Sequence[tuple[str, str, float]], after: str = ""
) -> Sheet:
    """A column for each (header, metric, scale), a row for each of those `shown` that have a value."""

    def has(e: Entry) -> bool:
        return any(e.interval(metric) for _, metric, _ in columns)

    rows = tuple((e, (*(figure(e, metric, scale) for _, metric, scale in columns), seeds(e))) for e in filter(has, shown))
    return Sheet(title, text, (*(header for header, _, _ in columns), "n"), rows, sum(map(has, entries)), after)


def figure(entry: Entry, metric: str, scale: float = 1.0, best: bool = False, tied: bool = False) -> Cell:
    """A metric as tables show it, with the signs of a bound or of noise."""
    found, of = entry.interval(metric), list(entry.record.status.values()).count("ok")
    mark = "noise: " if metric in SHARP and noisy(entry) else "busy: " if busy(entry, metric) else sign(entry, metric)
    fewer = f" (n = {found.n})" if found is not None and found.n < of else ""  # than the column n says
    return Cell() if found is None else Cell(mark + number(found, scale=scale) + fewer, found.mean * scale, best, tied=tied)


def seeds(entry: Entry) -> Cell:
    """The number of seeds that are ok, and of how many if some failed."""
    status = list(entry.record.status.values())
    ok = status.count("ok")
    return Cell(str(ok) if ok == len(status) else f"{ok} of {len(status)}", ok)


def sign(entry: Entry, metric: str) -> str:
    """≥ or ≤ before the value of a bound."""
    above = metric == "marginal_kl" or (metric == "bits_per_dim" and entry.kind("log_likelihood") == "lower-bound")
    return "≤ " if above else "≥ " if entry.kind(metric) == "lower-bound" else ""
