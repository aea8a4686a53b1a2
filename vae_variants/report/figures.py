"""The figures of a report, each a pure function of records and pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from vae_variants.analysis.entries import COLOURS, LINES, LOOKS, Entry, distinct, prominent, style
from vae_variants.analysis.statistics import interval
from vae_variants.harness.pictures import GRID
from vae_variants.report.diagnostics import bounds, labels, latent_units
from vae_variants.report.drawing import DPI, axes, bar, frame, grid, groups, legend, scatter, shape_of, shortened, show

__all__ = ["FIGURES", "WHOLE", "draw_figures"]

TICKS = 16  # sizes at most that an axis names


def samples(entries: Sequence[Entry]) -> Figure | None:
    """All variants side by side."""
    group = [e for e in distinct(entries) if "samples" in e.pictures]
    if not group:
        return None
    group.sort(key=lambda e: bool(e.record.curves))  # what was not trained is real, and comes first
    columns = min(6, len(group))
    rows = math.ceil(len(group) / columns)
    figure, panels = axes(rows, columns, 1.95 * columns, 2.1 * rows)
    figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.05)  # so that one variant's images are not taken for the next one's
    for ax, entry in zip_longest(panels, group):
        if entry is None:
            ax.axis("off")
        else:
            draws = "" if entry.interval("sharpness") else " (draws)"  # sharpness is of noise-free images, where there are such
            show(ax, grid(entry.pictures["samples"][:36], shape_of(entry), 6), shortened(entry.label, 1.9 - len(draws) / 15, 8) + draws)
    return figure


def reconstructions(entries: Sequence[Entry]) -> Figure | None:
    """The same test images, one row for each variant."""
    group = [e for e in distinct(entries) if "reconstructions" in e.pictures]
    if not group:
        return None
    figure = Figure(figsize=(7.6, 0.52 * (len(group) + 1)), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.27, right=0.99, top=0.99, bottom=0.01, hspace=0.08)
    panels = figure.subplots(len(group) + 1, 1)
    first = group[0]
    rows = [("originals", first.pictures["originals"], first), *((e.label, e.pictures["reconstructions"], e) for e in group)]
    for ax, (label, images, entry) in zip(panels, rows, strict=True):
        show(ax, grid(images, shape_of(entry), len(images)), "")
        ax.text(-0.02, 0.5, shortened(label, 1.9, 8), transform=ax.transAxes, ha="right", va="center", fontsize=8)
    return figure


def curves(entries: Sequence[Entry]) -> Figure | None:
    """Validation log-likelihood by epoch, a panel for each support."""
    found = groups(entries, lambda e: any(len(c) > 1 for c in e.record.curves.get("validation_log_prob", [])))
    if not found:
        return None
    heights = [1.2 + 0.17 * max(8, len(group)) for _, group in found]
    figure = Figure(figsize=(8.5, sum(heights)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel()
    for ax, (title, group) in zip(panels, found, strict=True):
        lows, highs = [], []
        for entry in group:
            alive = [c for s, c in zip(entry.record.seeds, entry.record.curves["validation_log_prob"], strict=True)
                     if entry.record.status[str(s)] == "ok"]  # fmt: skip
            points = [interval([c for c in epoch if c is not None]) for epoch in zip(*alive, strict=True)]
            if not points:
                continue
            x, mean = np.arange(1, len(points) + 1), np.array([p.mean for p in points])
            half = np.array([bar(p) for p in points])
            look = style(entry)
            look["marker"] = ""
            ax.plot(x, mean, label=entry.label, linewidth=1.3, **look)
            ax.fill_between(x, mean - half, mean + half, color=look["color"], alpha=0.15, linewidth=0)
            lows.append(min(mean[min(len(mean) - 1, len(mean) // 6)], mean[-1]))
            highs.append(mean.max())
        if lows:
            frame(ax.set_ylim, [*lows, *highs])
        ax.set_title(title, fontsize=9)
        ax.set_ylabel("nats per image")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        legend(ax, len(group))
    panels[-1].set_xlabel("epoch")
    return figure


def losses(entries: Sequence[Entry]) -> Figure | None:
    """Losses by epoch of models that have no density: of an autoencoder, of the players of a game."""
    group = [e for e in distinct(entries) if e.record.curves and "validation_log_prob" not in e.record.curves]
    if not group:
        return None
    columns = min(6, len(group))
    rows = math.ceil(len(group) / columns)
    figure, panels = axes(rows, columns, 4.2 * columns, 3.0 * rows)
    for ax, entry in zip_longest(panels, group):
        if entry is None:
            ax.axis("off")
            continue
        for (name, seeds), line in zip(entry.record.curves.items(), LINES, strict=False):
            points = [interval([c for c in epoch if c is not None]) for epoch in zip(*seeds, strict=True) if None not in epoch]
            x, mean = np.arange(1, len(points) + 1), np.array([p.mean for p in points])
            half = np.array([bar(p) for p in points])
            colour = style(entry)["color"]
            ax.plot(x, mean, label=name.replace("_", " "), color=colour, linestyle=line, linewidth=1.3)
            ax.fill_between(x, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
        ax.set_title(shortened(entry.label, 3.6, 9), fontsize=9)
        ax.set_xlabel("epoch")
        ax.set_ylabel("nats per image")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7)
    return figure


def latent_plane(entries: Sequence[Entry]) -> Figure | None:
    """Codes of length 2, and what the decoder makes of the plane."""
    entry = next((e for e in entries if "latent" in e.pictures and "latent_grid" in e.pictures), None)
    if entry is None:
        return None
    figure, (left, right) = axes(1, 2, 10.5, 5.0)
    points, labels = entry.pictures["latent"].numpy(), entry.pictures.get("latent_labels")
    if labels is None:
        left.scatter(points[:, 0], points[:, 1], s=6, color="#0072B2")
    else:
        dots = left.scatter(points[:, 0], points[:, 1], s=6, c=labels.numpy(), cmap="tab10" if int(labels.max()) < 10 else "nipy_spectral")
        if int(labels.max()) < 12:
            handles, names = dots.legend_elements(num=None)  # type: ignore[arg-type]
            left.legend(handles, names, title="class", fontsize=7, title_fontsize=8, loc="upper right")
    left.set_xlabel("z1")
    left.set_ylabel("z2")
    left.set_title(f"{shortened(entry.label, 2.4, 9)}: posterior means of test images", fontsize=9)
    left.set_aspect("equal", adjustable="datalim")
    show(right, grid(entry.pictures["latent_grid"], shape_of(entry), GRID), "")
    right.set_title("decoder means at the quantiles of the prior", fontsize=9)
    return figure


def families(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Groups of at least three runs that differ in their latent size alone, in the order of that size."""
    found: dict[str, list[Entry]] = {}
    for entry in distinct(entries):
        if "latent" in entry.record.values:
            rest = repr(sorted((k, v) for k, v in entry.record.values.items() if k != "latent"))
            found.setdefault(rest, []).append(entry)
    return [sorted(group, key=lambda e: e.record.values["latent"]) for group in found.values() if len(group) > 2]


def latent_size(entries: Sequence[Entry]) -> Figure | None:
    """Bounds, and where there are labels probe accuracy, against the number of latent units."""
    found = families(entries)
    if not any(e.interval("elbo") for group in found for e in group):
        return None
    labelled = any(e.interval("probe_accuracy") for group in found for e in group)
    figure, (left, *right) = axes(1, 2, 9.5, 3.6) if labelled else axes(1, 1, 5.5, 3.6)
    names = {"elbo": "ELBO", "log_likelihood": "bound on log p(x)", "probe_accuracy": "accuracy"}
    sizes, heights = set[int](), dict[Axes, list[float]]()
    if len(found) > len(COLOURS):
        figure.suptitle(f"the first {len(COLOURS)} of {len(found)} families of runs that differ in their latent size alone", fontsize=9)
    for colour, group in zip(COLOURS, found, strict=False):
        for metric, ax, line in (("elbo", left, "-"), ("log_likelihood", left, "--"), *(("probe_accuracy", ax, "-") for ax in right)):
            points = [(e.record.values["latent"], p) for e in group if (p := e.interval(metric)) is not None]
            if points:
                sizes |= {x for x, _ in points}
                heights.setdefault(ax, []).extend(p.mean for _, p in points)
                x, y = [x for x, _ in points], [p.mean for _, p in points]
                error = [bar(p) for _, p in points]
                name = f"{group[0].record.values['model']}: {names[metric]}"
                ax.errorbar(x, y, yerr=error, color=colour, linestyle=line, marker="o", markersize=4, capsize=3, label=name)
    for ax, title in zip((left, *right), ("nats per image", "linear-probe accuracy"), strict=False):
        frame(ax.set_ylim, heights.get(ax, []))
        ax.set_xscale("log")
        ticks = sorted(sizes)[:: math.ceil(len(sizes) / TICKS)]
        ax.set_xticks(ticks, [str(s) for s in ticks])
        ax.minorticks_off()
        ax.set_xlabel("latent units")
        ax.set_ylabel(title)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    return figure


def rate_distortion(entries: Sequence[Entry]) -> Figure | None:
    """The two terms of the ELBO, for the support that has most variants."""
    found = groups(entries, lambda e: e.interval("rate"))
    if not found:
        return None
    title, group = max(found, key=lambda item: len(item[1]))
    figure, (ax,) = axes(1, 1, 8.0, max(4.2, 1.0 + 0.19 * len(group)))
    scatter(ax, group, "rate", "distortion")
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    span = (x1 + y1) - (x0 + y0)
    step = 10.0 ** math.floor(math.log10(span / 3))
    for level in np.arange(math.ceil((x0 + y0) / step), (x1 + y1) / step) * step:
        ax.plot([x0, x1], [level - x0, level - x1], color="0.6", linewidth=0.6, linestyle=":", zorder=0)
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xlabel="rate: KL(q(z|x) || p(z)), nats", ylabel="distortion: −E log p(x|z), nats")
    ax.set_title(f"{title}; dotted: constant ELBO, every {step:g} nats", fontsize=9)
    legend(ax, len(group))
    return figure


def cost(entries: Sequence[Entry]) -> Figure | None:
    """Log-likelihood against the throughput of training and of sampling."""
    found = groups(entries, lambda e: e.interval("log_likelihood") and e.interval("train_images_per_second"))
    if not found:
        return None
    title, group = max(found, key=lambda item: len(item[1]))
    figure, (left, right) = axes(1, 2, 11.0, max(4.0, 1.0 + 0.19 * len(group)))
    for ax, metric, name in ((left, "train_images_per_second", "training"), (right, "sample_images_per_second", "sampling")):
        scatter(ax, group, metric, "log_likelihood")
        throughput = [p.mean for e in group if (p := e.interval(metric))]
        if not throughput:
            continue
        decades = math.log10(max(throughput) / min(throughput))
        ax.set_xscale("log")
        ax.set_xlim(min(throughput) / 10 ** (0.08 * decades + 0.05), max(throughput) * 10 ** (0.08 * decades + 0.05))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.6 else (1, 3) if decades < 2.2 else (1,), numticks=12))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(f"{name}, images per second")
    left.set_ylabel("log p(x) or its bound, nats")
    figure.suptitle(title, fontsize=9)
    legend(right, len(group))
    return figure


DRAWN = (samples, reconstructions, curves, losses, bounds, latent_units, latent_plane, latent_size, labels, rate_distortion, cost)
FIGURES: dict[str, Callable[[Sequence[Entry]], Figure | None]] = {f.__name__: f for f in DRAWN}
WHOLE = {"latent_size"}  # a family is not to lose some of its sizes


def draw_figures(entries: Sequence[Entry], folder: Path) -> list[str]:
    """Writes those figures for which there is something to show -> their names. Of too many variants they show the `prominent` ones."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn, shown = [], prominent(entries, LOOKS)
    if len(shown) < len(entries):
        shown = [replace(entry, index=index) for index, entry in enumerate(shown)]
    for name, draw in FIGURES.items():
        path = folder / f"{name}.png"
        figure = draw(entries if name in WHOLE else shown)
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        figure.savefig(path, metadata={"Software": None})
        drawn.append(name)
    return drawn
