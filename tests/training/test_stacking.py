"""Seeds that train together train as each does alone, and training that was broken off ends as if it had not been."""

from __future__ import annotations

import math
from itertools import islice, repeat

import pytest
import torch

from vae_variants.checks import Failed
from vae_variants.checks.fixtures import configuration
from vae_variants.checks.stacking import seeds_train_apart
from vae_variants.datasets import Dataset
from vae_variants.models.base import MODELS
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.stack import State, joined, place, split
from vae_variants.variants import VARIANTS, build
from vae_variants.variants.recipe import Recipe

STACKED = [name for name, variant in VARIANTS.items() if (model := MODELS[variant.config["model"]]).stackable and model.players]
CHANGING = [  # what has state of its own in training, of each family that trains
    "vae-warm-up", "vae-gaussian-optimal", "iwae-dreg-8", "vae-capacity", "factor-vae", "aae", "vae-vamp", "vade", "vae-iaf", "hvae",
    "rhvae", "vdvae", "vq-vae-masked", "rvq-vae", "conditional-vae", "m2", "ae-denoising", "rae-sn", "made-orders-8", "eonade",
    "gated-pixelcnn", "gan-hinge", "wgan-gp", "soft-intro-vae", "vae-gan",
]  # fmt: skip
TRACED = ["vae-warm-up", "vae-capacity", "vq-vae-masked", "gan-hinge"]  # what a traced step may leave as it was when it was traced
RESUMED = [*(("plain", name) for name in CHANGING), *(("traced", name) for name in TRACED)]


@pytest.fixture(params=["plain", "traced"])
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the steps are."""
    monkeypatch.setattr("vae_variants.training.loop.FEW", 0 if request.param == "traced" else 10**9)


@pytest.mark.parametrize("name", STACKED)
def test_three_stacked_seeds_are_three_separate_ones(name: str) -> None:
    """Two of them at a rate of their own. Plainly: what is traced is the plain step, see test_traced.py."""
    found = ""
    try:
        seeds_train_apart(name, ways=[False], rates=(1e-2, 3e-3, 3e-3))
    except Failed as broken:
        found = str(broken)
    assert found == ""


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("traced", "name"), RESUMED, indirect=["traced"])
def test_a_resumed_training_is_the_uninterrupted_one(name: str, digits: Dataset) -> None:
    small = digits.subset(100, 20)
    chosen = configuration(name)
    data = small.as_(chosen.support)

    def new() -> Training:
        return Training(Population(lambda: build(chosen, small), (0, 3)), data, Recipe(4, 20, 1e-3), "key")

    whole, first, second = new(), new(), new()
    curves = [whole.run_epoch() for _ in range(4)]
    for _ in range(2):
        first.run_epoch()
    second.restore({n: t.clone() for n, t in first.state().items()})
    torch.rand(3)
    assert [second.run_epoch() for _ in range(2)] == curves[2:]
    for n, tensor in whole.state().items():
        if n != "seconds":
            assert torch.equal(tensor, second.state()[n]), n


class Stopped(Exception):
    """The power went."""


def stopped(training: Training, step: int) -> State:
    """Its state after so many steps of an epoch."""
    steps = islice(repeat(None), step - 1)

    def after() -> None:
        if next(steps, Stopped) is Stopped:
            raise Stopped

    with pytest.raises(Stopped):
        training.run_epoch(after)
    return {name: tensor.clone() for name, tensor in training.state().items()}


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("selector", ["vae", "vq-vae", "gan"])
def test_the_parts_of_a_stack_are_runs_that_resume_apart_or_in_other_company(selector: str, digits: Dataset) -> None:
    """Four rates with the same two seeds, with all that is done to a member: clipping, decay, averages, the best kept."""
    small, chosen, rates = digits.subset(100, 20), configuration(selector), (1e-3, 3e-3, 1e-2, 3e-2)
    data, recipe = small.as_(chosen.support), Recipe(3, 20, clip=0.5, weight_decay=0.1, average=0.9, keep="best")

    def new(*rates: float) -> Training:
        population = Population(lambda: build(chosen, small).double(), (4, 7) * len(rates))
        return Training(population, data, recipe, "key", [rate for rate in rates for _ in range(2)])

    def ended(training: Training) -> State:
        while not training.over:
            training.run_epoch()
        return training.state()

    first = new(*rates)
    first.run_epoch()
    parts = split(stopped(first, 3), 4)
    assert {place(part) for part in parts} == {(1, 3)}
    found = dict[float, State]()
    for group in ([0], [3, 1], [2]):
        resumed = new(*(rates[i] for i in group))
        resumed.restore(joined([parts[i] for i in group]))
        found |= zip((rates[i] for i in group), split(ended(resumed), len(group)), strict=True)
    for rate, state in found.items():
        expected = ended(new(rate))
        assert expected.keys() == state.keys()
        for name in expected.keys() - {"seconds"}:
            torch.testing.assert_close(state[name], expected[name], atol=1e-6, rtol=1e-4, msg=f"{name} at the rate {rate}")


RAISING = (  # what they are made of raises an error for numbers that are NaN, or makes an index of them
    "riemannian-vae[latent=3,hidden=8,centroids=5]", "linear-vae[latent=3]", "quantized-vae[quantizer=fsq,hidden=8]",
    "labelled-vae[hidden=8]", "labelled-vae[share=0.5,hidden=8]", "categorical-vae[hidden=8]",
    "vae[prior=mixture,regularizer=mmd,hidden=8]", "vae[prior=mixture,regularizer=adversarial,hidden=8]",
)  # fmt: skip


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("selector", "rates"), [("vae", (1e-3, 1e-2)), *((selector, (1e-3, 1e-3)) for selector in RAISING)])
def test_one_diverging_seed_leaves_the_others_as_they_are(selector: str, rates: tuple[float, ...], digits: Dataset) -> None:
    small = digits.subset(100, 20)
    chosen = configuration(selector)

    def trained(poison: float) -> Training:
        recipe, population = Recipe(2, 20, clip=1.0, average=0.9, keep="best"), Population(lambda: build(chosen, small), (0, 1))
        training = Training(population, small.as_(chosen.support), recipe, "key", rates)
        if poison:
            with torch.no_grad():
                for parameter in training.population.params.values():
                    parameter[0] = poison
        training.run_epoch()
        return training

    healthy = trained(0.0).population.state()
    for poison in (math.nan, math.inf):
        poisoned = trained(poison)
        assert poisoned.diverged == {0: 1}
        for n, tensor in healthy.items():
            assert torch.equal(tensor[1], poisoned.population.state()[n][1])
