"""Which latent units vary with the image, and the scale of the latents. Nothing here depends on that scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.models.base import Euclidean, Generative, LatentVariable, Model
from vae_variants.models.latent import Generator, LatentModel
from vae_variants.models.posteriors import Conditional, Diagonal, Space
from vae_variants.models.priors import StandardNormal
from vae_variants.training.batches import fork_rng

ACTIVE = 0.01  # of the variance of a unit
CONSTANT = 1e-7  # of the largest variance of any unit, for a model without Euclidean q(z | x)
SAMPLES = 16  # of q for each image, where its variance has no closed form
PRIOR = 10_000  # samples of a prior, for its scale and its quantiles


class Variance(NamedTuple):
    """The variance of each latent unit by the law of total variance: between images Var_x(E[z | x]), within E_x Var(z | x); (Z,) each."""

    between: Tensor
    within: Tensor

    @property
    def active(self) -> Tensor:
        """(Z,) whether the images make more than 1 % of a unit's variance: Var_x(E[z | x]) > 0.01 Var(z)."""
        return self.between > ACTIVE * (self.between + self.within)


def moments(q: Conditional) -> tuple[Tensor, Tensor]:
    """E[z | x] and Var(z | x), (B, Z) each in float64: exact for a diagonal Gaussian, else from `SAMPLES` samples, unbiased."""
    if isinstance(q, Diagonal):
        return q.mean.double(), (2 * q.log_scale.double()).exp()
    z = q.draw(SAMPLES).z.double()
    return z.mean(0), z.var(0)


def variance(model: LatentVariable, parts: Iterable[Tensor]) -> Variance:
    """Of images in `parts`, (B, D) each. Noise of samples of q is no variance between images."""
    found, exact = list[tuple[Tensor, Tensor]](), True
    for x in parts:
        q = model.conditional(x)
        found.append(moments(q))
        exact = isinstance(q, Diagonal)
    mean, within = (torch.cat(each).cpu() for each in zip(*found, strict=True))
    noise = 0.0 if exact else within.mean(0) / SAMPLES
    return Variance((mean.var(0, correction=0) - noise).clamp(min=0), within.mean(0))


def varying(codes: Tensor) -> Tensor:
    """Units of latents (N, Z) that are not constant: (Z,) bool."""
    found = codes.var(0)
    return found > CONSTANT * found.max()


def euclidean(model: Model) -> bool:
    """Whether latents fill R^Z, so that any vector can be decoded, and units moved one at a time."""
    if isinstance(model, LatentModel):
        return model.space is Space.REAL
    return isinstance(model, Euclidean) or not isinstance(model, LatentVariable)


def drawn(model: Model, n: int) -> Tensor | None:
    """Latents (n, Z) of the prior, or of the sampler of a model without one; None if the model has neither."""
    if isinstance(model, Generative):
        return model.draw_prior(n)
    return model.latents(n) if isinstance(model, Generator) else None


def quantiles(model: Model, u: Tensor) -> Tensor | None:
    """The quantiles (Q, Z) of each latent unit at the probabilities u (Q,): of the prior in closed form, or of samples. None without."""
    found = model.prior.quantile(u) if isinstance(model, LatentModel) else None
    if found is not None:
        return found
    z = drawn(model, PRIOR)
    return None if z is None else torch.quantile(z, u.to(z), dim=0)


def prior_scale(model: Model) -> Tensor | None:
    """The standard deviation (Z,) of each latent unit under the prior, from samples; None if it is known to be 1."""
    assert isinstance(model, Generative)
    if isinstance(model, LatentModel) and isinstance(model.prior, StandardNormal):
        return None
    with fork_rng(next(model.parameters()).device):  # so that other noise is the same for every prior
        torch.manual_seed(0)
        return model.draw_prior(PRIOR).std(0)
