"""The study `one-sample` as a whole: its verdict on planted tables of all its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.claims.one_sample import OneSample
from bench.claims.one_sample.settings import UPDATES
from tests.claims.test_reasons import tables as values
from tests.claims.test_training_verdict import all_better, nothing, small_better
from tests.claims.test_training_verdict import tables as trained
from vae_variants.studies import Findings, Judgement, Verdict
from vae_variants.studies.record import StudyRecord

Found = dict[str, pd.DataFrame]


def planted(gain: Callable[..., float] = nothing, seeds: int = 3, **truth: float) -> Found:
    return {**trained(gain, 5), **values(seeds, **truth)}


def judged(tables: Mapping[str, pd.DataFrame]) -> Judgement:
    return OneSample().judge(tables)


def changed(found: Found, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Found:
    """With some cells of one table replaced."""
    return {**found, name: pd.DataFrame([{**row, **change(row)} for row in found[name].to_dict("records")])}


@pytest.mark.parametrize(
    ("gain", "verdict"), [(nothing, Verdict.SUPPORTED), (small_better, Verdict.CONDITIONAL), (all_better, Verdict.REFUTED)]
)
def test_training_decides_where_the_estimators_are_sound(gain: Callable[..., float], verdict: Verdict) -> None:
    found = judged(planted(gain))
    assert found.verdict is verdict
    assert found.reason.count(". ") == 2 and found.reason.endswith(".")  # comparisons, sizes, ratio of variances
    first = [e for e in found.effects if "K" in e.where]
    assert found.effects[: len(first)] == tuple(first) and first  # those of training come first


def one_seed(row: dict[str, Any]) -> dict[str, Any]:
    return {"slope in K": -1.3} if row["seed"] == 2 else {}


def one_batch(row: dict[str, Any]) -> dict[str, Any]:
    return {"variance (nats²)": row["variance (nats²)"] * row["B"] ** -0.3} if row["seed"] == 2 else {}


UNSOUND = {
    "a slope in K of -1.3 in one of three seeds": lambda found: changed(found, "value_spread", one_seed),
    "a slope in B of -1.3 in one of three seeds": lambda found: changed(found, "value_batch", one_batch),
    "variances a tenth above the formula": lambda found: changed(
        found, "value_batch", lambda row: {"formula (nats²)": row["variance (nats²)"] / 1.1}
    ),
    "biases of half a nat everywhere": lambda found: changed(found, "value_bias", lambda row: {"bias (nats)": 0.5, "z": 0.0}),
    "a bias that a test sees": lambda found: changed(found, "value_bias", lambda row: {"z": 6.0}),
    "no table of biases": lambda found: {name: table for name, table in found.items() if name != "value_bias"},
    "no rows of spreads": lambda found: {**found, "value_spread": pd.DataFrame()},
    "no rows of minibatches": lambda found: {**found, "value_batch": pd.DataFrame()},
    "one seed": lambda found: {**found, **values(1)},
    "two seeds": lambda found: {**found, **values(2)},
    "biases of one seed": lambda found: {**found, "value_bias": found["value_bias"].query("seed == 0")},
}


@pytest.mark.parametrize("gain", [nothing, small_better, all_better])
@pytest.mark.parametrize("unsound", UNSOUND)
def test_nothing_follows_from_estimators_that_were_not_shown_to_be_sound(unsound: str, gain: Callable[..., float]) -> None:
    found = judged(UNSOUND[unsound](planted(gain)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "Checks of the estimators have not held" in found.reason and found.reason.count(". ") <= 2


def test_tables_without_rows_are_survived() -> None:
    everything = planted()
    for found in ({}, {name: pd.DataFrame() for name in everything}):
        assert judged(found).verdict is Verdict.INCONCLUSIVE and not judged(found).effects
    for name in everything:
        partial = judged({**everything, name: pd.DataFrame()})
        assert partial.verdict in (Verdict.SUPPORTED, Verdict.INCONCLUSIVE) and partial.effects


def test_what_was_changed_after_a_look_is_told() -> None:
    told = " ".join((OneSample.__doc__ or "").split())
    assert "The rule for samples that are paid for was changed after" in told
    assert "The rule for the estimators was changed after a first look at digits" in told
    assert "At first the verdict rested on the short trainings" in told and "rests on the trainings to the end" in OneSample.criterion


DATA = Path(__file__).parents[2] / "reports" / "claims" / "data"
COMMITTED = {  # file -> verdict; comparisons with a vote, the sums of their sizes and interval ends; the checks; gain of the largest K
    "digits-quick": (
        Verdict.SUPPORTED,
        (22, -8.33147046646729, -9.928221289856571, -6.734719643078005),
        (0.011146889271344551, 0.0022040094059097384, 0.021227054356082926, 0.14190634677410122, 0.49750634936915755),
        (
            "16",
            0.22451456971036948,
            0.2036681080383434,
            0.24536103138239557,
            "below 1 (Holm p = 1.7e-07); within ±0.5: yes; any difference: yes",
        ),
    ),
    "mnist": (
        Verdict.INCONCLUSIVE,  # of two trainings to the end with three seeds
        (24, -55.903804427356604, -108.3659253485508, -3.4416835061624518),
        (0.004901546759239854, 0.0019065502082166545, 0.01460756895324263, 0.086975870077609, 0.1921746892489275),
        ("64", 10.415429681026314, 9.34608961002288, 11.484769752029749, "below 1 (Holm p = 1); within ±0.5: no; any difference: yes"),
    ),
}


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_tables_keep_their_verdict_and_the_effects_that_it_rests_on(name: str) -> None:
    verdict, sums, checks, (k, *size, criterion) = COMMITTED[name]
    tables = StudyRecord.from_json((DATA / f"{name}-one-sample.json").read_text(encoding="utf-8")).tables
    found = judged(tables)
    assert found.verdict is verdict
    voting = [e for e in found.effects if "K" in e.where]
    assert (len(voting), *(sum(getattr(e, end) for e in voting) for end in ("value", "low", "high"))) == pytest.approx(sums, rel=1e-6)
    assert [e.value for e in found.effects if e.where.get("part") == "laws"] == pytest.approx(checks, rel=1e-6)
    (top,) = (e for e in voting if [*e.where.values()][:3] == [k, UPDATES, "100"] and "constant" in e.where["learning rate"])
    assert (top.value, top.low, top.high) == pytest.approx(size, rel=1e-6) and top.criterion == criterion
    assert [picture.name for picture in OneSample().draw(Findings(tables))] == ["training-samples"]
