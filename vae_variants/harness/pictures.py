"""The images that figures are made of: kept with a run, so that a report needs no model."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_variants.evaluation import Evaluation
from vae_variants.model import Coder, Encoder, MeanSampler, Sampler

__all__ = ["GRID", "pictures"]

SAMPLES, PAIRS, POINTS, GRID = 36, 10, 2000, 15


def bytes_of(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def pictures(e: Evaluation) -> dict[str, Tensor]:
    """What the model can show, from noise and test images that are the same for every model.

    `samples` (n, D): noise-free where the model has such, else draws; `originals` and `reconstructions` (n, D);
    `latent` (n, 2) with `latent_labels`, and `latent_grid` (GRID^2, D) decoded at quantiles of the prior, for codes of length 2.
    """
    found: dict[str, Tensor] = {}
    if isinstance(e.model, MeanSampler):
        found["samples"] = bytes_of(e.sample_means[:SAMPLES])
    elif isinstance(e.model, Sampler):
        with e.noise("pictures"):
            found["samples"] = bytes_of(e.model.sample(SAMPLES))
    if isinstance(e.model, Coder):
        found["originals"] = bytes_of(e.dataset.grey()[:PAIRS])
        found["reconstructions"] = bytes_of(e.reconstructions[:PAIRS])
    if isinstance(e.model, Encoder) and e.codes["test"].shape[1] == 2:
        found["latent"] = e.codes["test"][:POINTS].float()
        if e.dataset.labels is not None:
            found["latent_labels"] = e.dataset.labels["test"][:POINTS]
        if isinstance(e.model, Coder) and isinstance(e.model, MeanSampler):
            q = torch.special.ndtri((torch.arange(GRID, device=e.device) + 0.5) / GRID)
            z = torch.stack([q.repeat(GRID), -q.repeat_interleave(GRID)], -1)  # right is up in z1, up is up in z2
            with e.noise("pictures"):
                found["latent_grid"] = bytes_of(e.model.decode(z))
    return found
