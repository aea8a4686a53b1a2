"""The base class of models, and the capabilities that decide which metrics apply."""

import math
from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vae_variants.models.draws import Draws
from vae_variants.models.likelihoods import Likelihood, Support
from vae_variants.models.posteriors import Conditional, Diagonal, Space
from vae_variants.registry import Registry


class Player(NamedTuple):
    """Minimises the method `loss` over the parameters that it owns.

    Training is a game of n players: one for a likelihood or a bound, two for a GAN. In each turn a player takes `steps` steps, the first
    on the batch of the turn, each other one on a fresh batch.

    Attributes:
        owns: Beginnings of the names of its parameters. A parameter belongs to the player with the longest that fits.
        loss: A method of the model, or of one of its modules: see `Model.forward`.
        steps: Steps a turn.
        rate: Its learning rate over that of the recipe.
        optimizer: A name such as `adam-0.5`, or (parameters, learning rate) -> optimiser. None: the recipe's.
    """

    owns: tuple[str, ...] = ("",)
    loss: str = "loss"
    steps: int = 1
    rate: float = 1.0
    optimizer: str | Callable[[list[Tensor], float], torch.optim.Optimizer] | None = None

    @property
    def name(self) -> str:
        """The first of what it owns, such as `discriminator`; empty for all the rest."""
        return self.owns[0].rstrip(".")


def owned(players: tuple[Player, ...], names: list[str]) -> list[list[str]]:
    """Which of the names of parameters belong to each player."""
    found: list[list[str]] = [[] for _ in players]
    for name in names:
        fits = [(len(start), i) for i, player in enumerate(players) for start in player.owns if name.startswith(start)]
        if fits:
            found[max(fits)[1]].append(name)
    return found


class Model(nn.Module, ABC):
    """Base class of everything that is trained on flat images x (B, D), scaled to [0, 1].

    A constructor takes `shape` (channels, height, width), then `likelihood` and `objective` if it has them, then keyword options with
    defaults. Each player's loss is a method (x (B, D), t () the fraction of training done) -> () mean over the batch.

    Every tensor is a parameter or a buffer, and no method mutates a parameter, so that `torch.func.vmap` can stack seeds. A model
    that cannot be stacked sets `stackable = False` and is trained seed by seed. A loss may change buffers, in place, as BatchNorm does;
    in evaluation mode nothing changes them. Weights may be tied.

    Attributes:
        players: Who is trained; empty if nothing is.
        usual: The names of its parts if none are chosen, where they are not everybody's.
        support: The space of the images that the model describes.
        shape: (channels, height, width).
        without: Capabilities of its class that this model lacks: see `lose`.
        label_share: Share of the training images whose class the model is told: see `Classifier`.
    """

    players: tuple[Player, ...] = (Player(),)  # none: nothing to train
    stackable: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, str]] = {}
    support: Support
    shape: tuple[int, int, int]
    without: tuple[type, ...] = ()
    label_share: float = 0.0

    def forward(self, method: str, *args: Any) -> Any:
        """Dispatch by name, because `torch.func.functional_call` only calls forward()."""
        return getattr(self, method)(*args)

    def lose(self, *capabilities: type) -> None:
        """Says that this model lacks capabilities of its class, and those derived from them: `isinstance` is false for them from now on.

        A model made of parts has what its parts give: without a density of q at any z it is no `ScoredPosterior`.
        """
        bases = [base for base in type(self).__mro__ if isinstance(base, Capability) and not issubclass(base, Model)]
        self.without += tuple(base for base in bases if issubclass(base, capabilities))


class Capability(ABCMeta):
    """The class of capabilities: `isinstance(model, capability)` is false for one that the model has lost."""

    def __instancecheck__(cls, obj: object) -> bool:
        return super().__instancecheck__(obj) and cls not in getattr(obj, "without", ())


class Sampler(metaclass=Capability):
    """Samples images from the model."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n -> images (n, D) in the model's support."""


class MeanSampler(metaclass=Capability):
    """Generates noise-free grey images: decoder means at samples of the prior, or the output of an implicit generator."""

    @abstractmethod
    def sample_mean(self, n: int) -> Tensor:
        """n -> images (n, D) in [0, 1]; a Gaussian mean may lie slightly outside."""


class Density(metaclass=Capability):
    """Has log p(x), exact or as a lower bound."""

    exact: ClassVar[bool]

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B,) nats; if `exact` is false, a lower bound in expectation from one sample."""


class Generative(metaclass=Capability):
    """Has a prior p(z)."""

    @abstractmethod
    def draw_prior(self, n: int) -> Tensor:
        """n -> samples (n, Z) of p(z)."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """z (..., Z) -> (...) nats."""


class LatentVariable(Generative):
    """Has a prior, an approximate posterior and a likelihood.

    Attributes:
        closed_kl: Whether `kl` of `infer` is the closed form. If false, it is an estimate from the K samples.
        space: Where the latents lie.
    """

    closed_kl: bool = True
    space: Space = Space.REAL

    @abstractmethod
    def conditional(self, x: Tensor) -> Conditional:
        """q(z | x) of x (B, D)."""

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


class Coded(ClosedElbo):
    """Latents are codes: q(z | x) has all mass at one sequence of symbols, so that more samples of it say nothing more.

    Attributes:
        codes: The size of the alphabet of a symbol.
        depth: Symbols at each position; those of one level, at all positions, have one table of vectors.
    """

    codes: int
    depth: int

    @abstractmethod
    def symbols(self, x: Tensor) -> Tensor:
        """x (B, D) -> integers (B, S) from 0 to `codes` - 1: all symbols of a position, then those of the next."""


class Euclidean(LatentVariable):
    """Latents fill R^Z, and log p(x, z) has a gradient in z."""


class Layered(LatentVariable):
    """A latent vector is made of several layers, and `kl_units` of `infer` has a term for each of its units.

    Attributes:
        layers: The number of units of each layer, the one nearest to the image first.
    """

    layers: tuple[int, ...]


class ScoredPosterior(LatentVariable):
    """q(z | x) has a density at any z: `conditional` gives a `Scored`."""


class GaussianPosterior(ScoredPosterior, Euclidean):
    """q(z | x) is a diagonal Gaussian: `conditional` gives a `Diagonal`."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> mean and standard deviation of q(z | x), both (B, Z)."""
        q = self.conditional(x)
        assert isinstance(q, Diagonal)
        return q.mean, q.scale


class Encoder(metaclass=Capability):
    """Maps an image to a latent vector of fixed length."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B, Z); for a VAE the posterior mean."""


class Coder(Encoder):
    """An encoder with a decoder."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z (B, Z) -> (B, D), the mean of p(x | z)."""


class Decoder(metaclass=Capability):
    """Has log p(x | z) for any z."""

    likelihood: Likelihood

    @abstractmethod
    def log_px(self, x: Tensor, z: Tensor) -> Tensor:
        """x (B, D), z (..., B, Z) -> (..., B) nats."""


class Classifier(metaclass=Capability):
    """Learns from labels, and tells the classes of images.

    Its losses and `initialise` are given x (B, D + C): images, and beside them their classes, one-hot, or zeros for the images without a
    label. No other method sees a label.
    """

    shape: tuple[int, int, int]
    classes: int

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) or (B, D + C) -> images (B, D) and labels (B, C); without labels, zeros."""
        images, labels = x.tensor_split([math.prod(self.shape)], -1)
        return images, labels if labels.shape[-1] else x.new_zeros(*x.shape[:-1], self.classes)

    @abstractmethod
    def classify(self, x: Tensor) -> Tensor:
        """x (B, D) -> probabilities of the classes (B, C)."""


class ClassSampler(metaclass=Capability):
    """Generates noise-free grey images of a class."""

    classes: int

    @abstractmethod
    def sample_mean_of(self, labels: Tensor) -> Tensor:
        """Classes (n,), integers -> images (n, D) in [0, 1]. What is not the class comes from noise that is the same for any labels."""


class DataDependent(metaclass=Capability):
    """Takes something from the training images in closed form, before (or instead of) training."""

    @abstractmethod
    def initialise(self, x: Tensor) -> None:
        """Fills parameters and buffers from the training images x (N, D). If the model is stackable, shapes stay unchanged."""


class Finished(metaclass=Capability):
    """Takes one more step after training, in closed form or by another method."""

    @abstractmethod
    def finish(self, x: Tensor) -> None:
        """Fills buffers from the training images x (N, D), deterministically. Shapes stay unchanged."""


MODELS: Registry[type[Model]] = Registry("model")
