"""Latent units against the factors that images were made from, and metrics of that against each other."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import rankdata

from vae_variants.analysis.entries import COLOURS, Entry, distinct
from vae_variants.harness.pictures import encoding
from vae_variants.report.drawing import WIDTH, Part, compose, mark, shortened, width_of, write
from vae_variants.report.matrix import CELL, DOWN, SIDE, UP
from vae_variants.report.sections import DISENTANGLEMENT

PREFIX = "information/"  # of a series
NAME = 64.0  # points of a factor's name, at most
UNIT = 19.0  # points of a cell
UNITS = 12  # latent units, at most
SEEN = 0.05  # share from which a number is written
TITLE = 92.0  # points of a metric's name, at most
LEAST = 5  # models of which two metrics are compared


def information(entry: Entry) -> dict[str, list[float]]:
    """Name of a factor -> what each unit of the first seed tells of it."""
    found = {name.removeprefix(PREFIX): by_seed for name, by_seed in entry.record.series.items() if name.startswith(PREFIX)}
    return {name: next(iter(by_seed.values())) for name, by_seed in found.items()}


def factor_information(shown: Sequence[Entry]) -> Figure | None:
    """The share of each factor's entropy that each unit tells, a table for each variant; units in the order of their factors."""
    parts = []
    for entry in distinct(shown):
        if table := information(entry):
            told = encoding(table)
            rest = sorted(set(range(len(next(iter(table.values()))))) - set(told), key=lambda u: -max(s[u] for s in table.values()))
            units = [*sorted(told, key=told.__getitem__), *rest][:UNITS]
            left = min(NAME, max(width_of(name) for name in table)) + 6
            draw, wide = partial(draw_information, table=table, units=units), left + UNIT * len(units) + 2
            described = f"Latent units of {entry.label} against factors: the darker, the more a unit tells."
            title = shortened(entry.label, wide)
            parts.append(Part(title, described, draw, SIDE * (len(table) + 1), wide, left, 2, 2, entry.label))
    return compose(parts, 3 if parts and parts[0].width < 240 else 2)


def draw_information(ax: Axes, table: dict[str, list[float]], units: Sequence[int]) -> None:
    ax.set(xlim=(0, len(units)), ylim=(len(table), -1), xticks=[], yticks=[])
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 7}
    for x, unit in enumerate(units):
        write(ax, x + 0.5, -0.5, str(unit + 1), **place)
    for y, (name, shares) in enumerate(table.items()):
        write(ax, -0.25, y + 0.5, shortened(name, NAME), ha="right", va="center_baseline")
        for x, unit in enumerate(units):
            share = shares[unit]
            patch = Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, clip_on=False, linewidth=0)
            patch.set(facecolor=COLOURS[0], alpha=round(0.04 + 0.6 * min(1.0, share), 3))
            number = [write(ax, x + 0.5, y + 0.5, f"{share:.2f}".lstrip("0"), **place)] if share >= SEEN else []
            mark("", f"unit {unit + 1} tells {100 * share:.0f} % of {name}", [ax.add_patch(patch), *number])


def agreement(entries: Sequence[Entry]) -> Figure | None:
    """Rank correlations of the metrics of disentanglement, over all seeds of all variants."""
    found = {name.removesuffix(" ↑"): values_of(entries, metric) for name, metric, _ in DISENTANGLEMENT if name.endswith("↑")}
    names = [name for name, values in found.items() if len(set(values.values())) > 1 and len(values) >= LEAST]
    if len(names) < 2:
        return None
    table = [[correlation(found[a], found[b]) for b in names] for a in names]
    most, left = max(len(found[name]) for name in names), min(TITLE, max(map(width_of, names))) + 8
    size = left + CELL * len(names) + 2
    described = f"A table of {len(names)} metrics against each other, over {most} models."
    title = f"rank correlation of metrics, {most} models"
    draw = partial(draw_agreement, names=names, table=table, left=left)
    return compose([Part(title, described, draw, SIDE * len(names) + left, max(size, WIDTH), left, max(size, WIDTH) - size + 2, 2)], 1)


def values_of(entries: Sequence[Entry], metric: str) -> dict[tuple[str, int], float]:
    """(key of a run, seed) -> value."""
    return {(e.record.key, seed): value for e in distinct(entries) for seed, value in e.values(metric).items()}


def correlation(one: dict[tuple[str, int], float], other: dict[tuple[str, int], float]) -> float | None:
    """Spearman's, over the models that have both values; None if there are too few, or all are equal."""
    both = sorted(one.keys() & other.keys())
    if len(both) < LEAST:
        return None
    ranks = np.array([rankdata([values[key] for key in both]) for values in (one, other)])
    return float(np.corrcoef(ranks)[0, 1]) if (ranks.std(1) > 0).all() else None


def draw_agreement(ax: Axes, names: Sequence[str], table: Sequence[Sequence[float | None]], left: float) -> None:
    ax.set(xlim=(0, len(names)), ylim=(len(names), -left / SIDE), xticks=[], yticks=[])
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 8}
    for i, name in enumerate(names):
        write(ax, i + 0.5, -0.4, shortened(name, TITLE), rotation=90, ha="center", va="bottom")
        write(ax, -0.2, i + 0.5, shortened(name, TITLE), ha="right", va="center_baseline")
        for j, other in enumerate(names):
            value = table[i][j]
            patch = Rectangle((j + 0.03, i + 0.05), 0.94, 0.9, clip_on=False, linewidth=0)
            patch.set(facecolor=UP if (value or 0) > 0 else DOWN, alpha=round(0.6 * abs(value or 0), 3))
            text = "–" if value is None else "·" if i == j else f"{value:+.2f}".replace("-", "−")
            mark("", f"{name}, {other}: {text}", [ax.add_patch(patch), write(ax, j + 0.5, i + 0.5, text, **place)])
