"""What K draws gain over one, seed by seed, and what it is held against: for the training level of the study `one-sample`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy.special import stdtrit

from vae_variants.analysis.statistics import holm, t_test
from vae_variants.analysis.verdicts import LEAST_SEEDS, compared, one_sided_p, tost_p
from vae_variants.studies.study import Effect, Tables, Verdict

from .training_cells import LARGER, SMALL, UPDATES, WHOLE

__all__ = [
    "ALPHA",
    "LEVEL",
    "MARGIN",
    "STRICT",
    "Gain",
    "beside",
    "beyond",
    "effects",
    "gains",
    "half_width",
    "largest",
    "noise",
    "proportion",
    "slopes",
    "t_interval",
]

MARGIN = 1.0  # nats: what K draws may gain with one still as good as many; about half of what IWAE gains with 50 (Burda et al. 2016)
STRICT = 0.5  # nats: what they may differ by and still be called equivalent
ALPHA, LEVEL = 0.05, 0.90


class Gain(NamedTuple):
    """d of one cell: row of `training_cells`, and seed -> (-L)(K = 1) - (-L)(K) = L(K) - L(1), L the bound on log p(x) in nats."""

    row: dict[str, Any]
    d: dict[int, float]

    @property
    def values(self) -> list[float]:
        return list(self.d.values())

    @property
    def plain(self) -> bool:
        """Of the ELBO under equal updates, at a constant learning rate."""
        return self.row["budget"] == UPDATES and self.row["schedule"] == "constant" and self.row["objective"] == "elbo"


def t_interval(d: Sequence[float], level: float = LEVEL) -> tuple[float, float | None, float | None]:
    """Student's mean and interval; both ends are None for a single value."""
    mean, half = statistics.fmean(d), half_width(d, level)
    return (mean, None, None) if half is None else (mean, mean - half, mean + half)


def half_width(d: Sequence[float], level: float = LEVEL) -> float | None:
    """t_{(1+level)/2, n-1} s / sqrt(n)."""
    n = len(d)
    return None if n < 2 else float(stdtrit(n - 1, (1 + level) / 2)) * statistics.stdev(d) / math.sqrt(n)


def gains(tables: Tables, value: str = "bound") -> list[Gain]:
    """Of every cell with K > 1 that has a seed in common with its K = 1, paired by seed."""
    scores, found = tables["training_scores"], []
    for row in tables["training_cells"]:
        if row["against run"] is not None:
            many, one = (scores.by_seed(value, run=row[name]) for name in ("run", "against run"))
            found.append(Gain(row, {seed: many[seed] - one[seed] for seed in many if seed in one}))
    return [gain for gain in found if gain.d]


def effects(found: Sequence[Gain]) -> list[Effect]:
    """One for each gain, in their order; Holm's correction is over those that share budget and K = 1."""
    adjusted: dict[int, float] = {}
    for family in {(g.row["budget"], g.row["against run"]) for g in found}:
        members = [i for i, g in enumerate(found) if (g.row["budget"], g.row["against run"]) == family]
        adjusted |= zip(members, holm([one_sided_p(found[i].values, MARGIN) for i in members]), strict=True)
    return [effect(gain, adjusted[i]) for i, gain in enumerate(found)]


def effect(gain: Gain, p: float) -> Effect:
    """Non-inferiority of K = 1 with the adjusted p; beside it whether both are equivalent, and whether they differ at all."""
    row, d = gain
    mean, low, high = t_interval(gain.values)
    verdict, equivalent, different = Verdict.INCONCLUSIVE, "undecided", "undecided"
    if len(d) >= LEAST_SEEDS and low is not None and high is not None:
        verdict = Verdict.SUPPORTED if p < ALPHA else Verdict.REFUTED if low > MARGIN else verdict
        equivalent = "yes" if tost_p(gain.values, STRICT) < ALPHA else "no" if low > STRICT or high < -STRICT else equivalent
        different = "yes" if t_test(gain.values) < ALPHA else "not shown"
    where = {
        "K": str(row["K"]),
        "budget": row["budget"],
        "batch": str(row["batch"]),
        "learning rate": f"{row['learning rate']:g}, {row['schedule']}",
    }
    criterion = f"below {MARGIN:g} (Holm p = {p:.2g}); within ±{STRICT:g}: {equivalent}; any difference: {different}"
    return Effect(where, mean, low, high, LEVEL, len(d), "seeds", "nats", criterion, verdict)


def largest(found: Sequence[Gain]) -> Gain | None:
    return max(found, key=lambda g: g.row["K"], default=None)


def slopes(everything: Sequence[Gain], without: int = 0) -> tuple[int, list[float]]:
    """K, and for each seed the slope of its d (nats) on learning rate / batch: least squares, at the largest K that has three batches.

    `without` so many of the noisiest settings, which have all the leverage.
    """
    k, points = on_noise(everything)
    points = sorted(points, key=noise)[: len(points) - without]
    x = [noise(g) for g in points]
    if len(set(x)) < 2:
        return 1, []
    seeds = sorted(set.intersection(*(set(g.d) for g in points)))
    return k, [statistics.linear_regression(x, [g.d[seed] for g in points]).slope for seed in seeds]


def on_noise(everything: Sequence[Gain]) -> tuple[int, list[Gain]]:
    """The largest K that has three batches under equal updates at constant rates, and its gains."""
    plain = [g for g in everything if g.plain]
    for k in sorted({g.row["K"] for g in plain}, reverse=True):
        points = [g for g in plain if g.row["K"] == k]
        if len({g.row["batch"] for g in points}) >= 3:
            return k, points
    return 1, []


def noise(gain: Gain) -> float:
    """Learning rate over batch, to which the noise of constant steps is proportional."""
    return gain.row["learning rate"] / gain.row["batch"]


def beyond(found: Sequence[Gain]) -> tuple[int, Gain | None, Gain | None, list[float]]:
    """The largest K that both objectives have against the same K = 1: K, both gains, and IWAE's less the ELBO's by seed."""
    for k in sorted({g.row["K"] for g in found}, reverse=True):
        iwae = next((g for g in found if g.row["K"] == k and g.row["objective"] == "iwae"), None)
        elbo = next((g for g in found if iwae and g.row["objective"] == "elbo" and same(g, iwae)), None)
        if elbo is not None and iwae is not None and (common := sorted(set(elbo.d) & set(iwae.d))):
            return k, elbo, iwae, [iwae.d[seed] - elbo.d[seed] for seed in common]
    return 1, None, None, []


def same(a: Gain, b: Gain) -> bool:
    return all(a.row[name] == b.row[name] for name in ("budget", "batch", "schedule", "learning rate", "K", "against run"))


def beside(everything: Sequence[Gain], setup: dict[str, Any]) -> list[Effect]:
    """What has no vote: IWAE against the ELBO, draws against images, and how the gain goes with learning rate over batch."""
    found = []

    def add(quantity: str, values: Sequence[float], unit: str = "nats") -> None:
        if values:
            found.append(compared({"part": "training", "quantity": quantity}, values, above=0.0, unit=unit))

    for budget in (UPDATES, WHOLE):
        k, *_, more = beyond([g for g in everything if g.row["budget"] == budget and g.row["batch"] >= setup["base batch"]])
        add(f"gain of IWAE less that of the ELBO, K = {k}, {budget}", more)
    for g in (g for g in everything if g.row["budget"] == LARGER):
        many = largest([other for other in everything if other.plain and other.row["against run"] == g.row["against run"]])
        if many is not None:
            values = [g.d[seed] - many.d[seed] for seed in sorted(set(g.d) & set(many.d))]
            add(f"gain of four times the batch of {SMALL} less that of K = {many.row['K']}", values)
    for without, words in ((0, ""), (1, ", without the noisiest batch")):
        k, slope = slopes(everything, without)
        add(f"slope of the gain on learning rate / batch, K = {k}{words}", slope)
    return [*found, *proportion(everything, setup)]


def proportion(everything: Sequence[Gain], setup: dict[str, Any]) -> list[Effect]:
    """d of the noisiest batch less (its learning rate / batch) / (that of the base batch) times d there: 0 if d is in proportion to it.

    Refuted where the interval leaves 0 out, and never supported. Smaller batches have fewer epochs: it may be their length that is seen.
    """
    k, points = on_noise(everything)
    base = next((g for g in points if g.row["batch"] == setup["base batch"]), None)
    top = max(points, key=noise, default=None)
    if base is None or top is None or top is base or not (seeds := sorted(set(base.d) & set(top.d))):
        return []
    mean, low, high = t_interval([top.d[seed] - noise(top) / noise(base) * base.d[seed] for seed in seeds])
    apart = low is not None and high is not None and len(seeds) >= LEAST_SEEDS and not low <= 0 <= high
    quantity = f"gain with batches of {top.row['batch']} less learning rate / batch in proportion from {base.row['batch']}, K = {k}"
    verdict = Verdict.REFUTED if apart else Verdict.INCONCLUSIVE
    criterion = f"0 if in proportion; epochs: {top.row['epochs']} and {base.row['epochs']}"
    return [Effect({"part": "training", "quantity": quantity}, mean, low, high, LEVEL, len(seeds), "seeds", "nats", criterion, verdict)]
