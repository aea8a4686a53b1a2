"""How long and how fast a model trains."""

import math
from collections.abc import Callable
from dataclasses import dataclass

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
    """Training options: epochs, images per step and seed, learning rate of Adam.

    `decay="cosine"` lowers the rate to 0: lr (1 + cos(pi n / N)) / 2 in step n = 0 .. N - 1 (Loshchilov & Hutter 2017, without restarts).
    `precision` is one of `PRECISIONS` and concerns matrix products in training.
    """

    epochs: int = 30
    batch: int = 100
    lr: float = 1e-3
    decay: str = "constant"
    precision: str = "fp32"
