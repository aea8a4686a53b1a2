"""One convolutional network in three hands: `deep-conv` on 32x32 pixels of three channels, 128 latent units, ReLU, Bernoulli pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.networks import decoder, encoder
from vae_variants.models.vae import VAE

__all__ = ["Plain", "images", "ours_model", "pythae_model"]

SHAPE, LATENT, NETWORK = (3, 32, 32), 128, "deep-conv"


def images() -> Tensor:
    """Noise, which takes as long as pictures."""
    return (torch.rand(10_240, 3072, generator=torch.Generator().manual_seed(0)) < 0.5).float()


def halves() -> tuple[nn.Module, nn.Module]:
    """Encoder to mean and log-variance, and decoder to logits."""
    return encoder(NETWORK, SHAPE, 2 * LATENT, (), "relu"), decoder(NETWORK, LATENT, SHAPE, 1, (), "relu")


def ours_model() -> VAE:
    return VAE(SHAPE, Bernoulli(), latent=LATENT, network=NETWORK, activation="relu")


def pythae_model() -> nn.Module:
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.body(x.flatten(1)).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.body(z).sigmoid().unflatten(-1, SHAPE))

    up, down = halves()
    return PythaeVAE(VAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce"), Encoder(up), Decoder(down))


class Plain(nn.Module):
    """As one would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = halves()

    def loss(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        distortion = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        rate = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        return (distortion + rate) / len(x)
