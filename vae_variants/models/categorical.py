"""A VAE with one categorical latent variable. Summing over it makes log p(x), ELBO and gap exact."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vae_variants.models.base import MODELS
from vae_variants.models.latent import LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import decoder, encoder
from vae_variants.models.objectives import Draws


@MODELS.add
class CategoricalVAE(LatentModel):
    """z in {1..C} with p(z) = 1/C, q(z | x) = softmax(encoder(x)), p(x | z) = likelihood(decoder(z)), z as a one-hot vector.

    Trained on the exact ELBO, sum_z q(z | x) (log p(x, z) - log q(z | x)). log p(x) = log sum_z p(x, z); the gap is
    KL(q(z | x) || p(z | x)).
    """

    exact: ClassVar[bool] = True
    codes: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        *,
        categories: int = 32,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.encoder = encoder(network, shape, categories, hidden, activation)
        self.decoder = decoder(network, categories, shape, likelihood.k, hidden, activation)
        self.likelihood, self.shape, self.support = likelihood, shape, likelihood.support
        self.register_buffer("codes", torch.eye(categories), persistent=False)

    def enumerate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> log q(z | x) and log p(x, z), both (B, C) nats."""
        log_px = super().log_px(x.unsqueeze(-2), self.codes)
        return self.encoder(x).log_softmax(-1), log_px - math.log(len(self.codes))

    def bound(self, x: Tensor) -> Tensor:
        """The exact ELBO of x (B, D): (B,) nats."""
        log_q, joint = self.enumerate(x)
        return (log_q.exp() * (joint - log_q)).sum(-1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.bound(x).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        return self.enumerate(x)[1].logsumexp(-1)

    def prior(self, n: int) -> Tensor:
        return self.codes[torch.randint(len(self.codes), (n,), device=self.codes.device)]

    def log_prior(self, z: Tensor) -> Tensor:
        return z.new_full(z.shape[:-1], -math.log(len(self.codes)))

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        log_q, joint = self.enumerate(x)
        index = torch.multinomial(log_q.exp(), k, replacement=True)  # (B, K)
        kl = (log_q.exp() * (log_q + math.log(len(self.codes)))).sum(-1)
        z = self.codes[index.mT]
        log_pz = self.log_prior(z)
        return Draws(
            log_px=joint.gather(-1, index).mT - log_pz,
            log_pz=log_pz,
            log_qz=log_q.gather(-1, index).mT,
            kl=kl,
            kl_units=kl.unsqueeze(-1),  # of the one latent variable
            z=z,
            t=t,
        )

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """z one-hot, or probabilities of the categories: log sum_c z_c p(x | c)."""
        return (super().log_px(x.unsqueeze(-2), self.codes) + z.log()).logsumexp(-1)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).softmax(-1)

    def decode(self, z: Tensor) -> Tensor:
        """Probabilities z (B, C) of the categories -> the mean of x under them, (B, D)."""
        return z @ super().decode(self.codes)
