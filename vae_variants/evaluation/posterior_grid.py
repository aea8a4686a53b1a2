"""The posterior of a two-dimensional latent on a grid: log p(x), p(z | x), KL(q(z | x) || p(z | x))."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.evaluation.ais import log_normal
from vae_variants.models.base import Decoder, GaussianPosterior, Model

SEEN = 25.0  # nats below the highest point: what lies lower has no mass to speak of
MARGIN, REACH = 3, 8.0  # cells of the coarse grid around that, and standard deviations of q around its mean
CHUNK = 2**22  # numbers in one decoded chunk
FARTHEST = 20.0  # standard deviations of the prior: the coarse grid grows no wider
CLOSE, MOST = 1e-3, 2000  # tolerated error of a grid in nats, and the most points along a side
WIDER = 0.05  # of the box on each side: the margin of the second rule of integration


class PosteriorGrid(NamedTuple):
    """log p(x, z) of one image at n x n equidistant latents z; the first axis of the grid is z_1."""

    low: Tensor  # (2,) the corner
    step: Tensor  # (2,) from one point to the next
    log_joint: Tensor  # (n, n) nats

    @property
    def side(self) -> int:
        """Points along a side."""
        return len(self.log_joint)

    def latents(self) -> Tensor:
        """The points of the grid, (n, n, 2)."""
        along = self.low + self.step * torch.arange(self.side, dtype=self.low.dtype)[:, None]
        return torch.stack(torch.meshgrid(*along.mT, indexing="ij"), -1)

    def log_p(self) -> Tensor:
        """log integral of p(x, z) dz in nats, by the trapezoidal rule: it converges exponentially for smooth mass within the box."""
        return self.log_joint.flatten().logsumexp(0) + self.step.log().sum()

    def log_posterior(self) -> Tensor:
        """log p(z | x) at the latents, (n, n)."""
        return self.log_joint - self.log_p()

    def kl(self, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """KL(q || posterior) and KL(posterior || q) in nats by the same rule, for q = N(mean, diag scale^2), both (2,)."""
        log_q, log_post, area = log_normal(self.latents(), mean, scale), self.log_posterior(), self.step.prod()
        there = (log_q.exp() * (log_q - log_post)).sum() * area
        back = (log_post.exp() * (log_post - log_q)).sum() * area
        return there, back

    def coarseness(self, mean: Tensor, scale: Tensor) -> float:
        """Bound on the error of the grid in nats.

        The largest change of log p(x) and of KL(q || posterior) when every second point is left out, and the error of log of the mass
        of q: both KLs would be 0 for a q that lies between the points.
        """
        half = self._replace(step=2 * self.step, log_joint=self.log_joint[::2, ::2])
        mass = log_normal(self.latents(), mean, scale).flatten().logsumexp(0) + self.step.log().sum()
        errors = (self.log_p() - half.log_p(), self.kl(mean, scale)[0] - half.kl(mean, scale)[0], mass)
        return max(error.abs().item() for error in errors)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior by unit, both (2,)."""
        mass, z = self.log_posterior().exp().unsqueeze(-1) * self.step.prod(), self.latents()
        mean = (mass * z).sum((0, 1))
        return mean, (mass * (z - mean).square()).sum((0, 1)).sqrt()


def log_joint(model: Model, x: Tensor, z: Tensor) -> Tensor:
    """log p(x, z) of images x (B, D) at latents z (G, 2) that they share: (G, B)."""
    assert isinstance(model, Decoder) and isinstance(model, GaussianPosterior)
    chunk, found = max(1, CHUNK // x.numel()), x.new_empty(len(z), len(x))
    for part, out in zip(z.split(chunk), found.split(chunk), strict=True):
        torch.add(model.log_px(x, part[:, None]), model.log_prior(part)[:, None], out=out)
    return found


@torch.no_grad()
def located(model: Model, x: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Lower and upper corners, (B, 2) each, of boxes that hold the mass of the posteriors of images x (B, D) and of q.

    All images share a coarse grid with the step of `points` points from -4 to 4. It reaches half as far again as any q, at least from
    -6 to 6, and grows while any posterior has mass at its rim. A box holds what lies within 25 nats of its highest point, and q up to
    8 standard deviations. A mode beyond the rim that has no mass there is not seen.
    """
    assert isinstance(model, GaussianPosterior)
    mean, scale = model.moments(x)
    low, high = mean - REACH * scale, mean + REACH * scale
    reach = max(4.0, low.abs().max().item(), high.abs().max().item())
    step, reach, wide = 2 * reach / (points - 1), 1.5 * reach, True
    while wide:
        n = math.ceil(reach / step)
        along = step * torch.arange(-n, n + 1, dtype=x.dtype)
        joint = log_joint(model, x, torch.cartesian_prod(along, along)).mT.unflatten(1, (len(along), len(along)))
        inside = joint > joint.amax((1, 2), keepdim=True) - SEEN
        rim = torch.cat([inside[:, [0, -1]].flatten(1), inside[:, :, [0, -1]].flatten(1)], 1)
        wide, reach = bool(rim.any()) and reach < FARTHEST, 1.5 * reach
    rows = torch.stack([inside.any(2), inside.any(1)], 1).int()  # (B, 2, n), each over the other unit
    first, last = along[rows.argmax(-1)] - MARGIN * step, MARGIN * step - along[rows.flip(-1).argmax(-1)]
    return torch.minimum(low, first), torch.maximum(high, last)


@torch.no_grad()
def evaluated(model: Model, x: Tensor, low: Tensor, high: Tensor, points: int) -> PosteriorGrid:
    """The grid of points x points latents of one image x (1, D) between the corners `low` and `high`, (2,) each."""
    step = (high - low) / (points - 1)
    grid = PosteriorGrid(low, step, x.new_zeros(points, points))
    return grid._replace(log_joint=log_joint(model, x, grid.latents().flatten(0, 1)).view(points, points))


@torch.no_grad()
def resolved(model: Model, x: Tensor, low: Tensor, high: Tensor, points: int) -> PosteriorGrid:
    """As `evaluated`, with steps that are halved until `coarseness` is below 0.001 nat or a side has 2000 points."""
    assert isinstance(model, GaussianPosterior)
    mean, scale = model.moments(x)
    grid = evaluated(model, x, low, high, points)
    while 2 * grid.side - 1 <= MOST and grid.coarseness(mean[0], scale[0]) > CLOSE:
        grid = refined(model, x, grid, log_normal(grid.latents(), mean, scale))
    return grid


def posterior_grids(model: Model, x: Tensor, coarse: int, points: int) -> list[PosteriorGrid]:
    """The posterior of each of the images x (B, D), by a model in float64 with two latent units, a diagonal Gaussian q and a decoder.

    `coarse` sets the grid on which the mass is `located`, `points` is the side of the first grid of each image.
    """
    boxes = zip(x.split(1), *located(model, x, coarse), strict=True)
    return [resolved(model, *box, points) for box in boxes]


def refined(model: Model, x: Tensor, grid: PosteriorGrid, log_q: Tensor) -> PosteriorGrid:
    """Halves the steps; log_q (n, n) is q at the old points.

    New points next to mass of the posterior or of q are evaluated; elsewhere they are interpolated.
    """
    joint, n = grid.log_joint[None, None], 2 * grid.side - 1
    near = (joint > joint.max() - SEEN) | (log_q > log_q.max() - SEEN)
    near = F.max_pool2d(near.to(x.dtype), 3, 1, 1)
    wanted, values = (F.interpolate(old, (n, n), mode="bilinear", align_corners=True)[0, 0] for old in (near, joint))
    fine = PosteriorGrid(grid.low, grid.step / 2, values)
    wanted[::2, ::2] = 0
    values[wanted > 0] = log_joint(model, x, fine.latents()[wanted > 0])[:, 0]
    values[::2, ::2] = grid.log_joint
    return fine


@torch.no_grad()
def midpoint_log_p(model: Model, x: Tensor, grid: PosteriorGrid) -> Tensor:
    """log p(x) of one image x (1, D) in nats by a second rule, which shares neither points nor code with `PosteriorGrid`.

    log sum_ij p(x, z_ij) + log(d_1 d_2) at the middles of as many cells of sides d, over a box that is a tenth wider than the grid.
    """
    n, width = grid.side, (grid.side - 1) * grid.step
    side = (1 + 2 * WIDER) * width / n
    along = (grid.low + width / 2)[:, None] + side[:, None] * torch.linspace(-(n - 1) / 2, (n - 1) / 2, n, dtype=x.dtype)
    return log_joint(model, x, torch.cartesian_prod(*along)).logsumexp(0)[0] + side.log().sum()
