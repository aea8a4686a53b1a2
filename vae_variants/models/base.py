"""The base class of models, and the capabilities that decide which metrics apply."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vae_variants.models.likelihoods import Likelihood, Support
from vae_variants.models.objectives import Draws
from vae_variants.registry import Registry


class Player(NamedTuple):
    """Minimises the method `loss` over the parameters whose names start with `prefix`.

    Training is a game of n players: one for a likelihood or a bound, two for a GAN. If `optimizer` is None, the recipe's is used.
    """

    prefix: str = ""
    loss: str = "loss"
    optimizer: Callable[[list[Tensor], float], torch.optim.Optimizer] | None = None  # (parameters, learning rate)


class Model(nn.Module, ABC):
    """Base class of everything that is trained on flat images x (B, D), scaled to [0, 1].

    A constructor takes `shape` (channels, height, width), then `likelihood` and `objective` if it has them, then keyword options with
    defaults. Each player's loss is a method (x (B, D), t () the fraction of training done) -> () mean over the batch.

    Every tensor is a parameter or a buffer, and no method mutates a parameter, so that `torch.func.vmap` can stack seeds. A model
    that cannot be stacked sets `stackable = False` and is trained seed by seed. A loss may change buffers, in place, as BatchNorm does;
    in evaluation mode nothing changes them. Weights may be tied.

    Attributes:
        players: Who is trained; empty if nothing is.
        support: The space of the images that the model describes.
        shape: (channels, height, width).
    """

    players: ClassVar[tuple[Player, ...]] = (Player(),)  # none: nothing to train
    stackable: ClassVar[bool] = True
    support: Support
    shape: tuple[int, int, int]

    def forward(self, method: str, *args: Any) -> Any:
        """Dispatch by name, because `torch.func.functional_call` only calls forward()."""
        return getattr(self, method)(*args)


class Sampler(ABC):
    """Samples images from the model."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n -> images (n, D) in the model's support."""


class MeanSampler(ABC):
    """Generates noise-free grey images: decoder means at samples of the prior, or the output of an implicit generator."""

    @abstractmethod
    def sample_mean(self, n: int) -> Tensor:
        """n -> images (n, D) in [0, 1]; a Gaussian mean may lie slightly outside."""


class Density(ABC):
    """Has log p(x), exact or as a lower bound."""

    exact: ClassVar[bool]

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B,) nats; if `exact` is false, a lower bound in expectation from one sample."""


class LatentVariable(ABC):
    """Has a prior, an approximate posterior and a likelihood.

    Attributes:
        closed_kl: Whether `kl` of `infer` is the closed form. If false, it is an estimate from the K samples.
    """

    closed_kl: ClassVar[bool] = True

    @abstractmethod
    def prior(self, n: int) -> Tensor:
        """n -> samples (n, Z) of p(z)."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (...) nats."""

    @abstractmethod
    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        """n -> images (n, D) in the model's support, and the latents (n, Z) that generated them."""

    @abstractmethod
    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        """k samples of q(z | x) for each of x (B, D), at the fraction t () of training."""


class ClosedElbo(LatentVariable):
    """Has the ELBO without samples."""

    @abstractmethod
    def bound(self, x: Tensor) -> Tensor:
        """The exact ELBO of x (B, D): (B,) nats."""


class GaussianPosterior(LatentVariable):
    """q(z | x) is a diagonal Gaussian, and log p(x, z) has a gradient in z."""

    @abstractmethod
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> mean and standard deviation (B, Z)."""


class Encoder(ABC):
    """Maps an image to a latent vector of fixed length."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B, Z); for a VAE the posterior mean."""


class Coder(Encoder):
    """An encoder with a decoder."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z (B, Z) -> (B, D), the mean of p(x | z)."""


class Decoder(ABC):
    """Has log p(x | z) for any z."""

    likelihood: Likelihood

    @abstractmethod
    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """x (B, D), z (..., B, Z) -> (..., B) nats."""


class DataDependent(ABC):
    """Takes something from the training images in closed form, before (or instead of) training."""

    @abstractmethod
    def initialise(self, x: Tensor) -> None:
        """Fills parameters and buffers from the training images x (N, D). If the model is stackable, shapes stay unchanged."""


class Finished(ABC):
    """Takes one more step after training, in closed form or by another method."""

    @abstractmethod
    def finish(self, x: Tensor) -> None:
        """Fills buffers from the training images x (N, D), deterministically. Shapes stay unchanged."""


MODELS: Registry[type[Model]] = Registry("model")
