"""Seeds that train together train as each does alone, and training that was broken off ends as if it had not been."""

from __future__ import annotations

import math

import pytest
import torch

from vae_variants.checks import Failed
from vae_variants.checks.fixtures import configuration
from vae_variants.checks.stacking import seeds_train_apart
from vae_variants.datasets import Dataset
from vae_variants.models.base import MODELS
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
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
    """Plainly: what is traced is the plain step, see test_traced.py."""
    found = ""
    try:
        seeds_train_apart(name, traced=False)
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


RAISING = (  # what they are made of raises an error for numbers that are NaN, or makes an index of them
    "riemannian-vae[latent=3,hidden=8,centroids=5]", "linear-vae[latent=3]", "quantized-vae[quantizer=fsq,hidden=8]",
    "labelled-vae[hidden=8]", "labelled-vae[share=0.5,hidden=8]", "categorical-vae[hidden=8]",
    "vae[prior=mixture,regularizer=mmd,hidden=8]", "vae[prior=mixture,regularizer=adversarial,hidden=8]",
)  # fmt: skip


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("selector", ["vae", *RAISING])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_one_diverging_seed_leaves_the_others_as_they_are(poison: float, selector: str, digits: Dataset) -> None:
    small = digits.subset(100, 20)
    chosen = configuration(selector)

    def trained(poison: float) -> Training:
        training = Training(Population(lambda: build(chosen, small), (0, 1)), small.as_(chosen.support), Recipe(2, 20, 1e-3), "key")
        if poison:
            with torch.no_grad():
                for parameter in training.population.params.values():
                    parameter[0] = poison
        training.run_epoch()
        return training

    healthy, poisoned = trained(0.0), trained(poison)
    assert poisoned.diverged == {0: 1}
    for n, tensor in healthy.population.state().items():
        assert torch.equal(tensor[1], poisoned.population.state()[n][1])
