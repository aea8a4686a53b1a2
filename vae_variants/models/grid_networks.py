"""A convolutional network whose latents are a grid: those of a cell depend on the part of the image around it."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.networks import ACTIVATIONS, NETWORKS, Network, PixelMajor, Shape


def sizes(shape: Shape) -> tuple[list[int], list[int]]:
    """Height and width after one and after two strided convolutions."""
    half = [math.ceil(s / 2) for s in shape[1:]]
    return half, [math.ceil(s / 2) for s in half]


class CellMajor(nn.Module):
    """(B, W, H, W') -> the first `count` of the numbers (B, H * W' * W), with those of a cell adjacent."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, h: Tensor) -> Tensor:
        return h.flatten(-2).mT.flatten(-2)[..., : self.count]


class Cells(nn.Module):
    """The inverse of `CellMajor`; missing numbers are 0."""

    def __init__(self, width: int, cells: list[int]) -> None:
        super().__init__()
        self.width, self.cells = width, cells

    def forward(self, z: Tensor) -> Tensor:
        whole = F.pad(z, (0, self.width * math.prod(self.cells) - z.shape[-1]))
        return whole.unflatten(-1, (-1, self.width)).mT.unflatten(-1, self.cells)


def grid_encoder(shape: Shape, n_out: int, hidden: Sequence[int], activation: str) -> nn.Module:
    a, (_, cells) = ACTIVATIONS[activation], sizes(shape)
    return nn.Sequential(
        nn.Unflatten(-1, shape),
        nn.Conv2d(shape[0], 32, 3, stride=2, padding=1), a(),
        nn.Conv2d(32, hidden[-1], 3, stride=2, padding=1), a(),
        nn.Conv2d(hidden[-1], math.ceil(n_out / math.prod(cells)), 1),
        CellMajor(n_out),
    )  # fmt: skip


def grid_decoder(n_in: int, shape: Shape, k: int, hidden: Sequence[int], activation: str) -> nn.Module:
    a, (half, cells) = ACTIVATIONS[activation], sizes(shape)
    width = math.ceil(n_in / math.prod(cells))
    grow = [(to[0] - 2 * at[0] + 1, to[1] - 2 * at[1] + 1) for at, to in ((cells, half), (half, shape[1:]))]
    return nn.Sequential(
        Cells(width, cells),
        nn.Conv2d(width, hidden[-1], 3, padding=1), a(),
        nn.ConvTranspose2d(hidden[-1], 32, 3, stride=2, padding=1, output_padding=grow[0]), a(),
        nn.ConvTranspose2d(32, shape[0] * k, 3, stride=2, padding=1, output_padding=grow[1]),
        PixelMajor(shape[0], k),
    )  # fmt: skip


NETWORKS.add(
    Network(
        grid_encoder,
        grid_decoder,
        "two strided 3x3 convolutions (32, hidden[-1] channels), no dense layer: latents, or positions of codes, are cells of 4x4 pixels",
    ),
    name="conv-grid",
)
