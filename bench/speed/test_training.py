"""Seeds stacked against seeds one after the other: the same steps on the same images."""

import itertools

import pytest
import torch

from vae_variants.datasets import load_dataset
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

SEEDS = (0, 1, 2, 3, 4)
STEPS = 20


def steps(training: Training) -> None:
    """The first steps of an epoch."""
    t = torch.zeros(())
    for x in itertools.islice(training.batches(), STEPS):
        for i in range(len(training.players)):
            training.turn(i, x, t)


@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "separate"])
@pytest.mark.parametrize("variant", ["vae-bernoulli", "iwae-8", "made", "gan"])
def test_five_seeds(benchmark, variant: str, stacked: bool) -> None:
    benchmark.group = f"{STEPS} training steps of five seeds: {variant}"
    dataset = load_dataset("digits")
    (chosen,) = configure(variant)
    groups = [SEEDS] if stacked else [(seed,) for seed in SEEDS]
    trainings = [
        Training(Population(lambda: build(chosen, dataset), seeds), dataset.as_(chosen.support), chosen.recipe, dataset.digest)
        for seeds in groups
    ]

    def run() -> None:
        for training in trainings:
            steps(training)

    benchmark.pedantic(run, rounds=7, warmup_rounds=2)
