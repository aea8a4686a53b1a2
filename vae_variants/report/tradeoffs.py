"""Two figures of each variant against one another: quality against cost with its Pareto front, rate against distortion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from vae_variants.analysis.entries import SUPPORTS, Entry, distinct
from vae_variants.analysis.statistics import Interval
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.dots import ARROWS, ends, heading, value_of, wide
from vae_variants.report.label_layout import Box, beside
from vae_variants.report.plot import Plot
from vae_variants.report.readme import CAPTIONS
from vae_variants.report.svg import Scale, colour, escaped, fitted, marker, panel, panels, path, tag, text, x_axis, y_axis

__all__ = ["front", "tradeoffs"]

WIDTH, HEIGHT = 400.0, 370.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 394.0, 34.0, 328.0
SIZE, LONGEST = 11.5, 140.0  # of labels
COSTS = {"train_seconds": "training time", "sample_images_per_second": "speed of sampling", "parameters": "parameters"}
HALO: dict[str, object] = {"stroke": "var(--paper)", "stroke_width": 3.0, "paint_order": "stroke", "stroke_linejoin": "round"}
LEVELS = 3  # lines of constant ELBO, about
FRONT = (
    "The line is the Pareto front of what is drawn, without a test: no variant is better than one on it both ways. Arrows point to better; "
    "hollow marks are lower bounds. Seconds and images per second are of the machine named above. Where labels would lie upon each other, "
    "a mark stands alone; it says what it is when pointed at."
)


def front(points: Sequence[tuple[float, float]], better: tuple[str, str]) -> list[int]:
    """Indices of the points that no other is better than both ways (as good one way and better the other), by their first coordinate."""
    signs = [1.0 if b == "higher" else -1.0 for b in better]
    order = sorted(range(len(points)), key=lambda i: (-signs[0] * points[i][0], -signs[1] * points[i][1]))
    kept, highest = list[int](), -math.inf
    for i in order:  # the best by the first first
        height = signs[1] * points[i][1]
        if height > highest or (kept and points[i] == points[kept[-1]]):
            kept.append(i)
            highest = height
    return sorted(kept, key=lambda i: points[i])


Point = tuple[Entry, Interval, Interval]


def located(shown: Sequence[Entry], x: str, y: str) -> list[Point]:
    return [(e, a, b) for e in distinct(shown) if (a := e.interval(x)) and (b := e.interval(y))]


def scales(found: Sequence[Point], log: bool) -> tuple[Scale, Scale]:
    across = Scale.over([a.mean for _, a, _ in found], LEFT, RIGHT, log=log, margin=0.08)
    return across, Scale.over([b.mean for _, _, b in found], BOTTOM, TOP, margin=0.08)


def marks(found: Sequence[Point], x: str, y: str, across: Scale, up: Scale, first: set[str], line: Sequence[tuple[float, float]]) -> str:
    """Intervals, marks and labels; those of the keys in `first` have the first choice of a place."""
    order = sorted(found, key=lambda p: (p[0].record.key not in first, -p[2].mean))
    points = [(across(a.mean), up(b.mean)) for _, a, b in order]
    near = [e.record.key not in first for e, _, _ in order]
    words = [fitted(e.label, LONGEST, SIZE) for e, _, _ in order]
    places = beside(points, words, Box(LEFT + 2, TOP, WIDTH - 2, BOTTOM - 2), SIZE, near, line)
    parts = []
    for (entry, a, b), (px, py), word, label in reversed(list(zip(order, points, words, places, strict=True))):
        fact = f"{entry.label}: {value_of(entry, y, b)} at {value_of(entry, x, a)}"
        own = [tag("title", escaped(fact)), whisker(entry, a, across, py, False), whisker(entry, b, up, px, True)]
        if label is not None:
            if label.line:
                (lx, ly) = label.line
                own.append(tag("line", class_="leader", x1=px, y1=py, x2=lx, y2=ly, stroke="var(--muted)", stroke_width=0.7))
            ink = None if entry.record.key in first else "var(--muted)"
            own.append(text(label.x, label.y + 4, word, text_anchor="middle", font_size=SIZE, fill=ink, class_="label", **HALO))
        own.append(marker(entry, px, py, "lower-bound" in (entry.kind(x), entry.kind(y))))
        parts.append(tag("g", *own, data_variant=entry.label))
    return "".join(parts)


def whisker(entry: Entry, found: Interval, scale: Scale, other: float, upright: bool) -> str:
    span = ends(found)
    if span is None or span[0] == span[1]:
        return ""
    a, b = (scale.clipped(v) for v in span)
    place = {"x1": other, "x2": other, "y1": a, "y2": b} if upright else {"x1": a, "x2": b, "y1": other, "y2": other}
    return tag("line", class_="interval", **place, stroke=colour(entry), opacity=0.6)


def against(ident: str, x: str, y: str, shown: Sequence[Entry], data: str) -> str | None:
    """Quality against cost, with the front."""
    found = [p for p in located(shown, x, y) if p[1].mean > 0]
    if len(found) < 2:
        return None
    first = found[0][0]
    better = (first.rows[x][0]["better"], first.rows[y][0]["better"])
    if better[0] == "none":
        better = ("lower", better[1])  # of two models that are as good, the smaller
    across, up = scales(found, wide([a.mean for _, a, _ in found], first.unit(x)))
    points = [(a.mean, b.mean) for _, a, b in found]
    best = front(points, better)
    corners = [(across(points[i][0]), up(points[i][1])) for i in best]
    line = corners[:1]
    for (_, y0), (x1, y1) in pairwise(corners):
        # what the front gives at a cost between two of its variants is what the cheaper one gives
        line += [(x1, y0) if better[0] == "lower" else (line[-1][0], y1), (x1, y1)]
    keys = {found[i][0].record.key for i in best} | {first.record.key}
    name = heading(x, shown, data).removesuffix(ARROWS.get(better[0], "")) + ARROWS[better[0]]
    parts = [x_axis(across, TOP, BOTTOM, 5, name, WIDTH)]
    parts += [y_axis(up, LEFT, RIGHT, 5), tag("path", class_="front", d=path(line), stroke="var(--muted)", stroke_width=1.5, fill="none")]
    parts.append(marks(found, x, y, across, up, keys, between(line)))
    title = f"{heading(y, shown, data)}, against {COSTS[x]}"
    described = f"{len(found)} variants; on the Pareto front: {', '.join(found[i][0].label for i in best)}."
    return panel(ident, title, described, WIDTH, HEIGHT, *parts)


def between(line: Sequence[tuple[float, float]], every: float = 6.0) -> list[tuple[float, float]]:
    """Points along a line, which labels are to keep away from."""
    found = list[tuple[float, float]]()
    for (x0, y0), (x1, y1) in pairwise(line):
        n = max(1, int(math.hypot(x1 - x0, y1 - y0) / every))
        found += [(x0 + (x1 - x0) * k / n, y0 + (y1 - y0) * k / n) for k in range(n + 1)]
    return found


def rate_distortion(ident: str, shown: Sequence[Entry], title: str) -> str | None:
    """The two terms of the ELBO, with lines on which it is constant."""
    found = located(shown, "rate", "distortion")
    if len(found) < 2:
        return None
    across, up = scales(found, False)
    parts = [x_axis(across, TOP, BOTTOM, 5, "rate: KL(q(z|x) ‖ p(z)), nats", WIDTH), y_axis(up, LEFT, RIGHT, 5)]
    low, high = across.low + up.low, across.high + up.high
    step = Scale(low, high, 0, 1).ticks(2 * LEVELS)
    clip = tag("clipPath", tag("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP), id=f"{ident}-clip")
    lines, names, taken = list[str](), list[str](), list[tuple[float, float]]()
    for level in step:
        ends_of = [(across(r), up(level - r)) for r in (across.low, across.high)]
        lines.append(tag("path", d=path(ends_of), stroke="var(--muted)", stroke_dasharray="1.5 3", fill="none"))
        at = next(
            ((r, level - r) for r in (across.high, level - up.low) if across.low < r <= across.high and up.low <= level - r < up.high), None
        )
        if at:
            taken += [(across(at[0]) - dx, up(at[1]) - 8) for dx in range(4, 36, 6)]
            names.append(
                text(
                    across(at[0]) - 3,
                    up(at[1]) - 4,
                    f"{0.0 - level:g}".replace("-", "−"),
                    font_size=10.5,
                    text_anchor="end",
                    fill="var(--muted)",
                    **HALO,
                )
            )
    parts += [clip, tag("g", *lines, class_="levels", clip_path=f"url(#{ident}-clip)"), *names]
    parts.append(marks(found, "rate", "distortion", across, up, {found[0][0].record.key}, taken))
    described = f"{len(found)} variants, {title}; dotted lines have the same ELBO, and better is to the lower left."
    return panel(ident, "distortion, nats", described, WIDTH, HEIGHT, *parts, aside=title)


def tradeoffs(shown: Sequence[Entry]) -> list[Plot]:
    """log p(x) of one kind of pixels after the other against what it costs, reconstruction of all, and rate against distortion."""
    data, found = data_name(shown[0].record.dataset["name"]), list[Plot]()

    def add(name: str, title: str, caption: str, *content: str | None) -> None:
        if kept := [c for c in content if c is not None]:
            found.append(Plot(name, title, caption, "trade-offs", panels(*kept)))

    groups = [(s, t, group) for s, t in SUPPORTS.items() if (group := [e for e in shown if e.record.support == s])]
    for support, title, group in groups:
        name = f"cost-likelihood-{support}"
        content = [against(f"plot-{name}-{x}", x, "log_likelihood", group, data) for x in COSTS]
        add(name, f"log p(x) against cost: {title}", FRONT, *content)
    content = [against(f"plot-cost-reconstruction-{x}", x, "reconstruction_mse", shown, data) for x in ("train_seconds", "parameters")]
    add("cost-reconstruction", "Reconstruction against cost", FRONT, *content)
    panes = [rate_distortion(f"plot-rate-distortion-{support}", group, title) for support, title, group in groups]
    add("rate-distortion", "Rate and distortion", CAPTIONS["rate_distortion"], *panes)
    return found
