"""Images in pieces, so that the memory that a measurement takes does not grow with their number."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.datasets.levels import Images, Levels

LARGEST = 2**24  # bytes of a tensor made of one piece: of those that reuse memory which `process.prepare` has the process keep


def spread(n: int, k: int) -> Tensor:
    """At most k of n indices, at equal distances."""
    return torch.linspace(0, n - 1, min(n, k)).long()


def stored(dataset: Dataset, part: str = "test", most: int = sys.maxsize) -> Levels:
    """The images of a part (N, D), at most so many at equal distances. Only what is taken of them becomes float32 in [0, 1]."""
    found: Tensor = getattr(dataset, part)
    return Levels(found if len(found) <= most else found[spread(len(found), most)], dataset.levels - 1)


def rows(each: int, most: int = sys.maxsize) -> int:
    """Images in a piece, if the largest tensor made of it takes `each` bytes for an image."""
    return max(1, min(most, LARGEST // each))


def by_pieces(work: Callable[[Tensor], Tensor], images: Images, each: int, most: int = sys.maxsize) -> Tensor:
    """What `work` makes of images (N, D), one after the other: (N, ...). `each` and `most` as in `rows`."""
    return torch.cat([work(part) for part in images.split(rows(each, most))])
