"""Dots with intervals: a panel for each metric, a row for each variant, the best on top."""

from __future__ import annotations

from collections.abc import Sequence

from vae_variants.analysis.entries import SUPPORTS, TIMINGS, Entry, best, distinct, enough, judges, trained
from vae_variants.analysis.formatting import number
from vae_variants.analysis.statistics import Interval
from vae_variants.analysis.tables import metrics_of
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.content import noisy, sign
from vae_variants.report.plot import Plot
from vae_variants.report.sections import LIKELIHOOD, SECTIONS, SHARP
from vae_variants.report.svg import Scale, colour, escaped, fitted, marker, panel, panels, tag, text, width_of, x_axis

__all__ = ["dots", "ends", "heading", "wide"]

WIDTH, ROW, TOP = 400.0, 17.0, 40.0
LABEL = 160.0  # pixels of a label, at most
SEEDS = 20  # of a variant that are drawn, at most
BUDGETS = (
    (2.0, "probe_accuracy_10"),
    (2.7, "probe_accuracy_100"),
    (3.4, "probe_accuracy_1000"),
    (0.0, "probe_accuracy"),
)  # radius of the dot, metric
FURTHER = 12  # metrics of plug-ins that get a panel, at most
DECADES = 30.0  # times by which values differ that are shown by their logarithm
ARROWS = {"higher": " ↑", "lower": " ↓"}
THEMES = (
    ("reconstruction", "Reconstruction", "quality", ("reconstruction_mse", "reconstruction_sharpness_ratio")),
    ("samples-measured", "Samples", "quality", ("fd-{data}cnn", "blur_sigma", "sharpness_ratio", "precision", "coverage")),
    ("codes", "Codes", "quality", ("probe_accuracy", "probe_accuracy_10", "clustering_score", "active_units")),
    ("costs", "Cost", "trade-offs", ("train_seconds", "sample_images_per_second", "parameters")),
)
NAMES = {metric: name for _, _, columns in SECTIONS for name, metric, _ in columns} | {
    "log_likelihood": "log p(x)",
    "elbo": "ELBO",
    "probe_accuracy": "probe, all labels",
    "probe_accuracy_10": "probe, 10 labels a class",
    "clustering_score": "clusters against classes",
    "active_units": "active units",
    "reconstruction_mse": "squared error",
    "reconstruction_sharpness_ratio": "sharpness of reconstructions, ratio to real",
    "sharpness_ratio": "sharpness of samples, ratio to real",
    "blur_sigma": "blur of samples, pixels",
    "train_seconds": "training, s",
    "sample_images_per_second": "sampling, images/s",
    "train_images_per_second": "training, images/s",
}
CAPTION = (
    "Mean over seeds with its 95 % interval, where there are more than two; ticks are single seeds. The dashed line is at the first "
    "variant that has the metric. {best}Hollow, with ≥: a lower bound."
)
BEST = (
    "Bold on grey: the best, and those that cannot be told from it (rows of under three seeds and references left out), unless that is "
    "all. "
)
SHORT = "As above: mean over seeds with its interval, single seeds as ticks, the first variant as a dashed line"
SHORT_BEST = ", bold on grey what cannot be told from the best"
MEDIANS = (
    "Median over seeds with its quartiles, of what was timed; ticks are single seeds. The dashed line is at the first variant that has "
    "the metric. Of the machine named above: not to be compared with another's."
)

LABELS = (
    "Test accuracy of the linear probe, mean over seeds, best on top: from the smallest dot to the largest with 10, 100 and 1000 labelled "
    "images of each class, where there are so many, and at the mark with all."
)


def ends(found: Interval) -> tuple[float, float] | None:
    """Of an interval as it is drawn: not of two seeds, where it would hide everything else."""
    return None if found.low is None or found.high is None or found.n <= 2 else (found.low, found.high)


def wide(values: Sequence[float], unit: str) -> bool:
    """Whether values are to be shown by their logarithm."""
    return unit not in ("nats", "bits") and min(values) > 0 and max(values) > DECADES * min(values)


def heading(metric: str, entries: Sequence[Entry], data: str) -> str:
    """Its name, with unit and arrow."""
    row = next(e.rows[metric][0] for e in entries if metric in e.rows)
    plain = {m.format(data=data): name.format(data=data) for m, name in NAMES.items()}.get(metric, metric.replace("_", " "))
    name = plain.replace(" ↑", "").replace(" ↓", "")
    unit = f", {row['unit']}" if row["unit"] in ("nats", "bits") and row["unit"] not in name else ""
    return name + unit + ARROWS.get(row["better"], "")


def value_of(entry: Entry, metric: str, found: Interval) -> str:
    kept = found if ends(found) else found._replace(low=None, high=None)
    noise = "noise: " if metric in SHARP and noisy(entry) else ""
    return noise + sign(entry, metric) + number(kept)


def some_seeds(entry: Entry, metric: str) -> list[float]:
    """Values of single seeds, of many every second, third, ... one."""
    values = list(entry.values(metric).values())
    return values[:: -(-len(values) // SEEDS)]


def dot_panel(ident: str, title: str, metric: str, entries: Sequence[Entry], shown: Sequence[Entry], scope: str = "") -> str | None:
    """One metric of those `shown`; what is best is decided among all `entries` that are trained."""
    group = [e for e in distinct(entries) if e.interval(metric)]
    rows = [(e, found) for e in distinct(shown) if (found := e.interval(metric))]
    if not rows:
        return None
    better, unit = rows[0][0].rows[metric][0]["better"], rows[0][0].unit(metric)
    ours = [e for e in group if trained(e)]
    top = set(best(ours, metric)) if better != "none" and unit not in TIMINGS and len(ours) > 1 else set()
    top = top if len(top) < len(enough(ours, metric)) else set()
    baseline = next(((e, found) for e, found in rows if e.record.key == group[0].record.key), rows[0])
    rows.sort(key=lambda row: row[1].mean if better == "lower" else -row[1].mean)

    words = [value_of(e, metric, found) for e, found in rows]
    left = min(LABEL, max(width_of(e.label) for e, _ in rows)) + 14
    right = WIDTH - max(width_of(w, 11.5) for w in words) - 8
    means = [found.mean for _, found in rows]
    held = [v for e, found in rows for v in (found.mean, *(ends(found) or ()), *some_seeds(e, metric))]
    log, reach = wide(means, unit), (max(means) - min(means)) or max(held) - min(held)
    low, high = (min(means) / 10, max(means) * 10) if log else (min(means) - reach, max(means) + reach)
    held = [min(max(v, low), high) for v in held]  # the interval of one is not to hide the others
    scale, bottom = Scale.over(held, left, right, log=log), TOP + ROW * len(rows)

    parts = [x_axis(scale, TOP - 4, bottom + 2, 4)]
    if len(rows) > 1:
        x, place = scale(baseline[1].mean), min(max(scale(baseline[1].mean), left + 22), right - 22)
        parts.append(tag("line", class_="baseline", x1=x, x2=x, y1=TOP - 4, y2=bottom + 2, stroke="var(--muted)", stroke_dasharray="3 3"))
        parts.append(text(place, TOP - 9, "baseline", font_size=11, text_anchor="middle", fill="var(--muted)"))
    parts += [
        dot_row(entry, metric, found, label, scale, TOP + ROW * i, entry.label in top)
        for i, ((entry, found), label) in enumerate(zip(rows, words, strict=True))
    ]
    lead, fact = rows[0], number(rows[0][1])
    described = f"{len(rows)} variants, from {lead[0].label} at {fact} to {rows[-1][0].label} at {number(rows[-1][1])}."
    described = f"{lead[0].label}: {fact}." if len(rows) == 1 else described
    described += "" if len(rows) == 1 else f" Baseline: {baseline[0].label}, {number(baseline[1])}."
    described += f" Cannot be told from the best: {', '.join(e.label for e, _ in rows if e.label in top)}." if top else ""
    return panel(ident, title, described, WIDTH, bottom + 22, *parts, aside=scope)


def dot_row(entry: Entry, metric: str, found: Interval, words: str, scale: Scale, y: float, top: bool) -> str:
    """Label, seeds, interval, mean, and the figure itself."""
    middle, ink, span = y + ROW / 2, colour(entry), ends(found)
    parts = [tag("title", escaped(f"{entry.label}: {words}, n = {found.n}"))]
    if top:
        parts.append(tag("rect", x=0.0, y=y, width=WIDTH, height=ROW, fill="var(--line)", opacity=0.45))
    parts.append(text(0, middle + 4, fitted(entry.label, scale.start - 14), font_weight=600 if top else None))
    parts.append(text(WIDTH, middle + 4, words, font_size=11.5, text_anchor="end", fill="var(--ink)" if top else "var(--muted)"))
    seeds = [scale(v) for v in some_seeds(entry, metric) if scale.low <= v <= scale.high]
    if seeds and found.n > 1:
        d = "".join(f"M{x:.1f} {middle - 3.5:.1f}v7" for x in seeds)
        parts.append(tag("path", class_="seeds", d=d, stroke=ink, opacity=0.5, fill="none"))
    if span:
        x1, x2 = (scale.clipped(v) for v in span)
        parts.append(tag("line", class_="interval", x1=x1, x2=x2, y1=middle, y2=middle, stroke=ink, stroke_width=2))
        beyond = [(x1, 4) for _ in range(span[0] < scale.low)] + [(x2, -4) for _ in range(span[1] > scale.high)]
        d = "".join(f"M{x + dx:.1f} {middle - 4:.1f}l{-dx} 4l{dx} 4" for x, dx in beyond)
        parts += [tag("path", class_="beyond", d=d, stroke=ink, stroke_width=1.5, fill="none")] if d else []
    parts.append(marker(entry, scale(found.mean), middle, entry.kind(metric) == "lower-bound"))
    return tag("g", *parts, class_="row", data_variant=entry.label)


def label_budgets(shown: Sequence[Entry]) -> str | None:
    """Accuracy of the probe by the number of labels for each class, a row for each variant, the best on top."""
    group = [e for e in distinct(shown) if e.interval("probe_accuracy_10") and e.interval("probe_accuracy")]
    if not group:
        return None
    group.sort(key=lambda e: -p.mean if (p := e.interval("probe_accuracy")) else 0.0)
    found = [[(size, p.mean) for size, m in BUDGETS if (p := e.interval(m))] for e in group]
    left, bottom = min(LABEL, max(width_of(e.label) for e in group)) + 14, TOP + ROW * len(group)
    scale = Scale.over([v for points in found for _, v in points], left, WIDTH - 12)
    parts = [x_axis(scale, TOP - 4, bottom + 2, 5, within=WIDTH)]
    for i, (entry, points) in enumerate(zip(group, found, strict=True)):
        middle, ink, places = TOP + ROW * (i + 0.5), colour(entry), [scale(v) for _, v in points]
        words = f"{entry.label}: {', '.join(number(Interval(v, None, None, 1)) for _, v in points)}"
        own = [tag("title", escaped(words)), text(0, middle + 4, fitted(entry.label, left - 14))]
        own.append(tag("line", x1=min(places), x2=max(places), y1=middle, y2=middle, stroke=ink, opacity=0.45))
        own += [tag("circle", cx=x, cy=middle, r=r, fill=ink) for x, (r, _) in zip(places[:-1], points, strict=False)]
        parts.append(tag("g", *own, marker(entry, places[-1], middle), class_="row", data_variant=entry.label))
    described = (
        f"{len(group)} variants, from {group[0].label} to {group[-1].label}; a dot for 10, 100 and 1000 labels and the mark for all."
    )
    return panel("plot-labels", "test accuracy of the linear probe ↑", described, WIDTH, bottom + 22, *parts)


def dots(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[Plot]:
    """Log-likelihoods, of one kind of pixels after the other, then everything that compares between them."""
    data, found = data_name(entries[0].record.dataset["name"]), list[Plot]()
    caption, short = (CAPTION.format(best=BEST), f"{SHORT}{SHORT_BEST}.") if judges(entries) else (CAPTION.format(best=""), f"{SHORT}.")
    known = set(LIKELIHOOD) | {m.format(data=data) for _, _, columns in SECTIONS for _, m, _ in columns}
    further = [m for m in metrics_of(entries) if m not in known][:FURTHER]
    themes = [
        ("likelihood", "Log-likelihood", "summary", ("log_likelihood", "elbo")),
        *THEMES,
        ("further", "Further metrics", "quality", further),
    ]
    for name, title, section, metrics in themes:
        content = list[str | None]()
        units = {m: next((e.unit(m) for e in entries if m in e.rows), None) for m in (m.format(data=data) for m in metrics)}
        apart = [m for m, unit in units.items() if unit in ("nats", "bits")]  # of which each kind of pixels has a panel of its own
        for metric in (m for m, unit in units.items() if unit is not None and m not in apart):
            content.append(dot_panel(f"plot-{name}-{len(content)}", heading(metric, entries, data), metric, entries, shown))
        for support, scope in SUPPORTS.items():
            own, rows = ([e for e in group if e.record.support == support] for group in (entries, shown))
            for metric in apart:
                content.append(dot_panel(f"plot-{name}-{len(content)}", heading(metric, entries, data), metric, own, rows, scope))
        if kept := [c for c in content if c is not None]:
            caption = MEDIANS if name == "costs" else short if found else caption
            found.append(Plot(name, title, caption, section, panels(*kept)))
    if (drawn := label_budgets(shown)) is not None:
        found.append(Plot("labels", "What labels bring", LABELS, "latent", panels(drawn)))
    return found
