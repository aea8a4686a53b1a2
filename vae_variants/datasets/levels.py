"""Images in their stored levels, which become float32 part by part: for data whose float32 would not fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

LARGEST = 2**30  # bytes of float32; larger parts of a data set stay in their levels
START = 2**28  # bytes of float32 of such a part that models start from
PIECE = 2**24  # numbers that are made at a time


class Levels:
    """Images (N, D) as levels 0 .. `top`. What is taken of them is float32 in [0, 1]: level / top, the same numbers as of the whole.

    It has what training and evaluation use of a tensor of images.
    """

    def __init__(self, stored: Tensor, top: int) -> None:
        self.stored, self.top = stored, top

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> torch.Size:
        return self.stored.shape

    @property
    def device(self) -> torch.device:
        return self.stored.device

    def to(self, device: torch.device) -> Levels:
        return Levels(self.stored.to(device), self.top)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        return self.stored[rows].float() / self.top

    def index_select(self, axis: int, rows: Tensor) -> Tensor:
        return self.stored.index_select(axis, rows).float() / self.top

    def split(self, size: int) -> Iterator[Tensor]:
        return (self[i : i + size] for i in range(0, len(self), size))

    def double(self) -> Tensor:
        """All of them."""
        return self[:].double()


Images: TypeAlias = Tensor | Levels


def images(stored: Tensor, top: int) -> Images:
    """Levels (N, D) as float32 in [0, 1], at once if they are at most `LARGEST` bytes then."""
    found = Levels(stored, top)
    return found if 4 * stored.numel() > LARGEST else found[:]


def binarised(found: Images, generator: torch.Generator) -> Images:
    """1 with probability x, else 0, drawn with a generator: the same for either type."""
    if isinstance(found, Tensor):
        return (torch.rand(found.shape, generator=generator) < found).float()
    drawn = torch.empty(found.shape, dtype=torch.uint8)
    rows = max(1, PIECE // math.prod(found.shape[1:]))
    for part, x in zip(drawn.split(rows), found.split(rows), strict=True):
        part.copy_(torch.rand(x.shape, generator=generator) < x)
    return Levels(drawn, 1)


def some(found: Images) -> Tensor:
    """All images, or of those that stay in levels as many at equal distances as fit into `START` bytes: what models start from."""
    return found if isinstance(found, Tensor) else found[rows_of(found)]


def rows_of(found: Images) -> Tensor:
    """The numbers of `some` images."""
    most = len(found) if isinstance(found, Tensor) else max(1, START // (4 * math.prod(found.shape[1:])))
    return torch.linspace(0, len(found) - 1, min(len(found), most)).long()


def mean(found: Images) -> Tensor:
    """Mean image (D,) in float64. Sums of up to 2^20 such numbers are exact in it, so that parts give the same as the whole."""
    if isinstance(found, Tensor):
        return found.mean(0, dtype=torch.float64)
    parts = found.split(max(1, PIECE // math.prod(found.shape[1:])))
    return torch.stack([part.sum(0, dtype=torch.float64) for part in parts]).sum(0) / len(found)
