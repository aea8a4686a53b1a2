"""What the values of estimators say: laws that must hold, the ratio that the claim rests on, and the reason for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from scipy.special import ndtr

from vae_variants.harness.statistics import holm
from vae_variants.studies.judging import compared
from vae_variants.studies.one_sample.estimator_models import STAR
from vae_variants.studies.one_sample.estimator_moments import slope
from vae_variants.studies.study import Effect, Table, Tables, Verdict

__all__ = ["CRITERION", "judge"]

SLOPE, DEVIATION = 0.05, 0.05  # of the laws in K and B
BIAS, CHANCE = 0.5, 0.01  # nats; of a test over all models
BOUND = 0.25  # relative error of the bias of L_K
RANK, SHARE, EXPONENT = 0.5, 0.5, 0.5  # correlation, part of the closed form, power of t

CRITERION = (
    "Values: r, the variance of log p(x|z) within an image over that of the ELBO between images, is below 1 for every "
    "variant, after one epoch and at the end. Checks of the measurement: slopes of log variance in log K and log B are -1 "
    f"within {SLOPE:g}, the formula (σ_b² + σ_w²/K)/B holds within {DEVIATION:.0%}, the ELBO of K draws is off by less than "
    f"{BIAS:g} nats and no test of its bias rejects at {CHANCE:g} after Holm. Reasons: the variance is above {SHARE:g} of "
    f"the closed form for a posterior, goes with it over images by a rank correlation above {RANK:g}, falls with the trace "
    f"of q, and follows its power of t within {EXPONENT:g}; r falls with training and with latent units."
)


def largest(rows: Iterable[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> list[float]:
    """The largest for each seed, over everything else."""
    found: dict[int, float] = {}
    for row in rows:
        found[row["seed"]] = max(found.get(row["seed"], -math.inf), of(row))
    return list(found.values())


def batch_slopes(table: Table) -> list[dict[str, Any]]:
    """model, K, seed -> slope of log variance in log B."""
    points: dict[tuple[str, int, int], dict[int, float]] = {}
    for row in table:
        points.setdefault((row["model"], row["K"], row["seed"]), {})[row["B"]] = row["variance (nats²)"]
    return [{"seed": seed, "slope": slope(found)} for (_, _, seed), found in points.items()]


def laws(tables: Tables) -> list[Effect]:
    """What has to hold of any estimator that is right: 1 / K, 1 / B, the formula for both, no bias."""
    spreads, batches, biases = tables["value_spread"], tables["value_batch"], tables["value_bias"]
    found = []

    def add(quantity: str, values: list[float], margin: float, unit: str = "") -> None:
        if values:
            found.append(compared({"part": "laws", "quantity": quantity}, values, below=margin, unit=unit))

    add("variance in K: largest |slope + 1|", largest(spreads, lambda row: abs(row["slope in K"] + 1)), SLOPE)
    add("variance in B: largest |slope + 1|", largest(batch_slopes(batches), lambda row: abs(row["slope"] + 1)), SLOPE)
    relative = largest(batches, lambda row: abs(row["variance (nats²)"] / row["formula (nats²)"] - 1))
    add("variance in B and K: largest relative error of the formula", relative, DEVIATION)
    add("bias of the ELBO of K draws: largest", largest(biases, lambda row: abs(row["bias (nats)"])), BIAS, "nats")
    if p := holm([2 * float(ndtr(-abs(row["z"]))) for row in biases]):
        verdict = Verdict.REFUTED if min(p) < CHANCE else found[-1].verdict
        where = {"part": "laws", "quantity": "bias of the ELBO of K draws: smallest p, Holm"}
        found.append(Effect(where, min(p), None, None, None, len(p), "tests", "", f"not below {CHANCE:g}", verdict))
    return found


def of_estimator(table: Table, letter: str) -> Table:
    return Table.of(table.caption, [row for row in table if row["estimator"].startswith(letter)])


def each(part: str, quantity: str, table: Table, column: str, of: tuple[str, ...] = ("final",), **threshold: Any) -> list[Effect]:
    """An effect for every model of these ages that has a value."""
    found = []
    for age in of:
        for name in STAR:
            if values := list(table.by_seed(column, model=name, age=age).values()):
                found.append(compared({"part": part, "quantity": quantity, "model": name, "age": age}, values, **threshold))
    return found


def estimators(tables: Tables) -> list[Effect]:
    """The verdict on values: r for the estimator that is trained on; then which estimator varies less, and the bias of L_K."""
    b, a = (of_estimator(tables["value_spread"], letter) for letter in "BA")
    found = each("values", "r = within / between, estimator B", b, "r", ("early", "final"), below=1.0)
    for name in STAR:
        mine, other = (table.by_seed("within (nats²)", model=name, age="final") for table in (b, a))
        if shares := [mine[seed] / other[seed] for seed in mine if other.get(seed)]:
            where = {"part": "estimators", "quantity": "within, B / A", "model": name, "age": "final"}
            found.append(compared(where, shares, below=1.0))
    if errors := bound_errors(tables["value_bound"]):
        where = {"part": "estimators", "quantity": "bias of L_K where −CV²/2K applies: relative error"}
        found.append(compared(where, errors, below=BOUND))
    return found


def bound_errors(table: Table) -> list[float]:
    """For each seed the relative error of the formula, all variants, K and images together: the large biases count most."""
    found = []
    for seed in dict.fromkeys(row["seed"] for row in table):
        measured, formula = (
            math.fsum(row[f"sum there, {side} (nats)"] for row in table.where(seed=seed)) for side in ("L_K − L_S", "formula")
        )
        if formula < 0:
            found.append(abs(measured / formula - 1))
    return found


def reasons(tables: Tables) -> list[Effect]:
    """Is it because q is a peak? Then the variance would vanish where q is narrow, and grow with the width of q over images.

    If q is the posterior instead, it is the closed form, about a half for each unit in use, however narrow q.
    """
    images, widths, spread = tables["sharp_images"], tables["sharp_widths"], of_estimator(tables["value_spread"], "B")
    found = each("why", "variance / closed form", images, "variance / closed form", above=SHARE)
    found += each("why", "rank correlation of variance and closed form", images, "rank correlation", above=RANK)
    found += each("why", "rank correlation of variance and trace of q", images, "rank correlation with trace of q", below=0.0)
    for name in STAR:
        errors = []
        for seed in dict.fromkeys(row["seed"] for row in widths.where(model=name)):
            rows = widths.where(model=name, seed=seed)
            measured, predicted = (exponent(rows, side) for side in ("variance (nats²)", "closed form (nats²)"))
            errors.append(abs(measured - predicted))
        if errors:
            where = {"part": "why", "quantity": "exponent of t: |measured − closed form|", "model": name, "age": "final"}
            found.append(compared(where, errors, below=EXPONENT))
    for name in STAR:
        early, final = (spread.by_seed("r", model=name, age=age) for age in ("early", "final"))
        if differences := [early[seed] - final[seed] for seed in early if seed in final]:
            where = {"part": "why", "quantity": "r with a wide q: early − final", "model": name}
            found.append(compared(where, differences, above=0.0))
    small, large = (spread.by_seed("r", model=f"vae-latent-{z}", age="final") for z in (2, 50))
    if differences := [small[seed] - large[seed] for seed in small if seed in large]:
        where = {"part": "why", "quantity": "r with a wide q: 2 − 50 latent units", "age": "final"}
        found.append(compared(where, differences, above=0.0))
    return found


def exponent(rows: list[dict[str, Any]], column: str) -> float:
    """Slope of log variance in log t: 2 where the linear part of log p(x | z) rules, 4 where its curvature does."""
    return slope({row["t"]: row[column] for row in rows})


def judge(tables: Tables) -> tuple[list[Effect], str]:
    """The effects with `part` "laws" check the measurement, "values" bear on the claim, "estimators" and "why" explain."""
    effects = [*laws(tables), *estimators(tables), *reasons(tables)]
    ratios = [e for e in effects if e.where["part"] == "values" and e.where["age"] == "final"]
    if not ratios:
        return effects, "No model could be measured."
    worst = max(ratios, key=lambda e: e.value)
    young = [e.value for e in effects if e.where["part"] == "values" and e.where["age"] == "early"]
    text = (
        f"Within an image, one draw's log p(x|z) varies at most {worst.value:.2g} times as much as the ELBO does between images "
        f"({worst.where['model']}; after one epoch {max(young, default=worst.value):.2g}), so that for a trained model endless draws would "
        f"lower the variance of a minibatch by {worst.value / (1 + worst.value):.1%} at most."
    )
    return effects, f"{text} {reason(effects)}"


def reason(effects: list[Effect]) -> str:
    """What the part "why" says, in a sentence."""

    def of(quantity: str) -> list[float]:
        return [e.value for e in effects if e.where["part"] == "why" and e.where["quantity"] == quantity]

    shares, follows = of("variance / closed form"), of("rank correlation of variance and closed form")
    widths = of("rank correlation of variance and trace of q")
    peak = "it does not vanish where q is narrow" if min(shares) > SHARE else "where q is narrow it can be far smaller"
    return (
        f"The variance is {min(shares):.2g} to {max(shares):.2g} times the closed form for a posterior, about half a nat² for each narrow "
        f"unit ({peak}); over images it goes with the closed form by rank correlations of {min(follows):.2g} to {max(follows):.2g}, and "
        f"with the width of q by {min(widths):.2g} to {max(widths):.2g}."
    )
