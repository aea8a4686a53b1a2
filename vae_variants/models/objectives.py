"""Objectives: bounds on log p(x) and their gradient estimators, each a function of `Draws`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vae_variants.models.base import Player
from vae_variants.models.divergences import beside_prior, mmd
from vae_variants.models.draws import Draws
from vae_variants.registry import Registry, UserError, positive

Objective = Callable[[Draws], Tensor]  # -> (B,) to be minimised, nats


class Term(nn.Module, ABC):
    """Base class of an objective or a regularizer with parameters or buffers of its own, such as a critic. Others are functions.

    Attributes:
        players: Who trains beside the model: each names what it owns and its loss by their full names in the model, such as
            `Player(("regularizer.critic.",), "regularizer.critic_loss")`; the loss is a method `Draws` -> (B,) or ().
        regularized: Losses, of an objective's players that train parts of the model, to which the regularizer is added.
    """

    players: tuple[Player, ...] = ()
    regularized: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def forward(self, d: Draws) -> Tensor:
        """What the model minimises: (B,), or () for a regularizer of the batch."""


def says(term: Any, name: str, otherwise: bool = True) -> bool:
    """What a function or class says of itself by an attribute.

    `bound = False`: it is no bound. `density = False`: its loss is no log density. `rate = False`: it uses neither the KL nor
    log q(z | x). `moves_prior = True`, of a regularizer: its gradient trains the prior.
    """
    return bool(getattr(term.func if isinstance(term, partial) else term, name, otherwise))


OBJECTIVES: Registry[Callable[..., Tensor]] = Registry("objective")


@OBJECTIVES.add
def elbo(d: Draws) -> Tensor:
    """-ELBO with closed-form KL: KL(q(z|x) || p(z)) - (1/K) sum_k log p(x | z_k).

    Unbiased for every K; a larger K lowers the variance (Kingma & Welling 2014, estimator B of sec. 2.3).
    """
    return d.kl - d.log_px.mean(0)


@OBJECTIVES.add(name="elbo-sampled")
def elbo_sampled(d: Draws) -> Tensor:
    """-ELBO with sampled KL: -(1/K) sum_k log w_k (Kingma & Welling 2014, estimator A of sec. 2.3)."""
    return -d.log_w.mean(0)


@OBJECTIVES.add
def iwae(d: Draws) -> Tensor:
    """-L_K, the importance-weighted bound: -log (1/K) sum_k w_k (Burda et al. 2016). K = 1 is the sampled ELBO."""
    return math.log(d.log_px.shape[0]) - torch.logsumexp(d.log_w, 0)


@OBJECTIVES.add
def stl(d: Draws) -> Tensor:
    """-ELBO with the path gradient: -(1/K) sum_k log w_k, with q's parameters held constant in log q(z_k | x).

    The gradient equals that of `elbo-sampled` in expectation. For the encoder it is exactly 0 if q is the posterior (sticking the
    landing, Roeder, Wu & Duvenaud 2017).
    """
    return -d.log_w_path.mean(0)


@OBJECTIVES.add
def dreg(d: Draws) -> Tensor:
    """-L_K with the doubly reparameterised gradient (Tucker et al. 2019); v_k = w_k / sum_j w_j.

    Decoder: sum_k v_k d log w_k / d theta, as for `iwae`. Encoder: sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi), equal to that of
    `iwae` in expectation, with a signal-to-noise ratio that grows with K.
    """
    log_w = d.log_w_path
    if d.gate is None:
        raise UserError("this objective needs samples with a gate, and this model has none; use iwae")
    return math.log(len(log_w)) - torch.logsumexp(log_w, 0) + (log_w.detach().softmax(0) * d.gate).sum(0)


@OBJECTIVES.add
def beta(d: Draws, beta: float = 4.0) -> Tensor:
    """-ELBO with a weighted KL: beta KL - (1/K) sum_k log p(x | z_k) (Higgins et al. 2017). Not a bound for beta < 1."""
    return beta * d.kl - d.log_px.mean(0)


@OBJECTIVES.add(name="warm-up")
def warm_up(d: Draws, warm_up: float = 0.3) -> Tensor:
    """-ELBO whose KL weight rises linearly from 0 to 1 over the first `warm_up` of training (Sonderby et al. 2016)."""
    return (d.t / warm_up).clamp(max=1.0) * d.kl - d.log_px.mean(0)


@OBJECTIVES.add
def cyclical(d: Draws, cycles: int = 4, ramp: float = 0.5) -> Tensor:
    """-ELBO whose KL weight rises from 0 to 1 in each of `cycles` equal parts of training (Fu et al. 2019).

    In each part it rises linearly over the first `ramp` of the part and stays 1; at t = 0 it is 0, and at t = 1, the end, it is 1.
    """
    place = d.t * cycles
    place = torch.where(d.t < 1, place - place.floor(), 1.0)
    return (place / positive("ramp", ramp)).clamp(max=1.0) * d.kl - d.log_px.mean(0)


@OBJECTIVES.add
def capacity(d: Draws, gamma: float = 30.0, capacity: float = 25.0) -> Tensor:
    """gamma |KL - C(t)| - (1/K) sum_k log p(x | z_k), where C(t) = `capacity` t rises through training (Burgess et al. 2018).

    KL is the mean over the batch. C is in nats.
    """
    return gamma * (d.kl.mean() - capacity * d.t).abs() - d.log_px.mean(0)


capacity.bound = False  # type: ignore[attr-defined]


@OBJECTIVES.add
def renyi(d: Draws, alpha: float = 0.5) -> Tensor:
    """-(Renyi's bound of order `alpha`): log((1/K) sum_k w_k^(1 - alpha)) / (alpha - 1) (Li & Turner 2016).

    alpha = 0 is `iwae`. For alpha > 0 the estimate from K samples stays below log p(x) in expectation.

    Raises:
        UserError: If alpha = 1, whose limit is the ELBO.
    """
    if alpha == 1:
        raise UserError("Renyi's bound of order alpha=1 is the ELBO; use objective=elbo, or another alpha")
    return (((1 - alpha) * d.log_w).logsumexp(0) - math.log(len(d.log_w))) / (alpha - 1)


@OBJECTIVES.add
def info(d: Draws, alpha: float = 0.5, strength: float = 5.0, kernel: str = "imq") -> Tensor:
    """-(1/K) sum_k log p(x | z_k) + (1 - alpha) KL + (alpha + strength - 1) MMD(q(z), p(z)): InfoVAE (Zhao, Song & Ermon 2019).

    `strength` is the paper's lambda. The MMD of the batch is `regularizer=mmd`'s. alpha = 0 and strength = 1 is the ELBO, alpha = 1 WAE.

    Raises:
        UserError: If KL or MMD has a weight below 0, so that it would be maximised.
    """
    if alpha > 1 or alpha + strength < 1:
        raise UserError(f"alpha={alpha:g} and strength={strength:g} give KL or MMD a negative weight; keep alpha <= 1 <= alpha + strength")
    return (1 - alpha) * d.kl + (alpha + strength - 1) * mmd(*beside_prior(d), kernel) - d.log_px.mean(0)


info.bound = False  # type: ignore[attr-defined]


@OBJECTIVES.add(name="free-bits")
def free_bits(d: Draws, free_bits: float = 0.25) -> Tensor:
    """-ELBO in which each latent unit's batch-mean KL costs at least `free_bits` nats (Kingma et al. 2016, sec. on free bits).

    sum_j max(free_bits, mean_b KL_bj) - (1/K) sum_k log p(x | z_k): units below the floor have no incentive to collapse.
    """
    return d.kl_units.mean(0).clamp(min=free_bits).sum() - d.log_px.mean(0)


@OBJECTIVES.add
def reconstruction(d: Draws) -> Tensor:
    """-(1/K) sum_k log p(x | z_k), without a KL: a regularizer keeps the latents near the prior (WAE, RAE)."""
    return -d.log_px.mean(0)


reconstruction.bound = reconstruction.density = reconstruction.rate = False  # type: ignore[attr-defined]
