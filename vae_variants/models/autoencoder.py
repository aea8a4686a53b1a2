"""The deterministic autoencoder, alone and with a mixture of Gaussians fitted to its latents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_variants.models.base import MODELS, Finished, MeanSampler, Sampler
from vae_variants.models.latent import EncoderDecoder
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import decoder, encoder

CODES = 20_000  # training images for the mixture, at most


@MODELS.add
class Autoencoder(EncoderDecoder):
    """z = f(x), minimising -log p(x | z); with a Gaussian likelihood that is squared error. Without a prior it cannot sample."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        *,
        latent: int = 20,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.encoder = encoder(network, shape, latent, hidden, activation)
        self.decoder = decoder(network, latent, shape, likelihood.k, hidden, activation)
        self.likelihood, self.shape, self.latent, self.support = likelihood, shape, latent, likelihood.support

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.log_px(x, self.encode(x)).mean()


@MODELS.add
class AutoencoderMixture(EncoderDecoder, Sampler, MeanSampler, Finished):
    """An autoencoder; after training, a mixture of `components` Gaussians is fitted to its latents, from which it samples.

    The mixture decides what the autoencoder generates (Ghosh et al. 2020, RAE). Full covariances, by scikit-learn's EM.
    """

    weights: Tensor
    means: Tensor
    scale_tril: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        *,
        latent: int = 20,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
        components: int = 10,
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(shape, likelihood, latent=latent, network=network, hidden=hidden, activation=activation)
        self.likelihood, self.shape, self.latent, self.support = likelihood, shape, latent, likelihood.support
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("scale_tril", torch.eye(latent).expand(components, latent, latent).clone())

    def initialise(self, x: Tensor) -> None:
        self.autoencoder.initialise(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.autoencoder.encode(x)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return self.autoencoder.loss(x, t)

    def outputs(self, z: Tensor) -> Tensor:
        return self.autoencoder.outputs(z)

    def finish(self, x: Tensor) -> None:
        from sklearn.mixture import GaussianMixture

        codes = self.encode(x[:CODES]).double().cpu().numpy()
        fitted = GaussianMixture(len(self.weights), reg_covar=1e-4, max_iter=500, tol=1e-2, random_state=0).fit(codes)
        self.weights.copy_(torch.from_numpy(fitted.weights_))
        self.means.copy_(torch.from_numpy(fitted.means_))
        self.scale_tril.copy_(torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)))

    def _codes(self, n: int) -> Tensor:
        chosen = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.latent, 1, dtype=self.means.dtype, device=self.means.device)
        return self.means[chosen] + (self.scale_tril[chosen] @ noise).squeeze(-1)

    def sample(self, n: int) -> Tensor:
        return self.likelihood.sample(self.outputs(self._codes(n)))

    def sample_mean(self, n: int) -> Tensor:
        return self.decode(self._codes(n))
