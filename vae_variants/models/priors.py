"""Priors p(z), and the closed forms of KL(q(z | x) || p(z))."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from vae_variants.models.posteriors import C, Conditional, Diagonal, Space
from vae_variants.registry import Registry

Q = Callable[[Tensor], Conditional]  # images (N, D) -> q(z | x)


class Prior(nn.Module, ABC):
    """Base class of priors. A constructor takes `latent`, the number of units Z, then keyword options with defaults.

    `q` is the model's encoder and posterior, for a prior that is made of posteriors; the others ignore it.

    Attributes:
        latent: Z.
        space: Where z lies.
    """

    latent: int
    space: ClassVar[Space] = Space.REAL
    like: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("like", torch.zeros(()), persistent=False)  # has the device and type of what is drawn

    @abstractmethod
    def sample(self, n: int, q: Q) -> Tensor:
        """n samples (n, Z)."""

    @abstractmethod
    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        """z (..., Z) -> (...) nats."""

    def quantile(self, u: Tensor) -> Tensor | None:
        """The quantiles (Q, Z) of each unit at the probabilities u (Q,), in closed form; None if there is none."""
        return None

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Takes from the training images x (N, D) what it needs; by default nothing."""


PRIORS: Registry[type[Prior]] = Registry("prior")

P = TypeVar("P", bound=Prior)
D = TypeVar("D", bound=Conditional)
RULES: dict[tuple[type[Prior], type[Conditional]], Callable[[Any, Any], Tensor]] = {}


def closed_kl(prior: type[P], posterior: type[D]) -> Callable[[Callable[[P, D], Tensor]], Callable[[P, D], Tensor]]:
    """Decorates the closed form of KL(q || p) for a pair of classes: (prior, q of B images) -> (B, U) nats, of which the sum is the KL."""

    def register(rule: Callable[[P, D], Tensor]) -> Callable[[P, D], Tensor]:
        RULES[prior, posterior] = rule
        return rule

    return register


def rule(prior: type[Prior], posterior: type[Conditional]) -> Callable[[Any, Any], Tensor] | None:
    """The closed form for a pair of classes or of their nearest bases; None if there is none."""
    pairs = [(p, q) for p in prior.__mro__ for q in posterior.__mro__ if (p, q) in RULES]
    return RULES[pairs[0]] if pairs else None


@PRIORS.add(name="normal")
class StandardNormal(Prior):
    """N(0, I)."""

    def sample(self, n: int, q: Q) -> Tensor:
        return torch.randn(n, self.latent, dtype=self.like.dtype, device=self.like.device)

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return (-0.5 * z.square() - C).sum(-1)

    def quantile(self, u: Tensor) -> Tensor:
        return torch.special.ndtri(u)[:, None].expand(-1, self.latent)


@closed_kl(StandardNormal, Diagonal)
def kl_units(_: StandardNormal, q: Diagonal) -> Tensor:
    """KL(N(mu, s^2) || N(0, 1)) of each latent unit: (mu^2 + s^2 - 1) / 2 - log s (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (q.mean.square() + (2 * q.log_scale).exp() - 1) - q.log_scale
