"""Posteriors q(z | x): what becomes of the encoder's output."""

import enum
import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from vae_variants.registry import Registry

C = 0.5 * math.log(2 * math.pi)


class Space(enum.Enum):
    """Where a latent lies; prior and posterior must agree.

    `REAL` is R^Z, `SPHERE` the unit sphere in it, `SIMPLEX` vectors of probabilities, one for each group of units.
    """

    REAL = "real"
    SPHERE = "sphere"
    SIMPLEX = "simplex"


class Drawn(NamedTuple):
    """K samples z (K, B, Z) of q(z | x), and log q(z | x) (K, B) in nats."""

    z: Tensor
    log_q: Tensor


class Conditional(ABC):
    """q(z | x) of B images.

    Attributes:
        mean: (B, Z) the latent of an image: the mean of q, or what stands for it.
        reparameterised: Whether the gradient with respect to a sample reaches the encoder.
        density: Whether q has a density: a point has none, and a model with it no nats.
    """

    mean: Tensor
    reparameterised: ClassVar[bool] = True
    density: ClassVar[bool] = True

    @abstractmethod
    def draw(self, k: int) -> Drawn:
        """k samples for each image, with their density."""


class Scored(Conditional):
    """Has a density at any z."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """z (..., B, Z) -> log q(z | x) (..., B) nats."""

    @abstractmethod
    def detached(self) -> Self:
        """The same q, with its parameters held constant."""


class Diagonal(Scored):
    """N(mean, diag scale^2), from mean and log scale, both (B, Z)."""

    def __init__(self, mean: Tensor, log_scale: Tensor) -> None:
        self.mean, self.log_scale = mean, log_scale

    @property
    def scale(self) -> Tensor:
        """The standard deviations, (B, Z)."""
        return self.log_scale.exp()

    def draw(self, k: int) -> Drawn:
        eps = torch.randn(k, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        return Drawn(self.mean + self.scale * eps, (-0.5 * eps.square() - self.log_scale - C).sum(-1))

    def log_prob(self, z: Tensor) -> Tensor:
        return (-0.5 * ((z - self.mean) * (-self.log_scale).exp()).square() - self.log_scale - C).sum(-1)

    def detached(self) -> Self:
        return type(self)(self.mean.detach(), self.log_scale.detach())


class Posterior(nn.Module, ABC):
    """Base class of posteriors. A constructor takes `latent`, the number of units Z, then keyword options with defaults.

    Attributes:
        inputs: Numbers that the encoder gives for each image.
        gives: The class of q(z | x); it decides which KL has a closed form and which metrics apply.
        space: Where z lies.
    """

    inputs: int
    gives: ClassVar[type[Conditional]]
    space: ClassVar[Space] = Space.REAL

    @abstractmethod
    def forward(self, h: Tensor) -> Conditional:
        """The encoder's outputs h (B, inputs) -> q(z | x)."""


POSTERIORS: Registry[type[Posterior]] = Registry("posterior")


@POSTERIORS.add(name="diagonal")
class DiagonalNormal(Posterior):
    """N(mu(x), diag s(x)^2): independent units (Kingma & Welling 2014)."""

    gives = Diagonal

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.inputs = 2 * latent

    def forward(self, h: Tensor) -> Diagonal:
        mu, log_s = h.chunk(2, -1)
        return Diagonal(mu, log_s)


class Point(Conditional):
    """All mass at `mean` (B, Z)."""

    density = False

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def draw(self, k: int) -> Drawn:
        z = self.mean.expand(k, *self.mean.shape)
        return Drawn(z, z.new_zeros(z.shape[:-1]))


@POSTERIORS.add(name="point")
class PointPosterior(Posterior):
    """One z for each image, without noise: a deterministic encoder, for objectives without a KL (WAE, RAE)."""

    gives = Point

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.inputs = latent

    def forward(self, h: Tensor) -> Point:
        return Point(h)
