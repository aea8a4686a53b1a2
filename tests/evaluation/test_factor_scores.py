"""Scores against factors: known answers, and the definitions of the papers and of disentanglement_lib written once more."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.preprocessing import label_binarize

from vae_variants.evaluation import factor_predictors as predictors
from vae_variants.evaluation import factor_scores as scores
from vae_variants.evaluation.factor_predictors import Parts

Array = np.ndarray


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def halves(codes: Array, factors: Array) -> Parts:
    """Every second row to fit with, or all if there are too few of them to leave some out."""
    order = np.random.default_rng(5).permutation(len(codes))
    one, other = order[::2], order[1::2]
    return Parts(codes[one], factors[one], codes[other], factors[other])


SCORES: dict[str, Callable[[Array, Array], float]] = {
    "beta_vae": lambda z, v: predictors.beta_vae(z, v, rng()),
    "factor_vae": lambda z, v: predictors.factor_vae(z, v, rng()),
    "mig": scores.mig,
    "mig_corrected": lambda z, v: scores.mig(z, v, corrected=True),
    "sap": scores.sap,
    "disentanglement": lambda z, v: scores.concentration(predictors.importances(halves(z, v))[0]),
    "completeness": lambda z, v: scores.concentration(predictors.importances(halves(z, v))[0].T),
    "informativeness": lambda z, v: float(predictors.importances(halves(z, v))[1].mean()),
    "modularity": lambda z, v: scores.modularity(scores.information(z, v)),
    "explicitness": lambda z, v: predictors.explicitness(halves(z, v)),
    "irs": scores.irs,
    "mcc": scores.mcc,
}


def grid(*sizes: int, times: int = 1) -> Array:
    """Every combination of factors, so many times."""
    return np.tile(np.indices(sizes).reshape(len(sizes), -1).T, (times, 1))


FACTORS = grid(4, 4, 5, times=50)  # 4000 images


def noisy(noise: float = 0.3, units: int = 0, seed: int = 0) -> Array:
    """Units that each encode one factor of `FACTORS` by a curve, a fourth that mixes two, and further ones without information."""
    draw = np.random.default_rng(seed)
    a, b, c = FACTORS.T.astype(float)
    found = np.stack([a, 3 * b**1.5, -c, a + c], 1) + noise * draw.normal(size=(len(FACTORS), 4))
    return np.concatenate([found, draw.normal(size=(len(FACTORS), units))], 1)


@pytest.mark.parametrize("name", SCORES)
def test_perfect_latents_score_one(name: str):
    codes = FACTORS * np.array([1.0, -3.0, 0.1]) + 7
    assert SCORES[name](codes[:, [2, 0, 1]], FACTORS) == pytest.approx(1.0, abs=2e-3 if name == "explicitness" else 1e-9)


CHANCE = {  # of latents without information, and how far off chance may lead
    "beta_vae": (1 / 3, 0.03),
    "factor_vae": (1 / 3, 0.05),
    "mig": (0.0, 0.005),
    "mig_corrected": (0.0, 0.002),
    "sap": (0.0, 0.002),
    "disentanglement": (0.0, 0.02),
    "completeness": (0.0, 0.02),
    "informativeness": ((1 / 4 + 1 / 4 + 1 / 5) / 3, 0.02),
    "explicitness": (0.5, 0.01),
    "irs": (1 - 2.576 / 3.7, 0.1),
    "mcc": (0.0, 0.04),
}


@pytest.mark.parametrize("name", CHANCE)
def test_latents_without_information_are_at_the_level_of_chance(name: str):
    level, error = CHANCE[name]
    assert SCORES[name](np.random.default_rng(1).normal(size=(len(FACTORS), 6)), FACTORS) == pytest.approx(level, abs=error)


ROTATED = {  # theory for two factors of one size, turned by 45 degrees: no unit is nearer to one factor than to the other
    "beta_vae": (0.5, 0.03),
    "factor_vae": (0.5, 0.03),
    "mig": (0.0, 1e-9),
    "mig_corrected": (0.0, 1e-9),
    "sap": (0.0, 1e-9),
    "modularity": (0.0, 1e-9),
    "mcc": (math.sqrt(0.5), 1e-9),
    "disentanglement": (0.0, 0.05),
    "completeness": (0.0, 0.05),
    "informativeness": (1.0, 1e-9),
    "explicitness": (1.0, 2e-3),
}


@pytest.mark.parametrize("name", ROTATED)
def test_a_rotation_of_perfect_latents_scores_what_theory_says(name: str):
    factors = grid(6, 6, times=80)
    codes = (factors - 2.5) @ np.array([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    level, error = ROTATED[name]
    assert SCORES[name](codes, factors) == pytest.approx(level, abs=error)


@pytest.mark.parametrize("name", [name for name in SCORES if name != "completeness"])  # which is relative to the number of units
def test_units_without_information_raise_no_score(name: str):
    tolerance = 0.02 if "vae" in name else 0.01
    without, more = (SCORES[name](noisy(units=units), FACTORS) for units in (0, 20))
    assert more <= without + tolerance
    assert 0.3 < without <= 1


@pytest.mark.parametrize("name", SCORES)
def test_the_order_and_but_for_irs_the_scale_of_units_change_nothing(name: str):
    codes = noisy(units=1)
    scale = 1.0 if name == "irs" else np.array([1e3, -1.0, 1e-3, -50.0, 7.0])
    error = 0.03 if name in ("disentanglement", "completeness", "informativeness") else 1e-3  # of trees, whose ties are cut by chance
    assert SCORES[name]((codes * scale)[:, [3, 1, 4, 0, 2]], FACTORS) == pytest.approx(SCORES[name](codes, FACTORS), abs=error)


@pytest.mark.parametrize("name", SCORES)
def test_constant_latents_are_at_the_level_of_chance(name: str):
    assert SCORES[name](np.zeros((len(FACTORS), 1)), FACTORS) <= {"beta_vae": 0.36, "explicitness": 0.5, "informativeness": 0.27}.get(
        name, 0
    )


def discretised(codes: Array) -> list[Array]:
    return [np.digitize(unit, np.histogram(unit, 20)[1][:-1]) for unit in codes.T]


def test_information_and_its_gap_are_those_of_scikit_learn_on_the_bins_of_others():
    codes = noisy()
    found = np.array([[mutual_info_score(f, z) for f in FACTORS.T] for z in discretised(codes)])
    np.testing.assert_allclose(scores.information(codes, FACTORS), found, atol=1e-6)
    ordered, h = np.sort(found, 0)[::-1], np.array([mutual_info_score(f, f) for f in FACTORS.T])
    assert scores.mig(codes, FACTORS) == pytest.approx(np.mean((ordered[0] - ordered[1]) / h), abs=1e-6)
    per_unit = []
    for row in found:  # the template of the paper: all information is on one factor
        template = np.where(row == row.max(), row.max(), 0)
        per_unit.append(1 - ((row - template) ** 2).sum() / (row.max() ** 2 * (len(row) - 1)))
    assert scores.modularity(scores.information(codes, FACTORS)) == pytest.approx(np.mean(per_unit), abs=1e-6)


def miller_madow(values: list) -> float:
    counts, n = Counter(values).values(), len(values)
    return -sum(c / n * math.log(c / n) for c in counts) + (len(counts) - 1) / (2 * n)


def test_the_corrected_gap_is_that_of_corrected_entropies():
    codes, gaps = noisy(0.8), []
    for f in FACTORS.T.tolist():
        told = [
            max(0.0, miller_madow(z) + miller_madow(f) - miller_madow(list(zip(z, f, strict=True))))
            for z in (unit.tolist() for unit in discretised(codes))
        ]
        first, second, *_ = sorted(told, reverse=True)
        gaps.append((first - second) / miller_madow(f))
    assert scores.mig(codes, FACTORS, corrected=True) == pytest.approx(np.mean(gaps), abs=1e-6)
    few = np.random.default_rng(0).normal(size=(300, 1)), FACTORS[np.random.default_rng(1).permutation(4000)[:300]]
    raw, corrected = (scores.information(*few, corrected=c).mean() for c in (False, True))
    assert abs(corrected) < 0.3 * raw, "most of the information that noise seems to have is its bias"


def test_straight_lines_are_those_of_regressions_and_of_all_assignments():
    codes = noisy(0.8, units=1)
    r = np.array([[stats.linregress(z, f).rvalue for f in FACTORS.T] for z in codes.T])
    ordered = np.sort(r**2, 0)
    assert scores.sap(codes, FACTORS) == pytest.approx(np.mean(ordered[-1] - ordered[-2]), abs=1e-6)
    best = max(sum(abs(r[unit, k]) for k, unit in enumerate(chosen)) for chosen in itertools.permutations(range(5), 3))
    assert scores.mcc(codes, FACTORS) == pytest.approx(best / 3, abs=1e-6)
    assert scores.mcc(codes[:, :2], FACTORS) == pytest.approx((abs(r[0, 0]) + abs(r[1, 1])) / 3, abs=1e-6)


def test_importances_give_the_entropies_of_scipy():
    codes = noisy(0.8, units=1)
    parts, columns, right = halves(codes, FACTORS), [], []
    for k in range(3):
        forest = RandomForestClassifier(10, max_features=None, min_samples_leaf=20, random_state=0).fit(parts.codes, parts.factors[:, k])
        columns.append(forest.feature_importances_)
        right.append((forest.predict(parts.test_codes) == parts.test_factors[:, k]).mean())
    matrix = np.array(columns).T
    by_unit, by_factor = (1 - stats.entropy(m + 1e-11, base=len(m)) for m in (matrix.T, matrix))
    assert SCORES["disentanglement"](codes, FACTORS) == pytest.approx((by_unit * matrix.sum(1)).sum() / matrix.sum(), abs=1e-6)
    assert SCORES["completeness"](codes, FACTORS) == pytest.approx((by_factor * matrix.sum(0)).sum() / matrix.sum(), abs=1e-6)
    assert SCORES["informativeness"](codes, FACTORS) == pytest.approx(np.mean(right), abs=1e-9)


def test_explicitness_is_the_area_of_scikit_learn():
    parts = halves(noisy(1.5), FACTORS)
    mean, std, areas = parts.codes.mean(0), parts.codes.std(0), []
    for y, test_y in zip(parts.factors.T, parts.test_factors.T, strict=True):
        p = LogisticRegression(tol=1e-8, max_iter=5000).fit((parts.codes - mean) / std, y).predict_proba((parts.test_codes - mean) / std)
        areas.append(roc_auc_score(label_binarize(test_y, classes=range(y.max() + 1)), p, average="macro"))
    assert predictors.explicitness(parts) == pytest.approx(np.mean(areas), abs=1e-5)
    assert np.mean(areas) < 0.95
    assert predictors.area(np.array([1, 2, 2, 3]), np.array([False, True, False, True])) == pytest.approx(3.5 / 4)


def test_robustness_is_that_of_a_table_of_deviations():
    codes = noisy(0.8)
    matrix, weights = np.zeros((4, 3)), [max(abs(z - z.sum() / len(z))) for z in codes.T]
    for j, k in np.ndindex(4, 3):
        worst = []
        for value in sorted(set(FACTORS[:, k])):
            own = codes[FACTORS[:, k] == value, j]
            deviations = sorted(abs(own - own.sum() / len(own)))
            place = 0.99 * (len(own) - 1)
            low = int(place)
            worst.append(deviations[low] + (place - low) * (deviations[low + 1] - deviations[low]))
        matrix[j, k] = 1 - sum(worst) / len(worst) / weights[j]
    assert scores.irs(codes, FACTORS) == pytest.approx(np.average(matrix.max(1), weights=weights), abs=1e-6)


def test_scores_of_batches_are_those_of_a_plain_loop_within_their_error():
    codes, draw = noisy(2.0, units=2), np.random.default_rng(9)
    spread, kept, pairs, least = codes.std(0), [], [], []
    same = {(k, v): np.flatnonzero(FACTORS[:, k] == v) for k in range(3) for v in range(5)}
    for _ in range(3000):
        k = int(draw.integers(3))
        one = draw.integers(len(codes), size=4)
        other = [draw.choice(same[k, FACTORS[i, k]]) for i in one]
        batch = draw.choice(same[k, FACTORS[one[0], k]], 64)
        kept.append(k)
        pairs.append(np.abs(codes[one] - codes[other]).mean(0) / spread)
        least.append(int(np.argmin(codes[batch].var(0, ddof=1) / codes.var(0, ddof=1))))
    half, y = 1500, np.array(kept)
    table = Counter(zip(least[:half], kept[:half], strict=True))
    best = {unit: max(range(3), key=lambda k: table[unit, k]) for unit in range(6)}
    voted = np.mean([best[unit] == k for unit, k in zip(least[half:], kept[half:], strict=True)])
    assert SCORES["factor_vae"](codes, FACTORS) == pytest.approx(voted, abs=0.04)
    told = LogisticRegression(max_iter=1000).fit(pairs[:half], y[:half]).score(pairs[half:], y[half:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictors, "BATCH", 4)
        assert SCORES["beta_vae"](codes, FACTORS) == pytest.approx(told, abs=0.04)
    assert 0.45 < voted < 0.97 and 0.45 < told < 0.97


def test_the_total_correlation_of_a_gaussian_is_a_difference_of_entropies():
    draw = np.random.default_rng(0)
    codes = draw.normal(size=(500, 3)) @ draw.normal(size=(3, 3))
    covariance = np.cov(codes.T)
    expected = (
        sum(stats.norm(scale=math.sqrt(v)).entropy() for v in covariance.diagonal()) - stats.multivariate_normal(cov=covariance).entropy()
    )
    assert scores.gaussian_total_correlation(codes) == pytest.approx(expected, abs=1e-9)
    assert scores.gaussian_total_correlation(np.concatenate([codes, codes[:, :1]], 1)) > 15
    assert scores.gaussian_total_correlation(codes[:, :1]) == 0
