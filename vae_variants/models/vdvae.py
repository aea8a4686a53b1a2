"""A convolutional VAE with a layer of latents in each of its top-down blocks."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.base import MODELS, Euclidean, Layered
from vae_variants.models.draws import Draws
from vae_variants.models.hierarchical import divergence, gaussian
from vae_variants.models.latent import Composite, LatentModel
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.networks import ACTIVATIONS, Bias, Centred
from vae_variants.models.objectives import Objective, elbo, elbo_sampled
from vae_variants.models.posteriors import Conditional, Diagonal, Drawn
from vae_variants.models.priors import Prior, Q
from vae_variants.models.regularizers import Regularizer, none
from vae_variants.models.samplers import PriorSampler
from vae_variants.registry import UserError, closest

SMALL = 0.1  # of the usual weights of the last layer of a prior: it starts near N(0, I)
Grid = tuple[int, int]


class Around(nn.Conv2d):
    """A 3 x 3 convolution of features (N, h, w, C), with zeros around the grid."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.movedim(-1, -3)).movedim(-3, -1)


class Block(nn.Sequential):
    """Activation, 3 x 3 convolution, activation, 1 x 1 convolution of features (N, h, w, C), with half as many channels inside.

    On grids of up to two cells a side both are 1 x 1. (The blocks of Child 2021 have two convolutions more.)

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
        a, first, last = ACTIVATIONS[activation], Around if min(grid) > 2 else nn.Linear, nn.Linear(inner, widths[1])
        super().__init__(a(), first(widths[0], inner), a(), last)
        with torch.no_grad():
            last.weight.mul_(scale)


def cells(h: Tensor, side: int) -> Tensor:
    """(N, h, w, C) -> (N, ceil(h / side), ceil(w / side), side, side, C), with zeros beyond the grid."""
    height, width = h.shape[-3:-1]
    h = F.pad(h, (0, 0, 0, -width % side, 0, -height % side))
    return h.unflatten(-2, (-1, side)).unflatten(-4, (-1, side)).transpose(-4, -3)


class Upward(nn.Module):
    """Images (B, C, H, W) -> features (B, h, w, width) of each grid, the finest first, by residual blocks and means over 2 x 2 cells."""

    def __init__(self, channels: int, width: int, patch: int, blocks: Sequence[int], grids: Sequence[Grid], activation: str) -> None:
        super().__init__()
        self.patch, self.first = patch, nn.Linear(patch**2 * channels, width)
        scale, inner = 1 / math.sqrt(sum(blocks)), max(1, width // 2)
        self.stages = nn.ModuleList(
            nn.ModuleList(Block((width, width), inner, grid, activation, scale) for _ in range(n))
            for n, grid in zip(blocks, grids, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        h, found = self.first(cells(x.movedim(-3, -1), self.patch).flatten(-3)), list[Tensor]()
        for i, stage in enumerate(self.stages):
            h = cells(h, 2).mean((-3, -2)) if i else h
            for block in cast(nn.ModuleList, stage):
                h = h + block(h)
            found.append(h)
        return found


class Passed(NamedTuple):
    """What a top-down block is asked for: its number, its state h (N, h, w, width), and p(z) with means (N, Z_l)."""

    number: int
    h: Tensor
    p: Diagonal


class TopDown(nn.Module):
    """h -> p(z), then h + what the prior adds + a projection of z, then a residual block (Child 2021, the top-down block)."""

    def __init__(self, width: int, channels: int, grid: Grid, place: int, activation: str, scale: float) -> None:
        super().__init__()
        self.grid, self.place, self.units, self.channels = grid, place, channels * math.prod(grid), channels
        inner = max(1, width // 2)
        self.p = Block((width, 2 * channels + width), inner, grid, activation, SMALL)
        self.q = Block((2 * width, 2 * channels), inner, grid, activation)
        self.project = nn.Linear(channels, width)
        self.rest = Block((width, width), inner, grid, activation, scale)
        with torch.no_grad():
            self.project.weight.mul_(scale)

    @staticmethod
    def gaussian(numbers: Tensor) -> Diagonal:
        """Means and log scales (N, h, w, 2 channels) -> N(mean, diag scale^2) of z (N, h w channels)."""
        return gaussian(torch.cat([each.flatten(1) for each in numbers.chunk(2, -1)], -1))

    def prior(self, h: Tensor) -> tuple[Diagonal, Tensor]:
        """h -> p(z) with means (N, Z_l), and h with what the prior adds."""
        numbers, added = self.p(h).tensor_split([2 * self.channels], -1)
        return self.gaussian(numbers), h + added

    def posterior(self, h: Tensor, features: Tensor) -> Diagonal:
        """h and the image's features, both (N, h, w, width) -> q(z) with means (N, Z_l)."""
        return self.gaussian(self.q(torch.cat([h, features], -1)))

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        h = h + self.project(z.unflatten(-1, (*self.grid, self.channels)))
        return h + self.rest(h)


def enlarged(h: Tensor, size: Sequence[int]) -> Tensor:
    """Cells (N, h, w, side, side, C) -> (N, *size, C): side by side, and cut to the size."""
    joined = h.transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)
    return joined[..., : size[0], : size[1], :]


class TopDownPrior(Prior):
    """p(z_L) p(z_(L-1) | z_L) ... p(z_1 | z_2, ..., z_L), each a diagonal Gaussian that a block makes of the state above it.

    A z is the concatenation of the layers, the last block's first.
    """

    def __init__(self, width: int, channels: int, blocks: Sequence[int], grids: Sequence[Grid], activation: str) -> None:
        super().__init__(sum(n * channels * math.prod(grid) for n, grid in zip(blocks, grids, strict=True)))
        self.start = nn.Parameter(torch.randn(1, *grids[-1], width))
        places, scale = [place for place, n in enumerate(blocks) for _ in range(n)], 1 / math.sqrt(sum(blocks))
        self.blocks = nn.ModuleList(TopDown(width, channels, grids[place], place, activation, scale) for place in reversed(places))
        self.sizes = tuple(cast(TopDown, block).units for block in reversed(self.blocks))

    def descend(self, rows: int, pick: Callable[[Passed], Tensor]) -> tuple[Tensor, list[Passed]]:
        """The last state (rows, h, w, width), and what each block was asked, if `pick` gives each z (rows, Z_l)."""
        h, found = self.start.expand(rows, *self.start.shape[1:]), list[Passed]()
        for number, block in enumerate(self.blocks):
            if h.shape[1:3] != block.grid:
                h = enlarged(h[..., None, None, :].expand(*h.shape[:3], 2, 2, -1), block.grid)  # type: ignore[arg-type]
            p, rest = block.prior(h)  # type: ignore[operator]
            found.append(Passed(number, h, p))
            h = block(rest, pick(found[-1]))
        return h, found

    def given(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, Z) -> the last state, and log p(z) (N,)."""
        parts = z.split(self.sizes, -1)[::-1]
        h, found = self.descend(z.shape[0], lambda passed: parts[passed.number])
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
        b, gaussians, drawn = self.features[0].shape[0], list[Diagonal](), list[Tensor]()
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


class Pixels(nn.Module):
    """(N, h, w, patch^2 C k) -> (N, C H W k), with the k outputs of a pixel adjacent."""

    def __init__(self, patch: int, shape: tuple[int, int, int], k: int) -> None:
        super().__init__()
        self.patch, self.shape, self.k = patch, shape, k

    def forward(self, h: Tensor) -> Tensor:
        c, *size = self.shape
        pixels = enlarged(h.unflatten(-1, (self.patch, self.patch, c * self.k)), size)
        return pixels.unflatten(-1, (c, self.k)).movedim(-2, -4).flatten(-4)


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
        blocks: Sequence[int] = (2, 1, 1),
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
        last = nn.Linear(width, patch**2 * c * likelihood.k, bias=False)
        spread = (Pixels(patch, shape, likelihood.k), Bias(math.prod(shape) * likelihood.k))
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
