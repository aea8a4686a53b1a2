"""Priors p(z), and the closed forms of KL(q(z | x) || p(z))."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from vae_variants.models.numerics import chosen
from vae_variants.models.posteriors import C, Conditional, Diagonal, Full, Scored, Space
from vae_variants.registry import Registry

Q = Callable[[Tensor], Conditional]  # images (N, D) -> q(z | x)
MOST = 2**24  # numbers that a mixture holds at once


class Prior(nn.Module, ABC):
    """Base class of priors. A constructor takes `latent`, the number of units Z, then keyword options with defaults.

    `q` is the model's encoder and posterior, for a prior that is made of posteriors; the others ignore it.

    Attributes:
        latent: Z.
        space: Where z lies.
        needs: The class that q(z | x) must have: `Scored` for a prior that needs its density at any z.
        categories: On the simplex, units in each vector of probabilities; 0: all of them.
        curvature: In the ball, minus its curvature.
    """

    latent: int
    space: ClassVar[Space] = Space.REAL
    needs: ClassVar[type[Conditional]] = Conditional  # type: ignore[type-abstract]
    categories: int = 0
    curvature: float = 0.0
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

    def chart(self, z: Tensor) -> Tensor:
        """What the decoder sees of z (..., Z): its coordinates in R^Z. By default z itself."""
        return z

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


def mixed(components: Scored, log_weights: Tensor, z: Tensor) -> Tensor:
    """log sum_c w_c q_c(z) of C densities, for log weights (C,) or (): z (..., Z) -> (...) nats, so many rows at once as memory allows."""
    c, width = components.mean.shape
    rows = z.reshape(-1, width).unsqueeze(-2).split(max(1, MOST // (c * width)))
    found = [(components.log_prob(part.expand(-1, c, -1)) + log_weights).logsumexp(-1) for part in rows]
    return torch.cat(found).reshape(z.shape[:-1])


@PRIORS.add(name="mixture")
class MixturePrior(Prior):
    """sum_c w_c N(m_c, diag s_c^2) of `components` Gaussians, whose weights, means and scales are learnt.

    It starts near N(0, I): with equal weights, scales of 1 and means drawn from N(0, I / Z), whose length is about 1 whatever Z. (The
    mixture of Gaussians of Tomczak & Welling 2018.)
    """

    def __init__(self, latent: int, *, components: int = 10) -> None:
        super().__init__(latent)
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent) / math.sqrt(latent))
        self.log_scales = nn.Parameter(torch.zeros(components, latent))

    def sample(self, n: int, q: Q) -> Tensor:
        c = chosen(self.logits.softmax(-1), n)
        noise = torch.randn(n, self.latent, dtype=self.like.dtype, device=self.like.device)
        return self.means[c] + self.log_scales[c].exp() * noise

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return mixed(Diagonal(self.means, self.log_scales), self.logits.log_softmax(-1), z)

    def shares(self, z: Tensor) -> Tensor:
        """p(c | z), the probability of each component given z (..., Z): (..., C)."""
        scores = Diagonal(self.means, self.log_scales).log_prob(z.unsqueeze(-2)) + self.logits.log_softmax(-1)
        return scores.softmax(-1)


class PosteriorMixture(Prior):
    """(1/C) sum_c q(z | u_c), the mean of the posteriors of C images `inputs` (C, D)."""

    needs = Scored

    @property
    @abstractmethod
    def inputs(self) -> Tensor:
        """u (C, D)."""

    def sample(self, n: int, q: Q) -> Tensor:
        u = self.inputs
        return q(u[torch.randint(len(u), (n,), device=u.device)]).draw(1).z[0]

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        components = q(self.inputs)
        assert isinstance(components, Scored)
        return mixed(components, self.like - math.log(len(self.inputs)), z)


def chosen_at_random(x: Tensor, count: int) -> Tensor:
    """`count` rows of x (N, D) in random order; all of them before any is repeated."""
    return x[torch.randperm(len(x), device=x.device)[torch.arange(count, device=x.device) % len(x)]]


@PRIORS.add(name="vamp")
class VampPrior(PosteriorMixture):
    """(1/C) sum_c q(z | u_c), with `components` learnt pseudo-inputs u_c in [0, 1] (Tomczak & Welling 2018).

    The pseudo-inputs start at training images, chosen at random. A pixel that is clamped keeps its gradient: black ones could not
    change else.
    """

    def __init__(self, latent: int, shape: tuple[int, int, int], *, components: int = 100) -> None:
        super().__init__(latent)
        self.pseudo = nn.Parameter(torch.rand(components, math.prod(shape)))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.pseudo.copy_(chosen_at_random(x, len(self.pseudo)))

    @property
    def inputs(self) -> Tensor:
        return self.pseudo + (self.pseudo.clamp(0, 1) - self.pseudo).detach()


@PRIORS.add(name="exemplar")
class ExemplarPrior(PosteriorMixture):
    """(1/C) sum_c q(z | x_c), with `components` training images x_c, chosen at random (Norouzi, Fleet & Norouzi 2020).

    The components are the posteriors themselves, as in VampPrior. In the paper they share one variance, and an image that is an exemplar
    is left out of its own prior in training; here neither is done.
    """

    exemplars: Tensor

    def __init__(self, latent: int, shape: tuple[int, int, int], n: int, *, components: int = 500) -> None:
        super().__init__(latent)
        self.register_buffer("exemplars", torch.rand(min(components, n), math.prod(shape)))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.exemplars.copy_(chosen_at_random(x, len(self.exemplars)))

    @property
    def inputs(self) -> Tensor:
        return self.exemplars


@closed_kl(StandardNormal, Full)
def kl_rows(_: StandardNormal, q: Full) -> Tensor:
    """KL(N(mu, L L^T) || N(0, I)) as a sum over the rows j of L: (mu_j^2 + sum_k L_jk^2 - 1) / 2 - log L_jj."""
    return 0.5 * (q.mean.square() + q.tril.square().sum(-1) - 1) - q.log_scale
