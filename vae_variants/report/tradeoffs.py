"""Two metrics of each variant against one another: quality against cost with its Pareto front, rate against distortion."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vae_variants.analysis.entries import Entry, distinct
from vae_variants.analysis.statistics import Interval
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.dots import ARROWS, heading, look, value_of, wide
from vae_variants.report.drawing import MUTED, PAPER, Part, compose, ends, groups, limits, mark, scale, seen, shortened, write
from vae_variants.report.label_layout import Point, labelled

HEIGHT, EDGE = 215.0, 12.0
LONGEST = 200.0  # points of a label, at most
COSTS = {"train_seconds": "training time", "sample_images_per_second": "speed of sampling", "parameters": "parameters"}
LEVELS = 6  # lines of constant ELBO, about
BACKED: dict[str, Any] = {"bbox": {"facecolor": PAPER, "linewidth": 0, "pad": 1}}  # of a text that hides lines below it

Located = Sequence[tuple[Entry, Interval, Interval]]


def front(points: Sequence[Point], better: tuple[str, str]) -> list[int]:
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


def located(shown: Sequence[Entry], x: str, y: str) -> Located:
    return [(e, a, b) for e in distinct(shown) if (a := e.interval(x)) and (b := e.interval(y))]


def frame(ax: Axes, found: Located, better: str, name: str, log: bool = False) -> None:
    """Axes for the means of what has not collapsed, where `better` is the direction upwards."""
    held = {e.label for e in seen([e for e, _, _ in found])}
    scale(ax, "x", limits([a.mean for e, a, _ in found if e.label in held], log=log, margin=0.08), log, name=name)
    scale(ax, "y", limits([b.mean for e, _, b in found if e.label in held], better, margin=0.08))


def scatter(ax: Axes, found: Located, x: str, y: str, first: set[str], lines: Sequence[Sequence[Point]] = (), **text: Any) -> None:
    """Intervals, marks and labels in axes whose limits are set. The keys in `first` choose their labels' places first, off the `lines`.

    What is outside stands at the edge, and its label has an arrow.
    """
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    edge = 0.025 * (high - low)
    order = sorted(found, key=lambda p: (low <= p[2].mean <= high and p[0].record.key not in first, -p[2].mean))
    sides = [" ←" if a.mean < left else " →" if a.mean > right else "" for _, a, _ in order]
    arrows = [" ↓" if b.mean < low else " ↑" if b.mean > high else side for (_, _, b), side in zip(order, sides, strict=True)]
    spots = [(min(max(a.mean, left), right), min(max(b.mean, low + edge), high - edge)) for _, a, b in order]
    near = [not arrow and e.record.key not in first for (e, _, _), arrow in zip(order, arrows, strict=True)]
    whiskers = list[list[list[Point]]]()
    for (_, a, b), arrow in zip(order, arrows, strict=True):
        across = [[(v, b.mean) for v in np.clip(span, left, right)] for span in [ends(a)] if span and not arrow]
        up = [[(a.mean, v) for v in np.clip(span, low, high)] for span in [ends(b)] if span and not arrow]
        whiskers.append([*across, *up])
    words = [shortened(e.marked, LONGEST) + arrow for (e, _, _), arrow in zip(order, arrows, strict=True)]
    labels = labelled(ax, spots, words, near, [*lines, *(line for own in whiskers for line in own)], **text)
    for i, (entry, a, b) in reversed(list(enumerate(order))):
        ink = look(entry)["color"]
        own: list[Artist] = [line for each in whiskers[i] for line in ax.plot(*np.transpose(each), color=ink, linewidth=0.8, alpha=0.6)]
        own += [*labels[i], *ax.plot(*spots[i], **look(entry, x, y))]
        if near[i] and labels[i]:
            labels[i][-1].set(color=MUTED)
        mark(entry.label, f"{entry.label}: {value_of(entry, y, b)} at {value_of(entry, x, a)}", own)


def against(x: str, y: str, shown: Sequence[Entry], scope: str = "") -> Part | None:
    """Quality against cost, with the front."""
    found = [p for p in located(shown, x, y) if p[1].mean > 0]
    if len(found) < 2:
        return None
    data, first = data_name(shown[0].record.dataset["name"]), found[0][0]
    better = (first.rows[x][0]["better"], first.rows[y][0]["better"])
    if better[0] == "none":
        better = ("lower", better[1])  # of two models that are as good, the smaller
    sound = [i for i, (e, _, _) in enumerate(found) if e.sound(x) and e.sound(y)]
    best = [sound[i] for i in front([(found[i][1].mean, found[i][2].mean) for i in sound], better)]
    name = heading(x, shown, data).removesuffix(ARROWS.get(better[0], "")) + ARROWS[better[0]]
    described = f"{len(found)} variants; on the Pareto front: {', '.join(found[i][0].label for i in best)}."
    draw = partial(draw_against, found=found, x=x, y=y, best=best, better=better, name=name)
    return Part(f"{heading(y, shown, data)}, against {COSTS[x]}{scope}", described, draw, HEIGHT, right=EDGE)


def draw_against(ax: Axes, found: Located, x: str, y: str, best: Sequence[int], better: tuple[str, str], name: str) -> None:
    corners = [(found[i][1].mean, found[i][2].mean) for i in best]
    line = corners[:1]
    for (_, y0), (x1, y1) in pairwise(corners):
        # what the front gives at a cost between two of its variants is what the cheaper one gives
        line += [(x1, y0) if better[0] == "lower" else (line[-1][0], y1), (x1, y1)]
    if line:
        ax.plot(*np.transpose(line), color=MUTED, linewidth=1.2, label="front")
    frame(ax, found, better[1], name, wide([a.mean for _, a, _ in found], found[0][0].unit(x)))
    scatter(ax, found, x, y, {found[i][0].record.key for i in best} | {found[0][0].record.key}, [line] if line else [])


def cost(shown: Sequence[Entry]) -> Figure | None:
    """log p(x), of one pixel type after the other, against what it costs."""
    found = groups(shown, lambda e: e.interval("log_likelihood"))
    return compose(against(x, "log_likelihood", group, f"\n{title}") for title, group in found for x in COSTS)


def cost_reconstruction(shown: Sequence[Entry]) -> Figure | None:
    """Squared error of reconstructions against what it costs."""
    return compose(against(x, "reconstruction_mse", shown) for x in ("train_seconds", "parameters"))


def rate_distortion(shown: Sequence[Entry]) -> Figure | None:
    """The two terms of the ELBO, with lines on which it is constant, for each pixel type."""
    parts = list[Part]()
    for title, group in groups(shown, lambda e: e.interval("rate") and e.interval("distortion")):
        described = f"{len(group)} variants; dotted lines have the same ELBO, and better is to the lower left."
        draw = partial(draw_levels, found=located(group, "rate", "distortion"))
        parts += [Part(f"distortion −E log p(x|z), nats\n{title}", described, draw, HEIGHT, right=EDGE)] if len(group) > 1 else []
    return compose(parts)


def draw_levels(ax: Axes, found: Located) -> None:
    """Dotted lines of constant ELBO, each with its value at the edge, then the variants."""
    frame(ax, found, "lower", "rate KL(q(z|x) ‖ p(z)), nats")
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    taken, wide, bottom = list[list[Point]](), 0.12 * (right - left), low + 0.03 * (high - low)
    for level in MaxNLocator(LEVELS).tick_values(left + low, right + high):
        ax.plot([left, right], [level - left, level - right], color=MUTED, linewidth=0.8, linestyle=(0, (1.5, 3)), label="level", zorder=1)
        x, y = (right, level - right) if level - right > bottom else (level - bottom, bottom)
        if left + wide < x and y < high + low - bottom:
            write(ax, x, y, f"{0.0 - level:g} ".replace("-", "−"), fontsize=7.5, color=MUTED, ha="right", va="center", **BACKED)
            taken.append([(x - wide, y), (x, y)])
    scatter(ax, found, "rate", "distortion", {found[0][0].record.key}, taken, **BACKED)
