"""Throughput, latency, memory and size. Figures hold for one machine; the record names its device and threads."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import Skip, metric, trained
from vae_variants.models.base import Encoder, Sampler

TIMINGS = ("images_per_second", "_saturated", "train_seconds", "latency", "train_product_share", "peak_memory_bytes")  # ends of names
BATCH = 100
SLOW = 5.0  # seconds
WIDE, TRIES = 0.5, 3  # quartile range over median from which calls are timed again, and how often in all
LATENCY = 0.2  # share of the time budget of a throughput that a latency gets
SWEEP = tuple(4**i for i in range(9))  # batch sizes, 1 to 65536
GAIN = 1.05  # the sweep ends if four times the batch size is less than 5 % faster


def median_seconds(work: Callable[[], object], device: torch.device, budget: float) -> float:
    """Median duration of one call in seconds, after one warm-up call; calls on a GPU are synchronised.

    Args:
        budget: Seconds to spend; at least 3 calls are timed. A call over 5 seconds is timed once, without warm-up. Times that differ
            widely, as while another program runs, are taken again, up to 3 times in all; the least median counts.
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
    found = []
    for _ in range(TRIES):
        times = [once() for _ in range(3)]
        while sum(times) < budget:
            times.append(once())
        low, middle, high = statistics.quantiles(times, n=4)
        found.append(middle)
        if high - low <= WIDE * middle:
            break
    return min(found)


def saturated(work: Callable[[int], object], device: torch.device, budget: float) -> tuple[float, int]:
    """The largest throughput of `work(batch size)` over the batch sizes 1, 4, 16, ... 65536: images per second, and that batch size.

    The sweep ends if a step gains less than 5 %, takes over 5 seconds, or runs out of memory.
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


def sampling(e: Evaluation) -> Callable[[int], Tensor]:
    assert isinstance(e.model, Sampler)
    return e.model.sample


def encoding(e: Evaluation) -> Callable[[int], Tensor]:
    """Encodes a batch of test images, repeated if there are too few; the batch is prepared on its first use."""
    assert isinstance(e.model, Encoder)
    model, test = e.model, e.test
    batches: dict[int, Tensor] = {}

    def encode(batch: int) -> Tensor:
        if batch not in batches:
            batches.clear()
            found = test[:batch]
            batches[batch] = found.repeat(-(-batch // len(found)), 1)[:batch]
        return model.encode(batches[batch])

    return encode


def seconds(e: Evaluation, work: Callable[[int], object], batch: int, share: float = 1.0) -> float:
    with e.noise("speed"):
        return median_seconds(lambda: work(batch), e.device, share * e.fidelity.timing_seconds)


def swept(e: Evaluation) -> bool:
    return trained(e) and e.fidelity.sweep


class Method(NamedTuple):
    """A method that is timed: the capability that has it, its call by batch size, and what it does in two forms."""

    need: type
    calls: Callable[[Evaluation], Callable[[int], Tensor]]
    doing: str
    one: str


METHODS = {
    "sample": Method(Sampler, sampling, "sampling", "sample one image"),
    "encode": Method(Encoder, encoding, "encoding test images", "encode one test image"),
}


def timing(unit: str, better: str, applies: Callable[[Evaluation], bool]) -> Callable[[Callable[[Evaluation, Method], float]], None]:
    """Decorator that registers a metric for each of `METHODS`, with its texts in the docstring."""

    def register(measure: Callable[[Evaluation, Method], float]) -> None:
        for name, method in METHODS.items():

            def value(e: Evaluation, method: Method = method) -> float:
                return measure(e, method)

            value.__doc__ = (measure.__doc__ or "").replace("{doing}", method.doing).replace("{one}", method.one)
            metric(needs=(method.need,), unit=unit, better=better, applies=applies, name=f"{name}_{measure.__name__}")(value)

    return register


@timing("images/s", "higher", trained)
def images_per_second(e: Evaluation, method: Method) -> float:
    """throughput of {doing}, in batches of {BATCH}

    Formula: images / seconds of one call.
    Estimator: median over at least 3 calls in 0.02 s, after one warm-up call; GPU calls are synchronised. Measured again, up to {TRIES}
    times in all, if calls differ widely or single images are faster, as while another program runs.
    Sample size: calls of {BATCH} images by one seed; of the first {BATCH} test images for encoding.
    Fails: holds for this machine, its load and this batch size. A call over {SLOW} s is timed once.
    Reference: none
    """
    batch = min(BATCH, len(e.test)) if method.need is Encoder else BATCH
    best, calls = 0.0, method.calls(e)
    for _ in range(TRIES):
        best = max(best, batch / seconds(e, calls, batch))
        if best >= 1 / seconds(e, calls, 1, LATENCY):
            break
    return best


@timing("ms", "lower", trained)
def latency(e: Evaluation, method: Method) -> float:
    """time to {one}

    Formula: 1000 x seconds of one call.
    Estimator: median over at least 3 calls in 0.004 s, after one warm-up call; GPU calls are synchronised.
    Sample size: calls of 1 image by one seed.
    Fails: holds for this machine and its load. Python and kernel launches dominate; large batches behave differently.
    Reference: none
    """
    return 1e3 * seconds(e, method.calls(e), 1, LATENCY)


@timing("images/s", "higher", swept)
def images_per_second_saturated(e: Evaluation, method: Method) -> float:
    """throughput of {doing} at the fastest batch size

    Formula: images / seconds of one call, at the batch size that maximises it.
    Estimator: batch sizes 1, 4, 16, ... 65536, timed as at one batch size, until a step gains less than 5 %.
    Sample size: calls by one seed; test images are repeated if there are too few.
    Fails: holds for this machine, its load and memory. Measured at `thorough`, or with the option sweep=true.
    Reference: none
    """
    with e.noise("speed"):
        return saturated(method.calls(e), e.device, e.fidelity.timing_seconds)[0]


def cost(e: Evaluation, name: str) -> float:
    if name not in e.cost:
        raise Skip("not measured: the model was trained elsewhere")
    return e.cost[name]


@metric(unit="images/s", better="higher", applies=trained)
def train_images_per_second(e: Evaluation) -> float:
    """training throughput: images times stacked seeds per second

    Formula: batch x seeds / seconds of one step.
    Estimator: median over single steps of a new training, after a warm-up.
    Sample size: the steps that fit into a fraction of a second.
    Fails: holds for this machine and its load. Depends on the batch size and the number of stacked seeds. Equal for all seeds.
    Reference: none
    """
    return cost(e, "train_images_per_second")


@metric(unit="fraction", better="higher", applies=trained)
def train_product_share(e: Evaluation) -> float:
    """floating-point rate of a training step, divided by that of a plain matrix product on this machine

    Formula: operations of one step / its seconds / operations per second of a product, in the precision of the training.
    Estimator: counts products and convolutions of losses and gradients; both rates are medians.
    Sample size: the steps of train_images_per_second; 15 products of 512 x 784 by 784 x 512, or 4096 x 4096 on a GPU.
    Fails: small layers, noise and Adam have no products to count. Above 1 if the step's products have better shapes. Equal for all
    seeds.
    Reference: none
    """
    return cost(e, "train_product_share")


@metric(unit="s", better="lower", kind="estimate", applies=trained)
def train_seconds(e: Evaluation) -> float:
    """time to train all stacked seeds at that throughput, without validation

    Formula: epochs x steps x batch x seeds / train_images_per_second.
    Estimator: from train_images_per_second.
    Sample size: that of train_images_per_second.
    Fails: excludes validation, checkpoints and other programs, so the wall clock shows more. Equal for all seeds.
    Reference: none
    """
    return cost(e, "train_seconds")


@metric(unit="bytes", better="none", applies=trained)
def peak_memory_bytes(e: Evaluation) -> float:
    """peak memory while all seeds train together

    Formula: the largest number of bytes held at once.
    Estimator: on a GPU the allocator's count, minus what was held before; on a CPU the resident size of the process.
    Sample size: the steps of train_images_per_second.
    Fails: on a CPU it includes Python, libraries, data and earlier runs, so only large differences matter.
    Reference: none
    """
    return cost(e, "peak_memory_bytes")


@metric(unit="numbers", better="none", applies=trained)
def parameters(e: Evaluation) -> float:
    """number of trained parameters of one seed, including masked weights

    Formula: sum of the sizes of all parameters.
    Estimator: counted.
    Sample size: one seed.
    Fails: includes weights that a mask disables, excludes buffers. Says little about the work per image.
    Reference: none
    """
    return sum(p.numel() for p in e.model.parameters())
