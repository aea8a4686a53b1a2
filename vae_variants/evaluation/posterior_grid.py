"""Everything about the posterior of a two-dimensional code, by a grid: log p(x), p(z | x), KL(q(z | x) || p(z | x))."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.evaluation.ais import log_normal
from vae_variants.models.base import Decoder, GaussianPosterior, Model

__all__ = ["Plane", "divergences", "located", "midpoints", "plane", "resolved"]

SEEN = 25.0  # nats under the highest point: what lies lower has no mass to speak of
MARGIN, REACH = 3, 8.0  # cells of the coarse grid around that, and standard deviations of q around its mean
CHUNK = 2**22  # numbers in one decoded chunk
FARTHEST = 20.0  # standard deviations of the prior, beyond which nothing is looked for
CLOSE, MOST = 1e-3, 2000  # nats that a grid may be off by, and the most points along a side
WIDER = 0.05  # of the box on each side: what the second rule of integration sees beyond the first


class Plane(NamedTuple):
    """log p(x, z) of B images at n x n codes z, each image with a box of its own; the first axis of the grid is z_1."""

    low: Tensor  # (B, 2) the corner
    step: Tensor  # (B, 2) from one point to the next
    log_joint: Tensor  # (B, n, n) nats

    def codes(self) -> Tensor:
        """(B, n, n, 2)."""
        n = self.log_joint.shape[-1]
        along = self.low[:, None] + self.step[:, None] * torch.arange(n, dtype=self.low.dtype)[:, None]  # (B, n, 2)
        return torch.stack([along[:, :, None, 0].expand(-1, n, n), along[:, None, :, 1].expand(-1, n, n)], -1)

    def log_p(self) -> Tensor:
        """log integral of p(x, z) dz by the trapezoidal rule, which for a smooth bump within the box converges exponentially: (B,)."""
        return self.log_joint.flatten(1).logsumexp(1) + self.step.log().sum(-1)

    def halved(self) -> Plane:
        """With every second point only: how far its results are off bounds the error of the full grid."""
        return Plane(self.low, 2 * self.step, self.log_joint[:, ::2, ::2])

    def log_posterior(self) -> Tensor:
        """log p(z | x) at the codes, (B, n, n)."""
        return self.log_joint - self.log_p()[:, None, None]

    def kl(self, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """KL(q || posterior) and KL(posterior || q) by the same rule, q = N(mean, diag scale^2), both (B, 2): (B,) nats."""
        log_q = log_normal(self.codes(), mean[:, None, None], scale[:, None, None])
        log_post, area = self.log_posterior(), self.step.prod(-1)
        there = (log_q.exp() * (log_q - log_post)).sum((1, 2)) * area
        back = (log_post.exp() * (log_post - log_q)).sum((1, 2)) * area
        return there, back

    def coarseness(self, mean: Tensor, scale: Tensor) -> float:
        """How far off the grid may be, in nats: the most that log p(x) or KL(q || posterior) changes where every second point is left out.

        Or by how much the log of the mass of q is not 0: of a q that lies between the points, both KLs would be 0.
        """
        half = self.halved()
        pairs = [(self.log_p(), half.log_p()), (self.kl(mean, scale)[0], half.kl(mean, scale)[0])]
        log_q = log_normal(self.codes(), mean[:, None, None], scale[:, None, None])
        pairs.append((log_q.flatten(1).logsumexp(1), -self.step.log().sum(-1)))
        return max((full - less).abs().max().item() for full, less in pairs)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior by unit, both (B, 2)."""
        mass = (self.log_posterior().exp() * self.step.prod(-1)[:, None, None]).unsqueeze(-1)
        codes = self.codes()
        mean = (mass * codes).sum((1, 2))
        return mean, (mass * (codes - mean[:, None, None]).square()).sum((1, 2)).sqrt()


def decoded(model: Model, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) of images x (B, D) at codes z (G, 2) that they share: (G, B)."""
    assert isinstance(model, Decoder) and isinstance(model, GaussianPosterior)
    chunk, found = max(1, CHUNK // (x.shape[1] * len(x))), x.new_empty(len(z), len(x))
    for part, out in zip(z.split(chunk), found.split(chunk), strict=True):
        torch.add(model.log_px(x, part[:, None]), model.log_prior(part)[:, None], out=out)
    return found


@torch.no_grad()
def located(model: Model, x: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Where the posteriors of x (B, D) have their mass, by a coarse grid that all share -> corners low and high, (B, 2).

    The shared grid reaches half as far again as any q does, at least from -6 to 6, and is made wider while any posterior has mass at its
    rim; its steps are those of `points` from -4 to 4, or as far as q does. Each box holds what is within 25 nats of its highest point, and
    q up to 8 standard deviations. A mode that is beyond the rim and has none of its mass there is not seen.
    """
    assert isinstance(model, GaussianPosterior)
    mean, scale = model.posterior(x)
    reach = max(4.0, (mean.abs() + REACH * scale).max().item())
    step, reach, wide = 2 * reach / (points - 1), 1.5 * reach, True
    while wide:
        points = 2 * math.ceil(reach / step) + 1
        along = step * torch.arange(-(points // 2), points // 2 + 1, dtype=x.dtype)
        log_joint = decoded(model, x, torch.cartesian_prod(along, along)).mT.unflatten(1, (points, points))  # (B, n, n)
        inside = log_joint > log_joint.amax((1, 2), keepdim=True) - SEEN
        rim = torch.cat([inside[:, [0, -1]].flatten(1), inside[:, :, [0, -1]].flatten(1)], 1)
        wide, reach = bool(rim.any()) and reach < FARTHEST, 1.5 * reach
    low, high = mean - REACH * scale, mean + REACH * scale
    for axis, rows in enumerate((inside.any(2), inside.any(1))):  # over the other unit: (B, n)
        first = along[rows.int().argmax(1)] - MARGIN * step
        last = along[points - 1 - rows.flip(1).int().argmax(1)] + MARGIN * step
        low[:, axis], high[:, axis] = torch.minimum(low[:, axis], first), torch.maximum(high[:, axis], last)
    return low, high


@torch.no_grad()
def plane(model: Model, x: Tensor, low: Tensor, high: Tensor, points: int) -> Plane:
    """points x points codes for each of x (B, D) between the corners low and high (B, 2)."""
    step = (high - low) / (points - 1)
    found = []
    for image, corner, each in zip(x, low, step, strict=True):
        axes = [corner[i] + each[i] * torch.arange(points, dtype=x.dtype) for i in range(2)]
        found.append(decoded(model, image[None], torch.cartesian_prod(*axes)).view(points, points))
    return Plane(low, step, torch.stack(found))


@torch.no_grad()
def resolved(model: Model, x: Tensor, low: Tensor, high: Tensor, points: int) -> list[Plane]:
    """A plane of one image for each of x (B, D), between the corners low and high (B, 2), as fine as it has to be.

    From points x points codes on, the steps are halved until `coarseness` is below 0.001 nat, or more than 2000 points along a side would
    be needed for that.
    """
    assert isinstance(model, GaussianPosterior)
    found = []
    for i in range(len(x)):
        one = slice(i, i + 1)
        mean, scale = model.posterior(x[one])
        each = plane(model, x[one], low[one], high[one], points)
        while 2 * each.log_joint.shape[-1] - 1 <= MOST and each.coarseness(mean, scale) > CLOSE:
            each = refined(model, x[one], each, log_normal(each.codes(), mean[:, None, None], scale[:, None, None]))
        found.append(each)
    return found


def divergences(model: Model, x: Tensor, found: Sequence[Plane]) -> tuple[Tensor, float]:
    """KL(q || posterior), (B,) nats, and how far the coarsest grid is off at most."""
    assert isinstance(model, GaussianPosterior)
    mean, scale = (each.split(1) for each in model.posterior(x))
    kl = torch.cat([grid.kl(m, s)[0] for grid, m, s in zip(found, mean, scale, strict=True)])
    return kl, max(grid.coarseness(m, s) for grid, m, s in zip(found, mean, scale, strict=True))


def refined(model: Model, x: Tensor, found: Plane, log_q: Tensor) -> Plane:
    """With steps of half the size, of one image x (1, D); log_q (1, n, n) is q at the old points.

    New points are evaluated where the posterior or q is within 25 nats of its highest point, and next to that; elsewhere, where there is
    no mass of either, they are interpolated.
    """
    joint, n = found.log_joint, 2 * found.log_joint.shape[-1] - 1
    near = (joint > joint.max() - SEEN) | (log_q > log_q.max() - SEEN)
    near = F.max_pool2d(near[None].to(x.dtype), 3, 1, 1)
    wanted = F.interpolate(near, (n, n), mode="bilinear", align_corners=True)[0] > 0
    wanted[:, ::2, ::2] = False
    values = F.interpolate(joint[None], (n, n), mode="bilinear", align_corners=True)[0]
    fine = Plane(found.low, found.step / 2, values)
    values[wanted] = decoded(model, x, fine.codes()[wanted])[:, 0]
    values[:, ::2, ::2] = joint
    return fine


@torch.no_grad()
def midpoints(model: Model, x: Tensor, low: Tensor, high: Tensor, points: int) -> Tensor:
    """log integral of p(x, z) dz over a box that is a tenth wider than that with the corners low and high (B, 2): (B,) nats.

    log sum_ij p(x, z_ij) + log (d_1 d_2) at the middles of points x points cells of sides d: a second rule, with other points than those
    of `plane` and with none of the code of `Plane`. For a smooth bump within the box it too converges exponentially.
    """
    size = (1 + 2 * WIDER) * (high - low) / points
    first = (low + high) / 2 - (points - 1) / 2 * size
    found = []
    for image, corner, side in zip(x, first, size, strict=True):
        along = [torch.linspace(0, points - 1, points, dtype=x.dtype) * side[i] + corner[i] for i in range(2)]
        log_joint = decoded(model, image[None], torch.cartesian_prod(*along))[:, 0]
        found.append(log_joint.logsumexp(0) + side.log().sum())
    return torch.stack(found)
