"""How long and how fast a model trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["DECAYS", "PRECISIONS", "Recipe"]

DECAYS: dict[str, Callable[[float], float]] = {  # name -> factor of the learning rate after a fraction of training in [0, 1)
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}

PRECISIONS = {
    "fp32": "float32 throughout",
    "tf32": "factors of products rounded to 10 bits of mantissa, on a GPU that has tensor cores for it",
    "bf16": "factors of products rounded to 7 bits of mantissa, on a CPU or GPU that multiplies bfloat16",
}


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: passes over the training images, images per step and seed, Adam's learning rate.

    `decay` is what becomes of the rate: `cosine` takes it to 0 over all steps, lr (1 + cos(pi n / N)) / 2 in step n = 0 .. N - 1
    (Loshchilov & Hutter 2017, without restarts). `precision` is that of products of matrices in training, one of `PRECISIONS`.
    """

    epochs: int = 30
    batch: int = 100
    lr: float = 1e-3
    decay: str = "constant"
    precision: str = "fp32"
