"""Floating-point rate of a training step, and of a plain matrix product on the same machine."""

import statistics
import time
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_variants.training.loop import Training
from vae_variants.training.precision import autocast, precision
from vae_variants.training.traced import Gradient

SIDES = {"cpu": (512, 784, 512), "cuda": (4096, 4096, 4096)}  # of the product
REPEATS = 15


@lru_cache(maxsize=8)
def product_rate(device: torch.device, name: str) -> float:
    """Operations per second of a product of two matrices in precision `name`: 2 n k m / seconds, the median of 15 after 5 to warm up.

    (512, 784) by (784, 512) on a CPU, (4096, 4096) squared on a GPU; measured once per process.
    """
    n, k, m = SIDES[device.type]
    a, b, times = torch.ones(n, k, device=device), torch.ones(k, m, device=device), list[float]()
    with precision(name), autocast(name, device):
        for _ in range(5 + REPEATS):
            begin = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begin)
    return 2 * n * k * m / statistics.median(times[5:])


class Products(TorchDispatchMode):
    """Counts the operations of products and convolutions by torch's own formulas.

    `FlopCounterMode` fails on a loss that contains a gradient, such as the GAN's penalty.
    """

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # imports Triton

        super().__init__()
        self.total, self.formulas = 0, flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if (formula := self.formulas.get(func.overloadpacket)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found


def step_flops(training: Training) -> int:
    """Additions and multiplications of all products and convolutions in one turn of all players and members.

    Leaves the population and the random streams unchanged.
    """
    population, device = training.population, training.population.device
    x, t = next(training.batches()), torch.zeros((), device=device)
    total = 0
    with population.trial():
        for player in training.players:
            gradient = Gradient(population, player, training.recipe.precision, trace=False)
            with Products() as counter:
                if population.models:
                    gradient(x, t)
                else:
                    loss, mine, rest = gradient.loss(slice(0, 1))
                    loss(mine, rest, x[:1], t)
            total += int(counter.total) * player.steps
    return total * (1 if population.models else len(population))
