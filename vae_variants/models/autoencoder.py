"""The deterministic autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vae_variants.likelihoods import Likelihood
from vae_variants.model import MODELS, Coder, Decoder, Model
from vae_variants.networks import NETWORKS

__all__ = ["Autoencoder"]


@MODELS.add
class Autoencoder(Model, Coder, Decoder):
    """z = f(x), minimising -log p(x | z); with a Gaussian likelihood that is squared error. No prior, so no samples."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        *,
        latent: int = 20,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        build = NETWORKS[network]
        self.encoder = build.encoder(shape, latent, hidden, activation)
        self.decoder = build.decoder(latent, shape, likelihood.k, hidden, activation)
        self.likelihood, self.shape, self.latent, self.support = likelihood, shape, latent, likelihood.support

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.log_px(x, self.encode(x)).mean()

    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(self.decoder(z), x)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.mean(self.decoder(z))
