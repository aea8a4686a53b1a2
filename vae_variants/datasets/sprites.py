"""Drawn grey shapes with known factors. All geometry is in whole numbers, so that images are the same on every machine."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from vae_variants.datasets.dataset import DATASETS, Dataset, split
from vae_variants.registry import UserError

SIDES = (16, 32, 64)  # pixels
FINE = 256  # samples a side of the whole image
BOX = 112  # samples a side of the square in which a shape is drawn
ONE = 4096  # a cosine of 1, in whole numbers


def turns(n: int) -> list[tuple[int, int]]:
    """(cosine, sine) of n angles at equal distances, in units of 1 / `ONE`."""
    angles = [2 * math.pi * k / n for k in range(n)]
    return [(round(ONE * math.cos(a)), round(ONE * math.sin(a))) for a in angles]


def plane() -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y down of the samples of a box from its centre, in half samples: odd numbers, int64 (BOX, BOX)."""
    axis = 2 * np.arange(BOX, dtype=np.int64) + 1 - BOX
    return np.broadcast_to(axis, (BOX, BOX)), np.broadcast_to(axis[:, None], (BOX, BOX))


def heart(x: np.ndarray, y: np.ndarray, r: int) -> np.ndarray:
    """Two discs of radius 0.52 around (+-0.45, -0.35), and what lies between them and the point (0, 0.95) below."""
    discs = 10_000 * ((np.abs(x) - 45 * r // 100) ** 2 + (y + 35 * r // 100) ** 2) <= 2704 * r**2
    point = (500 * np.abs(x) <= 22 * (19 * r - 20 * y)) & (y >= 0)
    return discs | point | ((20 * np.abs(x) <= 9 * r) & (20 * y >= -7 * r) & (y <= 0))


def triangle(x: np.ndarray, y: np.ndarray, r: int) -> np.ndarray:
    """Corners (0, -1) and (+-0.7, 0.8): longer than wide, so that it tells which way is up."""
    return (18 * np.abs(x) <= 7 * (y + r)) & (5 * y <= 4 * r)


def half_disc(x: np.ndarray, y: np.ndarray, r: int) -> np.ndarray:
    """The part of the unit disc with y <= 0.1."""
    return (x**2 + y**2 <= r**2) & (10 * y <= r)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"heart": heart, "triangle": triangle, "half-disc": half_disc}
RADII = (28, 34, 40, 46, 52)  # samples
PLACES = range(12, 140, 8)  # samples before the box, to the left or above


def edges(side: int, places: Iterable[int]) -> np.ndarray:
    """Samples of the box before the left edge of each pixel, and before the end of the image, at each of n places: (n, side + 1)."""
    return np.clip(FINE // side * np.arange(side + 1) - np.array(list(places))[:, None], 0, BOX)


def pooled(box: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Sums of a box (BOX, BOX) of whole numbers over each pixel, at each place: (places down, places across, side, side) int64."""
    sums = np.pad(box, ((1, 0), (1, 0))).cumsum(0, dtype=np.int64).cumsum(1)
    corners = sums[down[:, None, :, None], across[None, :, None, :]]
    return np.diff(np.diff(corners, axis=2), axis=3)


def checked(side: int) -> int:
    """Samples of a pixel. Raises `UserError`."""
    if side not in SIDES:
        raise UserError(f"option size={side} is not valid; it takes {', '.join(map(str, SIDES))} pixels a side")
    return (FINE // side) ** 2


def numbered(sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Name -> the value of each factor in every combination, the last factor changing first."""
    grid = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)
    return {name: torch.from_numpy(values) for name, values in zip(sizes, grid, strict=True)}


@DATASETS.add
def sprites(size: int = 32) -> Dataset:
    """61 440 drawn grey shapes: every combination of 3 shapes, 5 scales, 16 orientations and 16 x 16 places; `size=16`, 32 or 64 pixels

    The classes are the shapes. No shape looks the same after a turn, so that each combination is another image.
    """
    whole, orientations, at = checked(size), turns(16), edges(size, PLACES)
    factors = {"shape": len(SHAPES), "scale": len(RADII), "orientation": len(orientations), "y": len(PLACES), "x": len(PLACES)}
    images = np.empty((*factors.values(), size, size), np.uint8)
    (x, y), kinds = plane(), list(SHAPES.values())
    for s, k, o in itertools.product(range(len(kinds)), range(len(RADII)), range(len(orientations))):
        cosine, sine = orientations[o]
        inside = kinds[s](cosine * x + sine * y, cosine * y - sine * x, 2 * RADII[k] * ONE)
        images[s, k, o] = (510 * pooled(inside, at, at) + whole) // (2 * whole)
    values, grey = numbered(factors), torch.from_numpy(images).reshape(-1, 1, size, size)
    return split("sprites", grey, values["shape"], classes=list(SHAPES), validation=5_000, test=10_000, factors=values)
