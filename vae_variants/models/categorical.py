"""A VAE with one categorical latent variable. Summing over it makes log p(x), ELBO and gap exact."""

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from vae_variants.models.base import MODELS, ClosedElbo, ScoredPosterior
from vae_variants.models.draws import Draws
from vae_variants.models.latent import LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import Network, decoder, encoder
from vae_variants.models.numerics import chosen
from vae_variants.models.posteriors import Drawn, Scored, Space
from vae_variants.models.priors import Prior, Q, closed_kl


class OneHot(Scored):
    """A categorical distribution of one-hot vectors, from logits (B, C)."""

    reparameterised = False

    def __init__(self, logits: Tensor) -> None:
        self.log_p = logits.log_softmax(-1)
        self.mean = self.log_p.exp()

    def draw(self, k: int) -> Drawn:
        index = chosen(self.mean, k).mT  # (K, B)
        z = torch.eye(self.mean.shape[-1], dtype=self.mean.dtype, device=self.mean.device)[index]
        return Drawn(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        return (z * self.log_p).sum(-1)

    def detached(self) -> Self:
        return type(self)(self.log_p.detach())


class UniformCode(Prior):
    """Each of C one-hot vectors with probability 1 / C."""

    space = Space.SIMPLEX

    def sample(self, n: int, q: Q) -> Tensor:
        codes = torch.eye(self.latent, dtype=self.like.dtype, device=self.like.device)
        return codes[torch.randint(self.latent, (n,), device=self.like.device)]

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return z.new_full(z.shape[:-1], -math.log(self.latent))


@closed_kl(UniformCode, OneHot)
def kl_of_code(p: UniformCode, q: OneHot) -> Tensor:
    """sum_c q_c (log q_c + log C): (B, 1)."""
    return (q.mean * (q.log_p + math.log(p.latent))).sum(-1, keepdim=True)


@MODELS.add
class CategoricalVAE(LatentModel, ClosedElbo, ScoredPosterior):
    """z in {1..C} with p(z) = 1/C, q(z | x) = softmax(encoder(x)), p(x | z) = likelihood(decoder(z)), z as a one-hot vector.

    Trained on the exact ELBO, sum_z q(z | x) (log p(x, z) - log q(z | x)). log p(x) = log sum_z p(x, z); the gap is
    KL(q(z | x) || p(z | x)).
    """

    exact: ClassVar[bool] = True
    codes: Tensor
    prior: UniformCode

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        *,
        categories: int = 32,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.encoder = encoder(network, shape, categories, hidden, activation)
        self.decoder = decoder(network, categories, shape, likelihood.k, hidden, activation)
        self.likelihood, self.shape, self.support = likelihood, shape, likelihood.support
        self.register_buffer("codes", torch.eye(categories), persistent=False)
        self.compose(UniformCode(categories), OneHot, Space.SIMPLEX)

    def each_code(self, x: Tensor) -> Tensor:
        """x (B, D) -> log p(x | z) of each code z, (B, C) nats."""
        return super().log_px(x.unsqueeze(-2), self.codes)

    def enumerate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> log q(z | x) and log p(x, z), both (B, C) nats."""
        return self.conditional(x).log_p, self.each_code(x) - math.log(len(self.codes))

    def bound(self, x: Tensor) -> Tensor:
        """The exact ELBO of x (B, D): (B,) nats."""
        log_q, joint = self.enumerate(x)
        return (log_q.exp() * (joint - log_q)).sum(-1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.bound(x).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        return self.enumerate(x)[1].logsumexp(-1)

    def conditional(self, x: Tensor) -> OneHot:
        return OneHot(self.encoder(x))

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        """As of `LatentModel`, with one decoding of each code for all images."""
        q, log_px = self.conditional(x), self.each_code(x)
        z, log_q = q.draw(k)
        log_px = (z * log_px).sum(-1)
        units = kl_of_code(self.prior, q)
        return Draws(log_px, self.log_prior(z), log_q, units.sum(-1), units, z, t, q=q, x=x, model=self)

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """z one-hot, or probabilities of the categories: log sum_c z_c p(x | c)."""
        return (self.each_code(x) + z.log()).logsumexp(-1)

    def decode(self, z: Tensor) -> Tensor:
        """Probabilities z (B, C) of the categories -> the mean of x under them, (B, D)."""
        return z @ super().decode(self.codes)
