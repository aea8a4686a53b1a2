"""The training level of the study `one-sample`: what is trained, and all of it in small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.claims.one_sample import gains
from bench.claims.one_sample.settings import (
    COSTLY,
    DECODED,
    FULL,
    LARGER,
    LINE,
    QUICK,
    RETUNED,
    SMOKE,
    STATIC,
    TIME,
    UPDATES,
    WHOLE,
    Setting,
    comparisons,
    equal_time,
    view,
)
from bench.claims.one_sample.training import Experiment, measure
from vae_variants.datasets import load_dataset
from vae_variants.harness import Store
from vae_variants.models.likelihoods import Support
from vae_variants.studies import Verdict
from vae_variants.studies.lab import Lab

# -- what is trained ---------------------------------------------------------------------------------------------------

PLANS = {"smoke": SMOKE, "quick": QUICK, "full": FULL, "costly": COSTLY}


def planned(name: str, seconds: dict[int, float] | None = None):
    """All cells of a plan; the learning rate of each batch is 1 / batch, of cosine 7, tuned for K 5."""
    chosen = PLANS[name]
    chosen = replace(chosen, training_images=min(chosen.training_images, 1197) // 64 * 64)
    rate = {(batch, "constant"): 1 / batch for batch in (100, *chosen.batches)} | {(100, "cosine"): 7.0}
    seconds = seconds or {k: float(k) for k in chosen.samples}
    one = Setting(1, 100, 1e-3, 30, "cosine", whole=True)
    tuned = [one, replace(one, samples=8, lr=3e-3), replace(one, samples=8, objective="iwae")]
    suite = [s for s in tuned if s.samples in chosen.whole]
    return chosen, comparisons(chosen, rate, {b: 2 / b for b in chosen.line}, 5.0, seconds, suite)


@pytest.mark.parametrize("name", PLANS)
def test_budgets_are_equal_in_what_they_say(name):
    chosen, found = planned(name)
    n, seen = chosen.training_images, set()
    for cell in found:
        if (one := cell.against) is None:
            assert cell.setting.samples == 1
            continue
        many = cell.setting
        seen.add(cell.budget)
        assert one.samples == 1
        assert one.objective == "elbo"
        assert one.pixels == many.pixels
        assert one.decay == many.decay
        assert cell.claim == (many.objective == "elbo" and cell.budget != LARGER)
        if cell.budget in (UPDATES, STATIC, RETUNED, LINE, WHOLE):
            assert many.updates(n) == one.updates(n)
        if cell.budget in (UPDATES, STATIC, DECODED, TIME):
            assert (many.batch, many.lr) == (one.batch, one.lr)
        if cell.budget in (DECODED, LINE):
            assert many.decoded(n) == one.decoded(n)
        if cell.budget == LINE:
            assert many.batch * many.samples == one.batch * one.samples == 64
            assert (many.lr, one.lr) == (2 / many.batch, 2 / one.batch)
        if cell.budget == LARGER:
            assert (many.samples, many.batch, many.lr) == (1, 4 * one.batch, one.lr)
            assert many.updates(n) == one.updates(n)
        if cell.budget == RETUNED:
            assert (many.lr, one.lr) == (5.0, 0.01)
    assert seen == {UPDATES, STATIC, RETUNED, DECODED, LINE, TIME, LARGER} | ({WHOLE} if chosen.whole else set())
    assert {c.setting.lr for c in found if c.setting.decay == "cosine" and c.budget != WHOLE} == {7.0}
    assert {c.setting.lr for c in found if c.budget == WHOLE} == ({1e-3, 3e-3} if chosen.whole else set())
    assert {(c.setting.batch, c.setting.lr) for c in found if c.budget == UPDATES and c.setting.decay == "constant"} == {
        (batch, 1 / batch) for batch in (100, *chosen.batches)
    }


def test_updates_and_evaluations_are_counted_without_the_rest_of_an_epoch():
    setting = Setting(8, 100, 1e-3, 3)
    assert setting.updates(1152) == 33
    assert setting.decoded(1152) == 33 * 100 * 8
    assert Setting(2, 400, 1e-3, 3).updates(384) == 3  # a batch is never larger than the set
    assert Setting(2, 400, 1e-3, 3).decoded(384) == 3 * 384 * 2


def test_equal_time_gives_a_k_that_takes_longer_as_many_epochs_fewer():
    seconds = {1: 0.010, 4: 0.025, 64: 3.0}
    assert [equal_time(64, k, seconds) for k in (1, 4, 64)] == [64, 26, 1]
    assert equal_time(64, 4, {1: 0.010, 4: 0.009}) == 64  # what cannot be is noise of the clock
    _, found = planned("quick", {1: 2.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 40.0})
    assert {c.setting.samples: c.setting.epochs for c in found if c.budget == TIME} == {1: 32, 2: 32, 4: 16, 8: 8, 16: 2}


def test_a_view_shows_the_images_of_one_part_as_they_were_trained_on(digits):
    static = load_dataset("digits?static=true")
    shown = view(static, "train", 50).as_(Support.BINARY).test
    trained = static.as_(Support.BINARY).train
    rows = torch.linspace(0, len(trained) - 1, 50).long()
    assert torch.equal(shown, trained[rows])
    for part in ("validation", "test"):
        assert torch.equal(view(digits, part, 40).test, getattr(digits, part)[torch.linspace(0, 299, 40).long()])
    assert set(view(digits, "train", 40).as_(Support.BINARY).test.unique().tolist()) == {0.0, 1.0}


# -- all of it ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_smallest_study_measures_judges_and_draws(tmp_path):
    lab = Lab("digits", "smoke", None, Store(tmp_path), torch.device("cpu"))
    found = measure(lab)
    assert {name.partition("_")[0] for name in found} == {"training"}
    for table in found.values():
        assert np.isfinite(table.select_dtypes("number").drop(columns="against run", errors="ignore")).all(axis=None)
    effects, sentences, verdict = gains.judge(found)
    assert {e.n for e in effects} == {3}
    assert verdict in Verdict
    assert sentences and all(sentence.endswith(".") for sentence in sentences)
    assert [picture.name for picture in gains.draw(found)] == ["training-samples"]
    bounds = found["training_scores"].groupby("run")["bound"]
    assert set(found["training_cells"]["run"]) == set(bounds.groups) and set(bounds.count()) == {3}
    assert all(-60 < value < -10 for value in found["training_scores"]["bound"])
    few = Experiment(Lab("digits", "smoke", (0, 1), Store(tmp_path / "two"), torch.device("cpu")))
    assert list(few.models(Setting(1, 100, 0.01, 1), (0, 1))) == [0, 1]
