"""README.md of a report: tables that GitHub renders."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from vae_variants.evaluation import METRICS
from vae_variants.evaluation.metrics import data_name
from vae_variants.evaluation.sharpness import is_noise
from vae_variants.harness.statistics import holm
from vae_variants.report.advice import TITLE, advise
from vae_variants.report.entries import LOOKS, SUPPORTS, Entry, best, distinct, prominent, ranks
from vae_variants.report.figures import WHOLE
from vae_variants.report.numbers import number
from vae_variants.report.sections import BESIDE, LIKELIHOOD, SECTIONS, SHARP
from vae_variants.report.tables import metrics_of

__all__ = ["ROWS", "number", "readme"]

SIGNIFICANT = 0.05
NAMED = 6  # runs that one reason takes a value from, or variants, that a line still names
ROWS = 200  # of a table, at most: GitHub shows no page of 500 kB

CAPTIONS = {
    "samples": "Samples of every variant from the first seed; noise-free (decoder means) where the model has such, draws otherwise.",
    "reconstructions": "The same test images (first row) after encoding and decoding, first seed.",
    "curves": "Validation log-likelihood, or its one-sample bound, while training: mean over seeds and 95 % interval.",
    "losses": "Losses while training of the models that have no likelihood: mean over seeds and 95 % interval.",
    "bounds": "How much the importance-weighted bound gains from more draws over a single one; what still rises is not log p(x) yet.",
    "latent_units": "KL of each latent unit, largest first, mean over seeds: units at the dark end are inactive.",
    "labels": "Accuracy of the linear probe by how many labels it was given, best on top: mean over seeds and 95 % interval.",
    "latent_plane": "The plane of two latent units: posterior means of test images by class, and decoder means over the prior's quantiles.",
    "latent_size": "What the number of latent units buys: bound on the log-likelihood, and linear-probe accuracy of the codes.",
    "rate_distortion": "Rate against distortion; on a dotted line the ELBO is constant, and better is to the lower left.",
    "cost": "Quality against throughput, up and right is better. Throughput is of the machine named above.",
}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown, the first column to the left and the others to the right; columns that are empty throughout are left out."""
    keep = [i for i in range(len(header)) if i == 0 or any(row[i] != "–" for row in rows)]
    lines = ["| " + " | ".join(header[i] for i in keep) + " |"]
    lines.append("|" + "|".join("---" if i == 0 else "--:" for i in keep) + "|")
    return [*lines, *("| " + " | ".join(row[i] for i in keep) + " |" for row in rows), ""]


def seeds(entry: Entry) -> str:
    status = list(entry.record.status.values())
    ok = status.count("ok")
    return str(ok) if ok == len(status) else f"{ok} of {len(status)}"


def left_out(rows: int, of: int, what: str = "rows") -> list[str]:
    """A line that says what a table does not show."""
    return [f"{rows} of {of} {what}: all are in [summary.csv](summary.csv).", ""] if rows < of else []


def likelihoods(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[str]:
    """A table for each kind of pixels: ranks and differences are over all `entries`, and those `shown` are its rows."""
    lines = ["## Likelihood", ""]
    lines += ["Nats per test image, higher is better; compared within one kind of pixels only. `≥` marks a lower bound:"]
    lines += ["log p(x) is exact, or bounded by the importance-weighted bound of K draws whose effective number is in the next column."]
    lines += [
        "Bold: cannot be told from the best (paired t-tests over seeds, Holm-adjusted, 5 %; rows of one seed are left out), where",
        "bounds stand beside exact values: a bound that is best is the best all the more, one that is not may be so for want of draws.",
        "Rank: 95 % interval of the rank among those rows, from a joint bootstrap of the seeds that all have, if there are five.",
        "Δ is over the seeds that both have. Gap: log p(x) − ELBO = KL(q(z|x) ‖ p(z|x)), where log p(x) is a bound at least that.",
        "",
    ]
    for support, title in SUPPORTS.items():
        group = [e for e in entries if e.record.support == support and e.interval("log_likelihood")]
        if not group:
            continue
        baseline = group[0]
        top = set(best(distinct(group), "log_likelihood"))
        leaders = {e.record.key for e in group if e.label in top} if len(distinct(group)) > 1 else set()
        compared = {e.record.key: c for e in group if e.record.key != baseline.record.key and (c := e.compared("log_likelihood", baseline))}
        adjusted = dict(zip(compared, holm([c.p for c in compared.values()]), strict=True))
        least = min((c.smallest_p for c in compared.values()), default=1.0) * len(compared)
        tested = bool(compared) and least <= SIGNIFICANT
        places = ranks(distinct(group), "log_likelihood")
        place = {e.record.key: places[e.label] for e in distinct(group) if e.label in places and len(places) > 1}
        header = ["variant", "log p(x) ↑", "rank", f"Δ to {baseline.label}", "p"]
        header += ["ELBO ↑", "gap", "rate", "distortion", "K", "effective draws ↑"]
        rows = []
        for e in shown:
            if e.record.support != support or not e.interval("log_likelihood"):
                continue
            mark = "≥ " if e.kind("log_likelihood") == "lower-bound" else ""
            change, elbo = compared.get(e.record.key), e.interval("elbo")
            value = mark + number(e.interval("log_likelihood"))
            cells = [f"`{e.label}`", f"**{value}**" if e.record.key in leaders else value]
            cells += ["–".join(map(str, dict.fromkeys(place[e.record.key]))) if e.record.key in place else "–"]
            cells += [number(change.difference, sign=True) if change else "–"]
            cells += [f"{adjusted[e.record.key]:.3f}" if change and tested else "–"]
            cells += ["≥ " + number(elbo) if elbo else "–", mark + number(e.interval("gap")) if elbo else "–"]
            cells += [number(e.interval("rate")), number(e.interval("distortion"))]
            cells += [number(e.interval("bound_samples")), number(e.interval("ess"))]
            rows.append(
                [*cells, sign(e, "bits_per_dim") + number(e.interval("bits_per_dim")), number(e.interval("active_units")), seeds(e)]
            )
        lines += [f"### {title[0].upper()}{title[1:]}", "", *table([*header, "bits/dim ↓", "active units", "n"], rows)]
        lines += left_out(len(rows), len(group))
        if tested:
            lines += [f"p: exact sign-flip test of Δ over seeds, Holm-adjusted; it cannot be under {least:.2g} here.", ""]
        elif compared:
            alone = min(c.smallest_p for c in compared.values())
            lines += [f"No p is shown: over so few seeds an exact sign-flip test of Δ cannot give less than {alone:.2g}, "]
            lines[-1] += f"and {min(1.0, least):.2g} when Holm-adjusted."
            lines += [""]
    return lines


def section(
    title: str, text: str, entries: Sequence[Entry], shown: Sequence[Entry], columns: Sequence[tuple[str, str, float]]
) -> list[str]:
    """A table with a column for each (header, metric, scale), of those `shown` that have any of them; `{data}` is the data set."""
    data = data_name(entries[0].record.dataset["name"])
    columns = [(header.format(data=data), metric.format(data=data), scale) for header, metric, scale in columns]

    def has(e: Entry) -> bool:
        return any(e.interval(metric) for _, metric, _ in columns)

    of, rows = sum(map(has, entries)), []
    if not of:
        return []
    for e in filter(has, shown):
        marks = {m: "noise: " for m in SHARP if e.interval(m)} if noisy(e) else {}
        cells = [marks.get(m, sign(e, m)) + number(e.interval(m), scale=scale) for _, m, scale in columns]
        rows.append([f"`{e.label}`", *cells, seeds(e)])
    header = ["variant", *(header for header, _, _ in columns), "n"]
    return [f"## {title}", "", text, "", *table(header, rows), *left_out(len(rows), of)]


def sign(entry: Entry, metric: str) -> str:
    """What goes before a value: a bound is shown as one."""
    if entry.interval(metric) is None:
        return ""
    above = metric == "marginal_kl" or (metric == "bits_per_dim" and entry.kind("log_likelihood") == "lower-bound")
    return "≤ " if above else "≥ " if entry.kind(metric) == "lower-bound" else ""


def noisy(entry: Entry) -> bool:
    """Whether the noise control says that the samples of a row are sharp for the wrong reason."""
    kept, ratio = entry.interval("noise_ratio"), entry.interval("sharpness_ratio")
    return kept is not None and ratio is not None and is_noise(kept.mean, ratio.mean)


def others(entries: Sequence[Entry], shown: Sequence[Entry], known: set[str]) -> list[str]:
    """Metrics that no section names: a plug-in's."""
    extra = [m for m in metrics_of(entries) if m not in known]
    arrows = {"higher": " ↑", "lower": " ↓", "none": ""}
    better = {r["metric"]: f"{arrows[r['better']]} ({r['unit']})" for e in entries for r in e.record.rows}
    return section("Further metrics", "Not part of the tables above.", entries, shown, [(m + better[m], m, 1.0) for m in extra])


def some(lines: Sequence[str], rest: str = "and {} more") -> list[str]:
    """The first of them, and how many are left out."""
    return [*lines[:ROWS], *([rest.format(len(lines) - ROWS)] if len(lines) > ROWS else [])]


def plain(text: str) -> str:
    """Text that a model, a library or a file had a part in, as text: neither markup nor HTML, and on one line."""
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def notes(entries: Sequence[Entry], missing: Sequence[str], older: Sequence[str]) -> list[str]:
    lines = []
    first = {e.record.key: e.label for e in reversed(entries)}
    same = [f"`{e.label}` is the same run as `{first[e.record.key]}`" for e in entries if first[e.record.key] != e.label]
    lines += [f"{'; '.join(some(same))}.", ""] if same else []
    lines += [f"Not run yet: {', '.join(some([f'`{label}`' for label in missing]))}.", ""] if missing else []
    lines += [f"Made by older code than this page: {', '.join(some([f'`{label}`' for label in older]))}.", ""] if older else []
    failures = [(e, s, status) for e in distinct(entries) for s, status in e.record.status.items() if status != "ok"]
    failed = [f"- `{e.label}`, seed {s}: {status}: {plain(e.record.reason.get(s, ''))}" for e, s, status in failures]
    failed += [f"- {line}" for line in without_value(entries)]
    return [
        *lines,
        *(
            ["## Failed or skipped", "", *some(failed, "- and {} more, with their status in [results.csv](results.csv)"), ""]
            if failed
            else []
        ),
    ]


def without_value(entries: Sequence[Entry]) -> list[str]:
    """A line for each reason why there is no value: of a few runs it names them, of many it says how many."""
    reasons: dict[tuple[str, str], list[tuple[Entry, int, str]]] = {}
    for e in distinct(entries):
        for row in e.record.rows:
            if row["status"] != "ok":
                reasons.setdefault((row["status"], row["reason"]), []).append((e, row["seed"], row["metric"]))
    lines = []
    for (status, reason), found in reasons.items():
        labels = list(dict.fromkeys(e.label for e, _, _ in found))
        if len(found) <= NAMED:
            lines += [f"`{e.label}`, seed {seed}, {metric}: {status}: {plain(reason)}" for e, seed, metric in found]
        else:
            metrics = ", ".join(dict.fromkeys(metric for _, _, metric in found))
            names = ", ".join(f"`{label}`" for label in labels) if len(labels) <= NAMED else f"{len(labels)} variants"
            lines.append(f"{names}: {metrics}: {status}: {plain(reason)}")
    return lines


def which(entries: Sequence[Entry]) -> list[str]:
    """The section that a reader with data of their own looks for."""
    found = advise(entries)
    lines = [f"## {TITLE}", "", *(f"- **{choice.purpose}.** {choice.text}" for choice in found.choices), ""]
    return [*lines, "What the evidence does not say:", "", *(f"- {limit}" for limit in found.limits), ""]


def readme(
    suite: str, entries: Sequence[Entry], figures: Sequence[str], command: str, missing: Sequence[str], older: Sequence[str] = ()
) -> str:
    """The whole page. Intervals are 95 % t-intervals over seeds; n is how many seeds there are."""
    records = [e.record for e in entries]
    data, newest = records[0].dataset, max(records, key=lambda r: r.started)
    sizes = " / ".join(f"{size:,}".replace(",", " ") for size in data["sizes"].values())
    devices = sorted({r.environment.get("device", "?") for r in records})
    versions = newest.environment.get("versions", {})
    packages = ", ".join(f"{k} {versions[k]}" for k in ("torch", "scikit-learn") if versions.get(k))
    shape = "×".join(map(str, data["shape"]))
    lines = [
        f"# {suite}",
        "",
        f"Made by `{command}` on {newest.started[:10]}, {', '.join(devices)}, Python {newest.environment.get('python', '?')}, {packages}.",
        "",
        f"Data: `{data['name']}`, {shape} pixels, {sizes} training, validation and test images, digest `{data['digest'][:12]}`. "
        "Figures are means over n seeds ± the half-width of a 95 % interval (Student's t under 10 seeds, BCa bootstrap "
        "from there on), which is left out where all seeds agree. "
        "Arrows point to better. "
        "Everything is measured on the test images; every value is in [results.csv](results.csv), means in [summary.csv](summary.csv).",
        "",
    ]
    shown, drawn = prominent(entries, ROWS), len(prominent(entries, LOOKS))
    if drawn < len(entries):
        lines += [
            f"There are {len(entries)} variants. Tables show {len(shown)} of them and figures {drawn}: in turn, of each kind of pixels "
            "the first and then the best by log p(x), and of those without log p(x) the first. Ranks, p and what is bold are of all.",
            "",
        ]

    def shows(name: str) -> list[str]:
        few = f" Shown: {drawn} of {len(entries)} variants, see above." if drawn < len(entries) and name not in WHOLE else ""
        return [f"![{name.replace('_', ' ')}](figures/{name}.png)\n*{CAPTIONS[name]}{few}*", ""]

    if "samples" in figures:
        lines += shows("samples")
    lines += which(entries)
    lines += likelihoods(entries, shown)
    for title, text, columns in SECTIONS:
        lines += section(title, text, entries, shown, columns)
        if title == BESIDE and (found := next((r.classifier for r in records if r.classifier), None)):
            lines += [f"The classifier: digest `{found['digest'][:12]}`, test accuracy {found['test_accuracy']:.4f}.", ""]
    sectioned = {m.format(data=data_name(data["name"])) for _, _, columns in SECTIONS for _, m, _ in columns}
    lines += others(entries, shown, LIKELIHOOD | sectioned)
    lines += notes(entries, missing, older)
    lines += ["## Figures", ""]
    for name in figures:
        if name != "samples":
            lines += shows(name)
    lines += ["## Variants", ""]
    rows = [[f"`{e.label}`", e.record.support, ", ".join(f"{k}={short(v)}" for k, v in e.record.values.items())] for e in shown]
    lines += ["| variant | pixels | configuration |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows), ""]
    lines += left_out(len(rows), len(entries), "variants")
    lines += ["## What the metrics are", ""]
    recorded = {r["metric"] for record in records for r in record.rows}
    names = {m.published_for(data["name"]): m for m in METRICS.values()}
    lines += [f"- `{name}` ({m.unit}): {m.description}" for name, m in names.items() if name in recorded]
    return "\n".join(lines) + "\n"


def short(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else plain(str(value))
