"""Measures what the runs of a suite take on this machine: a few steps of each, and the evaluation of a few images."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation import METRICS, Evaluation, Fidelity, fidelity
from vae_variants.evaluation.criterion import criterion
from vae_variants.evaluation.features import BATCH, EPOCHS, STEPS, classifier
from vae_variants.evaluation.likelihood import exact
from vae_variants.evaluation.metrics import value_of
from vae_variants.harness.budget import Cost
from vae_variants.harness.environment import share
from vae_variants.harness.pictures import pictures
from vae_variants.harness.process import prepare
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.models.base import Finished, LatentVariable, Model
from vae_variants.plugins import load_plugins
from vae_variants.training import Training
from vae_variants.training.options import Unlike
from vae_variants.training.setup import set_up

STEP_SECONDS = 0.5  # of single steps, after the first ones
FIRST = 7  # steps that `images_per_second` makes at least
TIMED = 9  # steps that a run makes after training, to be timed
SMALL, LARGE = 48, 240  # test images that are scored; others in proportion
SAMPLED = 10  # of them, in the bound
WARM = 10  # steps of the classifier
FEWEST = 256  # training images from which a model is finished
born = 0.0  # when this process was started


@dataclass(frozen=True)
class Surroundings:
    """Seconds of a process until it has the data, and of its classifier."""

    start: float
    classifier: float


class Clock:
    """Seconds between two calls."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def __call__(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


def measured(spec: RunSpec, trials: Sequence[RunSpec], device: torch.device) -> Cost:
    """The cost of a run, and of each of its trials if it has any, which train in one stack if they may. Trains nothing that is kept."""
    training, start, epoch = paced(spec, device)
    member = next(training.population.members())
    ended = finished(member, training)
    scoring, shared, sample, shown = scored(member, spec, device)
    scoring, start = scoring + ended, start + shown + TIMED * epoch / max(1, training.steps)
    found = Cost(start=start, epoch=epoch, scoring=scoring, shared=shared, sample=sample)
    if not trials or not training.players:
        return found
    trial = trials[0]
    trained, start, epoch = stacked(trials, device) if len(trials) * len(trial.seeds) != len(spec.seeds) else (training, start, epoch)
    start, epoch = start / len(trials), epoch / len(trials)
    level, images = fidelity(trial.fidelity), prepared(trial.dataset, trial.fidelity)
    seconds, _, _ = extrapolated(images, lambda data, share: judged(member, data, limited(level, share), device))
    if isinstance(member, LatentVariable) and not exact(member):
        seconds += sample * level.bound_samples * min(level.bound_images, len(images.test))
    adversarial = len(trained.players) > 1 and images.labels is not None
    return replace(found, trial_start=start, trial_epoch=epoch, trial_scoring=seconds * len(trial.seeds), adversarial=adversarial)


def stacked(trials: Sequence[RunSpec], device: torch.device) -> tuple[Training, float, float]:
    """`paced` of all of these in one stack; if they cannot be stacked, of the first, and seconds of as many one after another."""
    try:
        return paced(trials[0], device, trials[1:])
    except (Unlike, RuntimeError):
        training, start, epoch = paced(trials[0], device)
        return training, len(trials) * start, len(trials) * epoch


def paced(spec: RunSpec, device: torch.device, others: Sequence[RunSpec] = ()) -> tuple[Training, float, float]:
    """A training that has made a few steps, the seconds before its second step, and those of one epoch; others train in its stack."""
    clock, more = Clock(), [other.configuration for other in others]
    training = set_up(spec.configuration, prepared(spec.dataset, spec.fidelity), spec.seeds, device, more)
    if not training.players:
        return training, clock(), 0.0
    training.images_per_second(0.0)
    first = clock()
    step = len(training.population) * training.batch / training.images_per_second(STEP_SECONDS)
    clock()
    training.validate()
    return training, max(0.0, first - FIRST * step), training.steps * step + clock()


def scored(model: Model, spec: RunSpec, device: torch.device) -> tuple[float, float, float, float]:
    """Seconds of all metrics of one seed but the bound, and of what they need of the data alone, once in each process.

    Then those of one image and sample of the bound, and of the pictures of a run.
    """
    level, images = fidelity(spec.fidelity), prepared(spec.dataset, spec.fidelity)
    seconds, shared, e = extrapolated(images, lambda data, share: metrics(model, data, limited(level, share), device))
    clock, sample = Clock(), 0.0
    pictures(e)
    shown = clock()
    if isinstance(model, LatentVariable) and not exact(model):
        few = replace(level, bound_images=SAMPLED, bound_samples=max(4, 2 * e.rows(SAMPLED)))
        other = Evaluation(model, e.dataset, e.seed, few, device)
        clock()
        other.bound  # noqa: B018  (it is computed when it is first read)
        sample = clock() / (SAMPLED * few.bound_samples)
    return seconds, shared, sample, shown


@torch.no_grad()
def finished(model: Model, training: Training) -> float:
    """Seconds of what a model does at the end of its training, by a straight line through two numbers of images."""
    if not isinstance(model, Finished):
        return 0.0
    x, times, clock = training.sample, list[float](), Clock()
    sizes = [min(len(x), max(FEWEST, len(x) // n)) for n in (12, 4)]
    for n in sizes:
        model.finish(x[:n])
        times.append(clock())
    return times[1] + max(0.0, times[1] - times[0]) / max(1, sizes[1] - sizes[0]) * (len(x) - sizes[1])


Part = Callable[[Dataset, float], tuple[dict[str, float], Evaluation]]


def extrapolated(images: Dataset, measure: Part) -> tuple[float, float, Evaluation]:
    """Seconds of what is measured on all images, by a straight line through two sizes.

    Each size is measured twice. The second time nothing is computed again that depends on the data alone. Also the seconds by which the
    first time was longer, and the last evaluation.
    """
    every, times = len(images.test), list[dict[str, float]]()
    sizes = [min(n, every) for n in (SMALL, LARGE)]
    for n in sizes:
        part = images.subset(max(1, len(images.train) * n // every), n)
        for _ in range(2):
            found, e = measure(part, n / every)
            times.append(found)
    small, first, large = times[1:]
    rise = sum(seconds - small.get(name, seconds) for name, seconds in large.items())  # of a metric that needs more images: none
    growth = (every - sizes[1]) / max(1, sizes[1] - sizes[0])
    once = max(0.0, sum(first.values()) - sum(large.values()))
    return sum(large.values()) + max(0.0, rise) * growth, once * every / sizes[1], e


def limited(level: Fidelity, share: float) -> Fidelity:
    """The preset with as large a share of its samples as there is of the test images, and almost no bound, which is measured apart."""
    annealed = max(1, round(share * level.annealed_images)) if level.annealed_images else 0
    few = {"bound_samples": 2, "bound_images": 2, "image_samples": max(2, round(share * level.image_samples)), "annealed_images": annealed}
    return replace(level, **few, classifier_steps=WARM)  # type: ignore[arg-type]


def metrics(model: Model, data: Dataset, level: Fidelity, device: torch.device) -> tuple[dict[str, float], Evaluation]:
    """Seconds of each metric on these images, and of what several of them share."""
    e, found = Evaluation(model, data, 0, level, device, {}), dict[str, float]()
    if data.labels is not None:
        classifier(data, WARM)
    clock = Clock()
    if isinstance(model, LatentVariable):
        assert e.elbo and e.bound
        found["elbo"] = clock()
    for name, m in METRICS.items():
        if m.asked_of(e):
            value_of(m, e)
            found[name] = clock()
    return found, e


def judged(model: Model, data: Dataset, level: Fidelity, device: torch.device) -> tuple[dict[str, float], Evaluation]:
    """Seconds of the metric by which a trial is judged."""
    if data.labels is not None:
        classifier(data, WARM)
    e, clock = Evaluation(model, data, 0, level, device, {}), Clock()
    criterion(e)
    return {"criterion": clock()}, e


def surroundings(dataset: str, preset: str) -> Surroundings:
    """What a process takes that is not of a run: measured from the start of this one."""
    images, level = prepared(dataset, preset), fidelity(preset)
    found, seconds = time.time() - born if born else 0.0, 0.0
    if images.labels is not None and len(images.labels["train"].unique()) > 1:
        part, clock = images.subset(4 * BATCH, LARGE), Clock()
        few, many = [(classifier(part, steps), clock())[1] for steps in (WARM, WARM + 1, 5 * WARM)][1:]  # the first call takes longer
        steps = min(max(EPOCHS * len(images.train) // min(BATCH, len(images.train)), STEPS[0]), STEPS[1], level.classifier_steps)
        seconds = few + max(0.0, many - few) / (4 * WARM - 1) * (steps - WARM)
    return Surroundings(found, seconds)


def ready(plugins: tuple[Path, ...], jobs: int, threads: int, started: float) -> None:
    """Prepares a process that measures as those that make runs are."""
    global born
    born = started
    prepare()
    import sklearn.linear_model  # noqa: F401

    share(jobs, threads)
    load_plugins(plugins, quiet=True)


@contextmanager
def processes(jobs: int, plugins: tuple[Path, ...]) -> Iterator[ProcessPoolExecutor]:
    """As many processes as make runs side by side, with as many threads each."""
    arguments = (plugins, jobs, max(1, torch.get_num_threads() // jobs), time.time())
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), ready, arguments)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def measure_all(
    pairs: Sequence[tuple[RunSpec, Sequence[RunSpec]]], device: torch.device, jobs: int, plugins: tuple[Path, ...], seconds: float
) -> tuple[Surroundings, list[Cost | str | None]]:
    """Measures runs with their trials side by side, in order, and begins none after so many seconds.

    Args:
        pairs: Runs, each with trials of it that may train in one stack, if it has any.
        device: Where runs are made.
        jobs: Runs side by side; 0 is this process.
        plugins: Files that the processes load.
        seconds: Time to measure. The first one is measured in any case.

    Returns:
        What surrounds the runs; and of each the cost, the reason why it could not be measured, or None if there was no time.
    """
    end, first = time.monotonic() + seconds, pairs[0][0]
    calls = [partial(attempt, spec, trials, device) for spec, trials in pairs]
    if jobs == 0:
        around = surroundings(first.dataset, first.fidelity)
        return around, [call() if i == 0 or time.monotonic() < end else None for i, call in enumerate(calls)]
    with processes(jobs, plugins) as pool:
        outside = pool.submit(surroundings, first.dataset, first.fidelity)
        found, waiting = dict[int, Future[Cost | str]](), set[Future[Cost | str]]()
        for i, call in enumerate(calls):
            while len(waiting) >= jobs:
                waiting = wait(waiting, return_when="FIRST_COMPLETED").not_done
            if i > 0 and time.monotonic() >= end:
                break
            found[i] = pool.submit(call)
            waiting.add(found[i])
        return outside.result(), [found[i].result() if i in found else None for i in range(len(pairs))]


def attempt(spec: RunSpec, trials: Sequence[RunSpec], device: torch.device) -> Cost | str:
    """`measured`, or the reason why it failed: a run that fails is one row of the report."""
    try:
        return measured(spec, trials, device)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
