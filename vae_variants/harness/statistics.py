"""Intervals over seeds, the unit of replication."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

__all__ = ["Interval", "interval"]


class Interval(NamedTuple):
    """A mean over `n` seeds with the half-width of its 95 % Student t-interval: None for fewer than two."""

    mean: float
    half: float | None
    n: int


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """mean +- t_{(1+level)/2, n-1} s / sqrt(n), with s the sample standard deviation. Raises ValueError without values."""
    if not values:
        raise ValueError("no values to average")
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Interval(mean, None, n)
    return Interval(mean, float(stdtrit(n - 1, (1 + level) / 2)) * statistics.stdev(values) / math.sqrt(n), n)
