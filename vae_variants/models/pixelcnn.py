"""PixelCNN and gated PixelCNN: exact densities of images by causal convolutions."""

from functools import partial
from typing import ClassVar

from torch import Tensor

from vae_variants.models.base import MODELS, DataDependent, Density, Model, Sampler
from vae_variants.models.causal import GatedStack, MaskedStack
from vae_variants.models.causal_pixels import Builder, CausalPixels
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import Shape


class Causal(Model, Sampler, Density, DataDependent):
    """Base class of models that are `CausalPixels` without a context."""

    exact: ClassVar[bool] = True

    def __init__(self, shape: Shape, likelihood: Likelihood, network: Builder) -> None:
        super().__init__()
        self.shape, self.support = shape, likelihood.support
        self.pixels = CausalPixels(shape, likelihood, network)

    def initialise(self, x: Tensor) -> None:
        self.pixels.initialise(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.pixels.log_prob(x)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        """One step of the network for each value, with the features of earlier places kept."""
        return self.pixels.sample(n)

    def sample_naively(self, n: int) -> Tensor:
        """The same images from the same noise, by one pass per value."""
        return self.pixels.sample(n, kept=False)


@MODELS.add(name="pixelcnn")
class PixelCNN(Causal):
    """p(x) = prod_i p(x_i | values before i), by masked convolutions (van den Oord, Kalchbrenner & Kavukcuoglu 2016).

    A convolution with mask A and a kernel of `kernel` places, `layers` residual blocks with mask B and a kernel of 3, two 1x1 convolutions.
    The likelihood of a value is any one. The network has a blind spot; see `gated-pixelcnn`.
    """

    def __init__(self, shape: Shape, likelihood: Likelihood, *, features: int = 32, layers: int = 4, kernel: int = 7) -> None:
        super().__init__(shape, likelihood, partial(MaskedStack, features=features, layers=layers, kernel=kernel))


@MODELS.add(name="gated-pixelcnn")
class GatedPixelCNN(Causal):
    """p(x) = prod_i p(x_i | values before i), by a vertical and a horizontal stack of gated convolutions (van den Oord et al. 2016).

    The first layer has a kernel of `kernel` places, each of the `layers` after it a kernel of 3. The two stacks have no blind spot. The
    likelihood of a value is any one; with `logistic-mixture`, the channels are coupled as in PixelCNN++ (Salimans et al. 2017).
    """

    def __init__(self, shape: Shape, likelihood: Likelihood, *, features: int = 16, layers: int = 4, kernel: int = 7) -> None:
        super().__init__(shape, likelihood, partial(GatedStack, features=features, layers=layers, kernel=kernel))
