"""Near-duplicates across parts: frames of a video, bursts, and copies that were compressed, scaled or brightened."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SMALLEST = 20  # pixels a side: of 6000 digits of MNIST, reduced to 16, 20, 24 and 28, 3.1, 1.8, 0.9 and 0.03 % seem to be near-duplicates
SIDE = 32  # pixels a side of the thumbnails that are compared
BITS = 64  # of a hash
TURNS, WINDOW = 4, 16  # orders in which hashes are sorted, and neighbours in each that are compared
FAR = 8  # bits in which hashes of near-duplicates may differ
ALIKE = 0.985  # least correlation of their pixels: reached by 19 % of single frames of a face, by 2 of MNIST's 10 000 test images
PIECE = 2**12  # images or pairs at a time


def near_duplicates(train: Tensor, test: Tensor) -> int | None:
    """How many test images are nearly equal to a training image, by difference hashes and then by correlation of the pixels.

    Similar hashes are neighbours when hashes are sorted by one of several rotations of their bits. So the time is that of sorting. A
    few pairs are missed, so that the number is a lower bound. An image of one grey level is nearly equal to none.

    Args:
        train: (N, C, H, W) uint8.
        test: (M, C, H, W) uint8.

    Returns:
        At most M, or None if the images have fewer than 20 pixels a side.
    """
    if min(train.shape[2:]) < SMALLEST:
        return None
    sides = [min(SIDE, side) for side in train.shape[2:]]
    small, hashes = torch.empty(len(train) + len(test), math.prod(sides)), np.empty(len(train) + len(test), np.uint64)
    begin = 0
    for piece in (piece for part in (train, test) for piece in part.split(PIECE)):
        rows = slice(begin, begin := begin + len(piece))
        small[rows], hashes[rows] = looked_at(piece, sides)
    found = np.zeros(len(hashes), bool)
    for one, other in neighbours(hashes, np.arange(len(hashes)) >= len(train)):
        open_ = ~found[one]
        for a, b in zip(*(np.array_split(rows[open_], open_.sum() // PIECE + 1) for rows in (one, other)), strict=True):
            found[a[((small[a] * small[b]).sum(1) >= ALIKE).numpy()]] = True
    return int(found.sum())


def looked_at(images: Tensor, sides: list[int]) -> tuple[Tensor, np.ndarray]:
    """Thumbnails (N, D), centred and of length 1, and hashes (N,): whether the grey level rises to the right in 8 x 8 places."""
    grey = images.float().mean(1, keepdim=True)
    small = interpolate(grey, sides, mode="area").flatten(1)
    small -= small.mean(1, keepdim=True)
    rises = interpolate(grey, (8, 9), mode="area").squeeze(1).diff(dim=2) > 0
    return small / small.norm(dim=1, keepdim=True).clamp_min(1e-3), np.packbits(rises.flatten(1).numpy(), axis=1).view(np.uint64).ravel()


def neighbours(hashes: np.ndarray, tested: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (a tested one, another) of similar hashes, some more than once."""
    for turn in range(0, BITS, BITS // TURNS):
        turned = (hashes << np.uint64(turn)) | (hashes >> np.uint64((BITS - turn) % BITS))
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            pairs = (tested[a] != tested[b]) & (np.bitwise_count(hashes[a] ^ hashes[b]) <= FAR)
            a, b = a[pairs], b[pairs]
            yield np.where(tested[a], a, b), np.where(tested[a], b, a)
