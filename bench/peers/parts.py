"""Where the time of a training step goes, what each change to it gave, and what was tried and is not used."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from models import RATE, ours_model
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import ProfilerActivity, profile

from vae_variants.datasets import Data
from vae_variants.models.likelihoods import Support
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.precision import precision
from vae_variants.training.traced import Gradient
from vae_variants.variants.recipe import Recipe

__all__ = ["KINDS", "STEPS", "Way", "operations", "ways"]

STEPS = 40
Way = Callable[[Tensor, int, int], Iterator[float]]  # images, seeds, batch -> seconds of each `STEPS` steps

KINDS = {  # of operations, by what their names hold; the first that fits
    "matrix products": ("mm", "matmul"),
    "random numbers": ("rand", "normal_", "uniform_", "bernoulli"),
    "batches of images": ("index", "gather", "lt"),
    "Adam": ("adam",),
}


def training(images: Tensor, seeds: int, batch: int, trace: bool) -> Training:
    data = Data(Support.BINARY, images, images[:1], images[:1], dynamic=False)
    found = Training(Population(ours_model, range(seeds)), data, Recipe(1000, batch, RATE))
    found.gradients = [Gradient(found.population, player, trace=trace) for player in found.players]
    return found


def stream(found: Training) -> Iterator[Tensor]:
    return itertools.chain.from_iterable(found.batches() for _ in itertools.count())


def timed(step: Callable[[Tensor], object], images: Iterator[Tensor]) -> Iterator[float]:
    while True:
        begin = time.perf_counter()
        with precision("fp32"):
            for x in itertools.islice(images, STEPS):
                step(x)
        yield time.perf_counter() - begin


def used(images: Tensor, seeds: int, batch: int) -> Iterator[float]:
    """The step as it is."""
    found, t = training(images, seeds, batch, trace=True), torch.zeros(())
    return timed(lambda x: found.turn(0, x, t), stream(found))


def taped(images: Tensor, seeds: int, batch: int) -> Iterator[float]:
    """vmap and autograd in each step, as a model is written."""
    found, t = training(images, seeds, batch, trace=False), torch.zeros(())
    return timed(lambda x: found.turn(0, x, t), stream(found))


def changed(images: Tensor, seeds: int, batch: int, run: Callable[[Gradient, Tensor, Tensor], Any]) -> Iterator[float]:
    """The step with another way to its gradients."""
    found, t = training(images, seeds, batch, trace=False), torch.zeros(())
    found.gradients[0].run = run(found.gradients[0], next(stream(found)), t)
    return timed(lambda x: found.turn(0, x, t), stream(found))


def unsimplified(gradient: Gradient, x: Tensor, t: Tensor) -> Any:
    """The list of operations as it was traced."""
    return make_fx(gradient.stacked(x, t))(x, t)


def compiled(gradient: Gradient, x: Tensor, t: Tensor) -> Any:
    """The same, by torch.compile; the noise stays torch's own."""
    return torch.compile(make_fx(gradient.stacked(x, t))(x, t), options={"fallback_random": True})


def separate(images: Tensor, seeds: int, batch: int) -> Iterator[float]:
    """A stack of one for each seed, one after the other."""
    each = [training(images, 1, batch, trace=True) for _ in range(seeds)]
    streams, t = [stream(found) for found in each], torch.zeros(())
    while True:
        begin = time.perf_counter()
        with precision("fp32"):
            for found, own in zip(each, streams, strict=True):
                for x in itertools.islice(own, STEPS):
                    found.turn(0, x, t)
        yield time.perf_counter() - begin


def gathered(images: Tensor, seeds: int, batch: int) -> Iterator[float]:
    """One gather for a whole epoch instead of one for each step."""
    found, t = training(images, seeds, batch, trace=True), torch.zeros(())

    def whole() -> Iterator[Tensor]:
        for epoch in itertools.count():
            generators = [torch.Generator().manual_seed(1000 * epoch + seed) for seed in range(seeds)]
            order = torch.stack([torch.randperm(len(images), generator=g) for g in generators])
            epoch_images = images[order]
            for step in range(len(images) // batch):
                yield epoch_images[:, step * batch : (step + 1) * batch]

    return timed(lambda x: found.turn(0, x.contiguous(), t), whole())


def unfused(images: Tensor, seeds: int, batch: int) -> Iterator[float]:
    """Adam operation by operation over lists of tensors instead of fused."""
    found, t = training(images, seeds, batch, trace=True), torch.zeros(())
    found.optimizers = [torch.optim.Adam(found.parameters[0], lr=RATE, foreach=True)]
    return timed(lambda x: found.turn(0, x, t), stream(found))


def ways() -> dict[str, Way]:
    """What is raced: the step as it is, without one of its parts, and with what is not used."""
    return {
        "the step as it is": used,
        "vmap and autograd anew in each step": taped,
        "traced, not simplified": partial(changed, run=unsimplified),
        "seeds one after the other": separate,
        "Adam not fused": unfused,
        "one gather for each epoch": gathered,
        "torch.compile": partial(changed, run=compiled),
    }


def kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name.lower() for part in parts)), "everything else of torch")


def operations(images: Tensor, seeds: int, batch: int, trace: bool) -> dict[str, float]:
    """Milliseconds of a step by kind of operation, from torch's profiler; what is left of the clock's is Python and calls."""
    found, t = training(images, seeds, batch, trace), torch.zeros(())
    own = stream(found)
    with precision("fp32"):
        for x in itertools.islice(own, 10):
            found.turn(0, x, t)
        clock = []
        for _ in range(5):
            begin = time.perf_counter()
            for x in itertools.islice(own, STEPS):
                found.turn(0, x, t)
            clock.append((time.perf_counter() - begin) / STEPS * 1e3)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for x in itertools.islice(own, STEPS):
                found.turn(0, x, t)
    total: Counter[str] = Counter()
    for event in seen.key_averages():
        total[kind(event.key)] += event.self_cpu_time_total / STEPS / 1e3
    parts = {name: total[name] for name in (*KINDS, "everything else of torch")}
    return {**parts, "Python, and what the profiler does not see": max(0.0, sorted(clock)[2] - sum(parts.values()))}
