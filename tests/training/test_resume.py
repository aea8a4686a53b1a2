"""Broken off after any step and gone on with, training ends bit for bit where it would have ended."""

from __future__ import annotations

import random

import pytest
import torch

from tests.harness.test_runner import CPU, figures, spec
from tests.trying import Asked
from vae_variants.harness import Store, run_all, runner, trainings
from vae_variants.harness.files import load_tensors
from vae_variants.harness.store import MODEL
from vae_variants.training import loop as training_module
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

SELECTORS = {
    "VAE": "vae[hidden=8,latent=2,epochs=3,decay=cosine]",
    "VAE with all that a recipe has": "vae[hidden=8,latent=2,epochs=3,clip=9,average=0.9,weight_decay=0.1,lr_warm_up=0.5,keep=best]",
    "VAE on grey pixels": "vae[hidden=8,latent=2,epochs=3,likelihood=gaussian]",
    "GAN": "gan[hidden=8,latent=2,epochs=3]",
    "MADE": "made[hidden=8,epochs=3,orders=2]",
    "member by member": "fvbn[epochs=3]",
}


class Stopped(Exception):
    """The power went."""


def training(selector: str, digits) -> Training:
    (chosen,), part = configure(selector), digits.subset(430, 60)
    return Training(Population(lambda: build(chosen, part), (0, 3), CPU), part.as_(chosen.support), chosen.recipe, part.digest)


def state_after(first: Training, stop: int) -> dict[str, torch.Tensor]:
    """What would be kept after so many steps, of which the last breaks an epoch off."""
    kept, turns = [], []

    def after() -> None:
        turns.append(1)
        if len(turns) == stop:
            kept.append({name: tensor.clone() for name, tensor in first.state().items()})
            raise Stopped

    try:
        while True:
            first.run_epoch(after)
    except Stopped:
        return kept[0]


@pytest.mark.parametrize("few", [training_module.FEW, 0], ids=["as it is", "traced"])
@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_parameters_optimiser_and_curves_after_a_stop_at_any_step(selector, few, digits, monkeypatch):
    monkeypatch.setattr(training_module, "FEW", few)
    whole = training(selector, digits)
    curves = [whole.run_epoch() for _ in range(3)]
    for stop in random.Random(selector).sample(range(1, 3 * whole.steps + 1), 4):
        kept = state_after(training(selector, digits), stop)
        torch.rand(7)  # what else this process draws has no part in it
        second = training(selector, digits)
        second.restore(kept)
        rest = [second.run_epoch() for _ in range(second.epoch, 3)]
        assert rest == curves[3 - len(rest) :], stop
        expected, found = whole.state(), second.state()
        for name in set(expected) - {"seconds"}:
            assert torch.equal(found[name], expected[name]), (stop, name)


@pytest.mark.parametrize("selector", [SELECTORS["VAE"], SELECTORS["GAN"], SELECTORS["MADE"]], ids=["VAE", "GAN", "MADE"])
def test_a_run_that_is_killed_after_a_step_leaves_the_model_of_one_that_is_not(selector, tmp_path, monkeypatch):
    chosen = spec(selector)
    whole, broken = Store(tmp_path / "whole"), Store(tmp_path / "broken")
    (expected,) = run_all([chosen], whole, CPU)
    monkeypatch.setattr(trainings, "CHECKPOINT_SECONDS", 0.0)
    saved, real = [], trainings.save_tensors

    def then_die(path, *args, **kwargs):
        real(path, *args, **kwargs)
        saved.append(path)
        if len(saved) in (3, 6):
            raise Stopped

    monkeypatch.setattr(runner, "classified", lambda error: (_ for _ in ()).throw(error))  # as a death is: nothing more is written
    monkeypatch.setattr(trainings, "save_tensors", then_die)
    for _ in range(2):
        with pytest.raises(Stopped):
            run_all([chosen], broken, CPU)
    (found,) = run_all([chosen], broken, CPU)
    assert figures(found) == figures(expected)
    one, other = (load_tensors(store.locate(chosen, found.key) / MODEL) for store in (whole, broken))
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_no_step_waits_for_the_value_of_a_tensor(selector, digits):
    """A GPU would stand idle meanwhile: an epoch asks for losses at its end."""
    whole = training(selector, digits)
    turns, t = whole.turns(), torch.zeros(())
    whole.play(next(turns), t)
    with Asked() as asked:
        for batches in turns:
            whole.slow_down(0.5)
            whole.play(batches, t)
    assert asked.of == []
