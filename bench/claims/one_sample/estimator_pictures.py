"""The figures of the parts on estimators."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from vae_variants.analysis.entries import COLOURS
from vae_variants.report.drawing import axes
from vae_variants.studies.study import Findings, Picture, Table

from .estimator_models import AGES, STAR

__all__ = ["gradient_pictures", "value_pictures"]

COLOUR = dict(zip(STAR, COLOURS, strict=False))
OBJECTIVE_LOOK = {"elbo": "o-", "elbo-sampled": "s--", "stl": "^-.", "iwae": "D-", "dreg": "v--"}


def average(rows: Iterable[dict[str, Any]], by: str, value: str) -> dict[Any, float]:
    """by -> mean over the rows that share it."""
    found: dict[Any, list[float]] = {}
    for row in rows:
        if row[value] is not None:
            found.setdefault(row[by], []).append(row[value])
    return {key: math.fsum(values) / len(values) for key, values in sorted(found.items())}


def value_pictures(found: Findings) -> list[Picture]:
    tables = found.tables
    return [*laws(tables["value_draws"], tables["value_batch"]), ratios(tables["value_spread"]), *scatters(found)]


def laws(draws: Table, batches: Table) -> list[Picture]:
    if not batches.rows:
        return []
    figure, (left, right) = axes(1, 2, 9.0, 3.8)
    for name in STAR:
        mine = [row for row in draws.where(model=name) if row["estimator"].startswith("B")]
        points = average(mine, "K", "variance (nats²)")
        left.plot(list(points), list(points.values()), "o", ms=4, color=COLOUR[name], label=name)
        left.plot(list(points), [points[1] / k for k in points], "-", lw=0.9, color=COLOUR[name])
        for k, marker in ((1, "o"), (64 if batches.where(K=64) else 8, "x")):
            rows = batches.where(model=name, K=k)
            measured, formula = (average(rows, "B", f"{side} (nats²)") for side in ("variance", "formula"))
            right.plot(list(measured), list(measured.values()), marker, ms=4, color=COLOUR[name])
            right.plot(list(formula), list(formula.values()), "-", lw=0.9, color=COLOUR[name])
    left.set(xlabel="draws of z per image, K", ylabel="variance within an image (nats²)", title="dots: measured; lines: σ_w² / K")
    right.set(xlabel="images per minibatch, B", ylabel="variance of the minibatch mean (nats²)")
    right.set_title("o: K = 1, x: most draws; lines: (σ_b² + σ_w² / K) / B")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log")
        ax.title.set_fontsize(9)
        ax.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(STAR), fontsize=7.5, frameon=False)
    caption = (
        "Variance of the estimated ELBO (KL in closed form) of fully trained models, mean over seeds. Left: within an image, by the "
        "number of draws. Right: over minibatches, by the number of images; what more draws per image bring is how far the crosses of a "
        "colour lie below its dots. Lines are the formula."
    )
    return [Picture("variance", caption, figure)]


def plain(axis: Axis) -> None:
    """Few labels and short ones on a logarithmic axis of a decade or two."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def grouped(ax: Axes, table: Table, column: str, **equal: str) -> None:
    """A dot for each seed, models side by side, ages within them."""
    for place, name in enumerate(STAR):
        for age in AGES:
            rows = [row for row in table.where(model=name, age=age, **equal) if row[column] is not None]
            at = place + 0.25 * (AGES.index(age) - 1)
            look: dict[str, Any] = {"marker": "o^s"[AGES.index(age)], "color": COLOURS[AGES.index(age)], "s": 20, "alpha": 0.8}
            ax.scatter([at] * len(rows), [row[column] for row in rows], label=None if place else age, **look)
    ax.set_xticks(range(len(STAR)), [name.removeprefix("vae-") for name in STAR], fontsize=7.5, rotation=15)
    ax.grid(alpha=0.3, axis="y")


def ratios(table: Table) -> Picture:
    figure, panels = axes(1, 2, 9.0, 3.6)
    for ax, (letter, title) in zip(panels, {"B": "KL in closed form (B)", "A": "all sampled (A)"}.items(), strict=True):
        estimator = next((row["estimator"] for row in table if row["estimator"].startswith(letter)), "")
        grouped(ax, table, "r", estimator=estimator)
        ax.axhline(1.0, color="black", lw=0.8, ls="--")
        ax.set(yscale="log", title=title, ylabel="r = variance within / between images")
        plain(ax.yaxis)
    panels[0].legend(fontsize=7.5, frameon=False, loc="best")
    caption = (
        "How much one draw of z adds to the variance that images have anyway, for models after one epoch, a third of the epochs and all "
        "of them; each mark is a seed. At the dashed line, r = 1, draws and images would matter equally."
    )
    return Picture("ratio", caption, figure)


def scatters(found: Findings) -> list[Picture]:
    names = [name for name in STAR if f"sharp/{name}/variance" in found.arrays]
    if not names:
        return []
    figure, panels = axes(2, 3, 9.0, 5.8)
    for ax in panels[len(names) :]:
        ax.axis("off")
    for ax, name in zip(panels, names, strict=False):
        measured, predicted = (found.arrays[f"sharp/{name}/{side}"] for side in ("variance", "closed form"))
        ax.scatter(predicted.numpy(), measured.numpy(), s=5, alpha=0.5, color=COLOUR[name], linewidths=0)
        both = [predicted.min().item(), predicted.max().item()]
        ax.plot(both, both, color="black", lw=0.8, ls="--")
        ax.set(xscale="log", yscale="log")
        plain(ax.xaxis)
        plain(ax.yaxis)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("closed form (nats²)", fontsize=8)
        ax.set_ylabel("Var log p(x|z) (nats²)", fontsize=8)
        ax.tick_params(which="both", labelsize=7)
        ax.grid(alpha=0.3)
    caption = (
        "Each dot is a test image: the variance of log p(x|z) over draws of z against what it would be if q were the exact posterior; "
        "on the dashed line they are equal."
    )
    return [Picture("why", caption, figure)]


def gradient_pictures(found: Findings) -> list[Picture]:
    spread, snr = found.tables["gradient_spread"], found.tables["gradient_snr"]
    figure, panels = axes(1, 2, 9.0, 3.6)
    for ax, network in zip(panels, ("encoder", "decoder"), strict=True):
        grouped(ax, spread, "r", network=network)
        ax.axhline(1.0, color="black", lw=0.8, ls="--")
        ax.set(yscale="log", title=network, ylabel="r = variance of draws / of images")
        plain(ax.yaxis)
    panels[0].legend(fontsize=7.5, frameon=False, loc="best")
    caption = (
        "The same ratio for the gradient of the ELBO from one draw, summed over the parameters of the encoder and of the decoder; each "
        "mark is a seed. Below the dashed line, images vary more than draws."
    )
    return [Picture("gradient-ratio", caption, figure), *signals(snr)]


def signals(table: Table) -> list[Picture]:
    if not table.rows:
        return []
    present: Sequence[str] = [age for age in AGES if table.where(age=age)]
    figure, panels = axes(len(present), 2, 9.0, 3.2 * len(present))
    ks = sorted({row["K"] for row in table})
    for ax, (age, network) in zip(panels, ((a, n) for a in present for n in ("encoder", "decoder")), strict=True):
        for i, (objective, look) in enumerate(OBJECTIVE_LOOK.items()):
            points = average(table.where(age=age, network=network, objective=objective), "K", "SNR")
            ax.plot(list(points), list(points.values()), look, ms=5, lw=1.2, color=COLOURS[i], label=objective)
        ax.set(xscale="log", yscale="log", xlabel="draws of z per image, K", ylabel="signal / noise", title=f"{network}, {age} model")
        ax.title.set_fontsize(9)
        plain(ax.yaxis)
        ax.set_xticks(ks, [str(k) for k in ks])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(OBJECTIVE_LOOK), fontsize=8, frameon=False)
    caption = (
        "Signal-to-noise ratio of the gradient at an image: the length of its mean over the standard deviation that draws of z give it, "
        "mean over seeds. Where a line falls, more draws make the direction of a step less certain. Estimators that share the decoder's "
        "gradient lie on each other."
    )
    return [Picture("signal", caption, figure)]
