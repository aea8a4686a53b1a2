"""Throughput and cost. Figures of one machine: the record names device and threads, and no other machine's compare."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import Skip, metric, trained
from vae_variants.models.base import Encoder, Sampler

__all__ = ["BATCH", "SWEEP", "TIMINGS", "median_seconds", "saturated"]

TIMINGS = ("images_per_second", "_saturated", "train_seconds", "latency", "train_product_share", "peak_memory_bytes")  # ends of names
BATCH = 100
SLOW = 5.0
LATENCY = 0.2  # of the time for a throughput: one image is quick, and there are many calls
SWEEP = tuple(4**i for i in range(9))  # images at a time, 1 to 65536
GAIN = 1.05  # below which four times as many images at a time are no faster


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


@metric(needs=(Sampler,), unit="ms", better="lower", applies=trained)
def sample_latency(e: Evaluation) -> float:
    """drawing a single sample

    Formula: 1000 x seconds of one call.
    Estimator: after one call to warm up, the median over at least 3 calls, and as many as fit into 0.01 s; on a GPU each is waited for.
    Sample size: calls of 1 image by one seed.
    Fails: of this machine and its load. A call so short is mostly Python and launches, which says little about large batches.
    Reference: none
    """
    assert isinstance(e.model, Sampler)
    model = e.model
    with e.noise("speed"):
        return 1e3 * median_seconds(lambda: model.sample(1), e.device, LATENCY * e.fidelity.timing_seconds)


@metric(needs=(Encoder,), unit="ms", better="lower", applies=trained)
def encode_latency(e: Evaluation) -> float:
    """encoding a single test image

    Formula: 1000 x seconds of one call.
    Estimator: after one call to warm up, the median over at least 3 calls, and as many as fit into 0.01 s; on a GPU each is waited for.
    Sample size: calls of the first test image by one seed.
    Fails: of this machine and its load. A call so short is mostly Python and launches, which says little about large batches.
    Reference: none
    """
    assert isinstance(e.model, Encoder)
    model, x = e.model, e.test[:1]
    with e.noise("speed"):
        return 1e3 * median_seconds(lambda: model.encode(x), e.device, LATENCY * e.fidelity.timing_seconds)


def saturated(work: Callable[[int], object], device: torch.device, budget: float) -> tuple[float, int]:
    """(images/s, images at a time) where `work(images)` is fastest: four times as many each time, from 1 to 65536.

    Ends where that gains less than 5 % over the best so far, takes longer than `SLOW` seconds, or more memory than there is.
    """
    best, at = 0.0, 0
    for batch in SWEEP:
        try:
            seconds = median_seconds(lambda batch=batch: work(batch), device, budget)  # type: ignore[misc]
        except RuntimeError as error:
            if at and ("memory" in str(error) or isinstance(error, torch.OutOfMemoryError)):
                break
            raise
        before, rate = best, batch / seconds
        if rate > best:
            best, at = rate, batch
        if rate < GAIN * before or seconds > SLOW:
            break
    return best, at


def swept(e: Evaluation) -> bool:
    return trained(e) and e.fidelity.sweep


@metric(needs=(Sampler,), unit="images/s", better="higher", applies=swept)
def sample_images_per_second_saturated(e: Evaluation) -> float:
    """drawing samples, as many at a time as is fastest

    Formula: images / seconds of one call, at the batch size where that is largest.
    Estimator: batches of 1, 4, 16, ... 65536, each timed as in sample_images_per_second, until four times as many gain less than 5 %.
    Sample size: calls by one seed.
    Fails: of this machine, its load and memory. Measured at fidelity thorough, or with the option sweep=true.
    Reference: none
    """
    assert isinstance(e.model, Sampler)
    with e.noise("speed"):
        return saturated(e.model.sample, e.device, e.fidelity.timing_seconds)[0]


@metric(needs=(Encoder,), unit="images/s", better="higher", applies=swept)
def encode_images_per_second_saturated(e: Evaluation) -> float:
    """encoding test images, as many at a time as is fastest

    Formula: images / seconds of one call, at the batch size where that is largest.
    Estimator: batches of 1, 4, 16, ... 65536, each timed as in encode_images_per_second, until four times as many gain less than 5 %.
    Sample size: calls by one seed; where there are fewer test images, they are repeated.
    Fails: of this machine, its load and memory. Measured at fidelity thorough, or with the option sweep=true.
    Reference: none
    """
    assert isinstance(e.model, Encoder)
    model, test = e.model, e.test
    batches: dict[int, Tensor] = {}  # made before the clock runs

    def images(batch: int) -> Tensor:
        if batch not in batches:
            batches.clear()
            batches[batch] = test.repeat(-(-batch // len(test)), 1)[:batch]
        return batches[batch]

    with e.noise("speed"):
        return saturated(lambda batch: model.encode(images(batch)), e.device, e.fidelity.timing_seconds)[0]


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


@metric(unit="fraction", better="higher", applies=trained)
def train_product_share(e: Evaluation) -> float:
    """how near a training step comes to the rate of a bare matrix product on this machine

    Formula: operations of one step / its seconds / operations per second of a product, in the precision of the training.
    Estimator: products and convolutions of the losses and their gradients are counted; both rates are medians.
    Sample size: steps of train_images_per_second; 15 products of 512 x 784 by 784 x 512, on a GPU of 4096 x 4096.
    Fails: a share of what products alone would allow, not of a maker's peak; small layers, noise and Adam have no products to count. Above
    1 where the step's products happen to be of better shapes. The same for each seed.
    Reference: none
    """
    return cost(e, "train_product_share")


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
