"""Four learning rates with three seeds each: one stack of twelve against twelve trainings, and the trials of a variant against its run.

Both ways take turns within each round, so that what else the machine does meets both. Ratios are medians over the rounds, with their range.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from vae_variants.datasets import load_dataset
from vae_variants.evaluation.fidelities import VALIDATION
from vae_variants.harness import RunSpec, Store, load_suite, run_all
from vae_variants.training.loop import Training
from vae_variants.training.setup import set_up
from vae_variants.variants import configure

RATES, SEEDS, STEPS, ROUNDS = (1e-3, 3e-3, 1e-2, 3e-2), (0, 1, 2), 20, 7
CPU = torch.device("cpu")


def turns(benchmark, capsys, ways: Mapping[str, Callable[[], object]], rounds: int, warm: int) -> None:
    """Times the ways in turns, and prints how many times as long as the first one each other takes."""
    seconds = {name: list[float]() for name in ways}

    def each() -> None:
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)

    benchmark.pedantic(each, rounds=rounds, warmup_rounds=warm)
    first, *others = ({name: found[warm:] for name, found in seconds.items()}).items()
    for name, found in others:
        ratios = [b / a for a, b in zip(first[1], found, strict=True)]
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        benchmark.extra_info[f"{name} / {first[0]}"] = told
        with capsys.disabled():
            print(f"\n{benchmark.group}: {name} / {first[0]} = {told}")


def steps(training: Training) -> None:
    """The first steps of an epoch."""
    t = torch.zeros(())
    for x in itertools.islice(training.batches(), STEPS):
        for i in range(len(training.players)):
            training.turn(i, x, t)


@pytest.mark.parametrize("variant", ["vae-bernoulli", "vae-gaussian", "iwae-8", "gan"])
def test_twelve_members(benchmark, capsys, variant: str) -> None:
    benchmark.group = f"{STEPS} training steps of four rates with three seeds: {variant}"
    dataset = load_dataset("digits")
    chosen = [configure(f"{variant}[lr={rate}]")[0] for rate in RATES]
    stack = set_up(chosen[0], dataset, SEEDS, CPU, chosen[1:])
    alone = [set_up(each, dataset, (seed,), CPU) for each in chosen for seed in SEEDS]
    by_rate = [set_up(each, dataset, SEEDS, CPU) for each in chosen]
    ways = {
        "one stack": lambda: steps(stack),
        "twelve trainings": lambda: [steps(each) for each in alone],
        "one stack for each rate": lambda: [steps(each) for each in by_rate],
    }
    turns(benchmark, capsys, ways, ROUNDS, 2)


@pytest.mark.parametrize("variant", ["vae-bernoulli", "vae-gaussian"])
def test_trials_against_the_run(benchmark, capsys, variant: str, tmp_path_factory) -> None:
    """Whole runs of the suite digits, from the models' start to the last score, without the start of a process."""
    benchmark.group = f"trials of four rates on digits: {variant}"
    suite = load_suite("digits")
    (final,) = (spec for spec in suite.plan(tune="none") if spec.label == variant)
    assert suite.tuning is not None
    trials = [suite.tuning.trial(final, {"lr": rate}, 1.0) for rate in RATES]
    assert {trial.fidelity for trial in trials} == {VALIDATION.name}

    def made(*specs: RunSpec) -> None:
        run_all(specs, Store(Path(tmp_path_factory.mktemp("runs"))), CPU)

    ways = {
        "the run": lambda: made(final),
        "its trials": lambda: made(*trials),
        "its trials one after the other": lambda: [made(trial) for trial in trials],
    }
    turns(benchmark, capsys, ways, ROUNDS, 1)
