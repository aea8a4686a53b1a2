"""Posteriors whose samples are moved by Hamiltonian dynamics towards a density that is known up to a constant, such as log p(x, z)."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import grad

from vae_variants.models.posteriors import POSTERIORS, C, Conditional, Diagonal, Drawn, LogJoint, Posterior
from vae_variants.registry import UserError, closest

TEMPERING = ("quadratic", "free", "none")


class Phase(NamedTuple):
    """A position z and its momentum, (..., B, Z) each."""

    z: Tensor
    momentum: Tensor


def gradient(f: LogJoint) -> Callable[[Tensor], Tensor]:
    """The gradient of f (..., B) with respect to z (..., B, Z), as a function of z. It can be differentiated again."""
    return grad(lambda z: f(z).sum())


def leapfrog(start: Phase, force: Callable[[Tensor], Tensor], size: Tensor, scales: Tensor) -> Phase:
    """K steps of the leapfrog integrator, for scales (K,) and step sizes (Z,) or ().

    A step is r = p + size force(z) / 2, z' = z + size r, p' = scale (r + size force(z') / 2). Its Jacobian has the determinant scale^Z
    (Neal 2005, Hamiltonian importance sampling).
    """
    z, p = start
    if not len(scales):
        return start
    now = force(z)
    for scale in scales.unbind():
        p = p + 0.5 * size * now
        z = z + size * p
        now = force(z)
        p = scale * (p + 0.5 * size * now)
    return Phase(z, p)


class Driven(Conditional):
    """The distribution of z_K, where a dynamics takes z_0 ~ base and a Gaussian momentum p_0 to z_K and a momentum p_K.

    `log_q` of a sample is log q(z_0) + log r(p_0) - log |det d(z_K, p_K) / d(z_0, p_0)| - log r(p_K), with a density r of momenta. So the
    mean of p(x, z_K) / q is p(x), and every bound holds (Caterini, Doucet & Sejdinovic 2018). q has no density at a given z.

    Args:
        base: The distribution of z_0.
        path: (z_0, standard normal noise of p_0), both (K, B, Z) -> z_K, and the last three terms of `log_q`.
    """

    def __init__(self, base: Conditional, path: Callable[[Tensor, Tensor], Drawn]) -> None:
        self.base, self.path = base, path

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Where the dynamics takes the mean of the base from rest, (B, Z); it is not E[z]."""
        start = self.base.mean.unsqueeze(0)
        return self.path(start, torch.zeros_like(start)).z.squeeze(0)

    def draw(self, k: int) -> Drawn:
        start, log_q = self.base.draw(k)
        z, change = self.path(start, torch.randn(start.shape, dtype=start.dtype, device=start.device))
        return Drawn(z, log_q + change)


class Schedule(nn.Module):
    """Step sizes and tempering of K = `steps` leapfrog steps, which are learnt.

    Args:
        latent: Z, units with a step size each.
        steps: K.
        size: The step sizes before training, below `largest`, which none can reach.
        tempering: How the standard deviation of the momentum falls from `widths[0]` = beta_0^-1/2 to `widths[K]` = 1: `quadratic`,
            1 + (beta_0^-1/2 - 1) (1 - (k/K)^2) with a learnt beta_0; `free`, by a learnt factor in each step; or `none`: it is 1.
        beta: beta_0 before training.

    Raises:
        UserError: For a value that is out of range.
    """

    falling: Tensor

    def __init__(self, latent: int, steps: int, size: float, largest: float, tempering: str, beta: float) -> None:
        super().__init__()
        if tempering not in TEMPERING:
            raise UserError(closest("tempering", tempering, TEMPERING))
        if not 0 < size < largest:
            raise UserError(f"a step of {size:g} is not between 0 and largest={largest:g}; choose a smaller one, or a larger limit")
        if not 0 < beta < 1:
            raise UserError(f"beta={beta:g} is not between 0 and 1; choose one, or tempering=none")
        self.steps, self.largest, self.tempering = steps, largest, tempering if steps else "none"
        width = beta**-0.5
        if steps:
            self.size_logit = nn.Parameter(torch.full((latent,), math.log(size / (largest - size))))
        if self.tempering == "quadratic":
            self.excess = nn.Parameter(torch.tensor(math.log(width - 1)))
        if self.tempering == "free":
            factor = width ** (1 / steps)
            self.excess = nn.Parameter(torch.full((steps,), math.log(factor - 1)))
        self.register_buffer("falling", 1 - torch.linspace(0, 1, steps + 1).square(), persistent=False)

    @property
    def size(self) -> Tensor:
        """The step sizes (Z,)."""
        return self.largest * self.size_logit.sigmoid() if self.steps else self.falling

    @property
    def widths(self) -> Tensor:
        """beta_k^-1/2 for k = 0, ..., K, (K + 1,)."""
        if self.tempering == "none":
            return torch.ones_like(self.falling)
        if self.tempering == "quadratic":
            return 1 + self.excess.exp() * self.falling
        factors = 1 + self.excess.exp()
        return torch.cat([factors.flip(0).cumprod(0).flip(0), torch.ones_like(factors[:1])])

    @property
    def scales(self) -> Tensor:
        """By what the momentum is multiplied after each step, (K,)."""
        return self.widths[1:] / self.widths[:-1]


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I)."""
    return (-0.5 * z.square() - C).sum(-1)


@POSTERIORS.add
class Hamiltonian(Posterior):
    """A diagonal Gaussian moved by `leapfrog` steps of Hamiltonian dynamics on -log p(x, z): HVAE (Caterini, Doucet & Sejdinovic 2018).

    p_0 ~ N(0, I / beta_0), and the tempering cools the momentum to N(0, I), so that z moves downhill. Step sizes, one for each unit and
    below `largest`, and the tempering (`quadratic`, `free` or `none`) are learnt. log w = log p(x, z_K) + log N(p_K; 0, I) - log q(z_0)
    - log N(p_0; 0, I / beta_0) + (Z/2) log beta_0. The paper takes the expectation of the last Gaussian terms; here they are sampled, so
    that log w also serves importance-weighted bounds. With zero steps it is the diagonal Gaussian.
    """

    gives = Driven

    def __init__(
        self, latent: int, *, leapfrog: int = 3, step: float = 0.05, largest: float = 0.5, tempering: str = "quadratic", beta: float = 0.3
    ) -> None:
        super().__init__()
        self.inputs = 2 * latent
        self.schedule = Schedule(latent, leapfrog, step, largest, tempering, beta)

    def forward(self, h: Tensor) -> Driven:
        """Without a model, moved towards N(0, I)."""
        return self.given(h, standard_normal)

    def given(self, h: Tensor, log_joint: LogJoint) -> Driven:
        def path(z: Tensor, noise: Tensor) -> Drawn:
            end = self.end(z, noise, log_joint)
            # log N(p_0; 0, I / beta_0) = log N(noise; 0, I) + (Z/2) log beta_0, and the log-determinant is (Z/2) log beta_0
            return Drawn(end.z, 0.5 * (end.momentum.square() - noise.square()).sum(-1))

        return Driven(Diagonal(*h.chunk(2, -1)), path)

    def end(self, z: Tensor, noise: Tensor, log_joint: LogJoint) -> Phase:
        """z_K and p_K from z_0 and the noise of p_0."""
        widths = self.schedule.widths
        return leapfrog(Phase(z, widths[0] * noise), gradient(log_joint), self.schedule.size, self.schedule.scales)
