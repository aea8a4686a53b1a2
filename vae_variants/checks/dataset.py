"""Checks of data sets."""

import math

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.datasets import DATASETS, Dataset


def loaded(name: str) -> Dataset:
    """Not from a cache."""
    if name in ("npz", "npy", "images"):
        raise Skipped("it loads what a path names")
    found = DATASETS[name]()
    if not isinstance(found, Dataset):
        raise Failed(f"gives {type(found).__name__} and not a Dataset", "return split(name, images, labels, validation=..., test=...)")
    return found


@check("data set", first=True)
def gives_images(name: str) -> None:
    """It gives uint8 images with a training, a validation and a test part, and labels that are classes."""
    data = loaded(name)
    for part, count in data.sizes.items():
        images: Tensor = getattr(data, part)
        if count == 0 or images.dtype != torch.uint8 or images.shape[1:] != (data.dim,):
            raise Failed(f"its {part} images are {count} of {images.dtype}", "return split(...), which flattens and cuts them")
        if (top := int(images.max())) >= data.levels:
            raise Failed(f"a pixel of its {part} images is {top}, of {data.levels} levels", f"write levels={top + 1}")
        if data.labels is not None and (len(data.labels[part]) != count or data.labels[part].min() < 0):
            raise Failed(f"its {part} labels are not one class from 0 for each image", "give labels 0 .. classes - 1")


@check("data set")
def its_factors_fit(name: str) -> None:
    """If it has factors, each has a name and a number from 0 for each image, and varies among the training images."""
    data = loaded(name)
    if data.factors is None:
        raise Skipped("it has no factors")
    found, fix = data.factors, "give split(..., factors={name: (N,) integers from 0})"
    if len(set(found.names)) < len(found.names) or len(found.names) != len(found.sizes):
        raise Failed(f"its factors are called {', '.join(found.names)}", fix)
    for part, count in data.sizes.items():
        values = found.values[part]
        if values.shape != (count, len(found.names)) or values.min() < 0 or (values >= torch.tensor(found.sizes)).any():
            raise Failed(f"the factors of its {part} images are not numbers below their sizes for each image", fix)
    if constant := [n for n, column in zip(found.names, found.values["train"].mT, strict=True) if len(column.unique()) < 2]:
        raise Failed(f"its factor {constant[0]!r} does not vary", "leave it out")


@check("data set")
def uses_its_levels(name: str) -> None:
    """Its brightest pixel is in the upper half of its grey levels, and its images are not all the same."""
    data = loaded(name)
    brightest = int(data.train.max())
    if brightest < (data.levels - 1) / 2:
        found = f"its brightest pixel is {brightest}, of {data.levels} levels: nearly black"
        raise Failed(found, f"write levels={brightest + 1}, or scale it")
    if (data.train == data.train[0]).all():
        raise Failed("its training images are all the same", "see how they are read")


@check("data set")
def is_the_same_again(name: str) -> None:
    """Loaded twice it is the same, whatever was drawn before."""
    first = loaded(name).digest
    torch.manual_seed(12345)
    if loaded(name).digest != first:
        fix = "draw from a generator with a seed of its own: torch.Generator().manual_seed(0)"
        raise Failed("it is another data set the second time", fix)


@check("data set")
def test_images_are_new(name: str) -> None:
    """Test and validation images are no more often training images than those are there twice."""
    data = loaded(name)
    train = [row.tobytes() for row in data.train.numpy()]
    times: dict[bytes, int] = {}
    for row in train:
        times[row] = times.get(row, 0) + 1
    twice = sum(times[row] > 1 for row in train) / len(train)
    for part in ("validation", "test"):
        rows = [row.tobytes() for row in getattr(data, part).numpy()]
        seen = sum(row in times for row in rows) / len(rows)
        if seen > twice + 0.01 + 4 * math.sqrt(twice * (1 - twice) / len(rows)):
            found = f"{100 * seen:.0f} % of its {part} images are training images, and {100 * twice:.0f} % of those are there twice"
            raise Failed(found, "cut one set of images by split(), or give test images that are not among the others")
