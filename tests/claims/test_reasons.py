"""What is said of the values of estimators, on planted tables: their checks, and the ratio of variances."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.claims.one_sample.estimators import CHECKS, VARIANTS, judge
from vae_variants.studies import Verdict

Tables = dict[str, pd.DataFrame]
YES, NO, UNKNOWN = {Verdict.SUPPORTED}, {Verdict.REFUTED}, {Verdict.INCONCLUSIVE}


def tables(seeds: int = 3, r: float = 0.03, power: float = -1.0, z: float = 0.5) -> Tables:
    """As `measure` gives them, with the truth written in: r, the slope in K and in B, and the bias."""
    spread, batch, biases = (list[dict[str, object]]() for _ in range(3))
    for seed in range(seeds):
        jitter = 1 + 0.01 * seed
        for name in VARIANTS:
            for age, more in (("early", 2.0), ("final", 1.0)):
                where = {"model": name, "age": age, "seed": seed}
                wide = more * (2.0 if name == "vae-latent-2" else 1.0)
                for letter, factor in (("B, KL in closed form", 1.0), ("A, all sampled", 0.5)):
                    row = {"within (nats²)": 10 * factor, "r": r * wide * factor * jitter, "slope in K": power + 0.01 * (seed - 1)}
                    spread.append({**where, "estimator": letter, **row})
                    biases.append({**where, "estimator": letter, "K": 1, "bias (nats)": z * 0.01, "standard error (nats)": 0.01, "z": z})
            final = {"model": name, "age": "final", "seed": seed}
            for b in (1, 16, 256):
                batch.append({**final, "B": b, "K": 1, "variance (nats²)": 100 * jitter * b**power, "formula (nats²)": 100 / b})
    rows = {"value_spread": spread, "value_batch": batch, "value_bias": biases}
    return {name: pd.DataFrame(some) for name, some in rows.items()}


def checks(found: Tables) -> dict[str, Verdict]:
    """Check -> verdict."""
    return {e.where["quantity"]: e.verdict for e in judge(found)[0] if e.where["part"] == "laws"}


def verdicts(part: str, quantity: str, **planted: float) -> set[Verdict]:
    effects, _ = judge(tables(**planted))  # type: ignore[arg-type]
    found = {e.verdict for e in effects if e.where["part"] == part and quantity in e.where["quantity"]}
    assert found
    return found


def test_what_is_true_is_supported() -> None:
    effects, (sentence,) = judge(tables())
    assert not {str(e.where): e.verdict for e in effects if e.verdict != Verdict.SUPPORTED}
    ratios = [e for e in effects if e.where["part"] == "values"]
    assert [(e.where["model"], e.where["age"]) for e in ratios] == [(name, age) for age in ("early", "final") for name in VARIANTS]
    assert [e.value for e in ratios] == pytest.approx([1.01 * r for r in (0.12, *[0.06] * 4, 0.06, *[0.03] * 4)])  # of B alone
    assert "0.061 times" in sentence and "vae-latent-2" in sentence


@pytest.mark.parametrize(
    ("part", "quantity", "planted"),
    [
        ("values", "r = within", {"r": 5.0}),
        ("laws", "variance in K", {"power": -0.8}),
        ("laws", "variance in K", {"power": -1.2}),
        ("laws", "variance in B: ", {"power": -0.8}),
        ("laws", "smallest p", {"z": 5.0}),
        ("laws", "bias of the ELBO of K draws: largest", {"z": 90.0}),
    ],
)
def test_what_is_false_is_not(part: str, quantity: str, planted: dict[str, float]) -> None:
    assert verdicts(part, quantity, **planted) == NO


def test_two_seeds_are_too_few_for_anything() -> None:
    for r in (0.03, 5.0):
        effects, _ = judge(tables(seeds=2, r=r))
        assert {e.verdict for e in effects} == UNKNOWN


def test_the_checks_are_made_one_by_one() -> None:
    assert checks(tables()) == dict.fromkeys(CHECKS, Verdict.SUPPORTED)
    assert checks({}) == {}


def test_the_test_of_the_bias_has_a_verdict_of_its_own() -> None:
    """Biases of half a nat leave their size undecided; a test that sees nothing in them has still been passed."""
    found = tables()
    half = checks({**found, "value_bias": found["value_bias"].assign(**{"bias (nats)": 0.5, "z": 0.5})})
    assert half[CHECKS[3]] is Verdict.INCONCLUSIVE and half[CHECKS[4]] is Verdict.SUPPORTED
    large = checks({**found, "value_bias": found["value_bias"].assign(**{"bias (nats)": 9.0, "z": 0.5})})
    assert large[CHECKS[3]] is Verdict.REFUTED and large[CHECKS[4]] is Verdict.SUPPORTED
    assert checks(tables(seeds=2))[CHECKS[4]] is Verdict.INCONCLUSIVE


def test_tables_without_rows_are_survived() -> None:
    for found in ({}, {name: pd.DataFrame() for name in tables()}):
        effects, (sentence,) = judge(found)
        assert not effects and sentence
    for name in tables():
        assert judge({**tables(), name: pd.DataFrame()})[0]
