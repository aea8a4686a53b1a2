"""Drawn coloured solids with known factors, shaded by a light. Sums, products, quotients and roots alone are the same on every machine."""

import itertools
import math

import numpy as np
import torch

from vae_variants.datasets.dataset import DATASETS, Dataset, split
from vae_variants.datasets.sprites import BOX, FINE, ONE, checked, edges, numbered, plane, pooled, turns

AXES = ((-24, -18, 16), (-2, 24, 24), (24, -16, 18))  # of a turned cube that face the viewer: right, down, towards; each of length 34
SIGNS = itertools.product((1, -1), repeat=3)
CORNERS = tuple(tuple(a * x + b * y + c * z for x, y, z in zip(*AXES, strict=True)) for a, b, c in SIGNS)  # of the same cube
OBJECTS = ((224, 60, 60), (224, 196, 56), (88, 200, 72), (64, 200, 208), (76, 96, 224), (208, 80, 208))  # red, green, blue
GROUNDS = ((150, 150, 150), (170, 120, 90), (90, 140, 110), (100, 110, 160))
RADII = (30, 37, 44, 51)  # samples
PLACES = range(12, 140, 16)  # samples to the left of the box
DARK, FULL = 96, 256  # brightness without light, and facing it
INNER = 0.62  # distance of the faces of a cube or an octahedron from the centre, of the radius

Seen = tuple[np.ndarray, np.ndarray]  # which samples of a box a solid covers, and (3, BOX, BOX) its unit normals there


def ball(x: np.ndarray, y: np.ndarray, r: float) -> Seen:
    """The unit ball times r; x and y as those of `plane`."""
    inside = x**2 + y**2 < r * r
    return inside, np.stack([x, y, np.sqrt(np.where(inside, r * r - x**2 - y**2, 0.0))]) / r


def faceted(faces: tuple[tuple[int, ...], ...], x: np.ndarray, y: np.ndarray, r: float) -> Seen:
    """A convex solid whose faces have these normals and the opposite ones, all at the same distance from the centre."""
    front = [np.array(n) / math.sqrt(sum(a * a for a in n)) for n in faces if n[2] > 0]
    start = [(INNER * r - n[0] * x - n[1] * y) / n[2] for n in front]  # height at which a ray from the viewer enters this half-space
    end = [(-INNER * r - n[0] * x - n[1] * y) / n[2] for n in front]  # and leaves the opposite one
    first = np.argmin(start, axis=0)
    return np.min(start, axis=0) > np.max(end, axis=0), np.moveaxis(np.array(front)[first], -1, 0)


SHAPES = ("ball", "cube", "octahedron")


def shaded(shape: int, radius: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The samples that a solid covers, and its brightness there for each light, 0 elsewhere: whole numbers up to `FULL`."""
    x, y = plane()
    inside, (right, down, towards) = ball(x, y, 2.0 * radius) if shape == 0 else faceted((AXES, CORNERS)[shape - 1], x, y, 2.0 * radius)
    slope = math.sqrt(2) * ONE  # the light comes from around the viewer's shoulder, 45 degrees above the picture
    lights = [np.maximum(0.0, (right * c + down * s + towards * ONE) / slope) for c, s in turns(8)]
    return inside, [inside * np.floor(DARK + (FULL - DARK) * light + 0.5).astype(np.int64) for light in lights]


@DATASETS.add(name="sprites-colour")
def sprites_colour(size: int = 32) -> Dataset:
    """18 432 drawn coloured solids: every combination of 6 hues, 4 grounds, 3 shapes, 4 scales, 8 lights, 8 places; `size=16`, 32 or 64

    A light around the viewer shades a ball, a cube or an octahedron in front of a wall that is brighter below. The classes are the shapes.
    """
    whole, across, middle = checked(size), edges(size, PLACES), edges(size, [(FINE - BOX) // 2])
    factors = {"hue": len(OBJECTS), "ground": len(GROUNDS), "shape": len(SHAPES), "scale": len(RADII), "light": 8, "x": len(PLACES)}
    images = np.empty((*factors.values(), 3, size, size), np.uint8)
    objects, grounds = (np.array(colours)[:, None, :, None, None] for colours in (OBJECTS, GROUNDS))
    wall = grounds * (160 + (96 * np.arange(size) + 48) // size)[:, None]  # of `FULL`
    for s, k in itertools.product(range(len(SHAPES)), range(len(RADII))):
        inside, lights = shaded(s, RADII[k])
        behind = wall * (whole - pooled(inside, middle, across)[0][:, None])
        for i, light in enumerate(lights):
            before = objects * pooled(light, middle, across)[0][:, None]
            images[:, :, s, k, i] = (before[:, None] + behind + FULL * whole // 2) // (FULL * whole)
    values, pixels = numbered(factors), torch.from_numpy(images).reshape(-1, 3, size, size)
    return split("sprites-colour", pixels, values["shape"], classes=SHAPES, validation=2_000, test=4_000, factors=values)
