"""The deterministic autoencoder."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vae_variants.models.base import MODELS
from vae_variants.models.draws import Draws
from vae_variants.models.latent import Composite
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import Network, decoder, encoder
from vae_variants.models.objectives import reconstruction
from vae_variants.models.regularizers import Regularizer, none
from vae_variants.models.samplers import LatentSampler, NoSampler


@MODELS.add
class Autoencoder(Composite):
    """z = f(x), minimising -log p(x | z) and a regularizer; with a Gaussian likelihood that is squared error.

    It has no prior, so that it samples only what a sampler that is fitted to its latents draws (Ghosh et al. 2020, RAE).

    In training a denoising autoencoder sees x + `noise` e with e ~ N(0, I), or x with a share `masked` of its pixels set to 0, and
    reconstructs x without it (Vincent et al. 2008). Otherwise, and in validation, it sees x as it is.
    """

    usual: ClassVar[Mapping[str, str]] = {"sampler": "none"}

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        regularizer: Regularizer = none,
        sampler: LatentSampler | None = None,
        *,
        latent: int = 50,
        noise: float = 0.0,
        masked: float = 0.0,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.encoder = encoder(network, shape, latent, hidden, activation)
        self.decoder = decoder(network, latent, shape, likelihood.k, hidden, activation)
        self.noise, self.masked = noise, masked
        self.likelihood, self.shape, self.latent, self.support = likelihood, shape, latent, likelihood.support
        self.assemble(reconstruction, regularizer, sampler or NoSampler(latent))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def corrupted(self, x: Tensor) -> Tensor:
        """What the encoder sees of x (B, D): in training with noise, if that is chosen."""
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        if self.training and self.masked:
            x = torch.where(torch.rand_like(x) < self.masked, 0.0, x)
        return x

    def draws(self, x: Tensor, t: Tensor) -> Draws:
        z = self.encode(self.corrupted(x)).unsqueeze(0)
        outputs = self.outputs(z)
        log_px = self.likelihood.log_prob(outputs, x)
        zero = log_px.new_zeros(log_px.shape)
        return Draws(log_px, zero, zero, zero[0], zero.mT, z, t, x=x, outputs=outputs, model=self)
