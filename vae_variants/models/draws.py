"""What an objective is a function of: samples of q(z | x), and what the model says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from vae_variants.models.posteriors import Conditional, Scored
from vae_variants.registry import UserError

if TYPE_CHECKING:
    from vae_variants.models.latent import EncoderDecoder


class Draws(NamedTuple):
    """K samples z ~ q(z | x) for each of B images x, in nats: the input of every objective and regularizer.

    The first five are always there. What a model does not give is None.
    """

    log_px: Tensor  # (K, B) log p(x | z)
    log_pz: Tensor  # (K, B) log p(z)
    log_qz: Tensor  # (K, B) log q(z | x)
    kl: Tensor  # (B,) KL(q(z | x) || p(z)) in closed form, or estimated if the model says closed_kl = False
    kl_units: Tensor  # (B, U) its terms, one per latent unit; a KL that is no sum over units is one term
    z: Tensor  # (K, B, Z)
    t: Tensor  # () fraction of training done, in [0, 1]
    gate: Tensor | None = None  # (K, B) zeros: see `gated`
    q: Conditional | None = None  # q(z | x), to sample again, or to score the latents of other images
    x: Tensor | None = None  # (B, D)
    outputs: Tensor | None = None  # (K, B, k * D) the decoder's outputs at z
    model: EncoderDecoder | None = None  # with a likelihood, a decoder (`outputs`, `decode`) and, if `Generative`, a prior
    free: Tensor | None = None  # (K, B, Z) z before the gate: see `ungated`

    @property
    def log_w(self) -> Tensor:
        """log p(x, z) - log q(z | x), (K, B)."""
        return self.log_px + self.log_pz - self.log_qz

    @property
    def log_w_path(self) -> Tensor:
        """`log_w` whose gradient reaches the encoder through z alone, without the score of q.

        Raises:
            UserError: If z is not reparameterised, or q has no density at a given z.
        """
        if self.gate is None or not isinstance(self.q, Scored):
            raise UserError("this objective needs a reparameterised z and the density of q, and this model lacks one; use elbo or iwae")
        return self.log_px + self.log_pz - self.q.detached().log_prob(self.z)

    @property
    def ungated(self) -> Draws:
        """The same samples for a regularizer: the gate of the objective does not scale its gradient with respect to z."""
        return self if self.free is None else self._replace(z=self.free, gate=None)

    @property
    def mean(self) -> Tensor:
        """E[x | z], (K, B, D)."""
        assert self.model is not None and self.outputs is not None
        return self.model.likelihood.mean(self.outputs)


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
