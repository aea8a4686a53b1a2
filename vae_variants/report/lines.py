"""Lines: what is learnt by epoch and by second, what more draws, more labels and more latent units bring."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from vae_variants.analysis.entries import COLOURS, Entry, distinct
from vae_variants.analysis.formatting import number
from vae_variants.analysis.statistics import Interval, interval
from vae_variants.report.dots import ends
from vae_variants.report.drawing import groups
from vae_variants.report.figures import families
from vae_variants.report.label_layout import apart
from vae_variants.report.plot import Plot
from vae_variants.report.readme import CAPTIONS
from vae_variants.report.svg import Scale, colour, dashes, escaped, fitted, panel, panels, path, tag, text, width_of, x_axis, y_axis

__all__ = ["Line", "line_panel", "lines"]

WIDTH, TOP = 410.0, 30.0
LABEL = 130.0  # pixels of a label, at most
LEFT = 50.0
POINTS = 60  # of a curve that are drawn, at most
SIZE, STEP = 11.5, 13.0  # of labels, and from one to the next
LEVELS = (1, 10, 100, 1000)


@dataclass(frozen=True)
class Line:
    """Of a variant; `words` stand at its end, `dash` replaces the variant's own."""

    entry: Entry
    points: Sequence[tuple[float, Interval]]
    words: str
    dash: str | None = None
    dots: bool = False
    family: int | None = None  # of several variants, that many colours on

    @property
    def ink(self) -> str:
        return colour(self.entry) if self.family is None else f"var(--v{self.family % len(COLOURS)})"

    @property
    def dashes(self) -> str | None:
        """None is a whole line."""
        return (dashes(self.entry) if self.dash is None else self.dash) or None


def line_panel(
    ident: str,
    title: str,
    name: str,
    found: Sequence[Line],
    *,
    log: bool = False,
    ticks: Sequence[tuple[float, str]] = (),
    late: bool = False,
    aside: str = "",
) -> str:
    """Lines with their bands and, at the right, their labels. `late`: what is under most lines early on is out of view."""
    words = [fitted(line.words, LABEL, SIZE) for line in found]
    right = WIDTH - max(width_of(w, SIZE) for w in words) - 41
    bottom = TOP + 14 + max(270.0, STEP * len(found))
    across = Scale.over([x for line in found for x, _ in line.points], LEFT, right, log=log, margin=0.02)
    held = [p.mean for line in found for _, p in line.points]
    if late:
        begun = [line.points[min(len(line.points) - 1, len(line.points) // 6)][1].mean for line in found]
        held = [*(line.points[-1][1].mean for line in found), statistics.median(begun), max(held)]
    up = Scale.over(held, bottom, TOP, margin=0.06)
    clip = tag("clipPath", tag("rect", x=LEFT, y=TOP, width=right - LEFT + 3, height=bottom - TOP), id=f"{ident}-clip")
    parts = [clip, y_axis(up, LEFT, right, 5)]
    if ticks:
        parts.append(named_axis(across, bottom, ticks))
        parts.append(text((LEFT + right) / 2, bottom + 32, name, text_anchor="middle", fill="var(--muted)", font_size=11.5))
    else:
        parts.append(x_axis(across, TOP, bottom, 5, name))
    last = [up.clipped(line.points[-1][1].mean) for line in found]
    places = apart(last, TOP + 4, bottom - 4, STEP)
    for line, word, y, place in zip(found, words, last, places, strict=True):
        look: dict[str, object] = {"stroke": line.ink, "stroke_width": 1.6, "fill": "none"}
        end = across(line.points[-1][0])
        leader = path([(end + 2, y), (right + 5, y), (right + 15, place)]) if end > right - 12 else None
        parts.append(
            tag(
                "g",
                tag("title", escaped(f"{line.words}: {number(line.points[-1][1])} at last")),
                tag("g", *strokes(line, across, up), clip_path=f"url(#{ident}-clip)"),
                tag("path", class_="leader", d=leader, stroke="var(--muted)", stroke_width=0.6, fill="none") if leader else "",
                tag("path", class_="key", d=f"M{right + 15:.1f} {place:.1f}h20", stroke_dasharray=line.dashes, **look),
                text(right + 39, place + 4, word, font_size=SIZE, class_="label"),
                data_variant=line.entry.label if line.family is None else None,
            )
        )
    best = max(found, key=lambda line: line.points[-1][1].mean)
    described = f"{len(found)} lines; the highest at its end is {best.words}, {number(best.points[-1][1])}."
    return panel(ident, title, described, WIDTH, bottom + 38, *parts, aside=aside)


def strokes(line: Line, across: Scale, up: Scale) -> list[str]:
    ink = line.ink
    spans = [(x, span) for x, p in line.points if (span := ends(p))]
    parts = []
    if len(spans) > 1 and not line.dots:
        edge = [(across(x), up(a)) for x, (a, _) in spans] + [(across(x), up(b)) for x, (_, b) in reversed(spans)]
        parts.append(tag("path", class_="band", d=path(edge) + "z", fill=ink, opacity=0.14))
    points = [(across(x), up(p.mean)) for x, p in line.points]
    parts.append(
        tag(
            "path",
            class_="curve",
            d=path(points),
            stroke=ink,
            stroke_width=1.6,
            stroke_dasharray=line.dashes,
            fill="none",
        )
    )
    if line.dots:
        bars = [tag("line", x1=across(x), x2=across(x), y1=up(a), y2=up(b), stroke=ink) for x, (a, b) in spans]
        parts += [*bars, *(tag("circle", cx=x, cy=y, r=2.6, fill=ink) for x, y in points)]
    return parts


def named_axis(across: Scale, bottom: float, ticks: Sequence[tuple[float, str]]) -> str:
    """Ticks at given places; those too near to the last one shown are left out."""
    parts, last = [], -1e9
    for value, name in ticks:
        x = across(value)
        if x - last > width_of(name, 11.5) + 6:
            parts.append(tag("line", x1=x, x2=x, y1=TOP, y2=bottom, stroke="var(--line)"))
            parts.append(text(x, bottom + 15, name, text_anchor="middle", fill="var(--muted)"))
            last = x
    return tag("g", *parts, class_="x-axis", font_size=11.5)


def thinned(n: int) -> list[int]:
    """Indices of n points, of which `POINTS` are kept at most: the first, the last, and between them at even distances."""
    return list(range(n)) if n <= POINTS else sorted({round(k * (n - 1) / (POINTS - 1)) for k in range(POINTS)})


def by_epoch(entry: Entry, seeds: Sequence[Sequence[float | None]]) -> list[tuple[int, Interval]]:
    """(epoch from 1, mean over seeds that are ok), of the epochs that are drawn."""
    alive = [c for s, c in zip(entry.record.seeds, seeds, strict=True) if entry.record.status[str(s)] == "ok"]
    n = min(map(len, alive), default=0)
    columns = [(i + 1, [c[i] for c in alive]) for i in thinned(n)]
    return [(i, interval(kept)) for i, column in columns if (kept := [v for v in column if v is not None])]


def by_second(entry: Entry, points: Sequence[tuple[int, Interval]]) -> list[tuple[float, Interval]]:
    """The same by the seconds of training up to there, all seeds together."""
    clock = [0.0, *accumulate(entry.record.epoch_seconds)]
    return [(clock[i], p) for i, p in points if i < len(clock) and clock[i] > 0]


def curves(shown: Sequence[Entry]) -> list[Plot]:
    """Validation log-likelihood while training, a plot for each kind of pixels."""
    found = []
    for title, group in groups(shown, lambda e: any(len(c) > 1 for c in e.record.curves.get("validation_log_prob", []))):
        name = f"curves-{group[0].record.support}"
        points = {e.record.key: by_epoch(e, e.record.curves["validation_log_prob"]) for e in group}
        epochs = [Line(e, [(float(i), p) for i, p in points[e.record.key]], e.label) for e in group if points[e.record.key]]
        seconds = [Line(e, own, e.label) for e in group if (own := by_second(e, points[e.record.key]))]
        content = []
        if epochs:
            content.append(line_panel(f"plot-{name}-epochs", "validation log p(x), nats ↑", "epoch", epochs, late=True))
        if seconds:
            words = "seconds of training, all seeds together"
            content.append(line_panel(f"plot-{name}-seconds", "validation log p(x), nats ↑", words, seconds, log=True, late=True))
        if content:
            found.append(Plot(name, f"While training: {title}", CAPTIONS["curves"], "training", panels(*content)))
    return found


def losses(shown: Sequence[Entry]) -> list[Plot]:
    """Losses by epoch of models that have no density, a panel for each."""
    content, dash = [], ("", "6 3", "1.5 2.5", "7 2.5 1.5 2.5")
    for i, entry in enumerate(e for e in distinct(shown) if e.record.curves and "validation_log_prob" not in e.record.curves):
        own = [
            Line(entry, [(float(x), p) for x, p in points], name.replace("_", " "), d)
            for (name, seeds), d in zip(entry.record.curves.items(), dash, strict=False)
            if len(points := by_epoch(entry, seeds)) > 1
        ]
        if own:
            content.append(line_panel(f"plot-losses-{i}", f"{entry.label}, nats", "epoch", own))
    return [Plot("losses", "Losses of models without a likelihood", CAPTIONS["losses"], "training", panels(*content))] if content else []


def bounds(shown: Sequence[Entry]) -> list[Plot]:
    """What more draws add to the bound, L_K less L_1, a panel for each kind of pixels."""
    content = []
    for title, group in groups(shown, lambda e: e.kind("log_likelihood") == "lower-bound"):
        own = []
        for entry in group:
            levels = {k: p.mean for k in LEVELS if (p := entry.interval(f"bound_{k}"))}
            k, value = entry.interval("bound_samples"), entry.interval("log_likelihood")
            if 1 in levels and k is not None and value is not None:
                levels[int(k.mean)] = value.mean
                own.append(Line(entry, [(float(n), Interval(levels[n] - levels[1], None, None, 1)) for n in sorted(levels)], entry.label))
        if any(len(line.points) > 1 for line in own):
            ticks = [(k, f"{k:g}") for k in sorted({x for line in own for x, _ in line.points})]
            ident, words = f"plot-bounds-{group[0].record.support}", "K, draws of z for each image"
            content.append(line_panel(ident, "L_K − L_1, nats", words, own, log=True, ticks=ticks, aside=title))
    return [Plot("bounds", "What more draws bring", CAPTIONS["bounds"], "trade-offs", panels(*content))] if content else []


def latent_size(entries: Sequence[Entry]) -> list[Plot]:
    """Bounds and probe accuracy against the number of latent units, of families that differ in it alone."""
    content, found = [], families(entries)[: len(COLOURS)]
    names = {
        "elbo": ("ELBO, nats ↑", True),
        "log_likelihood": ("log p(x) or its bound, nats ↑", True),
        "probe_accuracy": ("probe accuracy ↑", False),
    }
    supports = list(dict.fromkeys(group[0].record.support for group in found))
    for metric, (title, nats) in names.items():
        for support in supports if nats else [None]:
            own = []
            for i, group in enumerate(found):
                points = [(float(e.record.values["latent"]), p) for e in group if (p := e.interval(metric))]
                if len(points) > 2 and support in (None, group[0].record.support):
                    own.append(Line(group[0], points, family(group), "", dots=True, family=i))
            if own:
                ticks = [(x, f"{x:g}") for x in sorted({x for line in own for x, _ in line.points})]
                ident = f"plot-latent-size-{metric}" + (f"-{support}" if support else "")
                several = f", {support} pixels" if support and len(supports) > 1 else ""
                content.append(line_panel(ident, title + several, "latent units", own, log=True, ticks=ticks))
    return [Plot("latent-size", "What latent units buy", CAPTIONS["latent_size"], "latent", panels(*content))] if content else []


def family(group: Sequence[Entry]) -> str:
    """What its runs have in common, in few words."""
    values = group[0].record.values
    return str(values["model"]) + (f", {values['likelihood']}" if values.get("likelihood", "bernoulli") != "bernoulli" else "")


LINES: tuple[Callable[[Sequence[Entry]], list[Plot]], ...] = (curves, losses, bounds)


def lines(entries: Sequence[Entry], shown: Sequence[Entry]) -> list[Plot]:
    """All of them; families of latent sizes are of all `entries`, the others of those `shown`."""
    made = [partial(draw, shown) for draw in LINES] + [partial(latent_size, entries)]
    return [plot for draw in made for plot in draw()]
