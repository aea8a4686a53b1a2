"""What draws of z say of two estimators of the ELBO: variance within an image and between images, bias, and a closed form for the first.

A is log w = log p(x, z) - log q(z | x), everything by sampling; B is log p(x | z) - KL(q(z | x) || p(z)), the KL in closed form. Draws
are the first axis and images the second, (S, N), in nats and float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_variants.evaluation import weights
from vae_variants.evaluation.evaluation import ELEMENTS
from vae_variants.models.base import LatentVariable
from vae_variants.models.objectives import Objective
from vae_variants.models.vae import VAE

__all__ = [
    "Spread",
    "batch_formula",
    "bias",
    "bound_bias",
    "by_batch",
    "by_draws",
    "closed_form_variance",
    "drawn",
    "slope",
    "unit_variance",
    "widened_variance",
]

IMAGES = 100  # at a time
REPEATS = 4096  # minibatches at a time


def drawn(model: LatentVariable, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """A = log w and B = log p(x | z) - KL from the same z: x (N, D) -> two of (draws, N)."""
    a = torch.empty(draws, len(x), dtype=torch.float64)
    b, t = torch.empty_like(a), x.new_ones(())
    at_once = max(1, ELEMENTS // (min(len(x), IMAGES) * x.shape[-1]))
    with torch.no_grad():
        for first in range(0, len(x), IMAGES):
            some = slice(first, first + IMAGES)
            for start in range(0, draws, at_once):
                found = model.infer(x[some], min(at_once, draws - start), t)
                a[start : start + at_once, some] = found.log_w.double().cpu()
                b[start : start + at_once, some] = (found.log_px.double() - found.kl.double()).cpu()
    return a, b


class Spread(NamedTuple):
    """Of an estimator, by image: mean (nats), variance of one draw (nats^2) and skewness, each (N,); `draws` is how many gave them."""

    mean: Tensor
    within: Tensor
    skewness: Tensor
    draws: int

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        """values (S, N)."""
        mean, within = values.mean(0), values.var(0)
        third = (values - mean).pow(3).mean(0)
        return cls(mean, within, third / within.clamp(min=1e-300).pow(1.5), len(values))

    @property
    def sigma_w2(self) -> float:
        """Variance within an image, mean over images: E_x Var_z, nats^2."""
        return self.within.mean().item()

    @property
    def sigma_b2(self) -> float:
        """Variance between images, Var_x E_z, nats^2: that of their means, less what the finite number of draws adds to it."""
        return (self.mean.var() - self.within.mean() / self.draws).item()

    @property
    def ratio(self) -> float:
        """r = within / between: infinitely many draws would take r / (1 + r) of the variance of one draw per image away."""
        return self.sigma_w2 / self.sigma_b2


def slope(points: Mapping[Any, float], power: float = 0.0) -> float:
    """Least squares of log y on log x, with weights x^power: -1 where y is a variance of means of x draws, each of which is used once."""
    x, y = (np.log(np.array(list(side), dtype=float)) for side in (points.keys(), points.values()))
    return float(np.polyfit(x, y, 1, w=np.exp(0.5 * power * x))[0])


def blocks(values: Tensor, k: int) -> Tensor:
    """Means of the floor(S / k) disjoint blocks of k draws: (S, N) -> (S // k, N)."""
    count = len(values) // k
    return values[: count * k].unflatten(0, (count, k)).mean(1)


def by_draws(values: Tensor, ks: Iterable[int]) -> dict[int, float]:
    """K -> variance of the mean of K draws, mean over images: from the disjoint blocks of K draws, nothing assumed about K."""
    return {k: blocks(values, k).var(0).mean().item() for k in ks}


def by_batch(values: Tensor, sizes: Sequence[int], k: int, repeats: int) -> dict[int, float]:
    """B -> variance over `repeats` minibatches of the mean over B images, each estimated from K draws of its own.

    Images are drawn with replacement, and for each of them a block of K draws.
    """
    pool, found = blocks(values - values.mean(), k).flatten(), {}
    for b in sizes:
        means = []
        for start in range(0, repeats, REPEATS):
            means.append(pool[torch.randint(len(pool), (min(REPEATS, repeats - start), b))].mean(1))  # an image, and one of its blocks
        found[b] = torch.cat(means).var().item()
    return found


def batch_formula(found: Spread, b: int, k: int) -> float:
    """(sigma_b^2 + sigma_w^2 / K) / B for images drawn from these N, whose variance has the divisor N."""
    n = len(found.mean)
    return (found.sigma_b2 * (n - 1) / n + found.sigma_w2 / k) / b


def bias(objective: Objective, model: LatentVariable, x: Tensor, reference: Spread, k: int, repeats: int) -> tuple[float, float]:
    """How far -`objective` of K draws lies from the `reference` of the same images on average, and its standard error; nats.

    From new draws, `repeats` times K of them. Both errors are those of draws alone: sum_n within_n (1 / (K repeats) + 1 / S) / N^2.
    """
    t = x.new_ones(())
    with torch.no_grad():
        values = [-objective(model.infer(part, k, t)).double().cpu() for _ in range(repeats) for part in x.split(IMAGES)]
    mean = torch.cat(values).unflatten(0, (repeats, len(x))).mean(0)
    variance = (reference.within * (1 / (k * repeats) + 1 / reference.draws)).sum().item()
    return (mean - reference.mean).mean().item(), math.sqrt(variance) / len(x)


def bound_bias(log_w: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """L_K - L_S of log weights (S, N), what -CV^2 (1 / K - 1 / S) / 2 says of it, and CV^2 = Var(w) / E(w)^2; each (N,), nats.

    To first order E L_K = log E w - CV^2 / (2 K) (Nowozin 2018, Debiasing Evidence Approximations).
    """
    s = len(log_w)
    squared = weights.variance(log_w) * s
    return weights.bound(log_w, k) - weights.bound(log_w, s), -0.5 * squared * (1 / k - 1 / s), squared


def closed_form_variance(mean: Tensor, scale: Tensor, t: float = 1.0) -> Tensor:
    """Var log p(x | z) over z ~ N(mu, (t s)^2), where N(mu, s^2) is the posterior: mean and scale (N, Z) -> (N,) nats^2.

    sum_j t^4 (1 - s_j^2)^2 / 2 + t^2 mu_j^2 s_j^2, because log p(x | z) is then log N(z; mu, s^2) - log N(z; 0, 1) + constant. However
    sharp the posterior, a unit that is used adds about a half.
    """
    return (0.5 * t**4 * (1 - scale.square()).square() + t**2 * (mean * scale).square()).sum(-1)


def unit_variance(model: VAE, x: Tensor, draws: int) -> Tensor:
    """Var log p(x | z) where z_j alone is drawn from N(mu_j(x), s_j(x)^2) and the others stay at their mean: x (N, D) -> (N, Z) nats^2.

    At the posterior of a linear decoder it is (1 - s_j^2)^2 / 2 + mu_j^2 s_j^2, the term of unit j in the closed form, if no two units
    share a pixel.
    """
    found, parts = [], math.ceil(len(x) * draws * x.shape[-1] / ELEMENTS)
    with torch.no_grad():
        for part in x.chunk(parts):
            mean, scale = model.posterior(part)
            columns = []
            for j in range(mean.shape[-1]):
                z = mean.repeat(draws, 1, 1)
                z[..., j] += scale[:, j] * torch.randn(draws, len(part), dtype=mean.dtype, device=mean.device)
                columns.append(model.log_px(part, z).double().var(0).cpu())
            found.append(torch.stack(columns, -1))
    return torch.cat(found)


def widened_variance(model: VAE, x: Tensor, t: float, draws: int) -> Tensor:
    """Var log p(x | z) over z ~ N(mu(x), (t s(x))^2), the decoder as it is: x (N, D) -> (N,) nats^2."""
    found, parts = [], math.ceil(len(x) * draws * x.shape[-1] / ELEMENTS)
    with torch.no_grad():
        for part in x.chunk(parts):
            mean, scale = model.posterior(part)
            z = mean + t * scale * torch.randn(draws, *mean.shape, dtype=mean.dtype, device=mean.device)
            found.append(model.log_px(part, z).double().var(0).cpu())
    return torch.cat(found)
