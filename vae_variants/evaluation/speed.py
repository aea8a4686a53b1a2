"""Throughput and cost. Figures of one machine: the record names device and threads, and no other machine's compare."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import Skip, metric, trained
from vae_variants.model import Encoder, Sampler

__all__ = ["BATCH", "median_seconds"]

BATCH = 100
SLOW = 5.0


def median_seconds(work: Callable[[], object], device: torch.device, budget: float) -> float:
    """Seconds of one call: after one to warm up, the median over at least 3 calls and as many as fit into `budget` seconds.

    A call of more than `SLOW` seconds is measured once: it has no need of a warm-up.
    """

    def once() -> float:
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    first = once()
    if first > SLOW:
        return first
    times = [once() for _ in range(3)]
    while sum(times) < budget:
        times.append(once())
    return statistics.median(times)


@metric(needs=(Sampler,), unit="images/s", better="higher", applies=trained)
def sample_images_per_second(e: Evaluation) -> float:
    """drawing samples, 100 at a time

    Formula: 100 / seconds of one call.
    Estimator: after one call to warm up, the median over at least 3 calls, and as many as fit into 0.05 s; on a GPU each is waited for.
    Sample size: calls of 100 images by one seed.
    Fails: of this machine, its load and 100 images at a time only: larger batches can be far faster, a single image slower. A call of
    more than 5 s is measured once.
    Reference: none
    """
    assert isinstance(e.model, Sampler)
    model = e.model
    with e.noise("speed"):
        return BATCH / median_seconds(lambda: model.sample(BATCH), e.device, e.fidelity.timing_seconds)


@metric(needs=(Encoder,), unit="images/s", better="higher", applies=trained)
def encode_images_per_second(e: Evaluation) -> float:
    """encoding test images, 100 at a time

    Formula: images / seconds of one call.
    Estimator: after one call to warm up, the median over at least 3 calls, and as many as fit into 0.05 s; on a GPU each is waited for.
    Sample size: calls of the first 100 test images by one seed.
    Fails: of this machine, its load and 100 images at a time only.
    Reference: none
    """
    assert isinstance(e.model, Encoder)
    model, x = e.model, e.test[:BATCH]
    with e.noise("speed"):
        return len(x) / median_seconds(lambda: model.encode(x), e.device, e.fidelity.timing_seconds)


def cost(e: Evaluation, name: str) -> float:
    if name not in e.cost:
        raise Skip("not measured: the model was trained elsewhere")
    return e.cost[name]


@metric(unit="images/s", better="higher", applies=trained)
def train_images_per_second(e: Evaluation) -> float:
    """training images times the seeds that train together, per second: the median of single steps after a warm-up

    Formula: batch x seeds / seconds of one step.
    Estimator: the median of single steps of a training begun afresh, after a warm-up.
    Sample size: as many steps as fit into a fraction of a second.
    Fails: of this machine and its load; depends on batch size and on how many seeds train together. The same value for each seed.
    Reference: none
    """
    return cost(e, "train_images_per_second")


@metric(unit="s", better="lower", kind="estimate", applies=trained)
def train_seconds(e: Evaluation) -> float:
    """the whole training of all seeds that train together, at that throughput; without validation

    Formula: epochs x steps x batch x seeds / train_images_per_second.
    Estimator: from train_images_per_second.
    Sample size: that of train_images_per_second.
    Fails: not what a clock on the wall would say: validation, checkpoints and other programs are not in it. The same for each seed.
    Reference: none
    """
    return cost(e, "train_seconds")


@metric(unit="bytes", better="none", applies=trained)
def peak_memory_bytes(e: Evaluation) -> float:
    """peak memory while all seeds train together: of a GPU their own, on a CPU that of the whole process, runs before it included

    Formula: the largest number of bytes held at once.
    Estimator: the allocator's count on a GPU, less what was held before; on a CPU the resident size of the process.
    Sample size: the steps of train_images_per_second.
    Fails: on a CPU it has Python, libraries and data in it, and whatever runs before left behind: only large differences mean something.
    Reference: none
    """
    return cost(e, "peak_memory_bytes")


@metric(unit="numbers", better="none", applies=trained)
def parameters(e: Evaluation) -> float:
    """trained numbers of one seed, masked weights included

    Formula: sum of the sizes of all parameters.
    Estimator: none: it is counted.
    Sample size: one seed.
    Fails: weights that a mask keeps at no effect are counted, buffers are not. Says little about the work for one image.
    Reference: none
    """
    return sum(p.numel() for p in e.model.parameters())
