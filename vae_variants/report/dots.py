"""Dots with intervals: a panel for each metric, a row for each variant, the best on top."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import blended_transform_factory

from vae_variants.analysis.entries import SUPPORTS, TIMINGS, Entry, best, distinct, enough, style, trained
from vae_variants.analysis.formatting import number
from vae_variants.analysis.questions import noisy
from vae_variants.analysis.statistics import Interval
from vae_variants.analysis.tables import metrics_of
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.content import sign
from vae_variants.report.drawing import (
    INK,
    LINE,
    MUTED,
    PAPER,
    WIDTH,
    Part,
    compose,
    ends,
    limits,
    mark,
    scale,
    seen,
    shortened,
    shown_of,
    width_of,
    write,
)
from vae_variants.report.sections import LIKELIHOOD, SECTIONS, SHARP

ROW = 12.5  # points
USUAL, LABEL = 112.0, 230.0  # points of a label in a panel of the usual width, and at most
SEEDS = 20  # of a variant that are drawn, at most
FURTHER = 12  # metrics of plug-ins that get a panel, at most
DECADES = 30.0  # times by which values differ that are shown by their logarithm
Row = tuple[Entry, Interval]
ARROWS = {"higher": " ↑", "lower": " ↓"}
BUDGETS = (  # metric, size of its dot, and by how much of a row it is above the middle
    ("probe_accuracy_10", 2.0, 0.27),
    ("probe_accuracy_100", 2.7, 0.09),
    ("probe_accuracy_1000", 3.4, -0.09),
    ("probe_accuracy", 4.5, -0.27),
)
NAMES = {metric: name for _, _, columns in SECTIONS for name, metric, _ in columns} | {
    "mig_corrected": "MIG, without its bias",
    "dci_disentanglement": "DCI disentanglement",
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


def wide(values: Sequence[float], unit: str) -> bool:
    """Whether values are shown by their logarithm."""
    return unit not in ("nats", "bits", "fraction") and min(values) > 0 and max(values) > DECADES * min(values)


def heading(metric: str, entries: Sequence[Entry], data: str) -> str:
    """Name of a metric, with unit and arrow."""
    row = next(e.rows[metric][0] for e in entries if metric in e.rows)
    plain = {m.replace("{data}", data): name.replace("{data}", data) for m, name in NAMES.items()}.get(metric, metric.replace("_", " "))
    name = plain.replace(" ↑", "").replace(" ↓", "")
    unit = f", {row['unit']}" if row["unit"] in ("nats", "bits") and row["unit"] not in name else ""
    return name + unit + ARROWS.get(row["better"], "")


def value_of(entry: Entry, metric: str, found: Interval) -> str:
    kept = found if ends(found) else found._replace(low=None, high=None)
    noise = "noise: " if metric in SHARP and noisy(entry) else ""
    return noise + sign(entry, metric) + number(kept)


def look(entry: Entry, *metrics: str) -> dict[str, Any]:
    """The variant's own mark, hollow where a metric is a lower bound."""
    hollow = any(entry.kind(metric) == "lower-bound" for metric in metrics)
    edge = {"markerfacecolor": PAPER, "markeredgewidth": 1.4, "markersize": 5.0} if hollow else {"markeredgewidth": 0.0, "markersize": 6.0}
    return {"color": style(entry)["color"], "marker": style(entry)["marker"], "linestyle": "", "clip_on": False, **edge}


def some_seeds(entry: Entry, metric: str) -> list[float]:
    """Values of single seeds, of many every second, third, ... one."""
    values = list(entry.values(metric).values())
    return values[:: -(-len(values) // SEEDS)]


def dot_panel(title: str, metric: str, entries: Sequence[Entry], shown: Sequence[Entry]) -> Part | None:
    """One metric of those `shown`. What is best is decided among all `entries` that are trained."""
    group = [e for e in distinct(entries) if e.interval(metric)]
    rows = [(e, found) for e in distinct(shown) if (found := e.interval(metric))]
    if not rows:
        return None
    better, unit = rows[0][0].rows[metric][0]["better"], rows[0][0].unit(metric)
    ours = [e for e in group if trained(e)]
    top = best(ours, metric) if better != "none" and unit not in TIMINGS and len(ours) > 1 else []
    top = top if len(top) < len(enough(ours, metric)) else []
    base = next(((e, found) for e, found in rows if e.record.key == group[0].record.key), rows[0])
    rows.sort(key=lambda row: row[1].mean if better == "lower" else -row[1].mean)
    first, last, baseline = (f"{e.label}, {number(found)}" for e, found in (rows[0], rows[-1], base))
    described = f"{len(rows)} variants, from {first} to {last}. Baseline: {baseline}." if len(rows) > 1 else f"{first}."
    described += f" Best: {top[0]}." if top else ""
    described += f" Statistically tied with it: {', '.join(top[1:])}." if top[1:] else ""
    words = [value_of(e, metric, found) for e, found in rows]
    left = max(24.0, min(LABEL, max(width_of(e.marked, bold=e.label in top[:1]) for e, _ in rows)) + 10)
    right = max(width_of(w, 8) for w in words) + 8
    draw = partial(draw_dots, metric=metric, rows=rows, words=words, top=top, base=base[1].mean if len(rows) > 1 else None)
    return Part(title, described, draw, ROW * (len(rows) + 0.9), WIDTH + max(0.0, left - USUAL - 10), left, right, 18)


def draw_dots(ax: Axes, metric: str, rows: Sequence[Row], words: Sequence[str], top: Sequence[str], base: float | None) -> None:
    held = {e.label for e in seen([e for e, _ in rows])}
    means, better, unit = [f.mean for e, f in rows if e.label in held], rows[0][0].rows[metric][0]["better"], rows[0][0].unit(metric)
    log = wide(means, unit)
    low, high = limits(means, better, log)
    inside = [(e, found) for e, found in rows if low <= found.mean <= high and e.label in held]
    low, high = limits(means, better, log, [v for e, found in inside for v in (*(ends(found) or ()), *some_seeds(e, metric))])
    scale(ax, "x", (low, high), log, 4)
    ax.set(ylim=(len(rows) - 0.4, -1.3), yticks=[])
    if base is not None and low <= base <= high:
        ax.plot([base, base], [-0.4, len(rows) - 0.4], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), label="baseline")
        write(ax, base, -0.9, "baseline", color=MUTED, fontsize=7.5, ha="center", va="center")
    for y, ((entry, found), word) in enumerate(zip(rows, words, strict=True)):
        own = row_head(ax, y, entry.marked, word, entry.label in top, entry.label in top[:1])
        seeds = [(v, v) for v in some_seeds(entry, metric) if low <= v <= high and found.n > 1]
        own += strokes(ax, seeds, (y - 0.27, y + 0.27), color=style(entry)["color"], alpha=0.5, linewidth=0.8, label="seeds")
        own += dot(ax, y, found, look(entry, metric), 1.5)
        mark(entry.label, f"{entry.label}: {word}, n = {found.n}", own)


def row_head(ax: Axes, y: float, label: str, word: str = "", top: bool = False, best: bool = False) -> list[Artist]:
    """The name at the left of a panel, a figure at its right; on grey what is at the top, and bold what is the best."""
    across = blended_transform_factory(ax.figure.transSubfigure, ax.transData)
    place = {"va": "center_baseline", "transform": across}
    own = list[Artist]()
    if top:
        own.append(ax.add_patch(Rectangle((0, y - 0.5), 1, 1, transform=across, color=LINE, alpha=0.45, linewidth=0, clip_on=False)))
    own.append(write(ax, 0, y, shortened(label, LABEL, bold=best), fontweight="bold" if best else "normal", **place))
    return [*own, write(ax, 1, y, word, fontsize=8, ha="right", color=INK if top else MUTED, **place)]


def dot(ax: Axes, y: float, found: Interval, look: dict[str, Any], width: float) -> list[Artist]:
    """Interval and mark, or arrowheads at the edge for what is outside."""
    (low, high), own, span = ax.get_xlim(), list[Artist](), ends(found)
    if span and span[0] <= high and span[1] >= low:
        own += strokes(ax, [(max(span[0], low), min(span[1], high))], (y, y), color=look["color"], linewidth=width, label="interval")
    inside = low <= found.mean <= high
    for x, shape, out, beyond in ((0, "<", found.mean < low, span and span[0] < low), (1, ">", found.mean > high, span and span[1] > high)):
        if out or (inside and beyond):
            head = {"color": look["color"], "markersize": look["markersize"] if out else 4.0, "markeredgewidth": 0, "label": "beyond"}
            own += ax.plot([x], [y], shape, transform=ax.get_yaxis_transform(), clip_on=False, **head)
    return [*own, *(ax.plot([found.mean], [y], label="mean", **look) if inside else [])]


def strokes(ax: Axes, xs: Sequence[tuple[float, float]], ys: tuple[float, float], **look: Any) -> list[Artist]:
    """Lines from one end to another as a single thing."""
    x, y = np.array([(a, b, np.nan) for a, b in xs]).ravel(), np.array([(*ys, np.nan) for _ in xs]).ravel()
    return [*ax.plot(x[:-1], y[:-1], clip_on=False, solid_capstyle="butt", **look)] if len(xs) else []


def dots(metrics: Sequence[str], entries: Sequence[Entry]) -> Figure | None:
    """A panel for each metric; of those in nats or bits one for each pixel type."""
    data, parts, shown = data_name(entries[0].record.dataset["name"]), list[Part | None](), shown_of(entries)
    units = {m: next((e.unit(m) for e in entries if m in e.rows), None) for m in (m.replace("{data}", data) for m in metrics)}
    apart = [m for m, unit in units.items() if unit in ("nats", "bits")]
    for metric in (m for m, unit in units.items() if unit is not None and m not in apart):
        parts.append(dot_panel(heading(metric, entries, data), metric, entries, shown))
    for support, scope in SUPPORTS.items():
        own, rows = ([e for e in group if e.record.support == support] for group in (entries, shown))
        parts += [dot_panel(f"{heading(metric, entries, data)}\n{scope}", metric, own, rows) for metric in apart]
    return compose(parts)


likelihood = partial(dots, ("log_likelihood", "elbo"))
reconstruction = partial(dots, ("reconstruction_mse", "reconstruction_sharpness_ratio"))
samples_measured = partial(dots, ("fd-{data}cnn", "blur_sigma", "sharpness_ratio", "precision", "coverage"))
codes = partial(dots, ("probe_accuracy", "probe_accuracy_10", "clustering_score", "active_units"))
disentanglement = partial(dots, ("dci_disentanglement", "mig_corrected", "factor_vae_score", "beta_vae_score", "sap", "mcc"))
costs = partial(dots, ("train_seconds", "sample_images_per_second", "parameters"))


def further(entries: Sequence[Entry]) -> Figure | None:
    """Metrics of plug-ins."""
    data = data_name(entries[0].record.dataset["name"])
    known = set(LIKELIHOOD) | {m.replace("{data}", data) for _, _, columns in SECTIONS for _, m, _ in columns}
    return dots([m for m in metrics_of(entries) if m not in known][:FURTHER], entries)


def labels(shown: Sequence[Entry]) -> Figure | None:
    """Accuracy of the linear probe by the number of labels for each class, a row for each variant, the best on top."""
    group = [e for e in distinct(shown) if e.interval("probe_accuracy_10") and e.interval("probe_accuracy")]
    group.sort(key=lambda e: -p.mean if (p := e.interval("probe_accuracy")) else 0.0)
    if not group:
        return None
    described = f"{len(group)} variants, from {group[0].label} to {group[-1].label}; a dot for 10, 100 and 1000 labels and one for all."
    left = min(LABEL, max(width_of(e.marked) for e in group)) + 10
    draw, height = partial(draw_labels, group=group), 1.3 * ROW * len(group) + 8
    width = WIDTH + max(0.0, left - USUAL - 10)
    return compose([Part("test accuracy of the linear probe ↑", described, draw, height, width, left, bottom=18)])


def draw_labels(ax: Axes, group: Sequence[Entry]) -> None:
    found = [[(p, size, up) for m, size, up in BUDGETS if (p := e.interval(m))] for e in group]
    held = {e.label for e in seen(group)}
    every = [p for e, row in zip(group, found, strict=True) if e.label in held for p, _, _ in row]
    scale(ax, "x", limits([p.mean for p in every], "higher", extra=[v for p in every for v in ends(p) or ()]))
    ax.set(ylim=(len(group) - 0.4, -0.6), yticks=[])
    for y, (entry, row) in enumerate(zip(group, found, strict=True)):
        own = row_head(ax, y, entry.marked)
        for p, size, up in row:
            own += dot(ax, y - up, p, look(entry) | {"marker": "o", "markersize": size}, 0.8)
        mark(entry.label, f"{entry.label}: {', '.join(number(p) for p, _, _ in row)}", own)
