"""Aggregates over data sets: rliable's definitions, known answers, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from vae_variants.analysis.aggregates import RESAMPLES, improvement, overall, places, resampled, resampled_means

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(("runs", "datasets"), [(1, 1), (3, 1), (3, 2), (5, 3), (7, 5), (10, 26)])
def test_the_mean_is_that_of_rliable_for_as_many_runs_of_each(runs, datasets):
    x = RNG.normal(size=(runs, datasets))
    assert overall(list(x.T)).value == pytest.approx(trim_mean(x, 0.25, axis=None), abs=1e-12)


def test_a_resampled_mean_is_that_of_the_resampled_runs():
    x = RNG.normal(size=(5, 2))
    drawn = [x[:, i][resampled(5, i, 0)] for i in range(2)]
    wanted = [trim_mean(np.concatenate([a, b]), 0.25) for a, b in zip(*(each[:50] for each in drawn), strict=True)]
    assert resampled_means(list(x.T))[:50] == pytest.approx(wanted, abs=1e-12)


def test_data_sets_count_alike_whatever_their_runs():
    """Of 1, 1, 1, 1, 1, 1 and 5, 5 a half is 1, so the middle half has as much of each."""
    assert overall([np.ones(6), np.full(2, 5.0)]).value == pytest.approx(3.0)
    assert overall([np.repeat([1.0, 2.0], 6), np.repeat([3.0, 9.0], 2)]).value == pytest.approx(2.5)


def test_outlying_runs_do_not_move_it():
    x = [np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.2, 0.3, 0.4])]
    wild = [np.array([-1e9, 0.2, 0.3, 0.4]), np.array([0.1, 0.2, 0.3, 1e9])]
    assert overall(wild).value == overall(x).value == pytest.approx(0.25)


@pytest.mark.parametrize(("m", "n", "datasets"), [(3, 3, 1), (5, 4, 2), (2, 7, 3)])
def test_the_probability_of_improvement_is_that_of_rliable(m, n, datasets):
    x, y = RNG.integers(0, 5, (m, datasets)).astype(float), RNG.integers(0, 5, (n, datasets)).astype(float)
    u = [mannwhitneyu(a, b, alternative="greater").statistic / (m * n) for a, b in zip(x.T, y.T, strict=True)]
    found = improvement(list(x.T), list(y.T))
    assert found.value == pytest.approx(np.mean(u), abs=1e-12)
    back = improvement(list(y.T), list(x.T))
    assert found.value + back.value == pytest.approx(1.0)
    assert found.low is not None and found.high is not None and 0 <= found.low <= found.value <= found.high <= 1


def test_its_resamples_are_those_of_both_sides():
    x, y = RNG.normal(size=4), RNG.normal(size=3)
    a, b = x[resampled(4, 0, 0)], y[resampled(3, 0, 1)]
    drawn = (a[:, :, None] > b[:, None, :]).mean((1, 2))
    assert improvement([x], [y])[1:] == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))))


def test_known_probabilities():
    assert improvement([np.array([2.0, 3.0])], [np.array([0.0, 1.0])]) == (1.0, 1.0, 1.0)
    assert improvement([np.ones(3)], [np.ones(5)]).value == 0.5
    assert improvement([np.array([1.0]), np.array([0.0])], [np.array([0.0]), np.array([1.0])]) == (0.5, None, None)


def test_what_has_no_runs_or_other_data_sets_is_refused():
    for nothing in ([], [np.ones(3), np.ones(0)]):
        with pytest.raises(ValueError, match="no scores"):
            overall(nothing)
    with pytest.raises(ValueError, match="zip"):
        improvement([np.ones(3)], [np.ones(3), np.ones(3)])


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Of 5 runs on each of 4 data sets; a percentile bootstrap of so few is a little too narrow."""
    x = np.random.default_rng(0).normal(size=(100, 4, 5))
    ends = [overall(list(scores))[1:] for scores in x]
    covered = np.mean([low <= 0 <= high for low, high in ends if low is not None and high is not None])
    assert 0.8 <= covered <= 0.97


def test_ranks_start_at_one_and_ties_share_the_better_one():
    means = np.array([[3.0, 1.0], [2.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    assert places(means).tolist() == [[1, 2], [3, 2], [1, 4], [4, 1]]
    pair = np.stack([resampled_means([np.arange(5.0)]), resampled_means([np.arange(5.0) + 0.1])])
    assert pair.shape == (2, RESAMPLES) and set(places(pair)[1]) == {1}, "seeds stay paired"
