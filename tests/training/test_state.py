"""Training steps alone change a model's state, once each; and state may be tied, shared, counted and averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.integrations.test_export import recorded
from vae_variants.checks.fixtures import configuration
from vae_variants.checks.model import questions
from vae_variants.datasets import Dataset
from vae_variants.harness.files import load_tensors, save_tensors
from vae_variants.integrations.export import read_model, write_model
from vae_variants.models.base import MODELS, Density, Encoder, Model, Player
from vae_variants.models.likelihoods import Support
from vae_variants.registry import UserError
from vae_variants.training.loop import FEW, Training
from vae_variants.training.population import Population
from vae_variants.training.throughput import step_flops
from vae_variants.training.traced import Gradient
from vae_variants.variants import VARIANTS, build, configure
from vae_variants.variants.recipe import Recipe

FIRST = {variant.config["model"]: name for name, variant in reversed(VARIANTS.items())}
TRAINED = [name for model, name in FIRST.items() if MODELS[model].players]
EPOCHS, BATCH = 3, 30


class Stateful(Model, Encoder, Density):
    """BatchNorm, tied weights, and a counter of steps under two names."""

    exact, support = False, Support.BINARY
    steps: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, d = shape, shape[0] * shape[1] * shape[2]
        self.first, self.norm, self.last = nn.Linear(d, d), nn.BatchNorm1d(d), nn.Linear(d, d)
        self.last.weight = self.first.weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", self.steps)

    def encode(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x))

    def log_prob(self, x: Tensor) -> Tensor:
        h = self.last(self.encode(x).tanh())
        return (x * h - nn.functional.softplus(h)).sum(-1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        self.steps.add_(1)
        return -self.log_prob(x).mean()


class StatefulAlone(Stateful):
    """The same, member by member."""

    stackable = False


class Counting(Model):
    """A counter in a loss, by which the model is validated too."""

    support = Support.UNIT
    steps: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, self.weight = shape, nn.Parameter(torch.randn(shape[0] * shape[1] * shape[2]))
        self.register_buffer("steps", torch.zeros(()))

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        self.steps.add_(1)
        return (x - self.weight).square().mean()


OWN: dict[str, type[Model]] = {"stateful": Stateful, "stateful-alone": StatefulAlone, "counting": Counting}


@pytest.fixture(scope="module")
def images(digits: Dataset) -> Dataset:
    return digits.subset(150, 251)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for name, model in OWN.items():
        MODELS.add(model, name=name)
    yield
    for name in OWN:
        MODELS.drop(name)


def training(name: str, images: Dataset, trace: bool = False) -> Training:
    """Of three seeds; traced if there are many steps."""
    chosen = configuration(name)
    recipe = Recipe(EPOCHS if not trace else FEW, BATCH, 1e-3)
    return Training(Population(lambda: build(chosen, images), (0, 3, 5)), images.as_(chosen.support), recipe, "key")


def copied(population: Population) -> list[Tensor]:
    """All parameters and buffers, persistent or not."""
    own = [*population.params.values(), *population.buffers.values()]
    found = own or [tensor for model in population.models for tensor in (*model.parameters(), *model.buffers())]
    return [tensor.detach().clone() for tensor in found]


@pytest.mark.parametrize("name", [*TRAINED, *OWN])
def test_what_is_no_training_step_changes_no_state(name: str, images: Dataset) -> None:
    whole = training(name, images)
    whole.turn(0, next(whole.batches()), torch.tensor(0.5))
    population, x, t = whole.population, next(whole.batches()), torch.tensor(0.5)
    before, stream = copied(population), torch.get_rng_state()

    def trace() -> None:
        for player in whole.players if not population.models else ():
            Gradient(population, player).stacked(x, t)

    works: dict[str, Callable[[], object]] = {
        "validation": whole.validate,
        "counting of products": lambda: step_flops(whole),
        "trace": trace,
    }
    for what, work in works.items():
        work()
        assert torch.equal(torch.get_rng_state(), stream), f"the {what} draws from the stream of training"
        assert all(map(torch.equal, copied(population), before)), what
    for member in population.members():
        assert not member.training
        for what, ask in questions(member, x[0, :, : images.dim]).items():  # no labels beside them
            ask()
            assert all(map(torch.equal, copied(population), before)), what
    assert all(model.training for model in [population.template, *population.models])
    assert all(parameter.requires_grad for model in [population.template, *population.models] for parameter in model.parameters())


@pytest.mark.parametrize("trace", [False, True], ids=["plain", "traced"])
@pytest.mark.parametrize("name", OWN)
def test_state_counts_steps_and_is_resumed_bit_for_bit(name: str, trace: bool, images: Dataset, tmp_path) -> None:
    whole, first, second = (training(name, images, trace) for _ in range(3))
    curves = [whole.run_epoch() for _ in range(EPOCHS)]
    assert whole.population.state()["steps"].tolist() == 3 * [EPOCHS * whole.steps]
    first.run_epoch()
    save_tensors(tmp_path / "kept", first.state())
    second.restore(load_tensors(tmp_path / "kept") or {})
    assert [second.run_epoch() for _ in range(EPOCHS - 1)] == curves[1:]
    for key, tensor in whole.state().items():
        assert key == "seconds" or torch.equal(tensor, second.state()[key]), key


@pytest.mark.parametrize("trace", [False, True], ids=["plain", "traced"])
@pytest.mark.parametrize("name", ["stateful", "counting", "vae[likelihood=gaussian-optimal]"])
def test_state_counts_steps_in_parts_that_memory_holds(name: str, trace: bool, images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training(name, images, trace)
    whole.run_epoch()
    monkeypatch.setattr("vae_variants.training.traced.available", lambda device: 0)
    parts = training(name, images, trace)
    parts.run_epoch()
    assert "1 of 3 at a time" in parts.how
    found = parts.population.state()
    if name in OWN:
        assert found["steps"].tolist() == 3 * [parts.steps]
    for key, tensor in whole.population.state().items():
        if name != "stateful":  # a bias before BatchNorm has no gradient but rounding errors, which Adam enlarges
            torch.testing.assert_close(found[key], tensor)


@pytest.mark.parametrize("name", ["stateful", "stateful-alone"])
def test_tied_weights_train_as_one_and_leave_as_a_file(name: str, images: Dataset, tmp_path) -> None:
    whole = training(name, images.subset(150, 40))
    validation = whole.run_epoch()["validation_log_prob"]
    (chosen,) = configure(name)
    record = recorded(name, chosen.values, images)
    for member, score in zip(whole.population.members(), validation, strict=True):
        assert member.log_prob(whole.validation).mean().item() == pytest.approx(score, rel=1e-5), "validated as it is evaluated"
        assert member.last.weight is member.first.weight and member.count is member.steps
        assert member.norm.num_batches_tracked == member.count == whole.steps
        write_model(member, record, 4, tmp_path / "a.safetensors")
        again = read_model(tmp_path / "a.safetensors")
        assert again.last.weight is again.first.weight
        x = images.as_(Support.BINARY).test
        assert torch.equal(again.log_prob(x), member.log_prob(x))


class Sharing(Counting):
    """Two players whose optimizers are one."""

    one: ClassVar[list[torch.optim.Optimizer]] = []

    @staticmethod
    def shared(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
        if Sharing.one:
            Sharing.one[0].add_param_group({"params": parameters})
        else:
            Sharing.one.append(torch.optim.SGD(parameters, lr))
        return Sharing.one[0]

    players = (Player(("weight",), optimizer=shared), Player(("other",), optimizer=shared))

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.other = nn.Parameter(torch.zeros(()))


def test_players_that_share_an_optimizer_are_refused_before_training(images: Dataset) -> None:
    with pytest.raises(UserError, match=r"^the optimizer of player 'other' of Sharing has not .* return a new optimizer") as error:
        Training(Population(lambda: Sharing((1, 8, 8)), (0,)), images.as_(Support.UNIT), Recipe(1, 10, 1e-3))
    assert "\n" not in str(error.value)


def test_a_text_in_place_of_a_tuple_is_refused_when_it_is_registered() -> None:
    wrong = type("Wrong", (Counting,), {"players": (Player("a."),)})
    assert "has a player that owns 'a.'; give a tuple of texts" in MODELS.fault(wrong)
