"""From values over seeds to effects with verdicts: too little evidence is `inconclusive`, and never a yes or a no."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy.special import stdtr

from vae_variants.analysis.statistics import LEAST_SEEDS, interval
from vae_variants.studies.study import Effect, Verdict

__all__ = ["LEAST_SEEDS", "all_of", "checked", "compared", "listed", "mixed", "one_sided_p", "tost_p"]


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
    """The mean of `values` held against a threshold.

    Supported where its interval lies wholly above (below) the threshold, not supported where it lies wholly on the other side, and
    inconclusive where it holds the threshold, or there are fewer than three values. Raises ValueError without values or unless one of
    `above` and `below` is given.
    """
    if (above is None) == (below is None):
        raise ValueError("one of above and below")
    found = interval(values, level)
    threshold = above if above is not None else below
    assert threshold is not None
    criterion = f"{'above' if above is not None else 'below'} {threshold:g}"
    verdict = Verdict.INCONCLUSIVE
    if found.low is not None and found.high is not None and found.n >= LEAST_SEEDS:
        if found.low > threshold:
            verdict = Verdict.SUPPORTED if above is not None else Verdict.REFUTED
        elif found.high < threshold:
            verdict = Verdict.REFUTED if above is not None else Verdict.SUPPORTED
    return Effect(where, found.mean, found.low, found.high, level, found.n, of, unit, criterion, verdict)


def checked(where: Mapping[str, str], value: float, *, below: float, n: int, of: str, unit: str = "") -> Effect:
    """Something that is exact up to rounding, as the error of an identity: supported where it is below, else not supported."""
    verdict = Verdict.SUPPORTED if value < below and n > 0 else Verdict.REFUTED if n > 0 else Verdict.INCONCLUSIVE
    return Effect(where, value, None, None, None, n, of, unit, f"below {below:g}", verdict)


def one_sided_p(d: Sequence[float], margin: float) -> float:
    """p of Student's test of H0: mean d >= margin, against mean d < margin; 1 for fewer than three differences."""
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
    """Supported where every effect is; not supported where one is not; else, or with no effect, inconclusive."""
    verdicts = {effect.verdict for effect in effects}
    if not verdicts:
        return Verdict.INCONCLUSIVE
    if Verdict.REFUTED in verdicts:
        return Verdict.REFUTED
    return Verdict.SUPPORTED if verdicts == {Verdict.SUPPORTED} else Verdict.INCONCLUSIVE


def mixed(effects: Sequence[Effect]) -> Verdict:
    """For a claim that may hold in some places and not in others: as `all_of`, but supported under conditions where some effects are
    supported and others not supported."""
    verdicts = {effect.verdict for effect in effects}
    if {Verdict.SUPPORTED, Verdict.REFUTED} <= verdicts or Verdict.CONDITIONAL in verdicts:
        return Verdict.CONDITIONAL
    return all_of(effects)


def listed(words: Sequence[str]) -> str:
    """a, b and c: for the sentence of a reason."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
