"""The memory that scoring takes does not grow with the number of images, but for what it returns; nor does any value depend on that."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from vae_variants import isolation
from vae_variants.datasets import Dataset, levels
from vae_variants.datasets.dataset import SPLITS
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, evaluate, evaluation, features, pieces
from vae_variants.evaluation.metrics import Value
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.harness.pictures import pictures
from vae_variants.memory import Allocations
from vae_variants.models.base import Model
from vae_variants.training.population import Population
from vae_variants.variants import build

LEVEL = replace(FIDELITIES["smoke"], bound_samples=20, bound_images=20, image_samples=100, annealed_images=0, classifier_steps=10)
PIECE, MOST = 2**18, 2**19  # bytes of a tensor made of a piece here, and of any tensor


class Largest(Allocations):
    """Also notes the size of the largest tensor that an operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.bytes
        found = super().__torch_dispatch__(func, types, args, kwargs)
        self.largest = max(self.largest, self.bytes - before)
        return found


@pytest.fixture
def many(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    """Images of 16x16 pixels, whose training images alone exceed `MOST`, and a classifier that sees two at a time."""
    monkeypatch.setattr(features, "BATCH", 2)
    monkeypatch.setattr(evaluation, "ELEMENTS", PIECE // 4)
    monkeypatch.setattr(levels, "PIECE", PIECE // 4)
    some = digits.subset(600, 100)
    parts = {part: getattr(some, part).unflatten(1, (8, 8)).repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1) for part in SPLITS}
    yield replace(some, shape=(1, 16, 16), **parts)
    isolation.forget()


def scored(model: Model, dataset: Dataset) -> tuple[dict[str, Value], dict[str, int]]:
    """The values of all metrics that take no time, and the largest tensor of each and of the pictures."""
    isolation.forget()
    e, values, largest = Evaluation(model, dataset, 0, LEVEL), dict[str, Value](), dict[str, int]()
    for name, m in METRICS.items():
        if not name.endswith(TIMINGS):
            with Largest() as seen:
                values.update((name, value) for value in evaluate(e, [m]))
            largest[name] = seen.largest
    with Largest() as seen:
        pictures(e)
    return values, largest | {"pictures": seen.largest}


@pytest.mark.parametrize("labelled", [True, False])
def test_no_metric_makes_a_tensor_of_all_images_at_once(labelled: bool, many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = many if labelled else replace(many, labels=None, classes=None)
    assert 4 * dataset.train.numel() > MOST
    population = Population(lambda: build("vae-gaussian-learnt[hidden=8,latent=3]", many), (0,))
    population.initialise(dataset.grey("train"))
    model = next(iter(population.members()))
    expected, whole = scored(model, dataset)
    monkeypatch.setattr(pieces, "LARGEST", PIECE)
    values, largest = scored(model, dataset)
    assert {name: size for name, size in largest.items() if size > MOST} == {}
    assert sum(size > MOST for size in whole.values()) >= 5  # so that this would be seen
    assert {name: value.status for name, value in values.items()} == {name: value.status for name, value in expected.items()}
    found = {name: value.value for name, value in values.items() if value.value is not None}
    assert len(found) > 20 and found == pytest.approx({name: expected[name].value for name in found}, rel=1e-4, abs=1e-6)
