"""The generative adversarial network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.likelihoods import Support
from vae_variants.model import MODELS, MeanSampler, Model, Player, Sampler
from vae_variants.networks import NETWORKS

__all__ = ["GAN"]


def adam(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999), fused=True)


@MODELS.add(name="gan")
class GAN(Model, Sampler, MeanSampler):
    """Non-saturating GAN on grey images (Goodfellow et al. 2014): an implicit model, with samples and no likelihood.

    With logit d: discriminator E softplus(-d(x)) + E softplus(d(g(z))), generator E softplus(-d(g(z))).
    Two players, one step each per batch.
    """

    players: ClassVar[tuple[Player, ...]] = (Player("discriminator.", "discriminator_loss", adam), Player("generator.", "loss", adam))
    support = Support.UNIT

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int = 50,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "leaky-relu",
    ) -> None:
        super().__init__()
        build = NETWORKS[network]
        self.generator = build.decoder(latent, shape, 1, hidden, activation)
        self.discriminator = build.encoder(shape, 1, hidden, activation)
        self.shape, self.latent = shape, latent

    def sample(self, n: int) -> Tensor:
        like = next(self.generator.parameters())
        return self.generator(torch.randn(n, self.latent, dtype=like.dtype, device=like.device)).sigmoid()

    def sample_mean(self, n: int) -> Tensor:
        return self.sample(n)

    def discriminator_loss(self, x: Tensor, t: Tensor) -> Tensor:
        return (F.softplus(-self.discriminator(x)) + F.softplus(self.discriminator(self.sample(x.shape[0])))).mean()

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(self.sample(x.shape[0]))).mean()
