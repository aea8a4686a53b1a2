"""The figures of the study of blur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import interval
from vae_variants.evaluation.sharpness import NOISE, SHARPEST
from vae_variants.report.drawing import axes, bar, grid
from vae_variants.studies.study import Picture, Table

__all__ = ["EPOCHS", "GAN", "REAL", "lengths_figure", "measures_figure", "samples_figure"]

GAN, REAL, EPOCHS = "gan", "reference-data", "GAN epochs"
TITLES = {
    "sharpness_ratio": "sharpness (Laplacian), of real",
    "high_frequency_ratio": "energy over 0.25 cycles/pixel, of real",
    "blur_sigma": "equivalent blur, pixels",
    "reblur": "re-blur effect",
    "noise_ratio": "noise control, of real",
    "coverage": "coverage",
}


def ordered(labels: Sequence[str]) -> list[str]:
    """Real images first, then the GAN."""
    return sorted(dict.fromkeys(labels), key=lambda label: (label != REAL, label == GAN))


def called(label: str) -> str:
    return "real images" if label == REAL else label


def colour(label: str) -> str:
    return {GAN: COLOURS[1], REAL: COLOURS[6], "ae-gmm": COLOURS[2]}.get(label, COLOURS[0])


def samples_figure(arrays: Mapping[str, Tensor]) -> Picture:
    """One row of images for each variant, real ones on top."""
    labels = ordered([name.removeprefix("samples/") for name in arrays])
    figure, panels = axes(len(labels), 1, 8.0, 0.62 * len(labels) + 0.1)
    for ax, label in zip(panels, labels, strict=True):
        images = arrays[f"samples/{label}"]
        picture = grid(images.flatten(1), images.shape[1:], len(images))
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_anchor("E")
        ax.set_ylabel(called(label), rotation=0, ha="right", va="center", fontsize=8)
    caption = (
        "Samples of the first seed, not chosen: real images, decoder means of the VAEs at codes from the prior, the output of the GAN."
    )
    return Picture("samples", caption, figure)


def measures_figure(table: Table) -> Picture:
    """One panel for each measure, one line for each variant."""
    labels = ordered([row["variant"] for row in table])[::-1]
    figure, panels = axes(2, 3, 8.2, 1.6 + 0.42 * len(labels))
    for i, (ax, (metric, title)) in enumerate(zip(panels, TITLES.items(), strict=True)):
        ends: list[float] = []
        for y, label in enumerate(labels):
            if found := list(table.by_seed(metric, variant=label).values()):
                mean = interval(found)
                ax.errorbar(mean.mean, y, xerr=bar(mean), color=colour(label), marker="o", markersize=4, capsize=2)
                ends += [mean.mean - bar(mean), mean.mean + bar(mean)]
        ax.set_yticks(range(len(labels)), list(map(called, labels)) if i % 3 == 0 else [""] * len(labels))
        ax.set_ylim(-0.6, len(labels) - 0.4)
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
        if ends:
            margin = 0.08 * (max(ends) - min(ends)) or 0.1
            ax.set_xlim(min(ends) - margin, max(ends) + margin)
        ax.grid(alpha=0.3)
    caption = (
        "Dots are means over seeds, bars 95 % intervals. Blurrier is to the left in the first two panels, to the right in the next two. "
        "A noise control well under 1 says that sharpness is noise."
    )
    return Picture("measures", caption, figure)


def lengths_figure(lengths: Table, seeds: Table, least_coverage: float) -> Picture:
    """Sharpness and both controls of the GAN by the epochs that it was trained for, beside the VAEs."""
    figure, panels = axes(1, 3, 8.2, 2.7)
    limits = {"sharpness_ratio": SHARPEST, "noise_ratio": NOISE, "coverage": least_coverage}
    vaes = [label for label in dict.fromkeys(row["variant"] for row in seeds) if label.startswith("vae")]
    epochs = sorted({row[EPOCHS] for row in lengths})
    for ax, (metric, limit) in zip(panels, limits.items(), strict=True):
        for i, label in enumerate(vaes):
            if found := list(seeds.by_seed(metric, variant=label).values()):
                ax.axhline(interval(found).mean, color=COLOURS[0], alpha=0.5, linewidth=1, label=None if i else "VAEs")
        points = [(n, interval(list(v.values()))) for n in epochs if (v := lengths.by_seed(metric, **{EPOCHS: n}))]
        look: dict[str, Any] = {"color": COLOURS[1], "marker": "o", "markersize": 4, "capsize": 2}
        ax.errorbar([n for n, _ in points], [p.mean for _, p in points], [bar(p) for _, p in points], label="GAN", **look)
        ax.axhline(limit, color="#000000", linestyle=":", linewidth=1, label="limit of the control")
        ax.set_xscale("log")
        ax.set_xlabel("epochs of the GAN", fontsize=8)
        ax.set_xticks(epochs, list(map(str, epochs)))
        ax.minorticks_off()
        ax.set_title(TITLES[metric], fontsize=8)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    caption = (
        "The GAN by the length of its training, beside the VAEs (one line each); bars are 95 % intervals over seeds. Sharpness above the "
        "dotted line counts as noise, and so does a noise control below it; coverage below it is too little to judge by."
    )
    return Picture("lengths", caption, figure)
