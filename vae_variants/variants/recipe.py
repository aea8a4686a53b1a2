"""How long and how fast a model trains."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from vae_variants.models.numerics import slowdown

DECAYS: dict[str, Callable[[float], float]] = {  # name -> factor of the learning rate after a fraction of training in [0, 1)
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}

PRECISIONS = {
    "fp32": "float32 throughout",
    "tf32": "factors of products rounded to 10 bits of mantissa, on a GPU that has tensor cores for it",
    "bf16": "factors of products rounded to 7 bits of mantissa, on a CPU or GPU that multiplies bfloat16",
}


AUTO = "auto"  # the learning rate by the number of pixels


@dataclass(frozen=True)
class Recipe:
    """Training options: epochs, images per step and seed, learning rate of Adam.

    `lr="auto"` is 0.01 for images of up to 64 numbers, such as the digits, and falls with the cube root of that number: see `rate`.
    `decay="cosine"` lowers the rate to 0: lr (1 + cos(pi n / N)) / 2 in step n = 0 .. N - 1 (Loshchilov & Hutter 2017, without restarts).
    `precision` is one of `PRECISIONS` and concerns matrix products in training.
    """

    epochs: int = 30
    batch: int = 100
    lr: float | str = AUTO
    decay: str = "constant"
    precision: str = "fp32"

    def rate(self, pixels: int) -> float:
        """The learning rate for images of so many numbers, channels included: `lr`, or 0.01 / max(1, cbrt(pixels / 64)).

        One step of Adam moves a unit of the first layer by up to the rate times the sum of its inputs. At 0.01, networks learn digits and
        MNIST well, diverge on 64x64 colour images and at times on 32x32 ones; at 0.003 they learn all of them.
        """
        return 1e-2 / slowdown(pixels) if self.lr == AUTO else float(self.lr)
