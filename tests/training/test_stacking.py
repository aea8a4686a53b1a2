"""Seeds that train together train as each does alone, and training that was broken off ends as if it had not been."""

from __future__ import annotations

import math

import pytest
import torch

from vae_variants.checks import Failed
from vae_variants.checks.fixtures import configuration
from vae_variants.checks.stacking import seeds_train_apart
from vae_variants.datasets import Dataset
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build
from vae_variants.variants.recipe import Recipe

OTHERS = [
    "vae",
    "vae[objective=iwae,samples=3]",
    "vae[objective=stl]",
    "vae[objective=dreg,samples=3]",
    "made[orders=3]",
    "vae[network=conv,hidden=8]",
]


@pytest.fixture(params=["plain", "traced"])
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the steps are."""
    monkeypatch.setattr("vae_variants.training.loop.FEW", 0 if request.param == "traced" else 10**9)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_three_stacked_seeds_are_three_separate_ones(name: str, traced: bool) -> None:
    found = ""
    try:
        seeds_train_apart(name, traced)
    except Failed as broken:
        found = str(broken)
    assert found == ""


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", ["vae", "gan", "made[orders=3]", "vae[objective=warm-up]"])
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


RAISING = (  # what they are made of raises an error for numbers that are NaN, or makes an index of them
    "riemannian-vae[latent=3,hidden=8,centroids=5]", "linear-vae[latent=3]", "quantized-vae[quantizer=fsq,hidden=8]",
    "labelled-vae[hidden=8]", "labelled-vae[share=0.5,hidden=8]", "categorical-vae[hidden=8]",
)  # fmt: skip


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("selector", ["vae", *RAISING])
def test_one_diverging_seed_leaves_the_others_as_they_are(selector: str, digits: Dataset) -> None:
    small = digits.subset(100, 20)
    chosen = configuration(selector)

    def trained(poison: bool) -> Training:
        training = Training(Population(lambda: build(chosen, small), (0, 1)), small.as_(chosen.support), Recipe(2, 20, 1e-3), "key")
        if poison:
            with torch.no_grad():
                for parameter in training.population.params.values():
                    parameter[0] = math.nan
        training.run_epoch()
        return training

    healthy, poisoned = trained(False), trained(True)
    assert poisoned.diverged == {0: 1}
    for n, tensor in healthy.population.state().items():
        assert torch.equal(tensor[1], poisoned.population.state()[n][1])
