"""What K samples gain over one by epoch, in the trainings to the end: from which epoch on they no longer matter, and the figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from vae_variants.analysis.entries import COLOURS
from vae_variants.report.drawing import axes
from vae_variants.studies import Picture, Tables

from .settings import WHOLE

SMOOTH = 20  # a value is a mean over this part of the epochs, centred: with one sample, the ELBO of validation images is noisy
CAPTION = (
    "What K samples gain over one in the ELBO of validation images while the suite's models train to the end: mean over paired seeds, and "
    "its range over seeds. Each value is a mean over a twentieth of the epochs. Dotted: the margin of {margin:g} nat. Each K has the "
    "learning rate that was chosen for it."
)


class Curve(NamedTuple):
    """The gain of K samples: a DataFrame of nats, by epoch and seed, from smoothed curves."""

    samples: int
    gains: pd.DataFrame

    def settled(self, margin: float) -> int | None:
        """The first epoch from which on the mean over seeds stays below the margin; None if it ends above."""
        above = self.gains.index[self.gains.mean(axis=1) >= margin]
        after = self.gains.index[self.gains.index > above.max()] if len(above) else self.gains.index
        return int(after[0]) if len(after) else None


def curves(tables: Tables) -> Iterator[Curve]:
    """One for each K of the trainings to the end that has a seed in common with K = 1, in the order of the cells."""
    found = tables.get("training_curves", pd.DataFrame())
    if found.empty:
        return
    cells = tables["training_cells"].dropna(subset="against run")
    by_run = {run: smooth(rows.pivot(index="epoch", columns="seed", values="ELBO")) for run, rows in found.groupby("run")}
    for cell in cells[cells["budget"] == WHOLE].to_dict("records"):
        if cell["run"] in by_run and cell["against run"] in by_run:
            gains = (by_run[cell["run"]] - by_run[cell["against run"]]).dropna(axis="columns", how="all").dropna()
            if not gains.empty:
                yield Curve(cell["K"], gains)


def smooth(values: pd.DataFrame) -> pd.DataFrame:
    """Centred means over a part of the epochs; at the ends over what there is of it."""
    return values.rolling(max(1, len(values) // SMOOTH), center=True, min_periods=1).mean()


def settled(tables: Tables, margin: float) -> dict[int, str]:
    """K -> from which epoch on its gain is below the margin, in words."""
    found = {}
    for curve in curves(tables):
        epoch, last = curve.settled(margin), curve.gains.index.max()
        early, late = f"from epoch {epoch} of {last} on less than {margin:g}", f"{margin:g} or more to the end"
        found[curve.samples] = early if epoch else late
    return found


def draw(tables: Tables, margin: float) -> list[Picture]:
    """The gain by epoch, if there are trainings to the end."""
    if not (found := list(curves(tables))):
        return []
    figure, (ax,) = axes(1, 1, 6.0, 3.6)
    for curve, colour in zip(found, COLOURS, strict=False):
        epochs = curve.gains.index.to_numpy(dtype=float)
        ax.fill_between(epochs, curve.gains.min(axis=1), curve.gains.max(axis=1), color=colour, alpha=0.2, linewidth=0)
        ax.plot(epochs, curve.gains.mean(axis=1), color=colour, linewidth=1.4, label=f"K = {curve.samples}")
        if epoch := curve.settled(margin):
            ax.axvline(epoch, color=colour, linewidth=0.8, linestyle="--")
            ax.text(epoch, 0.97, f" epoch {epoch}", transform=ax.get_xaxis_transform(), va="top", fontsize=7)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.axhline(margin, color="black", linewidth=0.9, linestyle=":")
    ax.grid(alpha=0.25)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="epoch", ylabel="gain over K = 1 (nats)")
    ax.legend(fontsize=7, frameon=False)
    return [Picture("training-curve", CAPTION.format(margin=margin), figure)]
