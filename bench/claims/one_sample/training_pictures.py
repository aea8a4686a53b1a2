"""Figures of the training level of the study `one-sample`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from vae_variants.analysis.entries import COLOURS
from vae_variants.report.drawing import axes
from vae_variants.studies.study import Findings, Picture

from .training_cells import DECODED, LARGER, LINE, RETUNED, SMALL, STATIC, TIME, UPDATES, WHOLE
from .training_gains import MARGIN, STRICT, Gain, gains, half_width, noise, slopes

__all__ = ["draw"]


def draw(found: Findings) -> list[Picture]:
    """Gain by K under each budget, and gain by batch."""
    everything = gains(found.tables)
    (setup,) = found.tables["training_setup"]
    return [by_samples(everything, setup["base batch"]), by_batch(everything)]


def curve(ax: Axes, found: Sequence[Gain], x: Sequence[float], label: str, colour: str, **look: Any) -> None:
    mean = [statistics.fmean(g.values) for g in found]
    half = [half_width(g.values) or 0.0 for g in found]
    if found:
        ax.errorbar(x, mean, yerr=half, label=label, color=colour, capsize=2, markersize=4.5, linewidth=1.2, **look)


def margins(ax: Axes) -> None:
    ax.axhline(0, color="black", linewidth=0.6)
    ax.axhspan(-STRICT, STRICT, color="grey", alpha=0.15, linewidth=0)
    ax.axhline(MARGIN, color="black", linewidth=0.9, linestyle=":")
    ax.grid(alpha=0.25)


def beneath(ax: Axes) -> None:
    """The legend below the axes, where it hides neither points nor margins."""
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)


def by_samples(everything: Sequence[Gain], base: int) -> Picture:
    figure, (left, right) = axes(1, 2, 8.6, 4.4)
    at_base = [g for g in everything if g.row["batch"] == base]

    def of(budget: str, schedule: str = "constant", objective: str = "elbo") -> list[Gain]:
        wanted = (budget, schedule, objective)
        return [g for g in at_base if (g.row["budget"], g.row["schedule"], g.row["objective"]) == wanted]

    drawn = [
        (left, of(UPDATES), "ELBO, constant rate", "o", "-"),
        (left, of(UPDATES, "cosine"), "ELBO, cosine decay", "s", "-"),
        (left, of(RETUNED), "ELBO, rate tuned for K", "D", ""),
        (left, of(STATIC), "ELBO, pixels drawn once", "^", "-"),
        (left, of(WHOLE), "ELBO, all images, longer", "X", ""),
        (left, of(UPDATES, objective="iwae"), "IWAE: another objective", "v", "--"),
        (left, of(WHOLE, objective="iwae"), "IWAE, all images, longer", "P", ""),
        (right, of(UPDATES), UPDATES, "o", "-"),
        (right, of(DECODED), DECODED, "P", "-"),
        (right, of(TIME), TIME, "X", "-"),
        (right, [g for g in everything if g.row["budget"] == LINE], "both (batch x K = 64)", "*", "--"),
    ]
    palette = {"o": 0, "s": 1, "D": 3, "^": 2, "v": 4, "P": 5, "X": 7, "*": 6}
    for i, (ax, line, label, marker, style) in enumerate(drawn):
        aside = 2 ** (0.03 * (i - 3 if ax is left else i - 8.5))  # beside one another, so that intervals can be told apart
        curve(ax, line, [g.row["K"] * aside for g in line], label, COLOURS[palette[marker]], marker=marker, linestyle=style)
    for ax, title in ((left, f"equal updates, batch {base}"), (right, "by what is held equal")):
        margins(ax)
        ks = sorted({g.row["K"] for g in everything} - {1})
        ax.set_xscale("log", base=2)
        ax.set_xticks(ks, [str(k) for k in ks])
        ax.minorticks_off()
        ax.set_xlabel("K, draws of z per image in training")
        ax.set_ylabel("gain over K = 1 (nats)")
        ax.set_title(title, fontsize=9)
        beneath(ax)
    caption = (
        "What K draws gain over one in the bound on log p(x) of test images: mean over paired seeds with its 90 % interval. "
        f"Grey: equivalent, within ±{STRICT:g} nat. Dotted: the margin of {MARGIN:g} nat, above which one draw is not as good. "
        "Left: as many updates. Right: the same when K is paid for, in decoder evaluations, in time, or by smaller batches."
    )
    return Picture("training-samples", caption, figure)


def by_batch(everything: Sequence[Gain]) -> Picture:
    figure, (left, right) = axes(1, 2, 8.6, 3.9)
    plain = [g for g in everything if g.plain]
    common, slope = slopes(everything)
    counts = {k: sum(g.row["K"] == k for g in plain) for k in sorted({g.row["K"] for g in plain})}
    shown = [k for k, count in counts.items() if count >= 2]
    for i, k in enumerate(shown):
        points = sorted((g for g in plain if g.row["K"] == k), key=lambda g: g.row["batch"])
        look = {"marker": "os^"[i % 3], "linestyle": "-"}
        curve(left, points, [g.row["batch"] * 1.1 ** (i - 1) for g in points], f"K = {k}", COLOURS[i], **look)
        curve(right, points, [noise(g) for g in points], f"K = {k}", COLOURS[i], **{**look, "linestyle": ""})
        if k == common and slope:
            x, mean = [noise(g) for g in points], statistics.fmean(slope)
            middle = statistics.fmean(statistics.fmean(g.values) for g in points) - mean * statistics.fmean(x)
            ends = sorted(x)
            grid = [ends[0] * (ends[-1] / ends[0]) ** (j / 50) for j in range(51)]
            right.plot(grid, [middle + mean * v for v in grid], color=COLOURS[i], linewidth=1, label=f"least squares, K = {k}")
    control = [g for g in everything if g.row["budget"] == LARGER]
    curve(left, control, [SMALL * 1.21] * len(control), "four times the batch, K = 1", COLOURS[3], marker="D", linestyle="")
    for ax, label in ((left, "batch, images per update"), (right, "learning rate / batch")):
        margins(ax)
        ax.set(xscale="log", xlabel=label, ylabel="gain over K = 1 (nats)")
        beneath(ax)
    batches = sorted({g.row["batch"] for g in plain})
    left.set_xticks(batches, [str(b) for b in batches])
    left.minorticks_off()
    caption = (
        "What K draws gain over one with as many updates, by the number of images in each, at learning rates tuned for K = 1 (means and "
        f"90 % intervals over paired seeds). The diamond has one draw and {4 * SMALL} images in each update in place of {SMALL}. "
        "Smaller batches have fewer epochs. Right: against learning rate over batch, with which the noise of the steps grows."
    )
    return Picture("training-batches", caption, figure)
