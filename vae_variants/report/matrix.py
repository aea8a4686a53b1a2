"""Coloured cells: every variant against every other, and what each latent unit and each layer of latents carries."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vae_variants.analysis.entries import COLOURS, Entry, distinct
from vae_variants.analysis.formatting import number
from vae_variants.analysis.prominence import prominent
from vae_variants.analysis.statistics import LEAST_SEEDS, Comparison, interval
from vae_variants.harness.record import Record
from vae_variants.integrations.export import rebuilt
from vae_variants.models.base import MODELS, Layered
from vae_variants.registry import UserError
from vae_variants.report.drawing import LINE, MUTED, PAPER, WIDTH, Part, compose, groups, mark, shortened, width_of, write

METRIC = "log_likelihood"
MOST = 24  # variants of a table
CELL, SIDE = 34.0, 14.0  # points of a cell
NAME = 230.0  # points of a name, at most
UP, DOWN = COLOURS[0], COLOURS[1]  # the row is above, below: blue and vermilion, which all eyes tell apart
UNITS = 50  # latent units, at most
STEPS = (0.01, 0.1, 0.3, 1.0, 3.0)  # nats, where the next shade begins
LAYER = 46.0  # points of a layer's cell, at most
SHADES = (1.0, 0.15, 0.32, 0.5, 0.75, 1.0)  # the first is of grey


def excludes(found: Comparison) -> bool:
    """Whether the interval of the difference is on one side of 0, over as many seeds as a verdict takes."""
    low, high = found.difference.low, found.difference.high
    return found.difference.n >= LEAST_SEEDS and low is not None and high is not None and (low > 0 or high < 0)


def brief(value: float) -> str:
    """Three digits, with the sign; from ten thousand on by thousands, millions and so on."""
    least = ((999.5e9, 1e12, "T"), (999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (9999.5, 1e3, "k"))
    size, unit = next(((size, unit) for low, size, unit in least if abs(value) >= low), (1.0, ""))
    value /= size
    decimals = 0 if unit or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:+.{decimals}f}{unit}".replace("-", "−")


def differences(shown: Sequence[Entry]) -> Figure | None:
    """Row less column in log p(x), for each pixel type of which there are two variants."""
    parts = []
    for title, group in groups(shown, lambda e: e.interval(METRIC)):
        few = sorted(prominent(group, MOST), key=lambda e: -p.mean if (p := e.interval(METRIC)) else 0.0)
        if len(few) > 1:
            some = f", {len(few)} of {len(group)} variants" if len(few) < len(group) else ""
            described = f"A table of {len(few)} variants, from {few[0].label} to {few[-1].label}: row less column, with its sign."
            name = min(NAME, max(width_of(e.label) for e in few)) + 8
            size, title = name + CELL * len(few) + 2, f"differences in log p(x), nats\n{title}{some}"
            draw, wide = partial(draw_differences, few=few, name=name), max(size, WIDTH)
            parts.append(Part(title, described, draw, SIDE * len(few) + name, wide, name, wide - size + 2, 2))
    return compose(parts, 1)


def draw_differences(ax: Axes, few: Sequence[Entry], name: float) -> None:
    ax.set(xlim=(0, len(few)), ylim=(len(few), -name / SIDE), xticks=[], yticks=[])
    for i, entry in enumerate(few):
        words = shortened(entry.label, NAME)
        upright = write(ax, i + 0.5, -0.4, words, rotation=90, ha="center", va="bottom")
        mark(entry.label, entry.label, [upright, write(ax, -0.2, i + 0.5, words, ha="right", va="center_baseline")])
        for j, other in enumerate(few):
            cell(ax, i, j, entry, other)


def cell(ax: Axes, i: int, j: int, row: Entry, column: Entry) -> None:
    """The difference as a number on its colour."""
    found = row.compared(METRIC, column)
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 8}
    if row.record.key == column.record.key or found is None:
        why = "no seed in common" if found is None else "the same"
        mark(row.label, f"{row.label}, {column.label}: {why}", [write(ax, j + 0.5, i + 0.5, "–" if found is None else "·", **place)])
        return
    clear, d = excludes(found), found.difference
    words = f"{row.label} less {column.label}: {number(d, sign=True)}, above in {found.wins} of {d.n} seeds"
    patch = Rectangle((j + 0.03, i + 0.05), 0.94, 0.9, clip_on=False, linewidth=0, label="clear" if clear else "unclear")
    patch.set(facecolor=UP if d.mean > 0 else DOWN if d.mean else PAPER, alpha=0.45 if clear else 0.12)
    place |= {"fontweight": "bold"} if clear else {"color": MUTED}
    mark(row.label, words, [ax.add_patch(patch), write(ax, j + 0.5, i + 0.5, brief(d.mean), **place)])


def latent_units(shown: Sequence[Entry]) -> Figure | None:
    """KL of each latent unit, largest first: mean over seeds of the sorted profiles; a row of cells for each variant."""
    group = [e for e in distinct(shown) if by_unit(e)]
    if not group:
        return None
    profiles = [np.mean([sorted(u, reverse=True) for u in e.record.series["kl_units"].values()], axis=0)[:UNITS] for e in group]
    name = min(NAME, max(width_of(e.label) for e in group)) + 8
    described = f"{len(group)} variants, a row of cells for each: the darker, the more nats. Grey cells are inactive units."
    draw = partial(draw_units, group=group, profiles=profiles)
    return compose([Part("KL of each latent unit, nats", described, draw, SIDE * (len(group) + 1.4), 600, name, 4, 2)], 1)


def by_unit(entry: Entry) -> bool:
    """Whether a record has the KL of latent units; older ones had a single number for a KL that is no sum over them."""
    units = entry.record.series.get("kl_units", {}).values()
    return bool(units) and (max(map(len, units)) > 1 or entry.record.values.get("latent") == 1)


def draw_units(ax: Axes, group: Sequence[Entry], profiles: Sequence[np.ndarray]) -> None:
    longest = max(20, *map(len, profiles))
    ax.set(xlim=(0, longest), ylim=(len(group), -1.4), xticks=[], yticks=[])
    for y, (entry, profile) in enumerate(zip(group, profiles, strict=True)):
        levels = np.searchsorted(STEPS, profile, side="right")
        carrying = int((profile >= STEPS[0]).sum())
        words = f"{len(profile)} latent units, the largest of {profile[0]:.2g} nats; {carrying} of at least {STEPS[0]:g}"
        own: list[Artist] = [write(ax, -0.2, y + 0.5, shortened(entry.label, NAME), ha="right", va="center_baseline")]
        own += [line for level in sorted(set(levels.tolist())) for line in cells(ax, y, np.flatnonzero(levels == level), level)]
        mark(entry.label, f"{entry.label}: {words}", own)
    names = [f"under {STEPS[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(STEPS)), f"over {STEPS[-1]:g}"]
    for level, words in enumerate(names):
        at = longest * level / len(names)
        cells(ax, -1.3, np.array([at]), level)
        write(ax, at + 1.2, -0.8, words, va="center_baseline", fontsize=8)


def cells(ax: Axes, y: float, units: np.ndarray, level: int) -> Sequence[Artist]:
    """Cells of one shade as a single line with gaps."""
    x = np.stack([units, units + 0.88, np.full(len(units), np.nan)], 1).ravel()[:-1]
    ink, thick = (COLOURS[0], SHADES[level]) if level else (LINE, 1.0), SIDE - 3
    return ax.plot(x, np.full_like(x, y + 0.5), color=ink, linewidth=thick, solid_capstyle="butt", clip_on=False, label=f"level-{level}")


def layers(shown: Sequence[Entry]) -> Figure | None:
    """The rate of each layer of latents, the layer nearest to the image first: a row of cells for each variant."""
    group = [(e, rates) for e in distinct(shown) if (rates := by_layer(e)) is not None]
    if not group:
        return None
    most = max(rates.shape[1] for _, rates in group)
    name = min(NAME, max(width_of(e.label) for e, _ in group)) + 8
    size = min(LAYER, (600 - name) / most)
    described = f"{len(group)} variants, a row of cells for each, with the mean over seeds; the darker, the more nats."
    draw = partial(draw_layers, group=group, most=most, size=size)
    height, wide = SIDE * (len(group) + 1), name + size * most + 2
    return compose([Part("rate of each layer, nats", described, draw, height, max(wide, WIDTH), name, max(wide, WIDTH) - wide + 2, 2)], 1)


def by_layer(entry: Entry) -> np.ndarray | None:
    """(seeds, layers) nats of a model of several layers, if its record has the KL of each unit."""
    sizes, units = layers_of(entry.record), [*entry.record.series.get("kl_units", {}).values()]
    if len(sizes) < 2 or not units or {sum(sizes)} != set(map(len, units)):
        return None
    return np.add.reduceat(np.array(units), [sum(sizes[:i]) for i in range(len(sizes))], axis=1)


def layers_of(record: Record) -> tuple[int, ...]:
    """Units of each layer of latents, the layer nearest to the image first; none if this version does not build the model."""
    model = MODELS.get(record.values.get("model", ""))
    if not isinstance(model, type) or not issubclass(model, Layered):
        return ()
    try:
        with torch.random.fork_rng(devices=[]):
            found = rebuilt(record.label, record.values, record.dataset)
    except (UserError, KeyError, TypeError):  # of an earlier version, or with parts of a plug-in
        return ()
    return found.layers if isinstance(found, Layered) else ()


def draw_layers(ax: Axes, group: Sequence[tuple[Entry, np.ndarray]], most: int, size: float) -> None:
    ax.set(xlim=(0, most), ylim=(len(group), -1), xticks=[], yticks=[])
    place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 8}
    for x in range(most):
        write(ax, x + 0.5, -0.5, f"layer {x + 1}" if size == LAYER else str(x + 1), color=MUTED, **place)
    for y, (entry, rates) in enumerate(group):
        n = rates.shape[1]
        own: list[Artist] = [write(ax, -0.2 * SIDE / size, y + 0.5, shortened(entry.label, NAME), ha="right", va="center_baseline")]
        mark(entry.label, f"{entry.label}: {n} layers, the first is the nearest to the image", own)
        for x in range(n):
            found = interval(rates[:, x].tolist())
            level = int(np.searchsorted(STEPS, found.mean, side="right"))
            patch = Rectangle((x + 0.02, y + 0.05), 0.96, 0.9, clip_on=False, linewidth=0, label=f"level-{level}")
            patch.set(facecolor=(COLOURS[0], SHADES[level] / 2) if level else LINE)
            drawn: list[Artist] = [ax.add_patch(patch)]
            if size > CELL:
                drawn.append(write(ax, x + 0.5, y + 0.5, f"{found.mean:.2f}".replace("-", "−"), **place))
            mark(entry.label, f"{entry.label}, layer {x + 1} of {n}: {number(found)} nats", drawn)
