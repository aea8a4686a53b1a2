"""The probe against scikit-learn used by hand, and against what would fool it."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, Skip, evaluate
from vae_variants.evaluation import logistic as solver
from vae_variants.evaluation import probe as probes
from vae_variants.evaluation.logistic import Logistic, logistic
from vae_variants.evaluation.probe import PENALTIES, few, probe, searched, usable
from vae_variants.evaluation.units import Variance
from vae_variants.models.references import PCA, Pixels
from vae_variants.variants import build

SMOKE = FIDELITIES["smoke"]


def pca(dataset: Dataset, latent: int, seed: int = 0) -> Evaluation:
    model = PCA(dataset.shape, latent=latent)
    model.initialise(dataset.grey("train"))
    return Evaluation(model, dataset, seed, SMOKE)


def by_hand(e: Evaluation, rows: np.ndarray | None) -> float:
    """The protocol with scikit-learn's own parts and the whole grid; None is all labels and the refit."""
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = {k: v.numpy() for k, v in e.codes.items()}, {k: v.numpy() for k, v in e.dataset.labels.items()}
    scale = make_pipeline(VarianceThreshold(1e-8), StandardScaler()).fit(x["train"])
    x = {k: scale.transform(v) for k, v in x.items()}
    some = slice(None) if rows is None else rows

    def fit(a, b, c):
        return LogisticRegression(C=c, tol=1e-5, max_iter=10_000).fit(a, b)

    def validated(c):
        model = fit(x["train"][some], y["train"][some], c)
        return model.score(x["validation"], y["validation"]), -log_loss(y["validation"], model.predict_proba(x["validation"]))

    c = max(PENALTIES, key=validated)
    if rows is not None:
        return fit(x["train"][some], y["train"][some], c).score(x["test"], y["test"])
    both = [np.concatenate([part["train"], part["validation"]]) for part in (x, y)]
    return fit(*both, c).score(x["test"], y["test"])


@pytest.mark.parametrize("latent", [2, 10, 30])
def test_the_probe_is_scikit_learns_pipeline(latent: int, digits: Dataset):
    e = pca(digits, latent)
    assert probe(e) == pytest.approx(by_hand(e, None), rel=1e-4)
    assert probe(e, 10) == pytest.approx(by_hand(e, few(e, 10)), rel=1e-4)


def test_pixels_of_which_some_are_constant_are_probed_as_by_hand(digits: Dataset):
    e = Evaluation(Pixels(digits.shape), digits, 0, SMOKE)
    assert METRICS["probe_codes"].fn(e) < 64
    assert probe(e) == pytest.approx(by_hand(e, None), rel=1e-4)


def noisy_unit(digits: Dataset, units: int) -> Evaluation:
    """A VAE whose codes tell the class in their first 10 units; those after are noise of variance 1e-4."""
    e = Evaluation(build("vae[hidden=8,latent=2]", digits), digits, 0, SMOKE)
    generator = torch.Generator().manual_seed(1)
    e.codes = {}
    for name, y in digits.labels.items():
        told = torch.nn.functional.one_hot(y, 10) + 0.4 * torch.randn(len(y), 10, generator=generator)
        e.codes[name] = torch.cat([told, 1e-2 * torch.randn(len(y), 300, generator=generator)[:, :units]], 1).double()
    return of_unit_width(e)


def of_unit_width(e: Evaluation) -> Evaluation:
    """With codes that are the means of a q of variance 1."""
    e.variances = {name: Variance(codes.var(0, correction=0), torch.ones(codes.shape[1])) for name, codes in e.codes.items()}
    return e


def test_units_of_a_vae_that_are_noise_are_not_amplified(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    without, one, many = (noisy_unit(digits, units) for units in (0, 1, 300))
    assert METRICS["probe_codes"].fn(many) == 10
    for budget in (None, 10):
        assert probe(one, budget) == probe(without, budget) == probe(many, budget)
    monkeypatch.setattr(probes, "usable", lambda e: np.full(e.codes["train"].shape[1], True))
    assert probe(many, 10) < probe(without, 10) - 0.05  # what standardising them would do


def test_budgets_are_nested_balanced_and_the_seeds_own(digits: Dataset):
    e = pca(digits, 5)
    y = digits.labels["train"].numpy()
    small, large = few(e, 10), few(e, 100)
    assert set(small) < set(large)
    assert np.bincount(y[small]).tolist() == [10] * 10
    assert np.bincount(y[large]).tolist() == [100] * 10
    assert set(few(pca(digits, 5, seed=1), 10)) != set(small)
    assert np.array_equal(few(pca(digits, 20), 10), small)  # the same for every model


def test_a_budget_is_asked_of_data_with_labels_enough(digits: Dataset):
    def asked(dataset: Dataset) -> set[str]:
        e = Evaluation(Pixels(dataset.shape), dataset, 0, SMOKE)
        return {v.metric for v in evaluate(e) if v.metric.startswith("probe_accuracy")}

    assert asked(digits) == {"probe_accuracy", "probe_accuracy_10", "probe_accuracy_100"}
    assert asked(digits.subset(200, 50)) == {"probe_accuracy", "probe_accuracy_10"}
    assert asked(replace(digits, labels=None)) == {"probe_accuracy"}  # and skipped, with the reason


def test_a_budget_sees_no_more_labels_than_it_says(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    fitted, fit = [], probes.logistic
    monkeypatch.setattr(probes, "logistic", lambda x, y, c, start=None: (fitted.append(len(y)), fit(x, y, c, start))[1])
    e = pca(digits, 5)
    probe(e, 10)
    assert set(fitted) == {100}
    fitted.clear()
    probe(e)
    assert fitted[-1] == 1197 + 300
    assert set(fitted[:-1]) == {1197}


def test_the_penalty_is_the_best_on_held_out_images():
    class Fit:
        def __init__(self, c: float):
            self.C = c

    def chosen(*accuracies: float) -> tuple[float, int]:
        curve, asked = dict(zip(PENALTIES, accuracies, strict=False)), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probes, "logistic", lambda x, y, c, start=None: (asked.append(c), Fit(c))[1])
            patch.setattr(probes, "quality", lambda model, x, y: (curve.get(model.C, 0.0), 0.0))
            return searched(np.zeros(1), np.zeros(1), (np.zeros(1), np.zeros(1))).C, len(asked)

    assert chosen(0.5, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7) == (PENALTIES[4], 7)
    assert chosen(0.5, 0.4, 0.6, 0.5, 0.5, 0.9) == (PENALTIES[2], 5)
    assert chosen(*(k / 9 for k in range(9))) == (PENALTIES[8], 9)
    assert chosen(0.3, 0.2, 0.1) == (PENALTIES[0], 5)


def test_the_penalty_is_chosen_on_validation_images_and_no_others(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    seen, search = [], probes.searched
    monkeypatch.setattr(probes, "searched", lambda x, y, held_out: (seen.append(held_out), search(x, y, held_out))[1])
    e = pca(digits, 5)
    for budget in (None, 10):
        probe(e, budget)
    train = e.codes["train"]
    standardised = (e.codes["validation"] - train.mean(0)) / train.std(0, correction=0)
    for x, y in seen:
        np.testing.assert_allclose(x, standardised.numpy(), atol=1e-12)
        assert np.array_equal(y, digits.labels["validation"].numpy())


def test_of_equally_accurate_penalties_the_surer_is_taken():
    """Two classes that one number tells apart: every penalty is right, and the strongest would be decided by the classes' sizes."""
    x = np.linspace(-1, 1, 40)[:, None]
    y = (x[:, 0] > 0).astype(int)
    found = searched(x, y, (x, y))
    assert math.isclose(found.C, 1e4)
    accuracy, told = probes.quality(logistic(x, y, 1.0), x, np.where(y == 1, 7, y))  # a class that was never seen
    assert accuracy == 0.5
    assert told < -100


def test_shuffled_labels_are_read_at_chance(digits: Dataset):
    labels = {name: y[torch.randperm(len(y))] for name, y in digits.labels.items()}
    e = Evaluation(Pixels(digits.shape), replace(digits, labels=labels), 0, SMOKE)
    for budget in (None, 10, 100):
        assert abs(probe(e, budget) - 0.1) < 4 * math.sqrt(0.09 / 300)


def test_a_fit_that_does_not_converge_is_skipped(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(solver, "STEPS", 3)
    with pytest.raises(Skip, match=r"did not converge at C = 0\.0001"):
        probe(pca(digits, 20))


def test_the_search_ends_before_a_penalty_that_does_not_converge(monkeypatch: pytest.MonkeyPatch):
    fit = probes.logistic

    def until_one(x, y, c, start=None):
        if c >= 1:
            raise Skip("did not converge")
        return fit(x, y, c, start)

    x = np.random.default_rng(0).normal(size=(300, 3))
    y = (x[:, 0] + 0.1 * x[:, 1] > 0).astype(int)
    free = searched(x[:200], y[:200], (x[200:], y[200:])).C
    monkeypatch.setattr(probes, "logistic", until_one)
    assert searched(x[:200], y[:200], (x[200:], y[200:])).C <= 0.1 < free
    monkeypatch.setattr(probes, "logistic", lambda *_: until_one(x, y, 1.0))
    with pytest.raises(Skip):
        searched(x[:200], y[:200], (x[200:], y[200:]))


def scikit_learns(x: np.ndarray, y: np.ndarray, c: float, start: Logistic | None = None) -> Logistic:
    """The same fit by scikit-learn; raises `Skip` if it does not converge."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=solver.STEPS, tol=solver.TOLERANCE, warm_start=True)
    if start is not None and np.array_equal(start.classes, np.unique(y)):
        model.coef_, model.intercept_, model.classes_ = start.weights[:-1].T, start.weights[-1], start.classes
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(x, y)
        except ConvergenceWarning as warning:
            raise Skip(f"did not converge at C = {c:g}") from warning
    return Logistic(model.classes_, c, np.concatenate([model.coef_.T, model.intercept_[None]]))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_fit_is_scikit_learns_to_1e_6(digits: Dataset, classes: int):
    """Along the same penalties, each from the last: weights, probabilities and optimum."""
    y = digits.labels["train"].numpy()[:400]
    e = pca(digits, 10)
    x = (e.codes["train"] / e.codes["train"].std(0)).numpy()[:400][y < classes]
    y = 3 * y[y < classes]
    mine = theirs = None
    for c in PENALTIES[:6]:
        mine, theirs = logistic(x, y, c, mine), scikit_learns(x, y, c, theirs)
        assert mine.weights.shape == theirs.weights.shape
        np.testing.assert_allclose(mine.weights, theirs.weights, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(mine.probabilities(x), theirs.probabilities(x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("latent", [2, 20])
def test_the_probe_has_the_values_of_scikit_learns_fits(latent: int, digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    e = Evaluation(build(f"vae[hidden=8,latent={latent}]", digits), digits, 0, SMOKE)
    found = [probe(e, budget) for budget in (None, 10, 100)]
    monkeypatch.setattr(probes, "logistic", scikit_learns)
    assert found == [probe(e, budget) for budget in (None, 10, 100)]


def test_a_warm_start_ends_where_a_cold_one_does(digits: Dataset):
    e = pca(digits, 10)
    x, y = (e.codes["train"] / e.codes["train"].std(0)).numpy(), digits.labels["train"].numpy()
    cold, warm = logistic(x, y, 0.1), logistic(x, y, 0.1, logistic(x, y, 1e-3))
    np.testing.assert_allclose(warm.weights, cold.weights, atol=5e-3)
    fewer = y < 9  # another number of classes: nothing to start from
    np.testing.assert_allclose(logistic(x[fewer], y[fewer], 0.1, cold).weights, logistic(x[fewer], y[fewer], 0.1).weights)


def test_without_a_unit_that_moves_the_probe_guesses_the_commonest_class(digits: Dataset):
    e = noisy_unit(digits, 1)
    e.codes = {name: codes[:, 10:] for name, codes in e.codes.items()}
    of_unit_width(e)
    commonest = digits.labels["train"].bincount().argmax()
    assert not usable(e).any()
    assert probe(e) == pytest.approx((digits.labels["test"] == commonest).double().mean().item())
