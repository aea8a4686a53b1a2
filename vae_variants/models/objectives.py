"""Objectives: bounds on log p(x) and their gradient estimators, each a function of `Draws`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_variants.registry import Registry, UserError


class Draws(NamedTuple):
    """K samples z ~ q(z | x) for each of B images: the input of every objective. Nats."""

    log_px: Tensor  # (K, B) log p(x | z)
    log_pz: Tensor  # (K, B) log p(z)
    log_qz: Tensor  # (K, B) log q(z | x)
    kl: Tensor  # (B,) KL(q(z | x) || p(z)) in closed form, or estimated if the model says closed_kl = False
    kl_units: Tensor  # (B, Z) its terms, one per latent unit
    z: Tensor  # (K, B, Z)
    t: Tensor  # () fraction of training done, in [0, 1]
    log_qz_path: Tensor | None = None  # (K, B) log_qz with q's parameters held constant in it: its gradient goes through z alone
    gate: Tensor | None = None  # (K, B) zeros: see `gated`

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z | x), (K, B)."""
        return self.log_px + self.log_pz - self.log_qz

    @property
    def log_w_path(self) -> Tensor:
        """`log_w` whose gradient reaches the encoder through z alone, without the score of q. Raises `UserError` without one."""
        if self.log_qz_path is None:
            raise UserError("this objective needs a reparameterised z, and this model has none; use elbo, iwae or another objective")
        return self.log_px + self.log_pz - self.log_qz_path


class Gate(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor]:
        return z.view_as(z), z.new_zeros(z.shape[:-1])

    @staticmethod
    def setup_context(ctx: Any, *_: Any) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(_: Any, to_z: Tensor | None, to_gate: Tensor | None) -> Tensor | None:
        if to_z is None or to_gate is None:
            return to_z
        total = to_gate.sum(-2, keepdim=True)
        return to_z * (to_gate / total.masked_fill(total == 0, 1.0)).unsqueeze(-1)

    @staticmethod
    def vmap(_: Any, in_dims: tuple[int], z: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return Gate.apply(z.movedim(in_dims[0], 0)), (0, 0)


def gated(z: Tensor) -> tuple[Tensor, Tensor]:
    """z (K, B, Z) -> z, and zeros (K, B) whose gradient scales the gradient of each sample of z.

    If an objective adds sum_k a_k gate_k, which is 0, then the gradient that returns to z_k is multiplied by a_k / sum_j a_j; the decoder's
    gradient is not. Weights that are known only after decoding thus reach the encoder in one backward pass. Without the gate, gradients
    are unchanged.
    """
    return Gate.apply(z)


Objective = Callable[[Draws], Tensor]  # -> (B,) to be minimised, nats
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


@OBJECTIVES.add(name="free-bits")
def free_bits(d: Draws, free_bits: float = 0.25) -> Tensor:
    """-ELBO in which each latent unit's batch-mean KL costs at least `free_bits` nats (Kingma et al. 2016, sec. on free bits).

    sum_j max(free_bits, mean_b KL_bj) - (1/K) sum_k log p(x | z_k): units below the floor have no incentive to collapse.
    """
    return d.kl_units.mean(0).clamp(min=free_bits).sum() - d.log_px.mean(0)
