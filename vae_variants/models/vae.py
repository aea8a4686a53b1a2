"""The variational autoencoder: diagonal Gaussian q(z | x), standard normal p(z), any likelihood and objective."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from vae_variants.models.base import MODELS
from vae_variants.models.latent import GaussianModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import decoder, encoder
from vae_variants.models.objectives import Objective, elbo, elbo_sampled


@MODELS.add
class VAE(GaussianModel):
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
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.encoder = encoder(network, shape, 2 * latent, hidden, activation)
        self.decoder = decoder(network, latent, shape, likelihood.k, hidden, activation)
        self.likelihood, self.objective = likelihood, objective
        self.shape, self.latent, self.samples, self.support = shape, latent, samples, likelihood.support

    def outputs(self, z: Tensor) -> Tensor:
        return self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_s = self.encoder(x).chunk(2, -1)
        return mu, log_s

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return self.objective(self.infer(x, self.samples, t)).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        return -elbo_sampled(self.infer(x, 1, x.new_ones(())))
