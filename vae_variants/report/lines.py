"""Lines: what is learnt by epoch and by second, what more samples of z and more latent units bring."""

import re
import statistics
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D

from vae_variants.analysis.entries import COLOURS, SUPPORTS, Entry, distinct, style
from vae_variants.analysis.formatting import number
from vae_variants.analysis.statistics import Interval, interval
from vae_variants.report.drawing import (
    MUTED,
    WIDTH,
    Part,
    compose,
    ends,
    groups,
    in_points,
    limits,
    mark,
    scale,
    shortened,
    width_of,
    without_worst,
    write,
)
from vae_variants.report.label_layout import HEIGHT, apart

TALL = 195.0  # points of an axes, at least
USUAL, LABEL = 108.0, 230.0  # points of a label in a panel of the usual width, and at most
POINTS = 60  # of a curve that are drawn, at most
LEVELS = (1, 10, 100, 1000)
Ticks = Sequence[tuple[float, str]]
EXACTLY = {"exact": "log p(x)", "lower-bound": "bound"}  # of a curve while training, by the kind of log p(x) at the end
NATS = "validation {} by {}, nats ↑"


class Line(NamedTuple):
    """Of a variant, with `words` at its end. A family of several variants has no `variant`. `last` is a further point, of another kind.

    Axes hold those that are `held`, not the collapsed ones.
    """

    variant: str
    points: Sequence[tuple[float, Interval]]
    words: str
    colour: Any
    dash: Any = "-"
    dots: bool = False
    last: tuple[float, float] | None = None
    held: bool = True


def own_line(entry: Entry, points: Sequence[tuple[float, Interval]], last: tuple[float, float] | None = None) -> Line:
    """One in the variant's own look."""
    return Line(entry.label, points, entry.marked, style(entry)["color"], style(entry)["linestyle"], last=last, held=not entry.collapsed)


def line_part(title: str, name: str, found: Sequence[Line], *, log: bool = False, ticks: Ticks = (), late: bool = False) -> Part:
    """Lines with their bands and, at the right, their labels. `late`: what is under most lines early on is out of view."""
    best = max(found, key=lambda line: line.points[-1][1].mean)
    described = f"{len(found)} lines; the highest at its end is {best.words}, {number(best.points[-1][1])}."
    right = min(LABEL, max(width_of(line.words) for line in found)) + 34
    draw = partial(draw_lines, name=name, found=found, log=log, ticks=ticks, late=late)
    return Part(title, described, draw, max(TALL, HEIGHT * len(found)), WIDTH + max(0.0, right - USUAL - 34), right=right)


def draw_lines(ax: Axes, name: str, found: Sequence[Line], log: bool, ticks: Ticks, late: bool) -> None:
    last, own_ = [line.points[-1][1].mean for line in found], [line for line in found if line.held] or found
    more = [line.last for line in own_ if line.last]
    held = [p.mean for line in own_ for _, p in line.points] + [y for _, y in more]
    if late:
        begun = [line.points[min(len(line.points) - 1, len(line.points) // 6)][1].mean for line in own_]
        held = [*without_worst([line.points[-1][1].mean for line in own_], "higher"), statistics.median(begun), max(held)]
    spans = [v for line in own_ if line.dots for _, p in line.points for v in ends(p) or ()]
    across = [x for line in found for x, _ in line.points] + [x for x, _ in more]
    scale(ax, "x", limits(across, log=log, margin=0.02), log, name=name, whole=all(float(x).is_integer() for x in across))
    scale(ax, "y", limits(held, extra=spans, margin=0.06))
    if ticks:
        ax.set_xticks([x for x, _ in ticks], [words for _, words in ticks])
    low, high = ax.get_ylim()
    box = ax.get_window_extent().transformed(in_points(ax))
    heights = [min(max((v - low) / (high - low), 0), 1) * box.height for v in last]
    beside = Affine2D().scale(1 / box.width, 1 / box.height).translate(1, 0) + ax.transAxes  # points from the lower right corner
    for line, y, place in zip(found, heights, apart(heights, 3, box.height - 3), strict=True):
        end, own = line.points[-1][1], strokes(ax, line)
        x = (ax.transData + beside.inverted()).transform((line.points[-1][0], high))[0]
        if x > -12:
            own += ax.plot([x + 2, 4, 10], [y, y, place], color=MUTED, linewidth=0.5, transform=beside, clip_on=False)
        ink = {"color": line.colour, "linestyle": line.dash, "linewidth": 1.3}
        own += ax.plot([10, 26], [place] * 2, transform=beside, clip_on=False, **ink)
        outside = " ↓" if end.mean < low else " ↑" if end.mean > high else ""
        words = shortened(line.words, LABEL - (width_of(outside) if outside else 0)) + outside
        own.append(write(ax, 30, place, words, va="center_baseline", transform=beside))
        mark(line.variant, f"{line.words}: {number(end)} at the end", own)


def strokes(ax: Axes, line: Line) -> list[Artist]:
    """A curve with its band, or dots with their intervals."""
    spans, look = [(x, *span) for x, p in line.points if (span := ends(p))], {"color": line.colour}
    x, y = [x for x, _ in line.points], [p.mean for _, p in line.points]
    own = list[Artist]()
    if len(spans) > 1 and not line.dots:
        at, lows, highs = zip(*spans, strict=True)
        own.append(ax.fill_between(at, lows, highs, alpha=0.14, linewidth=0, **look))
    own += ax.plot(x, y, linestyle=line.dash, linewidth=1.3, label="curve", **look)
    if line.last:
        own += ax.plot([x[-1], line.last[0]], [y[-1], line.last[1]], linestyle=(0, (1, 2)), linewidth=1, **look)
    if line.dots:
        own += ax.plot(x, y, "o", markersize=4, markeredgewidth=0, **look)
        own += [bar for at, low, high in spans for bar in ax.plot([at, at], [low, high], linewidth=0.8, **look)]
    return own


def thinned(n: int) -> list[int]:
    """Indices of n points, of which `POINTS` are kept at most: the first, the last, and between them at even distances."""
    return list(range(n)) if n <= POINTS else sorted({round(k * (n - 1) / (POINTS - 1)) for k in range(POINTS)})


def by_epoch(entry: Entry, seeds: Sequence[Sequence[float | None]]) -> list[tuple[float, Interval]]:
    """(epoch from 1, mean over seeds that are ok), of the epochs that are drawn."""
    alive = [c for s, c in zip(entry.record.seeds, seeds, strict=True) if entry.record.status[str(s)] == "ok"]
    columns = [(i + 1.0, [c[i] for c in alive]) for i in thinned(min(map(len, alive), default=0))]
    return [(i, interval(kept)) for i, column in columns if (kept := [v for v in column if v is not None])]


def by_second(entry: Entry, points: Sequence[tuple[float, Interval]]) -> list[tuple[float, Interval]]:
    """The same by the seconds of training up to there, all seeds together."""
    clock = [0.0, *accumulate(entry.record.epoch_seconds)]
    return [(clock[int(i)], p) for i, p in points if i < len(clock) and clock[int(i)] > 0]


def curves(shown: Sequence[Entry]) -> Figure | None:
    """Validation log-likelihood while training by epoch and by second, for each pixel type: bounds apart from exact values."""
    parts = []

    def drawn(entry: Entry, kind: str) -> bool:
        return entry.kind("log_likelihood") == kind and any(len(c) > 1 for c in entry.record.curves.get("validation_log_prob", []))

    found = {kind: groups(shown, partial(drawn, kind=kind)) for kind in ("lower-bound", "exact", "estimate", "")}
    for title, group in sorted((pair for own in found.values() for pair in own), key=lambda pair: list(SUPPORTS.values()).index(pair[0])):
        points = [(e, own) for e in group if (own := by_epoch(e, e.record.curves["validation_log_prob"]))]
        seconds = [(e, own) for e, epochs in points if (own := by_second(e, epochs))]
        which = " or ".join(sorted({EXACTLY.get(e.kind("log_likelihood"), "log p(x)") for e, _ in points}))
        if points:
            parts.append(line_part(f"{NATS.format(which, 'epoch')}\n{title}", "epoch", [own_line(*p) for p in points], late=True))
        if seconds:
            name = "seconds of training, all seeds together"
            parts.append(line_part(f"{NATS.format(which, 'second')}\n{title}", name, [own_line(*p) for p in seconds], log=True, late=True))
    return compose(parts)


def losses(shown: Sequence[Entry]) -> Figure | None:
    """Losses by epoch of models that have no density, a panel for each: of an autoencoder, of the players of a game."""
    parts = []
    for entry in (e for e in distinct(shown) if e.record.curves and "validation_log_prob" not in e.record.curves):
        own = [
            Line(entry.label, points, name, style(entry)["color"], dash)
            for name, seeds, dash in zip(
                short(list(entry.record.curves)), entry.record.curves.values(), ("-", "--", ":", "-."), strict=False
            )
            if len(points := by_epoch(entry, seeds)) > 1
        ]
        if own:
            parts.append(line_part(f"{entry.label}, loss", "epoch", own))
    return compose(parts)


def short(names: Sequence[str]) -> list[str]:
    """Names of losses without what all share: `train critic` of `train_regularizer.critic_loss`, if no other is called so."""
    found = [re.sub(r"_[^_.]+\.", "_", name).removesuffix("_loss").replace("_", " ") for name in names]
    return found if len(set(found)) == len(found) else [name.replace("_", " ") for name in names]


def bounds(shown: Sequence[Entry]) -> Figure | None:
    """What more samples of z add to the bound: L_K − L_1 against K, then annealing, for each pixel type."""
    parts = []
    for title, group in groups(shown, lambda e: e.kind("log_likelihood") == "lower-bound"):
        own = []
        for entry in group:
            levels = {k: p.mean for k in LEVELS if (p := entry.interval(f"bound_{k}"))}
            k, value, annealed = (entry.interval(m) for m in ("bound_samples", "log_likelihood", "annealed_log_likelihood"))
            if 1 in levels and k is not None and value is not None:
                levels[int(k.mean)] = value.mean
                last = (4.0 * max(levels), annealed.mean - levels[1]) if annealed else None
                points = [(float(n), Interval(levels[n] - levels[1], None, None, 1)) for n in sorted(levels)]
                own.append(own_line(entry, points, last))
        if any(len(line.points) > 1 for line in own):
            ticks = {x: f"{x:g}" for line in own for x, _ in line.points} | {line.last[0]: "annealed" for line in own if line.last}
            kept = [(x, ticks[x]) for x in sorted(ticks) if not any(x < y < 2.5 * x for y in ticks)]
            parts.append(line_part(f"L_K − L₁, nats\n{title}", "K, samples of z for each image", own, log=True, ticks=kept))
    return compose(parts)


def families(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Groups of at least three runs that differ in their latent size alone, in the order of that size."""
    found: dict[str, list[Entry]] = {}
    for entry in distinct(entries):
        if "latent" in entry.record.values:
            rest = repr(sorted((k, v) for k, v in entry.record.values.items() if k != "latent"))
            found.setdefault(rest, []).append(entry)
    return [sorted(group, key=lambda e: e.record.values["latent"]) for group in found.values() if len(group) > 2]


def family(group: Sequence[Entry]) -> str:
    """What its runs have in common, in few words."""
    values = group[0].record.values
    return str(values["model"]) + (f", {values['likelihood']}" if values.get("likelihood", "bernoulli") != "bernoulli" else "")


def latent_size(entries: Sequence[Entry]) -> Figure | None:
    """Bounds and probe accuracy against the number of latent units, of families that differ in it alone."""
    parts, found = [], families(entries)
    few = f" (the first {len(COLOURS)} of {len(found)} families)" if len(found) > len(COLOURS) else ""
    supports = list(dict.fromkeys(group[0].record.support for group in found))
    titles = {"elbo": "ELBO, nats ↑", "log_likelihood": "log p(x) or its bound, nats ↑", "probe_accuracy": "probe accuracy ↑"}
    for metric, title in titles.items():
        for support in [None] if metric == "probe_accuracy" else supports:
            own = []
            for colour, group in zip(COLOURS, found, strict=False):
                points = [(float(e.record.values["latent"]), p) for e in group if (p := e.interval(metric))]
                if len(points) > 2 and support in (None, group[0].record.support):
                    own.append(Line("", points, family(group), colour, dots=True))
            if own:
                ticks = [(x, f"{x:g}") for x in sorted({x for line in own for x, _ in line.points})]
                scope = f"\n{support} pixels" if support and len(supports) > 1 else ""
                parts.append(line_part(title + scope + few, "latent units", own, log=True, ticks=ticks))
    return compose(parts)
