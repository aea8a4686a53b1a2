"""A convolutional network whose latents are a grid: those of a cell depend on the part of the image around it."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from vae_variants.models.networks import ACTIVATIONS, NETWORKS, Network, PixelMajor, Shape


def halved(height: int, width: int) -> tuple[int, int]:
    """Height and width after a strided convolution."""
    return math.ceil(height / 2), math.ceil(width / 2)


def cells_of(shape: Shape) -> tuple[int, int]:
    """Height and width after two strided convolutions."""
    return halved(*halved(*shape[1:]))


class CellMajor(nn.Module):
    """(B, W, H, W') -> (B, H * W' * W), with the numbers of a cell adjacent."""

    def forward(self, h: Tensor) -> Tensor:
        return h.flatten(-2).mT.flatten(-2)


class Cells(nn.Module):
    """The inverse of `CellMajor`."""

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, z: Tensor) -> Tensor:
        return z.unflatten(-1, (math.prod(self.cells), -1)).mT.unflatten(-1, self.cells)


def mixed(n_in: int, n_out: int) -> list[nn.Module]:
    """A dense layer between the numbers of all cells and latents that are no whole number for each cell; else nothing."""
    return [nn.Linear(n_in, n_out)] if n_in != n_out else []


def grid_encoder(shape: Shape, n_out: int, hidden: Sequence[int], activation: str) -> nn.Module:
    a, cells = ACTIVATIONS[activation], cells_of(shape)
    width = math.ceil(n_out / math.prod(cells))
    return nn.Sequential(
        nn.Unflatten(-1, shape),
        nn.Conv2d(shape[0], 32, 3, stride=2, padding=1), a(),
        nn.Conv2d(32, hidden[-1], 3, stride=2, padding=1), a(),
        nn.Conv2d(hidden[-1], width, 1),
        CellMajor(), *mixed(width * math.prod(cells), n_out),
    )  # fmt: skip


def grid_decoder(n_in: int, shape: Shape, k: int, hidden: Sequence[int], activation: str) -> nn.Module:
    a, half, cells = ACTIVATIONS[activation], halved(*shape[1:]), cells_of(shape)
    width = math.ceil(n_in / math.prod(cells))
    grow = [(to[0] - 2 * at[0] + 1, to[1] - 2 * at[1] + 1) for at, to in ((cells, half), (half, shape[1:]))]
    return nn.Sequential(
        *mixed(n_in, width * math.prod(cells)), Cells(cells),
        nn.Conv2d(width, hidden[-1], 3, padding=1), a(),
        nn.ConvTranspose2d(hidden[-1], 32, 3, stride=2, padding=1, output_padding=grow[0]), a(),
        nn.ConvTranspose2d(32, shape[0] * k, 3, stride=2, padding=1, output_padding=grow[1]),
        PixelMajor(shape[0], k),
    )  # fmt: skip


NETWORKS.add(
    Network(
        grid_encoder,
        grid_decoder,
        "two strided 3x3 convolutions (32, hidden[-1] channels), cells of 4x4 pixels; dense only if latents are no multiple of cells",
        cells_of,
    ),
    name="conv-grid",
)
