"""Scores of several data sets as one number, with its interval, as Agarwal et al. (2021) and their library rliable define them.

A variant's scores are one array of runs for each data set. Its runs are resampled within each data set, the same ones for every
variant with as many runs, so that ranks keep the pairing of seeds. Generators have fixed seeds: the same scores give the same intervals.

rliable itself resamples by NumPy's global generator, takes as many runs for each data set only, and needs arch and seaborn.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
CUT = 4  # 1 / share of the runs that an interquartile mean leaves out at each end

Scores = Sequence[np.ndarray]  # one array of runs for each data set


class Estimate(NamedTuple):
    """A number with its 95 % interval; both ends are None if there is one run for each data set."""

    value: float
    low: float | None
    high: float | None


@lru_cache(maxsize=64)
def resampled(runs: int, dataset: int, side: int) -> np.ndarray:
    """(RESAMPLES, runs) indices drawn with replacement. `side` 1 is independent of `side` 0."""
    found = np.random.default_rng([runs, dataset, side]).integers(0, runs, (RESAMPLES, runs))
    found.flags.writeable = False
    return found


def interquartile_mean(x: np.ndarray, weights: np.ndarray, runs: int) -> np.ndarray:
    """The mean of the middle half of the weight of `x` (..., N), along the last axis.

    The share c = floor(N / 4) / N is cut from each end, as by `scipy.stats.trim_mean` if all weights are equal. A value that the cut meets
    counts with the rest of its weight.

    Args:
        x: (..., N) scores.
        weights: (N,), which sum to 1.
        runs: N.
    """
    cut = runs // CUT / runs
    order = np.argsort(x, axis=-1, kind="stable")
    weight = weights[order]
    upper = np.cumsum(weight, axis=-1)
    kept = np.clip(np.minimum(upper, 1 - cut) - np.maximum(upper - weight, cut), 0.0, None)
    found: np.ndarray = (np.take_along_axis(x, order, -1) * kept).sum(-1) / (1 - 2 * cut)
    return found


def weights_of(scores: Scores) -> np.ndarray:
    """Of each run, so that all data sets count alike, whatever the number of runs."""
    return np.concatenate([np.full(len(x), 1 / (len(x) * len(scores))) for x in scores])


def resampled_means(scores: Scores) -> np.ndarray:
    """(RESAMPLES,) interquartile means of runs that are resampled within each data set."""
    drawn = [x[resampled(len(x), i, 0)] for i, x in enumerate(scores)]
    weights = weights_of(scores)
    return interquartile_mean(np.concatenate(drawn, axis=-1), weights, len(weights))


def overall(scores: Scores, resampled_: np.ndarray | None = None) -> Estimate:
    """The interquartile mean over runs and data sets, with the percentile interval of `resampled_means`.

    Raises:
        ValueError: without scores.
    """
    if not scores or not all(map(len, scores)):
        raise ValueError("no scores to average")
    weights = weights_of(scores)
    value = float(interquartile_mean(np.concatenate(list(scores)), weights, len(weights)))
    return with_interval(value, scores, resampled_means(scores) if resampled_ is None else resampled_)


def with_interval(value: float, scores: Scores, found: np.ndarray) -> Estimate:
    if all(len(x) < 2 for x in scores):
        return Estimate(value, None, None)
    low, high = np.quantile(found, (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def improvement(scores: Scores, baseline: Scores) -> Estimate:
    """How probable it is that a run of these scores is better than a run of the baseline: a mean over data sets of P(X > Y) + P(X = Y) / 2.

    P compares every run with every run of the baseline, as Mann and Whitney's U does. The interval resamples both sides independently.

    Raises:
        ValueError: the two are not of the same data sets.
    """
    parts = []
    for i, (x, y) in enumerate(zip(scores, baseline, strict=True)):
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
        parts.append((wins.mean(), ((counts(len(x), i, 0) @ wins) * counts(len(y), i, 1)).sum(1) / wins.size))
    value, drawn = (np.mean([part[i] for part in parts], axis=0) for i in (0, 1))
    return with_interval(float(value), [*scores, *baseline], drawn)


@lru_cache(maxsize=64)
def counts(runs: int, dataset: int, side: int) -> np.ndarray:
    """(RESAMPLES, runs) how often each run is drawn."""
    return (resampled(runs, dataset, side)[..., None] == np.arange(runs)).sum(1).astype(np.float64)


def places(means: np.ndarray) -> np.ndarray:
    """(variants, RESAMPLES) means -> ranks. They start at 1, and ties share the better one."""
    from scipy.stats import rankdata  # takes a second to import

    found: np.ndarray = rankdata(-means, method="min", axis=0)
    return found
