"""Posteriors q(z | x): what becomes of the encoder's output."""

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from vae_variants.registry import Registry

C = 0.5 * math.log(2 * math.pi)
LogJoint = Callable[[Tensor], Tensor]  # z (..., B, Z) -> log p(x, z) of B images, (..., B) nats


class Space(enum.Enum):
    """Where a latent lies; prior and posterior must agree.

    `REAL` is R^Z, `SPHERE` the unit sphere in it, `SIMPLEX` vectors of probabilities, one for each group of units, `MIXED` a
    one-hot class beside R^Z, `CODES` a finite set of code vectors.
    `REAL` is R^Z, `SPHERE` the unit sphere in it, `BALL` the Poincaré ball, `SIMPLEX` vectors of probabilities, one for each group
    of units, `MIXED` a one-hot class beside R^Z.
    """

    REAL = "real"
    SPHERE = "sphere"
    BALL = "hyperbolic"
    SIMPLEX = "simplex"
    MIXED = "mixed"
    CODES = "codes"


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
        categories: On the simplex, units in each vector of probabilities; 0: all of them.
        curvature: In the ball, minus its curvature.
    """

    inputs: int
    gives: ClassVar[type[Conditional]]
    space: ClassVar[Space] = Space.REAL
    categories: int = 0
    curvature: float = 0.0

    @abstractmethod
    def forward(self, h: Tensor) -> Conditional:
        """The encoder's outputs h (B, inputs) -> q(z | x)."""

    def given(self, h: Tensor, log_joint: LogJoint) -> Conditional:
        """`forward` for a posterior that also asks for log p(x, z) of the images whose h it sees; the others ignore it."""
        return self(h)


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


def places(size: int, upper: bool = False) -> Tensor:
    """(size, size) For each entry of a triangular matrix its place in: the diagonal, the entries beside it row by row, one zero."""
    beside = torch.triu_indices(size, size, 1) if upper else torch.tril_indices(size, size, -1)
    found = torch.full((size, size), size + beside.shape[1])
    found[torch.arange(size), torch.arange(size)] = torch.arange(size)
    found[tuple(beside)] = size + torch.arange(beside.shape[1])
    return found


def triangular(diagonal: Tensor, beside: Tensor, place: Tensor) -> Tensor:
    """The triangular matrices (..., Z, Z) with these numbers, (..., Z) and (..., Z (Z - 1) / 2), at `places`."""
    numbers = torch.cat([diagonal, beside, torch.zeros_like(diagonal[..., :1])], -1)
    return numbers.index_select(-1, place.flatten()).unflatten(-1, tuple(place.shape))


class Full(Scored):
    """N(mean, L L^T), from the mean (B, Z) and a lower triangular L (B, Z, Z) with a positive diagonal."""

    def __init__(self, mean: Tensor, tril: Tensor) -> None:
        self.mean, self.tril = mean, tril

    @property
    def log_scale(self) -> Tensor:
        """The logarithms of the diagonal of L, (B, Z)."""
        return self.tril.diagonal(dim1=-2, dim2=-1).log()

    def draw(self, k: int) -> Drawn:
        eps = torch.randn(k, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        z = self.mean + torch.einsum("bij,kbj->kbi", self.tril, eps)
        return Drawn(z, (-0.5 * eps.square() - self.log_scale - C).sum(-1))

    def log_prob(self, z: Tensor) -> Tensor:
        off = z - self.mean
        columns = off.reshape(-1, *self.mean.shape).permute(1, 2, 0)  # (B, Z, ...): one triangular system for each image
        eps = torch.linalg.solve_triangular(self.tril, columns, upper=False).permute(2, 0, 1).reshape(off.shape)
        return (-0.5 * eps.square() - self.log_scale - C).sum(-1)

    def detached(self) -> Self:
        return type(self)(self.mean.detach(), self.tril.detach())


@POSTERIORS.add(name="full")
class FullNormal(Posterior):
    """N(mu(x), L(x) L(x)^T) with a full covariance: the diagonal of L by its logarithm, the numbers below it as they are."""

    gives = Full
    place: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent, below = latent, latent * (latent - 1) // 2
        self.inputs = 2 * latent + below
        self.register_buffer("place", places(latent), persistent=False)

    def forward(self, h: Tensor) -> Full:
        mu, log_diagonal, below = h.tensor_split([self.latent, 2 * self.latent], -1)
        return Full(mu, triangular(log_diagonal.exp(), below, self.place))
