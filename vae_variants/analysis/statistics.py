"""Intervals, paired differences and rankings over seeds, the unit of replication.

Every function draws from a generator of its own, so that a report is the same each time it is made.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

__all__ = [
    "LEAST_SEEDS",
    "Comparison",
    "Interval",
    "bca",
    "compare",
    "holm",
    "interval",
    "rank_intervals",
    "sign_flip",
    "smallest_p",
    "t_test",
    "top_group",
    "welch",
]

LEAST_SEEDS = 3  # for a verdict: fewer say nothing of a spread
BOOTSTRAP_FROM = 10  # seeds: below, the t-interval covers better than a bootstrap
RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean over `n` seeds and its 95 % interval; both ends are None for fewer than two seeds."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half of the width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Under 10 seeds Student's mean +- t_{(1+level)/2, n-1} s / sqrt(n), s the sample standard deviation; else `bca`.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values to average")
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Interval(mean, None, None, n)
    if n >= BOOTSTRAP_FROM and min(values) < max(values):
        return Interval(mean, *bca(values, level), n)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * deviation(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def deviation(values: Sequence[float]) -> float:
    """Sample standard deviation of at least two values, 0 where they are equal; `statistics.stdev` takes 20 times as long."""
    d = [value - values[0] for value in values]
    mean = math.fsum(d) / len(d)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in d) / (len(d) - 1))


@lru_cache(maxsize=2)
def resampled(n: int, resamples: int) -> np.ndarray:
    """(resamples, n) indices, drawn with replacement: the same for every sample of that size."""
    draws = np.random.default_rng(0).integers(0, n, (resamples, n))
    draws.flags.writeable = False
    return draws


def bca(values: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES, expand: bool = True) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    The ends are the quantiles Phi(z0 + (z0 + z) / (1 - a (z0 + z))) of the resampled means, z = Phi^-1((1 -+ level) / 2), with
    z0 = Phi^-1(share of resampled means under the mean) and the acceleration a = sum d^3 / (6 (sum d^2)^1.5), d the jackknife
    influences. A bootstrap of few values is too narrow; `expand` puts t_{n-1} sqrt(n / (n-1)) in place of z, as Hesterberg
    (2015) does for percentile intervals.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    means = x[resampled(n, resamples)].mean(1)
    centre = x.mean()
    z0 = ndtri(((means < centre).sum() + (means <= centre).sum()) / (2 * resamples))
    influence = x - centre  # of the mean: the jackknife's, up to a factor that cancels
    a = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    z = z0 + (stdtrit(n - 1, tails) * math.sqrt(n / (n - 1)) if expand else ndtri(tails))
    low, high = np.quantile(means, ndtr(z0 + z / (1 - a * z)))
    return float(low), float(high)


@lru_cache(maxsize=2)
def signs(n: int, resamples: int) -> np.ndarray:
    """Rows of n signs: all of them, if there are no more than `resamples`; else random ones after a first row of +1."""
    if 2**n <= resamples:
        found = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        found = np.concatenate([np.ones((1, n)), np.random.default_rng(0).choice([-1.0, 1.0], (resamples - 1, n))])
    found.flags.writeable = False
    return found


def sign_flip(differences: Sequence[float], resamples: int = 2**16) -> float:
    """Two-sided p of a mean difference of 0, if each difference were as likely with the other sign.

    Exact over all 2^n signs up to n = 16, from `resamples` random ones above. Zero differences carry no evidence: p = 1
    if there is nothing else. Raises ValueError without differences.
    """
    if not differences:
        raise ValueError("no differences to test")
    d = np.asarray(differences, dtype=np.float64)
    sums = np.abs(signs(len(d), resamples) @ d)
    return float((sums >= abs(d.sum()) - 1e-12 * np.abs(d).sum()).mean())


def smallest_p(n: int) -> float:
    """The least two-sided p that `sign_flip` can give for n differences: 2 / 2^n, 0.0625 for five seeds."""
    return min(1.0, 2.0 ** (1 - n))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for having been looked at together (Holm 1979): max over j <= i of (m - j + 1) p_(j), at most 1."""
    adjusted, running = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


class Comparison(NamedTuple):
    """Of a variant with a baseline over the seeds that both have."""

    difference: Interval
    wins: int  # seeds in which the variant is above
    p: float  # of `sign_flip`
    smallest_p: float


def paired(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    return [values[seed] - baseline[seed] for seed in sorted(values) if seed in baseline]


def compare(values: Mapping[int, float], baseline: Mapping[int, float]) -> Comparison | None:
    """seed -> value of both; None where no seed is in both."""
    d = paired(values, baseline)
    return Comparison(interval(d), sum(x > 0 for x in d), sign_flip(d), smallest_p(len(d))) if d else None


def t_test(d: Sequence[float]) -> float:
    """Two-sided p of Student's test that the mean of at least two differences is 0."""
    n, s = len(d), deviation(d)
    mean = math.fsum(d) / n
    if s == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(n - 1, -abs(mean) / s * math.sqrt(n)))


def welch(values: Sequence[float], baseline: Sequence[float], level: float = 0.95) -> tuple[Interval, float]:
    """Difference of the means of two samples that are not paired, each of at least two values: its interval, n the smaller size, and p.

    Student's t with Welch's degrees of freedom (s1^2/n1 + s2^2/n2)^2 / sum (s_i^2/n_i)^2 / (n_i - 1).
    """
    parts = [statistics.variance(sample) / len(sample) for sample in (values, baseline)]
    mean, n = statistics.fmean(values) - statistics.fmean(baseline), min(len(values), len(baseline))
    error = math.sqrt(sum(parts))
    if error == 0:
        return Interval(mean, mean, mean, n), 1.0 if mean == 0 else 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (len(sample) - 1) for part, sample in zip(parts, (values, baseline), strict=True))
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return Interval(mean, mean - half, mean + half, n), float(2 * stdtr(freedom, -abs(mean) / error))


def top_group(table: Mapping[str, Mapping[int, float]], better: str, level: float = 0.95) -> list[str]:
    """The best by mean, and those that cannot be told from it: label -> seed -> value; the best first.

    A variant is told apart where the paired t-test of its difference to the best, Holm-adjusted over all variants, rejects at
    1 - level; one that shares fewer than `LEAST_SEEDS` seeds with the best is not. Under as many seeds of its own there is no
    verdict: such a variant is neither the best nor one of the others.
    """
    sign = {"higher": 1.0, "lower": -1.0}[better]
    means = {label: sign * math.fsum(v.values()) / len(v) for label, v in table.items() if len(v) >= LEAST_SEEDS}
    if not means:
        return []
    best = max(means, key=means.__getitem__)
    others = sorted((label for label in means if label != best), key=means.__getitem__, reverse=True)
    differences = {label: paired(table[label], table[best]) for label in others}
    tested = [label for label in others if len(differences[label]) >= LEAST_SEEDS]
    p = dict(zip(tested, holm([t_test(differences[label]) for label in tested]), strict=True))
    return [best, *(label for label in others if p.get(label, 1.0) > 1 - level)]


def rank_intervals(
    table: Mapping[str, Mapping[int, float]], better: str, level: float = 0.95, resamples: int = RESAMPLES
) -> dict[str, tuple[int, int]]:
    """label -> (best, worst) rank that is plausible: quantiles over a joint bootstrap of the seeds that all have.

    The same resampled seeds are used for every variant, which keeps the pairing; ranks start at 1, and ties share the better.
    Empty where fewer than two seeds are common.
    """
    labels = list(table)
    common = sorted(set.intersection(*(set(v) for v in table.values()))) if labels else []
    if len(common) < 2:
        return {}
    x = np.array([[table[label][seed] for seed in common] for label in labels]) * {"higher": -1.0, "lower": 1.0}[better]
    draws, times = np.unique(resampled(len(common), resamples), axis=0, return_counts=True)
    ranks = np.empty((len(draws), len(labels)), dtype=np.int32)
    for row, draw in zip(ranks, draws, strict=True):
        means = x[:, draw].mean(-1)
        row[:] = np.searchsorted(np.sort(means), means) + 1
    tails = ((1 - level) / 2, (1 + level) / 2)
    ends = [np.quantile(np.repeat(column, times), tails, method="inverted_cdf") for column in ranks.T]
    return {label: (int(low), int(high)) for label, (low, high) in zip(labels, ends, strict=True)}
