"""What models with an encoder, a decoder and a likelihood share."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from vae_variants.models.base import (
    Coder,
    DataDependent,
    Decoder,
    Density,
    GaussianPosterior,
    LatentVariable,
    MeanSampler,
    Model,
    Sampler,
)
from vae_variants.models.networks import start
from vae_variants.models.objectives import Draws, gated

C = 0.5 * math.log(2 * math.pi)


class EncoderDecoder(Model, Coder, Decoder, DataDependent):
    """Base class of models with p(x | z) = likelihood(outputs(z)).

    Before training, the encoder's input is centred at the mean training image, and the decoder's bias says that image.
    """

    encoder: nn.Module
    decoder: nn.Module

    def initialise(self, x: Tensor) -> None:
        start(self.encoder, self.decoder, x.mean(0), self.likelihood.start(x))

    def outputs(self, z: Tensor) -> Tensor:
        """z (..., Z) -> the decoder's outputs (..., k * D)."""
        return self.decoder(z)

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(self.outputs(z), x)

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.mean(self.outputs(z))


class LatentModel(EncoderDecoder, Sampler, MeanSampler, Density, LatentVariable):
    """Base class of models with a prior p(z)."""

    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.prior(n)
        return self.likelihood.sample(self.outputs(z)), z

    def sample(self, n: int) -> Tensor:
        return self.simulate(n)[0]

    def sample_mean(self, n: int) -> Tensor:
        return self.decode(self.prior(n))


class GaussianModel(LatentModel, GaussianPosterior):
    """Base class of models with p(z) = N(0, I) and q(z | x) = N(mu(x), diag s(x)^2), z of `latent` units."""

    latent: int

    @abstractmethod
    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> mu and log s of q(z | x), both (B, Z)."""

    def prior(self, n: int) -> Tensor:
        like = next(self.decoder.parameters())
        return torch.randn(n, self.latent, dtype=like.dtype, device=like.device)

    def log_prior(self, z: Tensor) -> Tensor:
        return (-0.5 * z.square() - C).sum(-1)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_s = self.moments(x)
        return mu, log_s.exp()

    def encode(self, x: Tensor) -> Tensor:
        return self.moments(x)[0]

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        mu, log_s = self.moments(x)
        eps = torch.randn(k, *mu.shape, dtype=mu.dtype, device=mu.device)
        z, gate = gated(mu + log_s.exp() * eps)
        kl = kl_units(mu, log_s)
        return Draws(
            log_px=self.log_px(x, z),
            log_pz=self.log_prior(z),
            log_qz=(-0.5 * eps.square() - log_s - C).sum(-1),
            kl=kl.sum(-1),
            kl_units=kl,
            z=z,
            t=t,
            log_qz_path=(-0.5 * ((z - mu.detach()) * (-log_s.detach()).exp()).square() - log_s.detach() - C).sum(-1),
            gate=gate,
        )


def kl_units(mu: Tensor, log_s: Tensor) -> Tensor:
    """KL(N(mu, s^2) || N(0, 1)) of each latent unit, nats."""
    return 0.5 * (mu.square() + (2 * log_s).exp() - 1) - log_s
