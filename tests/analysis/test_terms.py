"""A metric has one unit and one better direction in a report, whatever single records say."""

from __future__ import annotations

from dataclasses import replace

from tests.made_up import grid, made_up
from vae_variants.analysis.entries import best, entries_of


def test_rows_in_other_terms_than_most_are_left_out() -> None:
    records = [made_up(spec) for spec in grid(24) if spec.label.startswith("vae-")][:3]
    odd = [row | {"unit": "apples", "better": "lower"} if row["metric"] == "elbo" else row for row in records[0].rows]
    records[0] = replace(records[0], rows=odd)
    entries = entries_of((record.label, record, dict) for record in records)
    assert [bool(entry.values("elbo")) for entry in entries] == [False, True, True]
    assert {entry.unit("elbo") for entry in entries[1:]} == {"nats"}
    assert records[0].label not in best([e for e in entries if e.record.support == records[1].support], "elbo")
