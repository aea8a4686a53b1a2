"""Boards over several sources: known scores, and what may not be ranked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.made_up import DATASET
from vae_variants.analysis.aggregates import improvement
from vae_variants.analysis.leaderboard import Board, Row, leaderboard
from vae_variants.analysis.scores import PURPOSES
from vae_variants.analysis.standings import standings
from vae_variants.analysis.tasks import Field, field_of
from vae_variants.harness.record import Record
from vae_variants.harness.sources import Source
from vae_variants.variants import configure

TERMS = {  # metric -> unit, better, and the value of the default variant
    "log_likelihood": ("nats", "higher", -23.0),
    "bits_per_dim": ("bits", "lower", 0.5),
    "reconstruction_mse": ("squared grey per pixel", "lower", 0.02),
    "fd-digitscnn": ("squared features", "lower", 1.0),
    "precision": ("fraction", "higher", 0.8),
    "coverage": ("fraction", "higher", 0.6),
    "probe_accuracy": ("fraction", "higher", 0.9),
}
REAL = {"fd-digitscnn": 0.0, "precision": 1.0, "coverage": 1.0}
SEEDS = (0, 1, 2)
CLASSIFIER = {"digest": "c", "test_accuracy": 0.9}


def made(label: str, seeds: Sequence[int] = SEEDS, dataset: str = "digits", fidelity: str = "full", apart: float = 0.0, **values) -> Record:
    """A record whose metrics are those of the default variant, but for `values`; seed s has `apart` * s more."""
    (chosen,) = configure(label)
    chosen = chosen.with_defaults(epochs=25) if "epochs" in chosen.values else chosen
    epochs, values = values.pop("epochs", None), {name.replace("fd", "fd-digitscnn"): x for name, x in values.items()}
    options = dict(chosen.values) | ({"epochs": epochs} if epochs else {})
    known = REAL if label == "reference-data" else {metric: zero for metric, (_, _, zero) in TERMS.items()}
    rows = [
        {"seed": s, "metric": metric, "value": x + apart * s, "unit": TERMS.get(metric, ("fraction", "lower", 0))[0]}
        | {"better": TERMS.get(metric, ("", "lower", 0))[1], "kind": "exact", "status": "ok", "reason": ""}
        for metric, x in {**known, **values}.items()
        for s in seeds
    ]
    name = dataset if dataset == "digits" else f"npz:{dataset}/digits.npz"
    data = DATASET | {"name": name, "digest": hashlib.sha256(dataset.encode()).hexdigest()}
    key = hashlib.sha256(f"{label}{seeds}{data}{fidelity}{options}{values}".encode()).hexdigest()
    status = {str(s): "ok" for s in seeds}
    support = chosen.support.value
    return Record(key, label, options, data, support, fidelity, list(seeds), status=status, rows=rows, classifier=CLASSIFIER)


def source(*records: Record, name: str = "one") -> Source:
    return Source(Path(name), tuple((r.label, r, dict) for r in records), {})


def standard(*records: Record, **options) -> list[Record]:
    """With the default variant and real images."""
    return [made("vae-bernoulli", **options), made("reference-data", **options), *records]


def boards(*sources: Source) -> dict[tuple[str, str], Board]:
    return {(b.purpose.title, b.support): b for b in leaderboard(field_of(sources).tasks)}


def row(board: Board, label: str, group: int = 0) -> Row:
    return next(row for row in board.groups[group].rows if row.label == label)


def told(board: Board) -> list[tuple[object, ...]]:
    return [(r.label, r.estimate, r.chance, r.place, r.unranked) for group in board.groups for r in group.rows]


def test_scores_are_known():
    """A bit per dimension is ln 2 times 64 pixels in nats."""
    better = made(
        "iwae-8",
        log_likelihood=-23.0 + 32 * math.log(2),
        bits_per_dim=0.4,
        reconstruction_mse=0.005,
        fd=0.5,
        precision=0.8,
        coverage=0.7,
        probe_accuracy=0.95,
    )
    found = boards(source(*standard(better)))
    wanted = {"Likelihood": 0.5, "Compression": 0.2, "Reconstruction": 0.75, "Samples": (0.5 + 0.0 + 0.25) / 3, "Latents": 0.5}
    assert {title: row(board, "iwae-8").estimate.value for (title, _), board in found.items()} == pytest.approx(wanted)
    assert [row(board, "vae-bernoulli").estimate.value for board in found.values()] == pytest.approx([0.0] * 5, abs=1e-12)
    assert set(wanted) == {p.title for p in PURPOSES}
    best = row(found["Likelihood", "binary"], "iwae-8")
    assert best.chance == (1.0, 1.0, 1.0) and best.place is not None and best.place[:1] == (1,) and best.runs == 3
    assert row(found["Likelihood", "binary"], "vae-bernoulli").chance is None
    assert "reference-data" not in {r.label for r in found["Samples", ""].groups[0].rows}


def test_a_shift_of_a_whole_task_changes_no_likelihood():
    a = [made("vae-bernoulli", apart=0.1), made("iwae-8", apart=0.1, log_likelihood=-22.5), made("made", apart=-0.2, log_likelihood=-22.8)]
    moved = [replace(r, rows=[q | {"value": q["value"] - 50 * (q["metric"] == "log_likelihood")} for q in r.rows]) for r in a]
    before, after = (boards(source(*each))["Likelihood", "binary"].groups[0] for each in (a, moved))
    for x, y in zip(before.rows, after.rows, strict=True):
        assert x.label == y.label and x.place == y.place and x.estimate == pytest.approx(y.estimate, abs=1e-9)


def test_nats_of_another_kind_of_pixels_change_nothing():
    ours = standard(made("iwae-8", log_likelihood=-22.0))
    dense = made("vae-gaussian-learnt", log_likelihood=5000.0)
    assert dense.support == "real"
    other = made("vae-gaussian-0.1", log_likelihood=6000.0)
    found = boards(source(*ours, dense, other))
    before = boards(source(*ours))
    assert told(found["Likelihood", "binary"]) == told(before["Likelihood", "binary"]) != []
    assert [r.label for r in found["Likelihood", "real"].groups[0].rows] == ["vae-gaussian-0.1", "vae-gaussian-learnt"]
    for (_, support), board in found.items():
        assert not board.purpose.supports or {e.record.support for g in board.groups for r in g.rows for e in r.entries} == {support}


@pytest.mark.parametrize("fault", ["flagged", "seeds", "preset", "twin"])
def test_what_may_not_win_has_no_rank(fault):
    seeds, fidelity = ((0, 1) if fault == "seeds" else SEEDS), ("quick" if fault == "preset" else "full")
    more = {"unexplained_variance": 0.99} if fault == "flagged" else {}
    second = made("vae-samples-8", seeds=(0, 1, 2, 3, 4), log_likelihood=-22.5)
    first = made("iwae-8", seeds=seeds, log_likelihood=-20.0, **more)
    if fault == "twin":
        first = replace(second, label="iwae-8")
    records = standard(second, first, seeds=(0, 1, 2, 3, 4))
    group = boards(source(*(replace(r, fidelity=fidelity) for r in records)))["Likelihood", "binary"].groups[0]
    found = next(r for r in group.rows if r.label == "iwae-8")
    assert found.place is None and found.unranked and found.estimate.value >= group.rows[0].estimate.value
    assert [r.label for r in group.leaders] == ([] if fault == "preset" else ["vae-samples-8"])
    assert group.rows[-1] is found or fault == "preset"


def test_a_flaw_on_one_task_takes_the_rank_of_all():
    good, bad = standard(made("iwae-8", log_likelihood=-20.0)), made("iwae-8", dataset="b", log_likelihood=-20.0, unexplained_variance=0.99)
    found = boards(source(*good), source(*standard(dataset="b"), bad, name="two"))
    assert row(found["Likelihood", "binary"], "iwae-8").unranked.startswith("flagged on ")


def test_ranks_and_leaders_are_those_of_the_runs():
    labels = {"iwae-8": -22.0, "vae-samples-8": -22.01, "made": -22.6}
    records = [made(label, seeds=range(5), apart=0.01, log_likelihood=x) for label, x in labels.items()]
    group = boards(source(made("vae-bernoulli", seeds=range(5), apart=0.01), *records))["Likelihood", "binary"].groups[0]
    assert [r.label for r in group.ranked] == [*labels, "vae-bernoulli"]
    assert [r.place and r.place.rank for r in group.ranked] == [1, 2, 3, 4]
    assert [r.label for r in group.leaders] == ["iwae-8"], "seeds are paired: the second is behind at every seed"
    assert group.rows[0].chance == improvement(group.rows[0].scores, group.rows[3].scores)


def test_the_runs_of_two_machines_are_one_row():
    whole = boards(source(*standard(made("iwae-8", (0, 1, 2, 3), apart=0.1, log_likelihood=-22.0))))
    parts = [made("iwae-8", seeds, apart=0.1, log_likelihood=-22.0) for seeds in ((0, 1, 2), (2, 3))]
    joined = boards(source(*standard(parts[0])), source(*standard(parts[1]), name="two"))
    for key, board in whole.items():
        assert row(joined[key], "iwae-8").estimate == row(board, "iwae-8").estimate, key
        assert row(joined[key], "iwae-8").runs == 4


def fields() -> dict[str, Field]:
    base = source(*standard(made("iwae-8")))
    return {
        "recipe": field_of([base, source(*standard(epochs=50), name="two")]),
        "data": field_of([base, source(*standard(dataset="b"), name="two")]),
        "preset": field_of([base, source(*standard(fidelity="quick"), name="two")]),
        "options": field_of([base, source(*standard(made("iwae-8", (5, 6), epochs=99)), name="two")]),
        "default": field_of([base, source(made("iwae-8"), name="two")]),
        "meaning": field_of([base, source(*(replace(r, meaning=1) for r in standard()), name="two")]),
    }


def test_what_was_trained_alike_is_a_task_and_the_rest_is_said():
    found = fields()
    assert [name for name, f in found.items() if len(f.tasks) == 2] == ["recipe", "data", "preset"]
    assert {name: [(x.source, x.label) for x in f.left] for name, f in found.items() if f.left} == {
        "options": [("two", "iwae-8")],
        "default": [("two", "iwae-8")],
        "meaning": [("two", "vae-bernoulli"), ("two", "reference-data")],
    }
    assert [t.name for t in found["recipe"].tasks] == ["digits (one)", "digits (two)"]


def test_a_variant_is_ranked_on_every_set_of_tasks_that_it_was_measured_on():
    a = standard(made("iwae-8"), made("made"), made("vae-samples-8"))
    found = boards(source(*a), source(*standard(made("iwae-8", dataset="b"), dataset="b"), name="two"))["Reconstruction", ""]
    assert [[t.name for t in g.tasks] for g in found.groups] == [["digits (one)", "digits (two)"], ["digits (one)"]]
    assert [{r.label for r in g.rows} for g in found.groups] == [{"vae-bernoulli", "iwae-8"}, {r.label for r in a} - {"reference-data"}]


def test_samples_in_the_features_of_another_classifier_are_not_scored():
    other = replace(made("iwae-8", fd=0.1), classifier=CLASSIFIER | {"digest": "d"})
    assert ("Samples", "") not in boards(source(*standard(other)))
    without = boards(source(made("vae-bernoulli"), made("iwae-8")))
    assert ("Samples", "") not in without and ("Latents", "") in without


def test_places_in_the_matrix():
    records = [made("made", log_likelihood=-21.0), made("iwae-8", log_likelihood=-22.0, unexplained_variance=0.99)]
    records += [made("vae-gaussian-learnt", log_likelihood=90.0), made("vae-samples-8")]
    (task,) = field_of([source(*standard(*records))]).tasks
    nats = {label: (s.rank, s.of, s.flagged) for label, s in standings(task, "log_likelihood").items()}
    same = dict.fromkeys(("vae-bernoulli", "vae-samples-8"), (2, 3, False))
    assert nats == same | {"made": (1, 3, False), "iwae-8": (None, 0, True), "vae-gaussian-learnt": (1, 1, False)}
    bounded = [r | {"kind": "lower-bound"} if r["metric"] == "log_likelihood" else r for r in records[0].rows]
    (task,) = field_of([source(*standard(replace(records[0], rows=bounded)))]).tasks
    assert [standings(task, m)["made"].bound for m in ("log_likelihood", "bits_per_dim", "coverage")] == ["≥", "≤", ""]
    assert {s.bound for label, s in standings(task, "log_likelihood").items() if label != "made"} == {""}
    (task,) = field_of([source(*standard(*records))]).tasks
    images = {label: (s.rank, s.of) for label, s in standings(task, "fd-{data}cnn").items()}
    assert images["reference-data"] == (None, 0) and images["made"] == (1, 4)
