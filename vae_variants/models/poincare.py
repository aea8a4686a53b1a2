"""Latents in the Poincaré ball of curvature -c: wrapped and Riemannian normal distributions. Densities are per unit of its volume.

The ball has the radius 1 / sqrt(c) and, at z, the conformal factor 2 / (1 - c |z|^2). Everything is computed in float64, because near the
edge a small error of z is a large one of its distance.
"""

import math
from typing import Self

import torch
from torch import Tensor

from vae_variants.models.numerics import log
from vae_variants.models.posteriors import POSTERIORS, C, Drawn, Posterior, Scored, Space
from vae_variants.models.priors import PRIORS, Prior, Q
from vae_variants.models.spherical import log_surface
from vae_variants.registry import UserError, positive

FARTHEST = 12.0  # distance of a latent from 0 at most, times sqrt(c): float32 does not resolve what is farther out
TINY = 1e-30  # below the square of any length
CELLS = 4096  # of the distance from 0, for the samples of a Riemannian normal


def length(v: Tensor) -> Tensor:
    """|v|, (..., 1), with a finite gradient at 0."""
    return v.square().sum(-1, keepdim=True).clamp(min=TINY).sqrt()


def exp_0(v: Tensor, c: float) -> Tensor:
    """The point in the direction v at the distance |v| from 0, at most `FARTHEST`: tanh(sqrt(c) |v| / 2) v / (sqrt(c) |v|)."""
    r = math.sqrt(c) * length(v)
    return (0.5 * r.clamp(max=FARTHEST)).tanh() * v / r


def log_0(z: Tensor, c: float) -> Tensor:
    """The inverse of `exp_0`."""
    r = math.sqrt(c) * length(z)
    return 2 * torch.atanh(r.clamp(max=math.tanh(0.5 * FARTHEST))) * z / r


def moved(m: Tensor, w: Tensor, c: float) -> Tensor:
    """Möbius addition of m and w: the isometry that takes 0 to m, at w."""
    mm, ww, mw = (c * (a * b).sum(-1, keepdim=True) for a, b in ((m, m), (w, w), (m, w)))
    return ((1 + 2 * mw + ww) * m + (1 - mm) * w) / (1 + 2 * mw + mm * ww).clamp(min=TINY)


def inside(z: Tensor, c: float) -> Tensor:
    """z, or the nearest point at the distance `FARTHEST` from 0."""
    most = math.tanh(0.5 * FARTHEST) / math.sqrt(c)
    return z * (most / length(z)).clamp(max=1.0)


def seen_from(m: Tensor, z: Tensor, c: float) -> Tensor:
    """The direction and distance of z from m, as v with z = moved(m, exp_0(v)).

    sinh(sqrt(c) r / 2)^2 = c |z - m|^2 / ((1 - c |m|^2) (1 - c |z|^2)) gives the distance r, and (1 - c |m|^2) (z - m) - c |z - m|^2 m the
    direction: neither subtracts numbers that are nearly equal.
    """
    apart, mm, zz = (a.square().sum(-1, keepdim=True) for a in (z - m, m, z))
    ratio = c * apart / ((1 - c * mm) * (1 - c * zz)).clamp(min=TINY)
    towards = (1 - c * mm) * (z - m) - c * apart * m
    return 2 / math.sqrt(c) * ratio.clamp(min=TINY).sqrt().asinh() * towards / length(towards)


def log_stretch(v: Tensor, c: float) -> Tensor:
    """(Z - 1) log(sinh(sqrt(c) |v|) / (sqrt(c) |v|)): the volume of the ball by that of the tangent space at v (..., Z). (...)."""
    r = math.sqrt(c) * length(v).squeeze(-1)
    return (v.shape[-1] - 1) * (r + (-torch.expm1(-2 * r) / (2 * r)).log())


def curved(curvature: float) -> float:
    if not curvature > 0:
        raise UserError("a ball has a curvature above 0; write curvature=1, or posterior=diagonal for flat latents")
    return curvature


def near_enough(r: float, curvature: float) -> None:
    """Raises `UserError` for a prior whose samples at the distance r from 0, which few exceed, are too near the edge of the ball."""
    if math.sqrt(curvature) * r > FARTHEST:
        raise UserError(f"samples of this prior lie {r:.3g} from 0, too near the edge; choose a smaller latent, spread or curvature")


class WrappedNormal(Scored):
    """The image of v ~ N(0, diag scale^2) under `exp_0` and the isometry that takes 0 to the mean (B, Z), a point of the ball.

    log q(z) = log N(v; 0, diag scale^2) - (Z - 1) log(sinh(sqrt(c) r) / (sqrt(c) r)), r = |v| the distance of z from the mean (Mathieu et
    al. 2019; Nagano et al. 2019). `mean` has the type of the encoder's numbers, all else is in float64.
    """

    def __init__(self, mean: Tensor, log_scale: Tensor, curvature: float) -> None:
        self.mean, self.c = mean, curvature
        self.centre, self.log_scale = mean.double(), log_scale.double()

    def log_density(self, v: Tensor) -> Tensor:
        """log q at v as seen from the mean."""
        return (-0.5 * (v * (-self.log_scale).exp()).square() - self.log_scale - C).sum(-1) - log_stretch(v, self.c)

    def draw(self, k: int) -> Drawn:
        v = self.log_scale.exp() * torch.randn(k, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
        z = inside(moved(self.centre, exp_0(v, self.c), self.c), self.c)
        return Drawn(z.to(self.mean.dtype), self.log_density(v).to(self.mean.dtype))

    def log_prob(self, z: Tensor) -> Tensor:
        return self.log_density(seen_from(self.centre, inside(z.double(), self.c), self.c)).to(z.dtype)

    def detached(self) -> Self:
        return type(self)(self.mean.detach(), self.log_scale.detach(), self.c)


@POSTERIORS.add(name="wrapped-normal")
class WrappedNormalPosterior(Posterior):
    """A wrapped normal on the Poincaré ball of curvature -`curvature` (Mathieu et al. 2019). Its prior is `wrapped-normal`, too.

    The mean is `exp_0` of the encoder's numbers.
    """

    gives = WrappedNormal
    space = Space.BALL

    def __init__(self, latent: int, *, curvature: float = 1.0) -> None:
        super().__init__()
        self.inputs, self.curvature = 2 * latent, curved(curvature)

    def forward(self, h: Tensor) -> WrappedNormal:
        mu, log_s = h.chunk(2, -1)
        return WrappedNormal(exp_0(mu.double(), self.curvature).to(h.dtype), log_s, self.curvature)


class Ball(Prior):
    """Base class of priors on the Poincaré ball whose density depends on the distance from 0. The decoder sees log_0(z)."""

    space = Space.BALL

    def __init__(self, latent: int, curvature: float) -> None:
        super().__init__(latent)
        self.curvature = curved(curvature)

    def chart(self, z: Tensor) -> Tensor:
        return log_0(z.double(), self.curvature).to(z.dtype)

    def placed(self, v: Tensor) -> Tensor:
        """exp_0(v) in the type of `like`."""
        return exp_0(v.double(), self.curvature).to(self.like.dtype)

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, dtype=self.like.dtype, device=self.like.device)


@PRIORS.add(name="wrapped-normal")
class WrappedNormalPrior(Ball):
    """The wrapped normal around 0 on the Poincaré ball, with standard deviation `spread`, for the posterior `wrapped-normal`.

    Its decoder sees the coordinates log_0(z) in the tangent space at 0 (Mathieu et al. 2019).
    """

    def __init__(self, latent: int, *, curvature: float = 1.0, spread: float = 1.0) -> None:
        super().__init__(latent, curvature)
        near_enough(spread * (math.sqrt(latent) + 2), curvature)
        self.spread = positive("spread", spread)

    def sample(self, n: int, q: Q) -> Tensor:
        return self.placed(self.spread * self.noise(n, self.latent))

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        v = log_0(z.double(), self.curvature)
        density = (-0.5 * (v / self.spread).square() - log(self.spread) - C).sum(-1)
        return (density - log_stretch(v, self.curvature)).to(z.dtype)


@PRIORS.add(name="riemannian-normal")
class RiemannianNormalPrior(Ball):
    """p(z) proportional to exp(-r^2 / (2 spread^2)), r the distance from 0 on the Poincaré ball: of maximum entropy for its E r^2.

    The direction is uniform, and r has the density sinh(sqrt(c) r)^(Z - 1) exp(-r^2 / (2 spread^2)), up to a constant that is integrated
    numerically (Mathieu et al. 2019; Pennec 2006).
    """

    radii: Tensor
    cumulated: Tensor

    def __init__(self, latent: int, *, curvature: float = 1.0, spread: float = 1.0) -> None:
        super().__init__(latent, curvature)
        self.spread, root = positive("spread", spread), math.sqrt(self.curvature)
        mode = root * (latent - 1) * spread**2 + spread * math.sqrt(latent)  # is beyond it
        r = torch.linspace(0, mode + 10 * spread, CELLS + 1, dtype=torch.float64)
        log_p = self.log_radial(r[1:])
        p = torch.cat([torch.full_like(r[:1], 1.0 if latent == 1 else 0.0), (log_p - log_p.max()).exp()])
        mass = torch.cat([torch.zeros_like(r[:1]), torch.cumulative_trapezoid(p, r)])
        near_enough(float(r[(mass < 0.999 * mass[-1]).sum()]), curvature)
        self.log_total = float(mass[-1].log() + log_p.max()) + log_surface(latent)
        self.register_buffer("radii", r, persistent=False)
        self.register_buffer("cumulated", mass / mass[-1], persistent=False)

    def log_radial(self, r: Tensor) -> Tensor:
        """The log density of the distance r > 0, up to a constant."""
        root = math.sqrt(self.curvature)
        log_sinh = root * r + (-torch.expm1(-2 * root * r)).log() - math.log(2 * root)
        return (self.latent - 1) * log_sinh - 0.5 * (r / self.spread).square()

    def sample(self, n: int, q: Q) -> Tensor:
        u = torch.rand(n, dtype=self.cumulated.dtype, device=self.like.device)
        at = torch.searchsorted(self.cumulated, u, right=True).clamp(1, CELLS)
        below, above = self.cumulated[at - 1], self.cumulated[at]
        share = (u - below) / (above - below).clamp(min=TINY)
        r = self.radii[at - 1] + share * (self.radii[at] - self.radii[at - 1])
        direction = self.noise(n, self.latent)
        return self.placed(r.unsqueeze(-1) * direction / length(direction))

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        v = log_0(z.double(), self.curvature)
        return (-0.5 * (v / self.spread).square().sum(-1) - self.log_total).to(z.dtype)
