"""Regularizers with a critic on the latents, which trains beside the model."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.models.base import Player
from vae_variants.models.divergences import beside_prior
from vae_variants.models.draws import Draws
from vae_variants.models.networks import layers
from vae_variants.models.objectives import Term
from vae_variants.models.regularizers import REGULARIZERS


def permuted(z: Tensor) -> Tensor:
    """z (K, B, Z) with each unit's values in an order of their own over the B images: samples of prod_j q(z_j)."""
    return z.gather(-2, torch.rand(z.shape, dtype=z.dtype, device=z.device).argsort(-2))


class Critical(Term):
    """Base class of regularizers with a critic on z, which minimises `critic_loss` in steps of its own, by Adam with beta_1 = 0.5.

    Options: `weight` of what the model minimises, the critic's hidden layers and their width, and its steps a turn.
    """

    def __init__(self, latent: int, weight: float = 10.0, critic_width: int = 200, critic_layers: int = 2, critic_steps: int = 1) -> None:
        super().__init__()
        self.weight = weight
        self.critic = layers([latent, *[critic_width] * critic_layers, 1], "leaky-relu")
        self.players = (Player(("regularizer.critic.",), "regularizer.critic_loss", steps=critic_steps, optimizer="adam-0.5"),)

    def logit(self, z: Tensor) -> Tensor:
        """z (K, B, Z) -> (K, B)."""
        return self.critic(z).squeeze(-1)

    def telling(self, some: Tensor, others: Tensor) -> Tensor:
        """(B,) the cross-entropy of telling `some` latents, where D should be high, from `others`; both (K, B, Z), held constant."""
        return (F.softplus(-self.logit(some.detach())) + F.softplus(self.logit(others.detach()))).mean(0)

    @abstractmethod
    def critic_loss(self, d: Draws) -> Tensor:
        """What the critic minimises, (B,)."""


@REGULARIZERS.add
class Factor(Critical):
    """weight E log(q(z) / prod_j q(z_j)) by a critic: FactorVAE's total correlation (Kim & Mnih 2018, algorithm 2).

    The critic's logit D tells latents from latents whose units are permuted over the batch; at its optimum, D is the log density ratio.
    `weight` is the paper's gamma.
    """

    def forward(self, d: Draws) -> Tensor:
        return self.weight * self.logit(d.z).mean(0)

    def critic_loss(self, d: Draws) -> Tensor:
        return self.telling(d.z, permuted(d.z))


@REGULARIZERS.add
class Adversarial(Critical):
    """weight E softplus(-D(z)), where a critic D tells samples of the prior from latents (AAE, Makhzani et al. 2016)."""

    def forward(self, d: Draws) -> Tensor:
        beside_prior(d)  # says so if there is no prior
        return self.weight * F.softplus(-self.logit(d.z)).mean(0)

    def critic_loss(self, d: Draws) -> Tensor:
        z, y = beside_prior(d)
        return self.telling(y, z)
