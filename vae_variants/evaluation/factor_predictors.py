"""Scores of latents by what a predictor makes of them. Images are drawn again from those at hand, by a random stream that is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from vae_variants.evaluation.logistic import logistic

BATCH = 64  # images, or pairs of them, that share a factor
VOTES = 4000  # such batches for fitting, and as many for scoring
TREES, LEAF = 10, 20  # of a forest: trees, and images of a leaf at least
PENALTY = 1.0  # scikit-learn's C, as its default

Array = np.ndarray


class Parts(NamedTuple):
    """Standardised or raw codes (N, Z) and factors (N, F) to fit with, and others to score with."""

    codes: Array
    factors: Array
    test_codes: Array
    test_factors: Array


def standardised(codes: Array, *others: Array) -> list[Array]:
    """These codes, and others in the same way, with mean 0 and variance 1; a unit that does not vary stays 0."""
    spread = codes.std(0)
    return [(each - codes.mean(0)) / np.where(spread > 0, spread, 1.0) for each in (codes, *others)]


def sharing(factors: Array, k: int, like: Array, rng: np.random.Generator) -> Array:
    """Indices of images that have factor k in common with the images `like`, each drawn among all that have: the shape of `like`."""
    order = np.argsort(factors[:, k], kind="stable")
    sizes = np.bincount(factors[:, k])
    start, value = np.cumsum(sizes) - sizes, factors[like, k]
    return order[start[value] + (rng.random(like.shape) * sizes[value]).astype(np.int64)]


def drawn(factors: Array, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Each factor with the number of the `VOTES` batches that keep it."""
    yield from enumerate(np.bincount(rng.integers(factors.shape[1], size=VOTES), minlength=factors.shape[1]).tolist())


def differences(codes: Array, factors: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """For `VOTES` batches the mean of |z - z'| over pairs with one factor in common, (VOTES, Z), and the number of that factor."""
    found, kept = [], []
    for k, n in drawn(factors, rng):
        one = rng.integers(len(codes), size=(n, BATCH))
        found.append(np.abs(codes[one] - codes[sharing(factors, k, one, rng)]).mean(1))
        kept += [k] * n
    return np.concatenate(found), np.array(kept)


def beta_vae(codes: Array, factors: Array, rng: np.random.Generator) -> float:
    """Accuracy of a linear classifier that tells which factor pairs have in common: see the metric `beta_vae_score`."""
    (z,) = standardised(codes)
    (x, y), (test_x, test_y) = differences(z, factors, rng), differences(z, factors, rng)
    return logistic(x, y, PENALTY).accuracy(test_x, test_y)


def votes(codes: Array, factors: Array, rng: np.random.Generator) -> Array:
    """How often each unit varies least, over its own variance, in batches that keep each factor: (Z, F)."""
    table = np.zeros((codes.shape[1], factors.shape[1]), dtype=np.int64)
    for k, n in drawn(factors, rng):
        first = np.broadcast_to(rng.integers(len(codes), size=(n, 1)), (n, BATCH))
        least = codes[sharing(factors, k, first, rng)].var(1, ddof=1).argmin(1)
        table[:, k] = np.bincount(least, minlength=codes.shape[1])
    return table


def factor_vae(codes: Array, factors: Array, rng: np.random.Generator) -> float:
    """Accuracy of a majority vote on which factor batches have in common: see the metric `factor_vae_score`."""
    varies = codes.var(0) > 0
    if not varies.any():
        return 0.0
    (z,) = standardised(codes[:, varies])
    choice, found = votes(z, factors, rng).argmax(1), votes(z, factors, rng)
    return float(found[np.arange(len(choice)), choice].sum() / found.sum())


def importances(parts: Parts) -> tuple[Array, Array]:
    """How much each unit helps a forest to tell each factor, (Z, F), and its accuracy on other images, (F,)."""
    from sklearn.ensemble import RandomForestClassifier  # scikit-learn takes seconds to import

    found, right = [], []
    for y, test_y in zip(parts.factors.T, parts.test_factors.T, strict=True):
        forest = RandomForestClassifier(TREES, max_features=None, min_samples_leaf=LEAF, random_state=0)
        with threadpool_limits(1):
            forest.fit(parts.codes, y)
            found.append(forest.feature_importances_)
            right.append(forest.score(parts.test_codes, test_y))
    return np.stack(found, 1), np.array(right)


def area(scores: Array, positive: Array) -> float:
    """Area under the ROC curve: the probability that a positive has a higher score than a negative, half of it if equal."""
    ranks, n = rankdata(scores), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def explicitness(parts: Parts) -> float:
    """Mean area under the ROC curves of a logistic regression, one value against the rest: see the metric `explicitness`."""
    x, test_x = standardised(parts.codes, parts.test_codes)
    found = []
    for y, test_y in zip(parts.factors.T, parts.test_factors.T, strict=True):
        model = logistic(x, y, PENALTY)
        p = model.probabilities(test_x)
        both = [(i, test_y == value) for i, value in enumerate(model.classes) if 0 < (test_y == value).sum() < len(test_y)]
        found.append(np.mean([area(p[:, i], positive) for i, positive in both]))
    return float(np.mean(found))
