"""What fits into a budget: chosen by costs alone, and written as a suite that says so."""

from __future__ import annotations

import time
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch

from vae_variants.evaluation import sharpness
from vae_variants.harness import RunSpec, Store, costs, load_suite, run_all
from vae_variants.harness.budget import (
    BASELINE,
    FIRST,
    MORE,
    Choice,
    Cost,
    Machine,
    Row,
    Setting,
    choose,
    makespan,
    run_seconds,
    settings,
    total,
)  # fmt: skip
from vae_variants.harness.costs import measure_all
from vae_variants.harness.derived import part_of, rows_of
from vae_variants.harness.spec import prepared
from vae_variants.harness.suites import SUITE
from vae_variants.models.likelihoods import Support
from vae_variants.registry import UserError
from vae_variants.training.setup import set_up
from vae_variants.training.traced import Gradient
from vae_variants.variants import configure

MACHINE = Machine(jobs=2, start=2.0, classifier=1.0, report=5.0)
COST = Cost(start=1.0, epoch=2.0, scoring=1.0, sample=1e-5, trial_start=1.0, trial_epoch=1.0, trial_scoring=1.0)
SIZES = {"train": 20_000, "validation": 3000, "test": 3000}
WAYS = settings("full", SIZES, (0.2, 2), fixed=False)
ROWS = [
    *(Row(f"vae-{i}", MORE if i else FIRST, 3, 40, 3, COST) for i in range(4)),
    Row("gan", FIRST, 3, 40, 3, replace(COST, epoch=4.0)),
    Row("reference-data", BASELINE, 1, 0, 0, replace(COST, epoch=0.0)),
]
NEEDED = total(ROWS, 40, WAYS[0], MACHINE)


def within(budget: float) -> Choice:
    return choose(ROWS, budget, 40, WAYS, MACHINE)


def test_settings_become_less_careful():
    assert [way.preset.partition("[")[0] for way in WAYS] == ["full", "full", "full", "full", "quick"]
    assert [way.passes for way in WAYS] == [1_000_000, 62_500, 10_000, 10_000, 50_000]
    assert [bool(way.share) for way in WAYS] == [True, True, True, False, False]
    assert (WAYS[-1].cap, WAYS[-1].training, WAYS[-1].scoring) == (10, 0.5, 2000 / 3000)
    assert settings("full", SIZES, (0.2, 2), fixed=True) == WAYS[:1]
    assert [(way.preset, way.share) for way in settings("smoke", SIZES, (0.2, 2), fixed=False)] == [("smoke", 0.0)]  # no tuning, no other


def test_times_add_up_by_hand():
    way = Setting("full", passes=1000, share=0.25, extend=2)
    row = Row("a", FIRST, 2, 8, 3, Cost(1.0, 2.0, 3.0, 0.001, 0.5, 0.25, 1.0))
    assert run_seconds(row, 8, way) == pytest.approx(1 + 8 * 2 + 2 * (3 + 1))
    trial = 0.5 + 2 * 0.25 + 1
    expected = (2.0 + 2 * trial) + (2.0 + trial) + (2.0 + 1.0 + 25) + 5.0  # three trials on two processes, one beyond, the run, the report
    assert total([row], 8, way, MACHINE) == pytest.approx(expected)
    assert total([row], 8, replace(way, share=0.0), MACHINE) == pytest.approx(2 + 1 + 25 + 5)


@pytest.mark.parametrize(
    ("seconds", "jobs", "expected"), [([3, 3, 2, 2, 2], 2, 7), ([5, 1, 1, 1], 2, 5), ([4, 4], 1, 8), ([1], 4, 1), ([], 2, 0)]
)
def test_the_longest_starts_first(seconds, jobs, expected):
    assert makespan(seconds, jobs) == expected


def test_with_time_enough_the_suite_stays_as_it_is():
    found = within(NEEDED + 1)
    assert (set(found.labels), found.epochs, found.setting, found.left) == ({row.label for row in ROWS}, 40, WAYS[0], {})
    assert found.seconds == pytest.approx(NEEDED)


@pytest.mark.parametrize("share", [0.95, 0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04])
def test_a_choice_fits_and_baselines_and_families_come_first(share):
    budget = share * NEEDED
    found = within(budget)
    taken = [row for row in ROWS if row.label in found.labels]
    assert found.seconds <= budget and found.seconds == pytest.approx(total(taken, found.epochs, found.setting, MACHINE))
    assert set(found.labels) | set(found.left) == {row.label for row in ROWS} and not set(found.labels) & set(found.left)
    if any(row.importance == MORE for row in taken):
        assert {row.label for row in ROWS if row.importance != MORE} <= set(found.labels)
    for row in ROWS:  # nothing that would have fitted is left out
        if row.label in found.left:
            assert total([*taken, row], found.epochs, found.setting, MACHINE) > budget


def test_less_time_never_gives_more_epochs_or_a_more_careful_setting():
    found = [within(share * NEEDED) for share in (1.01, 0.8, 0.6, 0.5)]
    assert [one.epochs for one in found] == sorted((one.epochs for one in found), reverse=True)
    assert all(one.epochs >= 20 for one in found if one.setting.cap is None)


def test_as_many_rows_as_enough_epochs_leave_time_for():
    rows, seen = {row.label: row for row in ROWS}, set[int]()
    for budget in [share / 100 * NEEDED for share in range(20, 100, 2)]:
        found = within(budget)
        if found.epochs >= 16 and found.setting in WAYS[:-1]:
            seen.add(len(found.left))
            for label in found.left:
                wanted = [rows[each] for each in (*found.labels, label)]
                assert all(total(wanted, length, way, MACHINE) > budget for length in (40, 34, 28, 24, 20, 16) for way in WAYS[:-1])
    assert len(seen) > 1


def test_a_budget_that_is_too_short_says_what_is_needed():
    with pytest.raises(UserError, match=r"10 s is too short.*alone needs"):
        within(10.0)


def test_epochs_of_the_command_stay():
    assert choose(ROWS, 0.5 * NEEDED, 40, WAYS[:1], MACHINE, (1.0,)).epochs == 40


def test_the_part_of_a_suite_is_a_suite_that_plans_those_rows():
    suite = load_suite("colour")
    labels = ["vae-discretized[network=resnet]", "ae", "reference-pixels"]
    replaced = {"dataset": 'images:a "b"?size=16', "seeds": "0,4", "precision": None, "fidelity": "full[bound_images=9]", "epochs": 7}
    found = SUITE.validate_python(tomllib.loads(part_of(suite, labels, replaced, tuned=True)))
    assert found.tuning == suite.tuning and found.defaults == suite.defaults
    specs, usual = found.plan(), {spec.label: spec for spec in suite.plan()}
    assert [spec.label for spec in specs] == labels
    for spec in specs:
        values = dict(usual[spec.label].configuration.values)
        assert spec.configuration.values == values | ({"epochs": 7} if "epochs" in values else {})
        assert (spec.dataset, spec.seeds, spec.fidelity) == (replaced["dataset"], (0, 4), replaced["fidelity"])
    assert SUITE.validate_python(tomllib.loads(part_of(suite, labels, {}, tuned=False))).tuning is None


def test_rows_have_the_trials_that_are_missing():
    suite, missing = load_suite("colour"), list[RunSpec]()
    specs = suite.plan(dataset="digits", execute=lambda trials: (missing.extend(trials), [None] * len(trials))[1])
    rows = {row.label: row for row in rows_of(specs, suite.tuning, {trial.identity for trial in missing}, {s.label: COST for s in specs})}
    assert {row.trials for row in rows.values() if row.epochs} == {3.0}
    assert {row.label for row in rows.values() if row.importance == BASELINE} == {label for label in rows if label.startswith("reference-")}
    firsts = [row for row in rows.values() if row.importance == FIRST]
    assert len(firsts) == len({spec.configuration.family for spec in specs if not spec.label.startswith("reference-")})
    assert all(row.trials == 0 for row in rows_of(specs, suite.tuning, (), {s.label: COST for s in specs}))


@pytest.mark.usefixtures("smaller_smoke")
def test_a_measurement_is_near_what_the_run_takes(tmp_path):
    (chosen,) = configure("ae[epochs=6,hidden=64,latent=4]")
    spec = RunSpec(chosen, "digits", (0, 1), "smoke")
    around, (cost, other) = measure_all([(spec, ()), (spec, ())], torch.device("cpu"), 0, (), 0.0)
    assert isinstance(cost, Cost) and other is None and around.classifier > 0  # one is measured whatever the time
    (record,) = run_all([spec], Store(tmp_path), torch.device("cpu"))
    assert min(record.epoch_seconds) / 20 < cost.epoch < 20 * max(record.epoch_seconds)
    row = Row(spec.label, FIRST, 2, 6, 0, cost)
    way = settings("smoke", {"train": 200, "validation": 50, "test": 50}, None, fixed=True)[0]
    assert record.seconds / 20 < run_seconds(row, 6, way) + around.classifier < 20 * record.seconds


@pytest.mark.parametrize(("option", "together"), [("lr", True), ("objective.beta", True), ("objective.alpha", False)])
def test_trials_that_train_in_one_stack_share_its_time(option, together, monkeypatch):
    """Of real trainings; an epoch takes a second for each training and a tenth for each member, whatever the machine does."""
    objective = "renyi,samples=2" if option.endswith("alpha") else "beta"
    (chosen,) = configure(f"vae[objective={objective},hidden=8,latent=2]")
    key, data = option if option in chosen.values else option.partition(".")[2], prepared("digits", "validation")
    trials = [RunSpec(chosen.with_defaults(**{key: 0.01 * (1 + i)}), data.name, (0, 1), "validation") for i in range(4)]
    paced, sizes = costs.paced, list[int]()

    def told(spec, device, others=()):
        training, _, _ = paced(spec, device, others)
        sizes.append(len(training.population))
        return training, 1.0, 1 + 0.1 * len(training.population)

    monkeypatch.setattr(costs, "paced", told)
    _, start, epoch = costs.stacked(trials, torch.device("cpu"))
    assert sizes == [8 if together else 2]
    assert (start, epoch) == pytest.approx((1.0, 1.8) if together else (4.0, 4.8))


@pytest.mark.usefixtures("smaller_smoke")
def test_what_follows_from_the_data_alone_counts_once(monkeypatch):
    real_images = sharpness.real_images

    def slowly(dataset):
        time.sleep(0.4)
        return real_images(dataset)

    monkeypatch.setattr(sharpness, "real_images", slowly)
    (chosen,) = configure("ae[hidden=16,latent=4]")
    _, (cost,) = measure_all([(RunSpec(chosen, "digits", (0, 1), "smoke"), ())], torch.device("cpu"), 0, (), 0.0)
    assert isinstance(cost, Cost) and cost.scoring < 0.3 < cost.shared


@pytest.mark.parametrize(("name", "size", "channels"), [("grey", 24, 1), ("colour", 32, 3)])
def test_each_row_of_a_suite_for_own_images_has_a_loss_on_such_images(name, size, channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, size, size, channels), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x=images)
    specs, cpu = load_suite(name).plan(dataset=f"npz:{tmp_path / 'own.npz'}", fidelity="smoke"), torch.device("cpu")
    for spec in specs:
        training = set_up(spec.configuration, prepared(spec.dataset, spec.fidelity), (0,), cpu)
        for player in training.players:
            values, _ = Gradient(training.population, player, trace=False)(next(training.batches())[:, :4], torch.zeros(()))
            assert values.isfinite().all(), spec.label
    assert sum(spec.label.startswith("reference-") for spec in specs) < len(specs) / 2
    blacks = [spec.label for spec in specs if spec.configuration.support is Support.BINARY]
    assert blacks == [], "the default likelihood draws each pixel black or white, which suits no grey or coloured picture"
