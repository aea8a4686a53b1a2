"""Figures that show whether the numbers can be trusted: how tight a bound is, what the latent units carry, what labels bring."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vae_variants.analysis.entries import COLOURS, Entry, distinct, style
from vae_variants.report.drawing import DPI, axes, bar, groups, legend, shortened

__all__ = ["bounds", "labels", "latent_units"]

LEVELS = (1, 10, 100, 1000)
BUDGETS = (10, 100, 1000)
NAME = 1.9  # inches of a name beside a row, at most
SHOWN = 50  # latent units, at most


def bounds(entries: Sequence[Entry]) -> Figure | None:
    """What more draws add to the bound: L_K less L_1 against K, then annealing, for the support that has most variants."""
    found = groups(entries, lambda e: e.kind("log_likelihood") == "lower-bound")
    if not found:
        return None
    title, group = max(found, key=lambda item: len(item[1]))
    figure, (ax,) = axes(1, 1, 8.5, max(4.0, 1.0 + 0.19 * len(group)))
    last = 1.0
    for entry in group:
        levels = {k: p.mean for k in LEVELS if (p := entry.interval(f"bound_{k}"))}
        k, value = entry.interval("bound_samples"), entry.interval("log_likelihood")
        if not levels or k is None or value is None:
            continue
        levels[int(k.mean)] = value.mean
        look: dict[str, Any] = {**style(entry), "markersize": 4}
        x, y = sorted(levels), [levels[k] - levels[1] for k in sorted(levels)]
        ax.plot(x, y, label=entry.label, linewidth=1.3, **look)
        if annealed := entry.interval("annealed_log_likelihood"):
            ax.plot([x[-1], 4 * x[-1]], [y[-1], annealed.mean - levels[1]], **{**look, "linestyle": ":", "linewidth": 1})
        last = max(last, x[-1])
    ticks = [k for k in (*LEVELS, last) if k <= last]
    names = [f"{int(k)}" for k in ticks]
    if any(e.interval("annealed_log_likelihood") for e in group):
        ticks, names = [*ticks, 4 * last], [*names, "annealed"]
    keep = [i for i, (a, b) in enumerate(pairwise(ticks)) if b > 2 * a or i == 0] + [len(ticks) - 1]
    ax.set_xscale("log")
    ax.set_xticks([ticks[i] for i in keep], [names[i] for i in keep])
    ax.minorticks_off()
    ax.set(xlabel="K, draws of z for each image", ylabel="L_K − L_1, nats per image", title=title)
    ax.title.set_fontsize(9)
    ax.grid(alpha=0.3)
    legend(ax, len(group))
    return figure


def latent_units(entries: Sequence[Entry]) -> Figure | None:
    """KL of each latent unit, largest first: mean over seeds of the sorted profiles."""
    group = [e for e in distinct(entries) if e.record.series.get("kl_units")]
    if not group:
        return None
    rows = np.full((len(group), SHOWN), np.nan)
    for row, entry in zip(rows, group, strict=True):
        profile = np.mean([sorted(units, reverse=True) for units in entry.record.series["kl_units"].values()], axis=0)[:SHOWN]
        row[: len(profile)] = profile
    width = int(np.isfinite(rows).sum(1).max())
    figure = Figure(figsize=(8.5, 1.3 + 0.2 * len(group)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.set_facecolor("0.85")
    high = max(float(np.nanmax(rows)), 0.2)
    shown = ax.imshow(rows[:, :width].clip(0.01), aspect="auto", cmap="viridis", norm=LogNorm(0.01, high), interpolation="nearest",
                      extent=(0.5, width + 0.5, len(group) - 0.5, -0.5))  # fmt: skip
    ax.set_yticks(range(len(group)), [shortened(e.label, NAME, 7) for e in group], fontsize=7)
    ax.set_xlabel("latent unit, by its KL (grey: there is none)")
    figure.colorbar(shown, ax=ax, label="KL of the unit, nats", extend="min")
    return figure


def labels(entries: Sequence[Entry]) -> Figure | None:
    """Accuracy of the probe by the number of labels for each class, a row for each variant, the best on top."""
    group = [e for e in distinct(entries) if e.interval("probe_accuracy_10") and e.interval("probe_accuracy")]
    if not group:
        return None
    group.sort(key=lambda e: p.mean if (p := e.interval("probe_accuracy")) else 0.0)
    figure, (ax,) = axes(1, 1, 8.5, 1.4 + 0.21 * len(group))
    columns = [(f"{budget} of each class", f"probe_accuracy_{budget}") for budget in BUDGETS]
    shifts = (0.24, 0.08, -0.08, -0.24)  # so that markers of nearly the same accuracy can be told apart
    for (name, metric), colour, marker, shift in zip([*columns, ("all labels", "probe_accuracy")], COLOURS, "osD^", shifts, strict=False):
        found = [(y + shift, p) for y, e in enumerate(group) if (p := e.interval(metric))]
        if found:
            look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.5, "elinewidth": 0.8, "linestyle": ""}
            ax.errorbar([p.mean for _, p in found], [y for y, _ in found], xerr=[bar(p) for _, p in found], label=name, **look)
    ax.set_yticks(range(len(group)), [shortened(e.label, NAME, 7) for e in group], fontsize=7)
    ax.set_ylim(-0.7, len(group) - 0.3)
    ax.set_xlabel("test accuracy of the probe")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    return figure
