"""Bounds on log p(x) and their gradient estimators, each a function of `Draws`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.registry import Registry

__all__ = ["OBJECTIVES", "Draws", "Objective"]


class Draws(NamedTuple):
    """K draws z ~ q(z | x) for each of B images: all that an objective may look at. Nats."""

    log_px: Tensor  # (K, B) log p(x | z)
    log_pz: Tensor  # (K, B) log p(z)
    log_qz: Tensor  # (K, B) log q(z | x)
    kl: Tensor  # (B,) KL(q(z | x) || p(z)) in closed form
    kl_units: Tensor  # (B, Z) its terms, one per latent unit
    z: Tensor  # (K, B, Z)
    t: Tensor  # () fraction of training done, in [0, 1]

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z | x), (K, B)."""
        return self.log_px + self.log_pz - self.log_qz


Objective = Callable[[Draws], Tensor]  # -> (B,) to be minimised, nats
OBJECTIVES: Registry[Callable[..., Tensor]] = Registry("objective")


@OBJECTIVES.add
def elbo(d: Draws) -> Tensor:
    """-ELBO with the KL in closed form: KL(q(z|x) || p(z)) - (1/K) sum_k log p(x | z_k).

    Unbiased for every K; K only lowers the variance (Kingma & Welling 2014, estimator B of sec. 2.3).
    """
    return d.kl - d.log_px.mean(0)


@OBJECTIVES.add(name="elbo-sampled")
def elbo_sampled(d: Draws) -> Tensor:
    """-ELBO with everything by sampling: -(1/K) sum_k log w_k (Kingma & Welling 2014, estimator A of sec. 2.3)."""
    return -d.log_w.mean(0)


@OBJECTIVES.add
def iwae(d: Draws) -> Tensor:
    """-L_K, the importance-weighted bound: -log (1/K) sum_k w_k (Burda et al. 2016). K = 1 is the sampled ELBO."""
    return math.log(d.log_px.shape[0]) - torch.logsumexp(d.log_w, 0)


@OBJECTIVES.add
def beta(d: Draws, beta: float = 4.0) -> Tensor:
    """-ELBO with its KL weighted: beta KL - (1/K) sum_k log p(x | z_k) (Higgins et al. 2017). Not a bound for beta < 1."""
    return beta * d.kl - d.log_px.mean(0)


@OBJECTIVES.add(name="warm-up")
def warm_up(d: Draws, warm_up: float = 0.3) -> Tensor:
    """-ELBO whose KL weight rises linearly from 0 to 1 over the first `warm_up` of training (Sonderby et al. 2016)."""
    return (d.t / warm_up).clamp(max=1.0) * d.kl - d.log_px.mean(0)


@OBJECTIVES.add(name="free-bits")
def free_bits(d: Draws, free_bits: float = 0.25) -> Tensor:
    """-ELBO in which each latent unit's batch-mean KL costs at least `free_bits` nats (Kingma et al. 2016, sec. on free bits).

    sum_j max(free_bits, mean_b KL_bj) - (1/K) sum_k log p(x | z_k): units under the floor feel no pressure to collapse.
    """
    return d.kl_units.mean(0).clamp(min=free_bits).sum() - d.log_px.mean(0)
