"""What metrics, models and seeds share is computed once. No value depends on that."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from vae_variants import isolation
from vae_variants.datasets import Dataset
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, Fidelity, evaluate
from vae_variants.evaluation import features as classifiers
from vae_variants.evaluation.metrics import Metric, Value, value_of
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.models.base import Model
from vae_variants.training.population import Population
from vae_variants.variants import build

SIZES = {"bound_samples": 30, "bound_images": 20, "image_samples": 45, "timing_seconds": 1e-4, "annealed_images": 0, "classifier_steps": 15}
SMALL: Fidelity = replace(FIDELITIES["smoke"], **SIZES)


@pytest.fixture(scope="module")
def small(digits: Dataset) -> Iterator[Dataset]:
    yield digits.subset(200, 40)
    classifiers.classifier.cache_clear()


def timed(m: Metric) -> bool:
    return m.name.endswith(TIMINGS)


def separately(model: Model, dataset: Dataset, seed: int) -> list[Value]:
    """Each metric alone, of an evaluation of its own, in a process that has seen no other but for the classifier."""
    found = []
    for m in METRICS.values():
        e = Evaluation(model, dataset, seed, SMALL)
        if not timed(m) and m.asked_of(e):
            isolation.forget()
            found.append(value_of(m, e))
    return found


@pytest.mark.parametrize("variant", ["vae-bernoulli", "vae-gaussian-learnt", "ae-gmm", "gan"])
def test_metrics_of_several_seeds_have_the_values_of_separate_calls(variant: str, small: Dataset, monkeypatch: pytest.MonkeyPatch):
    population = Population(lambda: build(f"{variant}[hidden=8,latent=3]", small), (0, 1))
    population.initialise(small.as_(population.template.support).train)
    models, kept = list(population.members()), classifiers.classifier(small, SMALL.classifier_steps)
    metrics = [m for m in METRICS.values() if not timed(m)]
    together = {seed: evaluate(Evaluation(models[seed], small, seed, SMALL), metrics) for seed in (1, 0)}
    for name in ("distance", "feature_sets", "reconstruction"):
        monkeypatch.setattr(f"vae_variants.evaluation.{name}.classifier", lambda *_: kept)
    for seed, values in together.items():
        assert values == separately(models[seed], small, seed)
        assert sum(value.status == "ok" for value in values) > 10
