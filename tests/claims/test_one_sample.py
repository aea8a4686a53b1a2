"""The study `one-sample` as a whole: its verdict on planted tables of all its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bench.claims.one_sample import OneSample
from tests.claims.test_gradients_verdict import tables as gradients
from tests.claims.test_reasons import tables as values
from tests.claims.test_training_verdict import all_better, nothing, small_better
from tests.claims.test_training_verdict import tables as trained
from vae_variants.studies import Judgement, Table, Verdict

Found = dict[str, Table]


def planted(gain: Callable[..., float] = nothing, seeds: int = 3, best: float = 0.8, **truth: float) -> Found:
    return {**trained(gain, 5), **values(seeds, **truth), **gradients(seeds, best)}


def judged(tables: Mapping[str, Table]) -> Judgement:
    return OneSample().judge(tables)


def changed(found: Found, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Found:
    """With some cells of one table replaced."""
    return {**found, name: Table.of("", [{**row, **change(row)} for row in found[name]])}


@pytest.mark.parametrize(
    ("gain", "verdict"), [(nothing, Verdict.SUPPORTED), (small_better, Verdict.CONDITIONAL), (all_better, Verdict.REFUTED)]
)
def test_training_decides_where_the_estimators_are_sound(gain: Callable[..., float], verdict: Verdict) -> None:
    found = judged(planted(gain))
    assert found.verdict is verdict
    assert found.reason.count(". ") == 2 and found.reason.endswith(".")  # equal updates, draws that are paid for, values
    assert found.more and all(sentence.count(". ") == 0 and sentence.endswith(".") for sentence in found.more)
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
    "no rows of spreads": lambda found: {**found, "value_spread": Table.of("", [])},
    "no rows of minibatches": lambda found: {**found, "value_batch": Table.of("", [])},
    "one seed": lambda found: {**found, **values(1)},
    "two seeds": lambda found: {**found, **values(2)},
    "biases of one seed": lambda found: {
        **found, "value_bias": Table.of("", [row for row in found["value_bias"] if row["seed"] == 0])
    },
}  # fmt: skip


@pytest.mark.parametrize("gain", [nothing, small_better, all_better])
@pytest.mark.parametrize("unsound", UNSOUND)
def test_nothing_follows_from_estimators_that_were_not_shown_to_be_sound(unsound: str, gain: Callable[..., float]) -> None:
    found = judged(UNSOUND[unsound](planted(gain)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith("Nothing follows, since checks of the estimators have not held: ")


def test_tables_without_rows_are_survived() -> None:
    everything = planted()
    for found in ({}, {name: Table.of("", []) for name in everything}):
        assert judged(found).verdict is Verdict.INCONCLUSIVE and not judged(found).effects
    for name in everything:
        partial = judged({**everything, name: Table.of("", [])})
        assert partial.verdict in (Verdict.SUPPORTED, Verdict.INCONCLUSIVE) and partial.effects


def test_what_was_changed_after_a_look_is_told() -> None:
    told = " ".join((OneSample.__doc__ or "").split())
    assert "The rule for draws that are paid for was changed after" in told
    assert "The rule for the estimators was changed after a first look at digits" in told
    assert "those comparisons have a vote as well" in told and "on large images the trainings of the suite" in OneSample.criterion
