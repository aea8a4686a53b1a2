"""The variational autoencoder: diagonal Gaussian q(z | x), standard normal p(z), any likelihood and objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vae_variants.models.base import MODELS, Coder, Decoder, Density, GaussianPosterior, MeanSampler, Model, Sampler
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import NETWORKS
from vae_variants.models.objectives import Draws, Objective, elbo, elbo_sampled, gated

__all__ = ["VAE"]

C = 0.5 * math.log(2 * math.pi)


@MODELS.add
class VAE(Model, Sampler, MeanSampler, Density, GaussianPosterior, Coder, Decoder):
    """Variational autoencoder (Kingma & Welling 2014), trained by `objective` from `samples` samples of z per image.

    q(z | x) = N(mu(x), diag s(x)^2), p(z) = N(0, I) with `latent` units, p(x | z) = likelihood(decoder(z)).
    """

    exact: ClassVar[bool] = False

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        objective: Objective = elbo,
        *,
        latent: int = 50,
        samples: int = 1,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        build = NETWORKS[network]
        self.encoder = build.encoder(shape, 2 * latent, hidden, activation)
        self.decoder = build.decoder(latent, shape, likelihood.k, hidden, activation)
        self.likelihood, self.objective = likelihood, objective
        self.shape, self.latent, self.samples, self.support = shape, latent, samples, likelihood.support

    def _decode(self, z: Tensor) -> Tensor:
        return self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])

    def prior(self, n: int) -> Tensor:
        like = next(self.decoder.parameters())
        return torch.randn(n, self.latent, dtype=like.dtype, device=like.device)

    def log_prior(self, z: Tensor) -> Tensor:
        return (-0.5 * z.square() - C).sum(-1)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_s = self.encoder(x).chunk(2, -1)
        return mu, log_s.exp()

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        mu, log_s = self.encoder(x).chunk(2, -1)
        eps = torch.randn(k, *mu.shape, dtype=mu.dtype, device=mu.device)
        z, gate = gated(mu + log_s.exp() * eps)
        kl = 0.5 * (mu.square() + (2 * log_s).exp() - 1) - log_s
        return Draws(
            log_px=self.likelihood.log_prob(self._decode(z), x),
            log_pz=self.log_prior(z),
            log_qz=(-0.5 * eps.square() - log_s - C).sum(-1),
            kl=kl.sum(-1),
            kl_units=kl,
            z=z,
            t=t,
            log_qz_path=(-0.5 * ((z - mu.detach()) * (-log_s.detach()).exp()).square() - log_s.detach() - C).sum(-1),
            gate=gate,
        )

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return self.objective(self.infer(x, self.samples, t)).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        return -elbo_sampled(self.infer(x, 1, x.new_ones(())))

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(self._decode(z), x)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).chunk(2, -1)[0]

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.mean(self._decode(z))

    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.prior(n)
        return self.likelihood.sample(self._decode(z)), z

    def sample(self, n: int) -> Tensor:
        return self.simulate(n)[0]

    def sample_mean(self, n: int) -> Tensor:
        return self.decode(self.prior(n))
