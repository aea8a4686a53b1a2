"""PixelVAE: a VAE whose decoder is autoregressive."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from vae_variants.models.base import MODELS
from vae_variants.models.causal import MaskedStack
from vae_variants.models.causal_pixels import CausalPixels
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import Network, Shape
from vae_variants.models.objectives import Objective, elbo, says
from vae_variants.models.posteriors import Posterior
from vae_variants.models.priors import Prior
from vae_variants.models.regularizers import Regularizer, none
from vae_variants.models.samplers import LatentSampler
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError


class DecodedPixels(Likelihood):
    """p(x | h) = prod_i p(x_i | x_<i, h): `CausalPixels` with k planes of context for each channel, the decoder's outputs h."""

    def __init__(self, shape: Shape, likelihood: Likelihood, *, features: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.support = likelihood.support  # type: ignore[misc]  # that of an object, not of the class
        self.k, self.shape = features, shape
        stack = partial(MaskedStack, features=features, layers=layers, kernel=kernel, context=features * shape[0])
        self.pixels = CausalPixels(shape, likelihood, stack)

    def context(self, h: Tensor) -> Tensor:
        """h (..., k * D) -> grids (N, H, W, C * k)."""
        return h.flatten(0, -2).unflatten(-1, (*self.shape, self.k)).movedim(1, 3).flatten(3)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(h.shape[:-1], x.shape[:-1])
        x, h = x.expand(*batch, -1).flatten(0, -2), h.expand(*batch, -1)
        return self.pixels.log_prob(x, self.context(h)).unflatten(0, batch)

    def sample(self, h: Tensor) -> Tensor:
        context = self.context(h)
        return self.pixels.sample(len(context), context).unflatten(0, h.shape[:-1])

    def mean(self, h: Tensor) -> Tensor:
        """Each value is its mean given h and the means of the values before it: without noise, but not E[x | h]; without gradient."""
        return self.pixels.mean(self.context(h)).unflatten(0, h.shape[:-1])

    def start(self, x: Tensor) -> Tensor:
        """Zeros: the outputs of the network of pixels start at the mean training image."""
        self.pixels.initialise(x)
        return x.new_zeros(self.k * x.shape[1])


@MODELS.add(name="pixel-vae")
class PixelVAE(VAE):
    """A VAE with an autoregressive decoder: p(x | z) = prod_i p(x_i | x_<i, decoder(z)) (PixelVAE, Gulrajani et al. 2017).

    The decoder gives `features` numbers for each value. They join a small PixelCNN after its first convolution, whose kernel has `kernel`
    places; `layers` residual blocks with a kernel of 3 follow. A decoder that sees much of the image needs no z, and then the rate falls
    to 0. By default it sees two places around its own, so that z must say the rest.

    `decode` gives each pixel's mean given z and the means of the pixels before it. That is an image without noise. It is not E[x | z],
    which has no closed form.
    """

    def __init__(
        self,
        shape: Shape,
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
        features: int = 16,
        layers: int = 1,
        kernel: int = 3,
    ) -> None:
        if not says(objective, "density"):
            raise UserError("this objective needs the gradient of the mean of p(x | z), which pixel-vae has not; write objective=elbo")
        pixels = DecodedPixels(shape, likelihood, features=features, layers=layers, kernel=kernel)
        parts = (objective, prior, posterior, regularizer, sampler)
        super().__init__(shape, pixels, *parts, latent=latent, samples=samples, network=network, hidden=hidden, activation=activation)
