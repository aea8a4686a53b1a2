"""What the figures of a report have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from vae_variants.analysis.entries import SUPPORTS, Entry, distinct, style
from vae_variants.analysis.statistics import Interval
from vae_variants.report.svg import fitted

__all__ = ["DPI", "axes", "bar", "frame", "grid", "groups", "legend", "scatter", "shape_of", "shortened", "show"]

DPI = 110
LEGEND = 1.8  # inches of a name in a legend, at most
GAP = 2  # pixels between two images of a grid


def axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure without any global state, and its axes in reading order."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel())


def grid(images: Tensor, shape: Sequence[int], columns: int) -> np.ndarray:
    """(n, D) uint8 -> one picture (H, W, 1 or 3) with white gaps."""
    c, h, w = shape
    rows = math.ceil(len(images) / columns)
    canvas = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, c), 255, dtype=np.uint8)
    for i, image in enumerate(images.numpy()):
        top, left = (i // columns) * (h + GAP), (i % columns) * (w + GAP)
        canvas[top : top + h, left : left + w] = image.reshape(shape).transpose(1, 2, 0)
    return canvas


def shortened(words: str, inches: float, points: float) -> str:
    """The text, without its middle where it is wider than that in letters of that size."""
    return fitted(words, inches * 72, points)


def show(ax: Axes, picture: np.ndarray, title: str) -> None:
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
    ax.set_title(title, fontsize=8)
    ax.axis("off")


def shape_of(entry: Entry) -> list[int]:
    return entry.record.dataset["shape"]


def groups(entries: Sequence[Entry], has: Callable[[Entry], object]) -> list[tuple[str, list[Entry]]]:
    """Entries that `has` something, by support."""
    found = [(title, [e for e in distinct(entries) if e.record.support == s and has(e)]) for s, title in SUPPORTS.items()]
    return [(title, group) for title, group in found if group]


def legend(ax: Axes, entries: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    names = [shortened(label, LEGEND, 7) for label in labels]
    ax.legend(handles, names, fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, ncols=1 if entries <= 22 else 2)


def bar(found: Interval) -> float:
    """Half of an interval as it is drawn: not of two seeds, where it would hide everything else."""
    return found.half if found.half is not None and found.n > 2 else 0.0


def frame(set_limits: Callable[[float, float], object], values: Sequence[float]) -> None:
    """Limits that hold the means, whatever the width of the intervals: of two seeds those may be enormous."""
    if values:
        low, high = min(values), max(values)
        margin = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
        set_limits(low - margin, high + margin)


def scatter(ax: Axes, group: Sequence[Entry], x: str, y: str) -> None:
    for place, entry in enumerate(group):
        a, b = entry.interval(x), entry.interval(y)
        if a and b:
            look: dict[str, Any] = {**style(entry), "linestyle": "", "markersize": 6, "elinewidth": 0.8}
            on_top = len(group) - place + 2  # the baseline comes first, and is not to be hidden
            ax.errorbar(a.mean, b.mean, xerr=bar(a), yerr=bar(b), label=entry.label, zorder=on_top, **look)
    points = [(a.mean, b.mean) for entry in group if (a := entry.interval(x)) and (b := entry.interval(y))]
    frame(ax.set_xlim, [a for a, _ in points])
    frame(ax.set_ylim, [b for _, b in points])
    ax.grid(alpha=0.3)
