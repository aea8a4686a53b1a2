"""The variational autoencoder, made of parts."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor

from vae_variants.models.base import MODELS, GaussianPosterior
from vae_variants.models.draws import Draws
from vae_variants.models.latent import Composite, LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import Network, decoder, encoder
from vae_variants.models.objectives import Objective, elbo, elbo_sampled
from vae_variants.models.posteriors import Conditional, DiagonalNormal, Posterior
from vae_variants.models.priors import Prior, StandardNormal
from vae_variants.models.regularizers import Regularizer, none
from vae_variants.models.samplers import LatentSampler, PriorSampler


@MODELS.add
class VAE(Composite, LatentModel, GaussianPosterior):
    """Variational autoencoder (Kingma & Welling 2014), trained by `objective` from `samples` samples of z per image.

    q(z | x) = posterior(encoder(x)) with `latent` units, p(z) = prior, p(x | z) = likelihood(decoder(z)). After training, images are
    decoded from what `sampler` draws. By default q is a diagonal Gaussian and p(z) = N(0, I).
    """

    exact: ClassVar[bool] = False

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        objective: Objective = elbo,
        prior: Prior | None = None,
        posterior: Posterior | None = None,
        regularizer: Regularizer = none,
        sampler: LatentSampler | None = None,
        *,
        latent: int = 50,
        samples: int = 1,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.posterior = posterior or DiagonalNormal(latent)
        self.encoder = encoder(network, shape, self.posterior.inputs, hidden, activation)
        self.decoder = decoder(network, latent, shape, likelihood.k, hidden, activation)
        self.likelihood = likelihood
        self.shape, self.latent, self.samples, self.support = shape, latent, samples, likelihood.support
        shared = (self.posterior.space, self.posterior.categories, self.posterior.curvature)
        self.compose(prior or StandardNormal(latent), self.posterior.gives, *shared)
        self.assemble(objective, regularizer, sampler or PriorSampler(latent))

    def conditional(self, x: Tensor) -> Conditional:
        return self.posterior.given(self.encoder(x), partial(self.log_joint, x))

    def draws(self, x: Tensor, t: Tensor) -> Draws:
        return self.infer(x, self.samples, t)

    def log_prob(self, x: Tensor) -> Tensor:
        return -elbo_sampled(self.infer(x, 1, x.new_ones(())))
