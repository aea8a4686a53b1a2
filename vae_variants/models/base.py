"""What a model is, and the capabilities that decide which metrics can be asked of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vae_variants.registry import Registry

if TYPE_CHECKING:
    from vae_variants.models.likelihoods import Likelihood, Support
    from vae_variants.models.objectives import Draws

__all__ = [
    "MODELS",
    "Coder",
    "DataDependent",
    "Decoder",
    "Density",
    "Encoder",
    "Finished",
    "GaussianPosterior",
    "LatentVariable",
    "MeanSampler",
    "Model",
    "Player",
    "Sampler",
]


class Player(NamedTuple):
    """Minimises the method `loss` over the parameters whose names start with `prefix`.

    Training is an n-player game: n = 1 for a likelihood or a bound, 2 for a GAN. `optimizer` of None is the recipe's.
    """

    prefix: str = ""
    loss: str = "loss"
    optimizer: Callable[[list[Tensor], float], torch.optim.Optimizer] | None = None  # (parameters, learning rate)


class Model(nn.Module, ABC):
    """Something trained on flat images x of shape (B, D), scaled to [0, 1].

    A constructor takes `shape` (channels, height, width) first, then, if it has them, `likelihood` and `objective`, then
    keyword arguments with defaults; those are the names by which a variant sets them. Each player's loss is a method
    (x (B, D), t () the fraction of training done) -> () the mean over the batch.
    Every tensor is a parameter or a buffer and no method mutates a parameter, so that any method can be vmapped
    over a stack of seeds; a model for which that is impossible says `stackable = False` and is trained seed by seed.
    """

    players: ClassVar[tuple[Player, ...]] = (Player(),)  # none: nothing to train
    stackable: ClassVar[bool] = True
    support: Support
    shape: tuple[int, int, int]

    def forward(self, method: str, *args: Any) -> Any:
        """Calls `method`: the door by which `torch.func.functional_call` reaches any of them."""
        return getattr(self, method)(*args)


class Sampler(ABC):
    """Draws images from the model."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n -> (n, D) in the model's support."""


class MeanSampler(ABC):
    """Draws noise-free grey images: decoder means at prior codes, or the output of an implicit generator."""

    @abstractmethod
    def sample_mean(self, n: int) -> Tensor:
        """n -> (n, D) in [0, 1] (a Gaussian mean may step over the edge)."""


class Density(ABC):
    """Has log p(x), exactly or from below."""

    exact: ClassVar[bool]

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B,) nats; where `exact` is false, a single-sample lower bound in expectation."""


class LatentVariable(ABC):
    """Has a prior, an approximate posterior and a likelihood."""

    @abstractmethod
    def prior(self, n: int) -> Tensor:
        """n -> (n, Z) codes drawn from p(z)."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (...) nats."""

    @abstractmethod
    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        """n -> images (n, D) in the model's support, and the codes (n, Z) that they were drawn from."""

    @abstractmethod
    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        """k draws from q(z | x) for each of x (B, D) -> `Draws`."""


class GaussianPosterior(LatentVariable):
    """Its q(z | x) is a diagonal Gaussian, and log p(x, z) has a gradient in z."""

    @abstractmethod
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> mean and standard deviation (B, Z)."""


class Encoder(ABC):
    """Turns an image into a code of fixed length."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B, Z); for a VAE the posterior mean."""


class Coder(Encoder):
    """An encoder with a decoder."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z (B, Z) -> (B, D), the mean of p(x | z)."""


class Decoder(ABC):
    """Has log p(x | z) for a given code."""

    likelihood: Likelihood

    @abstractmethod
    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """x (B, D), z (..., B, Z) -> (..., B) nats."""


class DataDependent(ABC):
    """Takes something in closed form from the training images, before (or instead of) training."""

    @abstractmethod
    def initialise(self, x: Tensor) -> None:
        """Fills buffers from the training images x (N, D)."""


class Finished(ABC):
    """Takes one more step in closed form, or by another method, once training is over."""

    @abstractmethod
    def finish(self, x: Tensor) -> None:
        """Fills buffers from the training images x (N, D); the same each time. Shapes stay as they are."""


MODELS: Registry[type[Model]] = Registry("model")
