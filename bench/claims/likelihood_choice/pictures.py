"""The figures of the study of the decoder's likelihood."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import interval
from vae_variants.report.drawing import axes
from vae_variants.studies.study import Picture, Table

__all__ = ["AVERAGED", "BERNOULLI", "LEARNT", "inversion", "mean", "reconstructions", "sweep"]

BERNOULLI, LEARNT, AVERAGED = "Bernoulli", "Gaussian, σ learnt", "Gaussian, mean over pixels"


def mean(table: Table, column: str, decoder: str) -> float | None:
    """Over the seeds that have one."""
    values = list(table.by_seed(column, decoder=decoder).values())
    return interval(values).mean if values else None


def sweep(table: Table) -> Picture:
    fixed = [name for name in dict.fromkeys(row["decoder"] for row in table) if mean(table, "σ", name) is not None and name != AVERAGED]
    panels_of = (
        ("MSE per pixel", "MSE per pixel (grey²; black to white is 1)", "log"),
        ("rate", "rate (nats per image)", "linear"),
        ("ELBO", "ELBO (nats per image)", "linear"),
        ("sharpness of reconstructions", "sharpness of reconstructions (of the images')", "linear"),
        ("active units", "active units (number)", "linear"),
        ("fd-cnn", "fd-cnn of samples (squared features)", "linear"),
    )
    figure, panels = axes(2, 3, 8.8, 5.0)
    for ax, (column, title, scale) in zip(panels, panels_of, strict=True):
        rows = [row for name in fixed for row in table.where(decoder=name) if name != LEARNT and row[column] is not None]
        curve = sorted((row["σ"], row[column]) for row in rows)
        places = sorted({x for x, _ in curve})
        ax.plot(places, [interval([v for x, v in curve if x == place]).mean for place in places], color=COLOURS[0], linewidth=1)
        ax.plot([x for x, _ in curve], [v for _, v in curve], "o", color=COLOURS[0], markersize=4, label="Gaussian, σ fixed")
        learnt = [(row["σ"], row[column]) for row in table.where(decoder=LEARNT) if row[column] is not None]
        ax.plot([x for x, _ in learnt], [v for _, v in learnt], "D", color=COLOURS[1], markersize=5, label="σ learnt", linestyle="")
        value = mean(table, column, BERNOULLI)
        if value is not None and column != "ELBO":  # nats of binary pixels are of another kind
            ax.axhline(value, color=COLOURS[2], linestyle="--", linewidth=1.2, label="Bernoulli")
        ax.set(xscale="log", yscale=scale, xlabel="σ of the decoder (grey)")
        ax.set_title(title, fontsize=8)
        ax.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    caption = (
        "What σ does to a Gaussian decoder; each dot is a seed. The ELBO of the Bernoulli decoder is of other pixels, and is left out."
    )
    return Picture("sweep", caption, figure)


def inversion(table: Table) -> Picture:
    figure, (ax,) = axes(1, 1, 6.4, 3.2)
    columns = ("rank by ELBO", "rank by −SSE − KL", "rank by −SSE / 2σ² − KL")
    rows = list(table)
    for i, row in enumerate(rows):
        ranks = [row[c] for c in columns]
        ax.plot(range(3), ranks, "o-", color=COLOURS[i % len(COLOURS)])
        ax.text(2.06, ranks[-1], row["decoder"], va="center", fontsize=8)
    ax.set_xticks(range(3), ["ELBO", "−SSE − KL", "−SSE / 2σ² − KL"])
    ax.set(ylabel="rank", xlim=(-0.2, 3.2), ylim=(len(rows) + 0.5, 0.5))
    ax.set_yticks(range(1, len(rows) + 1))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    caption = "The same trained models, ranked by the ELBO and by two scores that leave out the normalising constant. 1 is best."
    return Picture("ranking", caption, figure)


def reconstructions(arrays: Mapping[str, Tensor]) -> Picture:
    names = [key.removeprefix("reconstructions/") for key in arrays if key.startswith("reconstructions/")]
    shape = arrays["shape"].tolist()
    rows = [("test images", arrays["originals"]), *((name, arrays[f"reconstructions/{name}"]) for name in names)]
    figure, panels = axes(len(rows), len(rows[0][1]), 6.6, 0.55 * len(rows))
    for i, (name, images) in enumerate(rows):
        for j, image in enumerate(images):
            ax = panels[i * len(images) + j]
            ax.imshow(image.view(shape).movedim(0, -1).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            if j == 0:
                ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return Picture("reconstructions", "Test images, and what each decoder makes of their codes. First seed.", figure)
