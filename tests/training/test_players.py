"""Steps, optimisers, clipping, averages and early stopping: the same for a seed in company, alone, traced and resumed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vae_variants.checks.fixtures import configuration
from vae_variants.datasets import Dataset
from vae_variants.harness.spec import ADDED_OPTIONS, identifying
from vae_variants.models.gan import GAN
from vae_variants.registry import UserError
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.steps import Average, Best, clipped
from vae_variants.variants import build, configure
from vae_variants.variants.recipe import Recipe

EPOCHS = 3
SELECTORS = [
    "vae[regularizer=factor,critic_steps=3,critic_width=5]",
    "vae[objective=piwae,samples=4,groups=2]",
    "vae[optimizer=rmsprop,weight_decay=0.1,clip=0.5,lr_warm_up=0.5]",
    "vae[average=0.8,lr=0.003]",
    "vae[patience=1,lr=0.05]",
    "vae[keep=best,lr=0.05,samples=3,objective=iwae]",
    "vae[average=0.8,patience=1,optimizer=sgd,lr=0.001,likelihood=gaussian-optimal]",
    "fvbn[clip=0.5,average=0.8,patience=1]",
]


@pytest.fixture(params=["plain", "traced"], autouse=True)
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few the steps are."""
    monkeypatch.setattr("vae_variants.training.loop.FEW", 0 if request.param == "traced" else 10**9)


def training(selector: str, images: Dataset, seeds: tuple[int, ...] = (0, 3), **options: object) -> Training:
    chosen = configuration(selector).with_defaults(epochs=EPOCHS, batch=20, **options)
    return Training(Population(lambda: build(chosen, images), seeds), images.as_(chosen.support), chosen.recipe, "key")


@pytest.fixture(scope="module")
def images(digits: Dataset) -> Dataset:
    return digits.subset(100, 30)


class Stopped(Exception):
    """The power went."""


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_training_that_stops_in_an_epoch_resumes_exactly(selector: str, images: Dataset) -> None:
    whole, first, second = (training(selector, images) for _ in range(3))
    curves, kept = [whole.run_epoch() for _ in range(EPOCHS)], list[dict[str, Tensor]]()

    def after() -> None:
        kept.append({name: tensor.clone() for name, tensor in first.state().items()})
        if len(kept) == whole.steps + 3:
            raise Stopped

    first.run_epoch(after)
    with pytest.raises(Stopped):
        first.run_epoch(after)
    second.restore(kept[-1])
    torch.rand(3)
    assert [second.run_epoch() for _ in range(EPOCHS - 1)] == curves[1:]
    for name, tensor in whole.state().items():
        assert name == "seconds" or torch.equal(tensor, second.state()[name]), name


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_seed_trains_alone_as_in_company(selector: str, images: Dataset) -> None:
    def trained(*seeds: int) -> tuple[list[dict[str, list[float]]], dict[str, Tensor]]:
        own = training(selector, images, seeds)
        return [own.run_epoch() for _ in range(EPOCHS)], own.population.state()

    (curves, states), (other, alone) = trained(0, 3), trained(3)
    for one, two in zip(curves, other, strict=True):
        assert two == {name: pytest.approx(values[1:], rel=1e-4) for name, values in one.items()}
    for name, tensor in states.items():
        torch.testing.assert_close(tensor[1], alone[name][0], rtol=1e-3, atol=1e-4, msg=name)


def test_each_further_step_of_a_turn_has_a_batch_of_its_own(images: Dataset) -> None:
    own = training(SELECTORS[0], images)
    first, *_ = turns = list(own.turns())
    assert len(turns) == own.steps and [len(batches) for batches in first] == [1, 3]
    model, critic = first
    assert torch.equal(model[0], critic[0])
    assert not any(torch.equal(a, b) for a, b in ((critic[0], critic[1]), (critic[1], critic[2]), (critic[0], critic[2])))
    own.losses.append(torch.zeros(2, 2))
    assert all(map(torch.equal, next(own.turns())[1], turns[1][1])), "after a resume"
    for batch, alone in zip(critic, next(training(SELECTORS[0], images, (3,)).turns())[1], strict=True):
        assert torch.equal(batch[1], alone[0]), "whatever the company"


def test_gradients_are_clipped_member_by_member() -> None:
    g = [torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([4.0, 0.4])]
    alone = clipped([each[s] for s in range(2) for each in g], 1.0, alone=2)
    for found in (clipped(g, 1.0), [torch.stack(pair) for pair in zip(alone[:2], alone[2:], strict=True)]):
        torch.testing.assert_close(found[0], torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
        torch.testing.assert_close(found[1], torch.tensor([0.8, 0.4]))
    broken = clipped([torch.tensor([[math.nan], [1.0]])], 0.5)[0]
    assert broken[0].isnan().all() and broken[1].item() == 0.5


def test_weights_decay_and_the_rate_warms_up(images: Dataset) -> None:
    own = training("vae[weight_decay=0.5,lr=0.01,optimizer=sgd,lr_warm_up=0.5]", images)
    rates = []
    for step in range(own.steps * EPOCHS):
        own.slow_down(step / (own.steps * EPOCHS))
        rates.append(own.optimizers[0].param_groups[0]["lr"] / 0.01)
    total = own.steps * EPOCHS
    assert rates == pytest.approx([min(1.0, (n + 1) / (total / 2)) for n in range(total)])
    own.gradients[0] = lambda x, t: (torch.zeros(2), [torch.zeros_like(p) for p in own.parameters[0]])  # type: ignore[call-overload]
    before = [p.detach().clone() for p in own.parameters[0]]
    own.turn(0, torch.zeros(2, 20, 64), torch.zeros(()))
    for parameter, kept in zip(own.parameters[0], before, strict=True):
        torch.testing.assert_close(parameter.detach(), kept * (1 - 0.01 * 0.5))


def test_the_average_is_its_formula_and_takes_the_place_of_the_weights_in_the_end(images: Dataset) -> None:
    weight = torch.zeros(2)
    average, expected = Average([weight], 0.5), 0.0
    for n in range(1, 30):
        weight.fill_(float(n))
        average.update()
        decay = min(0.5, n / (n + 9))
        expected = decay * expected + (1 - decay) * n
    average.swap()
    assert weight.tolist() == pytest.approx([expected] * 2) and average.means[0].tolist() == [29.0] * 2
    own = training("vae[average=0.8]", images)
    for _ in range(EPOCHS):
        own.run_epoch()
    assert own.average is not None
    raw = own.average.means[0]
    assert not torch.equal(raw, own.parameters[0][0])
    plain = training("vae", images)
    for _ in range(EPOCHS):
        plain.run_epoch()
    torch.testing.assert_close(raw, plain.parameters[0][0].detach())


def test_each_seed_keeps_its_best_state_and_looks_no_further_after_its_patience(images: Dataset) -> None:
    population = training("vae", images).population
    best, (name, parameter) = Best(population, 2), next(iter(population.params.items()))
    for epoch, values in enumerate([(1.0, 1.0), (0.5, 2.0), (0.4, math.nan), (9.0, 3.0)]):
        with torch.no_grad():
            parameter.fill_(float(epoch))
        assert not best.final
        best.update({"validation_log_prob": list(values)})
    assert not best.final
    best.update({"validation_log_prob": [9.0, 2.0]})
    best.update({"validation_log_prob": [9.0, 2.0]})
    assert best.final
    best.restore()
    assert population.state()[name].flatten(1).unique(dim=1).tolist() == [[0.0], [3.0]]
    with pytest.raises(UserError, match="set patience=0"):
        best.update({"train_loss": [1.0, 2.0]})


def test_training_ends_when_no_seed_looks_further(images: Dataset) -> None:
    """No validation after the first is better: two seeds wait for two epochs, and have the weights of the first."""
    own = training("vae[patience=2,epochs=9,average=0.5]", images)
    first = [own.run_epoch()]
    kept = {name: tensor.clone() for name, tensor in own.best.kept.items()}
    own.best.value.fill_(math.inf)
    second = own.run_epoch()
    assert not own.over
    curves = [*first, second, own.run_epoch()]
    assert own.over and len(curves) == own.epoch == 3
    assert all(torch.equal(tensor, kept[name]) for name, tensor in own.population.state().items())


def test_a_seed_whose_training_has_ended_cannot_diverge_in_company(images: Dataset) -> None:
    """Alone it would have stopped; its kept weights are finite. A seed that is still looked at can."""
    own = training("vae[patience=1,epochs=9]", images)
    own.run_epoch()
    own.best.value[:] = torch.tensor([math.inf, -math.inf])
    own.run_epoch()
    assert own.best.settled == [True, False]
    for s, expected in ((0, {}), (1, {1: 4})):
        own.best.value[1], own.best.since[1] = -math.inf, 0
        with torch.no_grad():
            own.parameters[0][0][s].fill_(math.nan)
        own.run_epoch()
        assert own.diverged == expected
    own.best.restore()
    assert own.population.state()["decoder.0.weight"].isfinite().all()


def test_the_best_weights_are_kept_to_the_end_of_training_where_there_is_a_validation(images: Dataset) -> None:
    own = training("vae[keep=best]", images)
    assert own.best is not None
    curves, states = [], []
    while not own.over:
        curves.append(own.run_epoch()["validation_log_prob"])
        states.append({name: tensor.clone() for name, tensor in own.population.state().items()})
        if len(curves) == 2:
            own.best.value.fill_(math.inf)  # nothing is better than the second
    assert len(curves) == EPOCHS
    first, kept = states[0], own.population.state()
    better = torch.tensor(curves[1]) > torch.tensor(curves[0])
    for name, tensor in kept.items():
        assert torch.equal(tensor[better], states[1][name][better]) and torch.equal(tensor[~better], first[name][~better])
    gan = training("gan[keep=best,epochs=1]", images)
    gan.run_epoch()
    assert gan.best is None


def test_a_loss_of_many_samples_is_validated_by_as_many(images: Dataset) -> None:
    """L_8 is above L_1, so the loss of IWAE is below minus its one-sample bound, and decides which weights are best."""
    own = training("vae[samples=8,objective=iwae,keep=best]", images)
    curves = own.run_epoch()
    assert all(-loss > bound for loss, bound in zip(curves["validation_loss"], curves["validation_log_prob"], strict=True))
    assert own.best is not None
    torch.testing.assert_close(own.best.value.float(), -torch.tensor(curves["validation_loss"]))
    assert set(training("vae", images).run_epoch()) == {"train_loss", "validation_log_prob"}


def test_options_at_their_defaults_change_no_key_and_optimizers_have_names(images: Dataset) -> None:
    values = configure("vae")[0].values
    assert set(ADDED_OPTIONS) <= set(values) and set(identifying(values)).isdisjoint(ADDED_OPTIONS)
    assert identifying(configure("vae[patience=3]")[0].values)["patience"] == 3
    assert {player.optimizer for player in GAN.players} == {"adam-0.5"}
    refused = {"vae[optimizer=adm]": "did you mean 'adam'", "vae[average=1]": "average", "vae[lr_warm_up=1]": "lr_warm_up"}
    for selector, words in refused.items():
        with pytest.raises(UserError, match=words):
            configure(selector)
    assert Recipe().patience == 0
