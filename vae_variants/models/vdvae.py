"""A convolutional VAE with a layer of latents in each of its top-down blocks."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.base import MODELS, Euclidean, Layered
from vae_variants.models.draws import Draws
from vae_variants.models.hierarchical import divergence, gaussian
from vae_variants.models.latent import Composite, LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import ACTIVATIONS, Bias, Centred, PixelMajor
from vae_variants.models.objectives import Objective, elbo, elbo_sampled
from vae_variants.models.posteriors import Conditional, Diagonal, Drawn
from vae_variants.models.priors import Prior, Q
from vae_variants.models.regularizers import Regularizer, none
from vae_variants.models.samplers import PriorSampler
from vae_variants.registry import UserError, closest

SMALL = 0.1  # of the usual weights of the last layer of a prior: it starts near N(0, I)
Grid = tuple[int, int]


class Block(nn.Sequential):
    """Activations and convolutions of kernels 1, 3, 3, 1, the inner ones a quarter as wide (Child 2021). Kernels are 1 on small grids.

    Args:
        widths: Channels of the input and of the output.
        inner: Channels between them.
        grid: Height and width.
        activation: Name of the activation.
        scale: Factor of the last weights at the start.
    """

    def __init__(self, widths: tuple[int, int], inner: int, grid: Grid, activation: str, scale: float = 1.0) -> None:
        if activation not in ACTIVATIONS:
            raise UserError(closest("activation", activation, ACTIVATIONS))
        a, kernel = ACTIVATIONS[activation], 3 if min(grid) > 2 else 1
        first, last = nn.Conv2d(widths[0], inner, 1), nn.Conv2d(inner, widths[1], 1)
        middle = [nn.Conv2d(inner, inner, kernel, padding=kernel // 2) for _ in range(2)]
        super().__init__(a(), first, a(), middle[0], a(), middle[1], a(), last)
        with torch.no_grad():
            last.weight.mul_(scale)


class Upward(nn.Module):
    """Images (B, C, H, W) -> features (B, width, h, w) of each grid, the finest first, by residual blocks and means over 2 x 2 cells."""

    def __init__(self, channels: int, width: int, patch: int, blocks: Sequence[int], grids: Sequence[Grid], activation: str) -> None:
        super().__init__()
        self.patch = patch
        self.first = nn.Conv2d(channels, width, patch + 2, stride=patch, padding=1)
        scale, inner = 1 / math.sqrt(sum(blocks)), max(1, width // 4)
        self.stages = nn.ModuleList(
            nn.ModuleList(Block((width, width), inner, grid, activation, scale) for _ in range(n))
            for n, grid in zip(blocks, grids, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.first(F.pad(x, (0, -x.shape[-1] % self.patch, 0, -x.shape[-2] % self.patch)))
        found = list[Tensor]()
        for i, stage in enumerate(self.stages):
            h = F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False) if i else h
            for block in stage:  # type: ignore[union-attr]
                h = h + block(h)
            found.append(h)
        return found


class Passed(NamedTuple):
    """What a top-down block is asked for: its number, its state h (N, width, height, width), and p(z) with means (N, Z_l)."""

    number: int
    h: Tensor
    p: Diagonal


class TopDown(nn.Module):
    """h -> p(z), then h + what the prior adds + a projection of z, then a residual block (Child 2021, the top-down block)."""

    def __init__(self, width: int, channels: int, grid: Grid, place: int, activation: str, scale: float) -> None:
        super().__init__()
        self.grid, self.place, self.units, self.channels = grid, place, channels * math.prod(grid), channels
        inner = max(1, width // 4)
        self.p = Block((width, 2 * channels + width), inner, grid, activation, SMALL)
        self.q = Block((2 * width, 2 * channels), inner, grid, activation)
        self.project = nn.Conv2d(channels, width, 1)
        self.rest = Block((width, width), inner, grid, activation, scale)
        with torch.no_grad():
            self.project.weight.mul_(scale)

    def prior(self, h: Tensor) -> tuple[Diagonal, Tensor]:
        """h -> p(z) with means (N, Z_l), and h with what the prior adds."""
        numbers, added = self.p(h).tensor_split([2 * self.channels], 1)
        return gaussian(numbers.flatten(1)), h + added

    def posterior(self, h: Tensor, features: Tensor) -> Diagonal:
        """h and the image's features, both (N, width, height, width) -> q(z) with means (N, Z_l)."""
        return gaussian(self.q(torch.cat([h, features], 1)).flatten(1))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        h = h + self.project(z.unflatten(1, (self.channels, *self.grid)))
        return h + self.rest(h)


def enlarged(h: Tensor, grid: Grid) -> Tensor:
    """(N, C, h, w) -> (N, C, *grid): each cell becomes 2 x 2, cut to the grid."""
    if tuple(h.shape[-2:]) == grid:
        return h
    n, c, height, width = h.shape
    doubled = h[..., :, None, :, None].expand(n, c, height, 2, width, 2).reshape(n, c, 2 * height, 2 * width)
    return doubled[..., : grid[0], : grid[1]]


class TopDownPrior(Prior):
    """p(z_L) p(z_(L-1) | z_L) ... p(z_1 | z_2, ..., z_L), each a diagonal Gaussian that a block makes of the state above it.

    A z is the concatenation of the layers, the last block's first.
    """

    def __init__(self, width: int, channels: int, blocks: Sequence[int], grids: Sequence[Grid], activation: str) -> None:
        super().__init__(sum(n * channels * math.prod(grid) for n, grid in zip(blocks, grids, strict=True)))
        self.start = nn.Parameter(torch.randn(1, width, *grids[-1]))
        places, scale = [place for place, n in enumerate(blocks) for _ in range(n)], 1 / math.sqrt(sum(blocks))
        self.blocks = nn.ModuleList(TopDown(width, channels, grids[place], place, activation, scale) for place in reversed(places))
        self.sizes = tuple(block.units for block in reversed(self.blocks))  # type: ignore[misc]

    def descend(self, rows: int, pick: Callable[[Passed], Tensor]) -> tuple[Tensor, list[Passed]]:
        """The last state (rows, width, height, width), and what each block was asked, if `pick` gives each z (rows, Z_l)."""
        h, found = self.start.expand(rows, *self.start.shape[1:]), list[Passed]()
        for number, block in enumerate(self.blocks):
            h = enlarged(h, block.grid)  # type: ignore[arg-type]
            p, rest = block.prior(h)  # type: ignore[operator]
            found.append(Passed(number, h, p))
            h = block(rest, pick(found[-1]))
        return h, found

    def given(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, Z) -> the last state, and log p(z) (N,)."""
        parts = z.split(self.sizes, -1)[::-1]
        h, found = self.descend(len(z), lambda passed: parts[passed.number])
        return h, torch.stack([passed.p.log_prob(part) for passed, part in zip(found, parts, strict=True)]).sum(0)

    def sample(self, n: int, q: Q) -> Tensor:
        drawn = list[Tensor]()

        def pick(passed: Passed) -> Tensor:
            drawn.append(passed.p.draw(1).z[0])
            return drawn[-1]

        self.descend(n, pick)
        return torch.cat(drawn[::-1], -1)

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return self.given(z.reshape(-1, self.latent))[1].reshape(z.shape[:-1])


class Inferred(NamedTuple):
    """Of N rows: the last state h, z (N, Z), log p(z) and log q(z | x) (N,), and KL(q || p) of each unit given the layers above (N, Z)."""

    h: Tensor
    z: Tensor
    log_p: Tensor
    log_q: Tensor
    kl: Tensor


class TopDownPosterior(Conditional):
    """q(z_L | x) q(z_(L-1) | z_L, x) ... of images with these features, the finest grid's first.

    `mean` has each layer's mean, given those of the layers above: it is not the mean of q.
    """

    def __init__(self, prior: TopDownPrior, features: Sequence[Tensor]) -> None:
        self.prior, self.features = prior, features

    def walk(self, k: int, pick: Callable[[Diagonal], Tensor]) -> Inferred:
        """Rows k B, if `pick` gives each z from its Gaussian."""
        b, gaussians, drawn = len(self.features[0]), list[Diagonal](), list[Tensor]()
        features = [each.expand(k, *each.shape).flatten(0, 1) for each in self.features]

        def given(passed: Passed) -> Tensor:
            block = self.prior.blocks[passed.number]
            gaussians.append(block.posterior(passed.h, features[block.place]))  # type: ignore[operator,index]
            drawn.append(pick(gaussians[-1]))
            return drawn[-1]

        h, found = self.prior.descend(k * b, given)
        log_p = torch.stack([passed.p.log_prob(z) for passed, z in zip(found, drawn, strict=True)]).sum(0)
        log_q = torch.stack([q.log_prob(z) for q, z in zip(gaussians, drawn, strict=True)]).sum(0)
        kl = [divergence(q, passed.p) for passed, q in zip(found, gaussians, strict=True)]
        return Inferred(h, torch.cat(drawn[::-1], -1), log_p, log_q, torch.cat(kl[::-1], -1))

    def samples(self, k: int) -> Inferred:
        """k samples for each image, with rows k B."""
        return self.walk(k, lambda q: q.draw(1).z[0])

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        return self.walk(1, lambda q: q.mean).z

    def draw(self, k: int) -> Drawn:
        found = self.samples(k)
        return Drawn(found.z.unflatten(0, (k, -1)), found.log_q.unflatten(0, (k, -1)))


class Unpatched(nn.Module):
    """(N, C patch^2, h, w) -> (N, C, height, width): each cell becomes patch x patch pixels, cut to the image."""

    def __init__(self, patch: int, size: Sequence[int]) -> None:
        super().__init__()
        self.patch, self.size = patch, tuple(size)

    def forward(self, h: Tensor) -> Tensor:
        return F.pixel_shuffle(h, self.patch)[..., : self.size[0], : self.size[1]]


@MODELS.add(name="vdvae")
class VDVAE(Composite, LatentModel, Euclidean, Layered):
    """Convolutional VAE with a layer of latents in each top-down block, after the very deep VAE (Child 2021, arXiv:2011.10650).

    `blocks` are the top-down blocks on each grid, the finest grid first; `layers` have the same order. A cell of the finest grid is
    `patch` x `patch` pixels, one of each other grid 2 x 2 cells of the one before. A block has a grid of `channels` latent units per cell.
    Its q(z_l | z above, x) sees the state of the top-down pass and the features that an upward pass of residual blocks makes of x, its
    p(z_l | z above) the state alone. Both are diagonal Gaussians. `width` are the channels of the state. There is no normalisation layer.

    One latent vector holds all layers. Decoding it uses all of them. The KL of a layer is closed given samples of the layers above it, so
    the rate is an estimate.
    """

    exact: ClassVar[bool] = False
    prior: TopDownPrior

    def __init__(
        self,
        shape: tuple[int, int, int],
        likelihood: Likelihood,
        objective: Objective = elbo,
        regularizer: Regularizer = none,
        *,
        blocks: Sequence[int] = (2, 2, 1),
        width: int = 32,
        channels: int = 4,
        patch: int = 2,
        samples: int = 1,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        c, *size = shape
        first: Grid = (math.ceil(size[0] / patch), math.ceil(size[1] / patch))
        grids = [first]
        for _ in blocks[1:]:
            grids.append((math.ceil(grids[-1][0] / 2), math.ceil(grids[-1][1] / 2)))
        upward = Upward(c, width, patch, blocks, grids, activation)
        self.encoder = Centred(nn.Sequential(nn.Unflatten(-1, shape), upward), math.prod(shape))
        last = nn.Conv2d(width, c * likelihood.k * patch**2, 1, bias=False)
        spread = (Unpatched(patch, size), PixelMajor(c, likelihood.k), Bias(math.prod(shape) * likelihood.k))
        self.decoder = nn.Sequential(ACTIVATIONS[activation](), last, *spread)
        self.likelihood, self.shape, self.samples, self.support = likelihood, shape, samples, likelihood.support
        self.compose(TopDownPrior(width, channels, blocks, grids, activation), TopDownPosterior)
        self.layers = self.prior.sizes
        self.assemble(objective, regularizer, PriorSampler(self.prior.latent))

    def conditional(self, x: Tensor) -> TopDownPosterior:
        return TopDownPosterior(self.prior, self.encoder(x))

    def outputs(self, z: Tensor) -> Tensor:
        h, _ = self.prior.given(z.reshape(-1, self.prior.latent))
        return self.decoder(h).unflatten(0, z.shape[:-1])

    def draws(self, x: Tensor, t: Tensor) -> Draws:
        return self.infer(x, self.samples, t)

    def infer(self, x: Tensor, k: int, t: Tensor) -> Draws:
        q = self.conditional(x)
        found = q.samples(k)
        z, log_p, log_q, kl, outputs = (each.unflatten(0, (k, -1)) for each in (*found[1:], self.decoder(found.h)))
        units, log_px = kl.mean(0), self.likelihood.log_prob(outputs, x)
        return Draws(log_px, log_p, log_q, units.sum(-1), units, z, t, q=q, x=x, outputs=outputs, model=self)

    def log_prob(self, x: Tensor) -> Tensor:
        return -elbo_sampled(self.infer(x, 1, x.new_ones(())))
