"""The linear-Gaussian VAE (probabilistic PCA), for which everything is known in closed form."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from vae_variants.models.base import MODELS, ClosedElbo, GaussianPosterior
from vae_variants.models.factors import cholesky
from vae_variants.models.latent import LatentModel
from vae_variants.models.likelihoods import GaussianLearnt, Support
from vae_variants.models.networks import start
from vae_variants.models.posteriors import C, Diagonal
from vae_variants.models.priors import StandardNormal, kl_units


@MODELS.add(name="linear-vae")
class LinearVAE(LatentModel, ClosedElbo, GaussianPosterior):
    """p(z) = N(0, I), p(x | z) = N(W z + b, sigma^2 I), q(z | x) = N(A (x - m) + c, diag s^2); W, b, sigma, A, c, s are learnt; m is
    the mean training image.

    log p(x) = log N(x; b, W W^T + sigma^2 I). Training uses the exact ELBO. At its optimum W spans the principal components, sigma^2 is the
    mean of the remaining eigenvalues, and q is the posterior, so the gap is 0 (Lucas et al. 2019).
    """

    exact: ClassVar[bool] = True
    support = Support.REAL
    encoder: nn.Linear
    decoder: nn.Linear
    likelihood: GaussianLearnt
    prior: StandardNormal
    centre: Tensor

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 50) -> None:
        super().__init__()
        dim = math.prod(shape)
        self.encoder, self.decoder = nn.Linear(dim, latent), nn.Linear(latent, dim)
        self.log_scale = nn.Parameter(torch.zeros(latent))
        self.register_buffer("centre", torch.zeros(dim))
        self.likelihood, self.shape, self.latent = GaussianLearnt(), shape, latent
        self.compose(StandardNormal(latent), Diagonal)

    def initialise(self, x: Tensor) -> None:
        self.centre.copy_(x.mean(0))
        start(self.encoder, self.decoder, self.centre, self.likelihood.start(x))

    def conditional(self, x: Tensor) -> Diagonal:
        mean = self.encoder(x - self.centre)
        return Diagonal(mean, self.log_scale.expand_as(mean))

    def bound(self, x: Tensor) -> Tensor:
        """The exact ELBO of x (B, D): (B,) nats.

        E_q |x - W z - b|^2 = |x - W mu - b|^2 + sum_j s_j^2 |w_j|^2.
        """
        q = self.conditional(x)
        spread = ((2 * self.log_scale).exp() * self.decoder.weight.square().sum(0)).sum()
        return self.log_px(x, q.mean) - 0.5 * spread / self.likelihood.scale.square() - kl_units(self.prior, q).sum(-1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.bound(x).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        """By Woodbury's identity, with M = I + W^T W / sigma^2 of size Z x Z."""
        w, v, d = self.decoder.weight, self.likelihood.scale.square(), x - self.decoder.bias
        root = cholesky(torch.eye(self.latent, dtype=w.dtype, device=w.device) + w.mT @ w / v)
        inner = torch.linalg.solve_triangular(root, (d @ w / v).mT, upper=False).square().sum(0)
        squares = d.square().sum(-1) / v - inner
        return -0.5 * squares - root.diagonal().log().sum() - x.shape[-1] * (0.5 * v.log() + C)
