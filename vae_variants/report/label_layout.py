"""Where labels go, so that none lies upon another."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from vae_variants.report.drawing import MUTED, in_points, width_of, write

HEIGHT, MARK = 10.0, 4.0  # points of a label, and half of what a mark takes
CLOSE = 4  # rings that are close to a mark
RINGS = ((6.5, 8), (15.0, 16), (25.0, 16), (38.0, 24), (56.0, 24), (80.0, 32), (110.0, 48))  # distance from the mark, directions

Point = tuple[float, float]


def apart(wanted: Sequence[float], low: float, high: float, height: float = HEIGHT) -> list[float]:
    """Places as near to those wanted as can be (least squares), in their order and `height` apart, within low and high if there is room."""
    order, steps = np.argsort(wanted, kind="stable"), height * np.arange(len(wanted))
    found = np.empty(len(wanted))
    starts = isotonic_regression(np.asarray(wanted, dtype=float)[order] - steps).x
    found[order] = np.clip(starts, low, max(low, high - height * (len(wanted) - 1))) + steps
    return found.tolist()


def beside(
    points: Sequence[Point], widths: Sequence[float], within: Bbox, near: Sequence[bool] = (), others: Sequence[Point] = ()
) -> list[Bbox | None]:
    """A box for a label of each width by its point, the first ones first; None where no place is free.

    No box meets another, a mark, one of the points `others`, or the line from a label to its mark. If `near` is true, a label stands
    close to its mark or nowhere.
    """
    marks = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    taken, lines, found = np.reshape(marks, (-1, 4)), np.reshape(others, (-1, 2)), list[Bbox | None]()

    def free(box: Bbox, way: Sequence[Point], i: int) -> bool:
        inside = within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0 and box.y1 <= within.y1
        met = ((taken[:, :2] < box.max) & (taken[:, 2:] > box.min)).all(1).any() or ((lines >= box.min) & (lines <= box.max)).all(1).any()
        if not inside or met:
            return False
        rest = np.delete(taken, i, 0)[:, None]
        return not way or not ((rest[..., :2] <= way) & (rest[..., 2:] >= way)).all(-1).any()

    for i, ((x, y), width) in enumerate(zip(points, widths, strict=True)):
        rings = RINGS[: CLOSE if near and near[i] else None]
        tries = (placed(x, y, width, far, 2 * math.pi * turn / turns) for far, turns in rings for turn in range(turns))
        ways = ((box, [] if math.dist(end(box, x, y), (x, y)) < 9 else leader(box, x, y)) for box in tries)
        box, way = next(((box, way) for box, way in ways if free(box, way, i)), (None, []))
        found.append(box)
        taken = np.concatenate([taken, [box.extents]]) if box else taken
        lines = np.concatenate([lines, np.reshape(way, (-1, 2))])
    return found


def placed(x: float, y: float, width: float, far: float, angle: float) -> Bbox:
    """A box whose nearest point is about that far from (x, y), to the right at angle 0."""
    across, up = math.cos(angle), math.sin(angle)
    left = x + far * across - (0 if across > 0.3 else width if across < -0.3 else width / 2)
    low = y + far * up - HEIGHT / 2 + (math.copysign(HEIGHT / 2 - 2, up) if abs(across) <= 0.3 else 0.0)
    return Bbox.from_bounds(left, low, width, HEIGHT)


def end(box: Bbox, x: float, y: float) -> Point:
    """The point of a box that is nearest to another point."""
    return min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)


def leader(box: Bbox, x: float, y: float) -> list[Point]:
    """Points along the line from a mark to its label, but for its beginning."""
    return [(a, b) for a, b in np.linspace((x, y), end(box, x, y), 8)[2:].tolist()]


def labelled(
    ax: Axes, points: Sequence[Point], words: Sequence[str], near: Sequence[bool], others: Sequence[Sequence[Point]] = (), **look: Any
) -> list[list[Artist]]:
    """Labels beside points of an axes whose limits are set, with lines to those further away; nothing where there is no room.

    No label is on a mark, another label, or on one of the lines `others`, which go through points of the axes.
    """
    there = ax.transData + in_points(ax)
    back = there.inverted()
    here = [(x, y) for x, y in there.transform(points).tolist()]
    segments = [pair for line in others for pair in pairwise(there.transform(line))]
    spaced = [(x, y) for a, b in segments for x, y in np.linspace(a, b, 2 + int(math.dist(a, b) / 4)).tolist()]
    within = ax.get_window_extent().transformed(in_points(ax))
    found = list[list[Artist]]()
    for (x, y), word, box in zip(here, words, beside(here, [width_of(w) for w in words], within, near, spaced), strict=True):
        found.append([])
        if box is not None and math.dist(end(box, x, y), (x, y)) >= 9:
            found[-1] += ax.plot(*back.transform([(x, y), end(box, x, y)]).T, color=MUTED, linewidth=0.6)
        if box is not None:
            left, middle = back.transform((box.x0, (box.y0 + box.y1) / 2))
            found[-1].append(write(ax, left, middle, word, va="center", **look))
    return found
