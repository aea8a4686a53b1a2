"""What laws of several kinds share: descriptions, shapes in words, small images and models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vae_variants.checks.check import Broken
from vae_variants.datasets import Dataset, load_dataset, split
from vae_variants.models.base import Model
from vae_variants.registry import Registry
from vae_variants.training.population import Population
from vae_variants.variants import Configuration, build, configure

__all__ = ["configuration", "described", "digits", "members", "model_of", "size", "tiny"]

SMALL = {"hidden": [7], "latent": 3, "batch": 10, "epochs": 2}


def described(registry: Registry[Any], name: str, least: int = 8) -> None:
    """Raises `Broken` where `list` would have nothing to show."""
    obj = registry[name]
    inherited = isinstance(obj, type) and not vars(obj).get("__doc__")
    if inherited or len(registry.describe(name)) < least:
        raise Broken("has no description", "write a docstring: its first line is what `list` shows")


def size(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


@lru_cache(maxsize=4)
def tiny(height: int = 2, width: int = 5) -> Dataset:
    """Sixty images in 4 levels, two classes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 4, (60, 1, height, width), generator=generator, dtype=torch.uint8)
    return split("tiny", images, images.flatten(1).sum(1) % 2, levels=4, validation=10, test=10)


def digits(train: int = 60, evaluation: int = 20) -> Dataset:
    """Some of scikit-learn's, which need no download."""
    return load_dataset("digits").subset(train, evaluation)


def configuration(selector: str, **options: object) -> Configuration:
    """Of a small network, unless the selector says otherwise."""
    (found,) = configure(selector, {**SMALL, **options})
    return found


def model_of(selector: str, dataset: Dataset, **options: object) -> Model:
    return build(configuration(selector, **options), dataset)


def members(selector: str, dataset: Dataset) -> tuple[Model, Tensor]:
    """An untrained model that has seen the data if it takes something from them, and the test images in its support."""
    population = Population(lambda: model_of(selector, dataset), (0,))
    data = dataset.as_(population.template.support)
    population.initialise(data.train)
    return next(population.members()), data.test
