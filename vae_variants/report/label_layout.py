"""Where labels go, so that none lies upon another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from vae_variants.report.svg import width_of

__all__ = ["Box", "Label", "apart", "beside"]

HEIGHT = 13.0
MARK = 5.5  # half of what a mark takes
RINGS = (
    (9.0, 8),
    (20.0, 16),
    (34.0, 16),
    (52.0, 24),
    (76.0, 24),
    (110.0, 32),
    (150.0, 48),
)  # distances from the mark, and directions tried at each


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


class Label(NamedTuple):
    """A text's middle, and where the line from its mark to it ends, if there is one."""

    x: float
    y: float
    line: tuple[float, float] | None


def apart(wanted: Sequence[float], low: float, high: float, height: float = HEIGHT) -> list[float]:
    """Places as near to those `wanted` as can be, in their order, at least `height` apart; all within low and high if there is room.

    The least squares solution: what would overlap is taken together, and set around its mean (pool adjacent violators).
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    blocks: list[list[float]] = []  # sum of what is wanted of the first of each, and how many
    for rank, i in enumerate(order):
        blocks.append([wanted[i] - rank * height, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, n = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += n
    last = max(low, high - (len(wanted) - 1) * height)
    starts = [min(max(total / n, low), last) for total, n in blocks for _ in range(int(n))]
    found = [0.0] * len(wanted)
    for rank, (i, start) in enumerate(zip(order, starts, strict=True)):
        found[i] = start + rank * height
    return found


def beside(
    points: Sequence[tuple[float, float]],
    words: Sequence[str],
    within: Box,
    size: float,
    near: Sequence[bool] = (),
    others: Sequence[tuple[float, float]] = (),
) -> list[Label | None]:
    """A place for each of `words` by its point, the first ones first; None where none is free.

    No label meets another, a mark, or one of the `others`. Where `near` is true, a label stands right beside its mark or nowhere.
    """
    marks = [Box(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points] + [Box(x - 1, y - 1, x + 1, y + 1) for x, y in others]
    placed, found = list[Box](), list[Label | None]()
    lines = list[tuple[float, float]]()
    for i, ((x, y), word) in enumerate(zip(points, words, strict=False)):
        half = width_of(word, size) / 2
        found.append(None)
        for distance, turns in RINGS[: 1 if near and near[i] else None]:
            for turn in range(turns):
                label = offset(x, y, half, distance, 2 * math.pi * turn / turns)
                box = Box(label.x - half, label.y - HEIGHT / 2, label.x + half, label.y + HEIGHT / 2)
                inside = box.left >= within.left and box.right <= within.right and box.top >= within.top and box.bottom <= within.bottom
                way = steps((x, y), label.line)
                taken = any(box.meets(other) for other in (*placed, *marks)) or any(contains(box, p) for p in lines)
                if not inside or taken or any(contains(other, p) for other in placed for p in way):
                    continue
                found[-1] = label
                placed.append(box)
                lines += way
                break
            if found[-1] is not None:
                break
    return found


def offset(x: float, y: float, half: float, distance: float, angle: float) -> Label:
    """A label whose nearest point is at that distance of (x, y), to the right at angle 0."""
    across, up = math.cos(angle), math.sin(angle)
    ex, ey = x + distance * across, y - distance * up
    shift = half if across > 0.3 else -half if across < -0.3 else 0.0
    middle = ey + (0 if shift else -math.copysign(HEIGHT / 2 - 2, up))
    return Label(ex + shift, middle, None if distance < 10 else (ex, ey))


def steps(start: tuple[float, float], end: tuple[float, float] | None) -> list[tuple[float, float]]:
    """Points along a line, but for its ends, which are at a mark and at a label."""
    if end is None:
        return []
    (x0, y0), (x1, y1) = start, end
    return [(x0 + (x1 - x0) * k / 8, y0 + (y1 - y0) * k / 8) for k in range(2, 8)]


def contains(box: Box, point: tuple[float, float]) -> bool:
    return box.left < point[0] < box.right and box.top < point[1] < box.bottom
