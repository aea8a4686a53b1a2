"""The linear-Gaussian VAE (probabilistic PCA), for which everything is known in closed form."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from vae_variants.models.base import MODELS, Coder, Decoder, Density, GaussianPosterior, MeanSampler, Model, Sampler
from vae_variants.models.likelihoods import GaussianLearnt, Support
from vae_variants.models.objectives import Draws

__all__ = ["LinearVAE"]

C = 0.5 * math.log(2 * math.pi)


@MODELS.add(name="linear-vae")
class LinearVAE(Model, Sampler, MeanSampler, Density, GaussianPosterior, Coder, Decoder):
    """p(z) = N(0, I), p(x | z) = N(W z + b, sigma^2 I), q(z | x) = N(A x + c, diag s^2); W, b, sigma, A, c, s are learnt.

    log p(x) = log N(x; b, W W^T + sigma^2 I). Training uses the exact ELBO. At its optimum W spans the principal components, sigma^2 is the
    mean of the remaining eigenvalues, and q is the posterior, so the gap is 0 (Lucas et al. 2019).
    """

    exact: ClassVar[bool] = True
    support = Support.REAL
    likelihood: GaussianLearnt

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 20) -> None:
        super().__init__()
        dim = math.prod(shape)
        self.encoder, self.decoder = nn.Linear(dim, latent), nn.Linear(latent, dim)
        self.log_scale = nn.Parameter(torch.zeros(latent))
        self.likelihood, self.shape, self.latent = GaussianLearnt(), shape, latent

    def _kl(self, mean: Tensor) -> Tensor:
        return 0.5 * (mean.square() + (2 * self.log_scale).exp() - 1) - self.log_scale

    def bound(self, x: Tensor) -> Tensor:
        """The exact ELBO of x (B, D): (B,) nats.

        E_q |x - W z - b|^2 = |x - W mu - b|^2 + sum_j s_j^2 |w_j|^2.
        """
        mean = self.encoder(x)
        spread = ((2 * self.log_scale).exp() * self.decoder.weight.square().sum(0)).sum()
        at_mean = self.likelihood.log_prob(self.decoder(mean), x)
        return at_mean - 0.5 * spread / self.likelihood.scale.square() - self._kl(mean).sum(-1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.bound(x).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        """By Woodbury's identity, with M = I + W^T W / sigma^2 of size Z x Z."""
        w, v, d = self.decoder.weight, self.likelihood.scale.square(), x - self.decoder.bias
        root = torch.linalg.cholesky(torch.eye(self.latent, dtype=w.dtype, device=w.device) + w.mT @ w / v)
        inner = torch.linalg.solve_triangular(root, (d @ w / v).mT, upper=False).square().sum(0)
        squares = d.square().sum(-1) / v - inner
        return -0.5 * squares - root.diagonal().log().sum() - x.shape[-1] * (0.5 * v.log() + C)

    def prior(self, n: int) -> Tensor:
        like = self.decoder.weight
        return torch.randn(n, self.latent, dtype=like.dtype, device=like.device)

    def log_prior(self, z: Tensor) -> Tensor:
        return (-0.5 * z.square() - C).sum(-1)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.encoder(x)
        return mean, self.log_scale.exp().expand_as(mean)

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        mean, scale = self.posterior(x)
        noise = torch.randn(k, *mean.shape, dtype=mean.dtype, device=mean.device)
        z, kl = mean + scale * noise, self._kl(mean)
        return Draws(
            log_px=self.log_px(x, z),
            log_pz=self.log_prior(z),
            log_qz=(-0.5 * noise.square() - self.log_scale - C).sum(-1),
            kl=kl.sum(-1),
            kl_units=kl,
            z=z,
            t=t,
        )

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(self.decoder(z), x)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        z = self.prior(n)
        return self.likelihood.sample(self.decoder(z)), z

    def sample(self, n: int) -> Tensor:
        return self.simulate(n)[0]

    def sample_mean(self, n: int) -> Tensor:
        return self.decode(self.prior(n))
