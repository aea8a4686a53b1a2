"""Verdicts of claims from values over seeds. Too little evidence is inconclusive, never a yes or a no."""

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from scipy.special import stdtr

from vae_variants.analysis.statistics import LEAST_SEEDS, interval


class Verdict(StrEnum):
    """What the evidence says about a claim."""

    SUPPORTED = "supported"
    CONDITIONAL = "supported under conditions"
    INCONCLUSIVE = "inconclusive"
    REFUTED = "not supported"


class Effect(NamedTuple):
    """One comparison: its size with an interval, and the criterion, which was written before it was measured."""

    where: Mapping[str, str]  # what it is of, as name -> value
    value: float
    low: float | None
    high: float | None
    level: float | None  # of the interval; None for an identity, which is checked and not estimated
    n: int
    of: str  # what n counts: seeds, images, samples
    unit: str
    criterion: str
    verdict: Verdict


def compared(
    where: Mapping[str, str],
    values: Sequence[float],
    *,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
    of: str = "seeds",
    level: float = 0.95,
) -> Effect:
    """The mean of `values` against a threshold: `above` or `below` it.

    Returns:
        Supported if the interval of the mean lies on the claimed side of the threshold, not supported if it lies on the other side, and
        inconclusive if it contains the threshold or there are fewer than three values.

    Raises:
        ValueError: there are no values, or not exactly one of `above` and `below` is given.
    """
    if (above is None) == (below is None):
        raise ValueError("give either above or below")
    found = interval(values, level)
    threshold = above if above is not None else below
    assert threshold is not None
    criterion = f"{'above' if above is not None else 'below'} {threshold:g}"
    effect = Effect(where, found.mean, found.low, found.high, level, found.n, of, unit, criterion, Verdict.INCONCLUSIVE)
    return effect if found.low is None or found.high is None else within(effect, (found.low, found.high), threshold)


def within(effect: Effect, span: tuple[float, float], threshold: float) -> Effect:
    """The effect with this interval, judged by it: for one that Student's interval over seeds is too narrow for."""
    (low, high), above = span, effect.criterion.startswith("above")
    verdict = Verdict.INCONCLUSIVE
    if effect.n >= LEAST_SEEDS and (low > threshold or high < threshold):
        verdict = Verdict.SUPPORTED if (low > threshold) == above else Verdict.REFUTED
    return effect._replace(low=low, high=high, verdict=verdict)


def checked(where: Mapping[str, str], value: float, *, below: float, n: int, of: str, unit: str = "") -> Effect:
    """The error of an identity that is exact up to rounding: supported if it is below the limit, else not supported."""
    verdict = Verdict.INCONCLUSIVE if n == 0 else Verdict.SUPPORTED if value < below else Verdict.REFUTED
    return Effect(where, float(value), None, None, None, n, of, unit, f"below {below:g}", verdict)


def one_sided_p(d: Sequence[float], margin: float) -> float:
    """p of Student's t-test of H0: mean d >= margin against mean d < margin; 1 for fewer than three differences.

    As `scipy.stats.ttest_1samp`, which warns of differences that are nearly equal.
    """
    if len(d) < LEAST_SEEDS:
        return 1.0
    n, s, excess = len(d), statistics.stdev(d), math.fsum(d) / len(d) - margin
    if s == 0:
        return 0.0 if excess < 0 else 1.0
    return float(stdtr(n - 1, excess / s * math.sqrt(n)))


def tost_p(d: Sequence[float], margin: float) -> float:
    """p of the two one-sided tests that the mean of d is not within (-margin, margin) (Schuirmann 1987): the larger of the two."""
    return max(one_sided_p(d, margin), one_sided_p([-x for x in d], margin))


def all_of(effects: Sequence[Effect]) -> Verdict:
    """Supported if every effect is, not supported if one is not; else, or without effects, inconclusive."""
    verdicts = {effect.verdict for effect in effects}
    if Verdict.REFUTED in verdicts:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if verdicts == {Verdict.SUPPORTED} else Verdict.INCONCLUSIVE


def mixed(effects: Sequence[Effect]) -> Verdict:
    """As `all_of`, but supported under conditions if some effects are supported and others are not supported."""
    verdicts = {effect.verdict for effect in effects}
    if {Verdict.SUPPORTED, Verdict.REFUTED} <= verdicts or Verdict.CONDITIONAL in verdicts:
        return Verdict.CONDITIONAL
    return all_of(effects)


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
