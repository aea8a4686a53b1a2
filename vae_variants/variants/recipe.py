"""How long and how fast a model trains."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

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

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {  # name -> (parameters, learning rate) -> optimiser
    "adam": partial(torch.optim.Adam, fused=True),
    "adam-1e-4": partial(torch.optim.Adam, eps=1e-4, fused=True),  # of Burda et al. 2016, sec. 5
    "adam-0.5": partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True),  # of GANs (Radford et al. 2016)
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "rmsprop": torch.optim.RMSprop,
}

KEPT = {
    "last": "the weights after the last epoch",
    "best": "of each seed, those of the epoch with the best validation; the last ones of a model that is not validated, such as a GAN",
}

AUTO = "auto"  # the learning rate by the number of pixels


@dataclass(frozen=True)
class Recipe:
    """Training options: epochs, images per step and seed, learning rate.

    `lr="auto"` is 0.01 for images of up to 64 numbers, such as the digits, and falls with the cube root of that number: see `rate`.
    `decay="cosine"` lowers the rate to 0: lr (1 + cos(pi n / N)) / 2 in step n = 0 .. N - 1 (Loshchilov & Hutter 2017, without restarts).
    `precision` is one of `PRECISIONS` and concerns matrix products in training.
    `optimizer` is one of `OPTIMIZERS`; a player may have its own.
    `weight_decay` shrinks all weights by the factor 1 - rate * weight_decay before each step (decoupled: Loshchilov & Hutter 2019).
    `clip` is the largest Euclidean norm of the gradient of a player, seed by seed; 0 is no limit.
    `lr_warm_up` is the share of training in which the rate rises linearly from 0.
    `average` is the decay of an exponential moving average of the weights, which is validated and kept in their place; 0 is none.
    `keep` is one of `KEPT`: which weights training ends with.
    `patience` keeps the weights of the best validation too, and looks no further for it after so many epochs without a better one. When
    no seed looks further, training ends. 0 looks to the end.
    """

    epochs: int = 30
    batch: int = 100
    lr: float | str = AUTO
    decay: str = "constant"
    precision: str = "fp32"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    clip: float = 0.0
    lr_warm_up: float = 0.0
    average: float = 0.0
    patience: int = 0
    keep: str = "last"

    def rate(self, pixels: int) -> float:
        """The learning rate for images of so many numbers, channels included: `lr`, or 0.01 / max(1, cbrt(pixels / 64)).

        One step of Adam moves a unit of the first layer by up to the rate times the sum of its inputs. At 0.01, networks learn digits and
        MNIST well, diverge on 64x64 colour images and at times on 32x32 ones; at 0.003 they learn all of them.
        """
        return 1e-2 / slowdown(pixels) if self.lr == AUTO else float(self.lr)
