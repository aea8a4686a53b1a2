"""Convolutional networks with a stage for each halving of the image, for images of 16 to 256 pixels a side."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vae_variants.models.grid_networks import CellMajor, Cells, mixed
from vae_variants.models.networks import ACTIVATIONS, NETWORKS, Network, PixelMajor, Shape, scaled

SMALLEST = 4  # pixels of the longer side after the last stage, at most
WIDEST = 8  # times `width`: the channels of the last stages, at most
GROUPS = 8  # of channels that attention normalises together


def sizes(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of an image, then after each stage, of which there is one at least."""
    found = [(shape[1], shape[2])]
    while max(found[-1]) > SMALLEST or len(found) == 1:
        height, width = found[-1]
        found.append((math.ceil(height / 2), math.ceil(width / 2)))
    return found


def channels(width: int, stages: int) -> list[int]:
    """Of each stage: twice as many as of the one before, up to a limit."""
    return [width * min(2**i, WIDEST) for i in range(stages)]


class Residual(nn.Module):
    """h + s f(h), with two 3x3 convolutions f and a learnt number s that starts at 0 (SkipInit, De & Smith 2020).

    Normalisation in its place takes away how strong a contrast is, which an autoencoder has to give back.
    """

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        a = ACTIVATIONS[activation]
        self.body = nn.Sequential(a(), nn.Conv2d(width, width, 3, padding=1), a(), nn.Conv2d(width, width, 3, padding=1))
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.strength * self.body(h)


class Doubled(nn.Module):
    """A transposed 4x4 convolution of stride 2: four weights reach each place. Odd sizes lose the last row or column."""

    def __init__(self, n_in: int, n_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.convolution, self.size = nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1), size

    def forward(self, h: Tensor) -> Tensor:
        return self.convolution(h)[..., : self.size[0], : self.size[1]]


class Attention(nn.Module):
    """h + s times self-attention of all places, softmax(q k^T / sqrt(width)) v, with one head, on (B, width, H, W); s starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(GROUPS, width), width)
        self.mixed, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.mixed(self.norm(h)).flatten(-2).chunk(3, -2)  # (B, width, places)
        weights = (q.mT @ k / math.sqrt(q.shape[-2])).softmax(-1)
        return h + self.strength * self.out((v @ weights.mT).unflatten(-1, h.shape[-2:]))


class Blocks(nn.Sequential):
    """The residual blocks of one resolution, and attention after the first if asked for."""

    def __init__(self, width: int, depth: int, activation: str, attention: bool = False) -> None:
        found: list[nn.Module] = [Residual(width, activation) for _ in range(depth)]
        super().__init__(*found[:1], *([Attention(width)] if attention else []), *found[1:])


def halving(shape: Shape, n_out: int, activation: str, width: int, depth: int, attention: bool, grid: bool) -> nn.Module:
    """(B, D) -> (B, n_out): stages of a strided convolution and blocks; then a dense layer, or a 1x1 convolution for a grid."""
    a, places = ACTIVATIONS[activation], sizes(shape)
    wide = channels(width, len(places) - 1)
    modules: list[nn.Module] = [nn.Unflatten(-1, shape)]
    for stage, (before, after) in enumerate(pairwise((shape[0], *wide)), 1):
        modules += [nn.Conv2d(before, after, 3, stride=2, padding=1)]
        modules += [Blocks(after, depth, activation, attention and stage == len(wide)), a()]
    cells = math.prod(places[-1])
    if not grid:
        return scaled(nn.Sequential(*modules, nn.Flatten(-3), nn.Linear(wide[-1] * cells, n_out)), activation)
    each = math.ceil(n_out / cells)
    return scaled(nn.Sequential(*modules, nn.Conv2d(wide[-1], each, 1), CellMajor(), *mixed(each * cells, n_out)), activation)


def doubling(n_in: int, shape: Shape, k: int, activation: str, width: int, depth: int, attention: bool, grid: bool) -> nn.Module:
    """(B, n_in) -> (B, D * k): the mirror image of `halving`."""
    a, places = ACTIVATIONS[activation], sizes(shape)
    wide = channels(width, len(places) - 1)
    cells = math.prod(places[-1])
    if grid:
        each = math.ceil(n_in / cells)
        modules: list[nn.Module] = [*mixed(n_in, each * cells), Cells(places[-1]), nn.Conv2d(each, wide[-1], 3, padding=1)]
    else:
        modules = [nn.Linear(n_in, wide[-1] * cells), nn.Unflatten(-1, (wide[-1], *places[-1]))]
    for stage, (after, before) in reversed([*enumerate(pairwise((shape[0] * k, *wide)), 1)]):
        modules += [Blocks(before, depth, activation, attention and stage == len(wide)), a()]
        modules += [Doubled(before, after, places[stage - 1])]
    return scaled(nn.Sequential(*modules, PixelMajor(shape[0], k)), activation)


def deep(description: str, width: int, depth: int, attention: bool, grid: bool) -> Network:
    def encoder(shape: Shape, n_out: int, _: Sequence[int], activation: str) -> nn.Module:
        return halving(shape, n_out, activation, width, depth, attention, grid)

    def decoder(n_in: int, shape: Shape, k: int, _: Sequence[int], activation: str) -> nn.Module:
        return doubling(n_in, shape, k, activation, width, depth, attention, grid)

    return Network(encoder, decoder, description, (lambda shape: sizes(shape)[-1]) if grid else None)


@NETWORKS.add(name="deep-conv")
def deep_conv(width: int = 32, grid: bool = False) -> Network:
    """strided 3x3 convolutions down to 4 pixels; `width` channels, doubled at each stage; takes no `hidden`"""
    return deep(deep_conv.__doc__ or "", width, 0, False, grid)


@NETWORKS.add(name="resnet")
def resnet(width: int = 32, depth: int = 1, attention: bool = False, grid: bool = False) -> Network:
    """as deep-conv, with `depth` residual blocks at each stage, `attention` between the places of the last, or `grid`, a grid of latents"""
    return deep(resnet.__doc__ or "", width, depth, attention, grid)
