"""The figures of the study of the posterior's shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Patch
from torch import Tensor

from vae_variants.analysis.entries import COLOURS
from vae_variants.evaluation.posterior_grid import Plane, divergences, plane
from vae_variants.models.base import GaussianPosterior, Model
from vae_variants.report.drawing import axes
from vae_variants.studies.study import Picture, Table

__all__ = ["SHARP", "SHOWN", "histogram", "kept", "posteriors"]

SHARP = 0.5  # standard deviation of q, of the prior's 1: under it a unit is sharp
PIXELS, SEEN = 72, 7.0  # points along each side of a posterior in the figure; nats under its highest point that are shown
SHOWN = 4  # posteriors of each model in the figure


def kept(name: str, model: Model, x: Tensor, found: Sequence[Plane], masses: list[np.ndarray]) -> dict[str, Tensor]:
    """A few posteriors for the figure, by growing KL: those with the least, the median and the greatest KL, and with the most modes."""
    assert isinstance(model, GaussianPosterior)
    mean, scale = model.posterior(x)
    kl, _ = divergences(model, x, found)
    order = kl.argsort().tolist()
    several = max(range(len(x)), key=lambda i: (len(masses[i]), -float(masses[i][0]), kl[i].item()))
    few = list(dict.fromkeys([several, order[0], order[-1], order[len(order) // 2], *reversed(order)]))[:SHOWN]
    chosen = sorted(few, key=order.index)
    inside = [grid.codes()[grid.log_joint > grid.log_joint.max() - SEEN] for grid in (found[i] for i in chosen)]  # (points, 2) each
    least, most = (torch.stack([edge(codes, 0).values for codes in inside]) for edge in (torch.min, torch.max))
    low, high = torch.minimum(least, (mean - 2.5 * scale)[chosen]), torch.maximum(most, (mean + 2.5 * scale)[chosen])
    close = plane(model, x[chosen], low, high, PIXELS).log_joint
    density = (close - close.amax((1, 2), keepdim=True)).exp() * 255
    facts = torch.stack([kl[chosen], torch.tensor([float(len(masses[i])) for i in chosen])], 1)
    return {
        f"density/{name}": density.round().to(torch.uint8),
        f"box/{name}": torch.cat([low, high], 1),
        f"q/{name}": torch.cat([mean[chosen], scale[chosen]], 1),
        f"facts/{name}": facts,
    }


def posteriors(arrays: Mapping[str, Tensor]) -> list[Picture]:
    names = [key.removeprefix("density/") for key in arrays if key.startswith("density/")]
    figure, panels = axes(len(names), SHOWN, 9.0, 2.45 * len(names) + 0.3)
    for row, name in enumerate(names):
        density, box, q, facts = (arrays[f"{what}/{name}"] for what in ("density", "box", "q", "facts"))
        for column in range(SHOWN):
            ax = panels[row * SHOWN + column]
            if column >= len(density):
                ax.axis("off")
                continue
            shown(ax, density[column], box[column].tolist(), q[column].tolist())
            modes_here = int(facts[column, 1])
            ax.set_title(f"KL {facts[column, 0]:.2g} nats, {modes_here} mode{'s' * (modes_here != 1)}", fontsize=8)
            if column == 0:
                ax.set_ylabel(f"{name}\n$z_2$", fontsize=9)
            if row == len(names) - 1:
                ax.set_xlabel("$z_1$", fontsize=9)
    caption = (
        "Exact posteriors of test images (darker is denser) and, in orange, q at one and two standard deviations; in the order of "
        "KL(q ‖ posterior), which is the least on the left and the greatest on the right. "
        "The one with the most modes is among them. The units of both axes are equal. First seed."
    )
    return [Picture("posteriors", caption, figure)] if names else []


def shown(ax: Axes, density: Tensor, box: list[float], q: list[float]) -> None:
    """One posterior with q on it."""
    low1, low2, high1, high2 = box
    ax.imshow(density.mT.numpy(), origin="lower", extent=(low1, high1, low2, high2), cmap="Blues", vmin=0, vmax=255, aspect="equal")
    for times in (1, 2):
        ax.add_patch(Ellipse((q[0], q[1]), 2 * times * q[2], 2 * times * q[3], fill=False, edgecolor=COLOURS[1], linewidth=1.3))
    half = 0.5 * max(high1 - low1, high2 - low2)  # of a square around the box, so that a round q is drawn round
    ax.set(xlim=((low1 + high1) / 2 - half, (low1 + high1) / 2 + half), ylim=((low2 + high2) / 2 - half, (low2 + high2) / 2 + half))
    ax.set_facecolor(colormaps["Blues"](0))
    ax.tick_params(labelsize=7)
    ax.locator_params(nbins=4)


def histogram(units: Table) -> Picture:
    names = list(dict.fromkeys(row["trained as"] for row in units))
    figure, panels = axes(1, len(names), 8.0, 3.3)
    bins = np.linspace(0, 1.25, 26)
    kinds = {"active": COLOURS[0], "inactive": COLOURS[4]}
    for ax, name in zip(panels, names, strict=True):
        rows = units.where(**{"trained as": name, "code": "larger code"})
        groups = [[row["σ of q"] for row in rows if row["active"] == kind] for kind in kinds]
        ax.hist([np.clip(g, 0, 1.24) for g in groups], bins=bins.tolist(), stacked=True, color=list(kinds.values()))
        ax.axvline(SHARP, color="0.3", linewidth=0.9, linestyle="--")
        ax.set(xlabel="σ of q, mean over test images", xlim=(0, 1.25))
        ax.set_title(f"{name}: {', '.join(f'{len(g)} {kind}' for kind, g in zip(kinds, groups, strict=True))}", fontsize=9)
    top = max(ax.get_ylim()[1] for ax in panels)
    for ax in panels:
        ax.set_ylim(0, top)
    panels[0].set_ylabel("latent units")
    handles = [*(Patch(color=colour, label=f"{kind} units") for kind, colour in kinds.items())]
    limit = Line2D([], [], color="0.3", linewidth=0.9, linestyle="--", label=f"limit, {SHARP:g}")
    figure.legend(handles=[*handles, limit], loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    caption = "Standard deviation of q for each unit of the larger code, with the limit at 0.5; the prior has 1. Units of all seeds."
    return Picture("widths", caption, figure)
