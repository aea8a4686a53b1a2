"""Which latent units carry anything."""

from __future__ import annotations

from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.model import Encoder, LatentVariable

__all__ = ["ACTIVE", "active", "active_units"]

ACTIVE = 0.01


def active(codes: Tensor) -> Tensor:
    """Units whose posterior mean varies over images with a variance above 0.01 (Burda et al. 2016), (N, Z) -> (Z,) bool."""
    return codes.var(0, correction=0) > ACTIVE


@metric(needs=(LatentVariable, Encoder), unit="units", better="none")
def active_units(e: Evaluation) -> float:
    """latent units whose posterior mean has a variance above 0.01 over the test images"""
    return active(e.encoded(e.data.test)).sum().item()
