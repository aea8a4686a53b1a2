"""The training level of the study `one-sample`, and what it needs of recipes, data sets and the identity of runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from vae_variants.datasets import load_dataset
from vae_variants.harness import Record, RunSpec, Store
from vae_variants.likelihoods import Support
from vae_variants.registry import UserError
from vae_variants.studies import Table, Verdict
from vae_variants.studies.judging import one_sided_p
from vae_variants.studies.lab import Lab
from vae_variants.studies.one_sample.training_cells import (
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
    Setting,
    cells,
    equal_time,
    plan,
    view,
)  # fmt: skip
from vae_variants.studies.one_sample.training_level import draw, judge, measure, models
from vae_variants.studies.one_sample.training_verdict import gains, slopes
from vae_variants.training import Population, Recipe, Training
from vae_variants.variants import build, configure

# -- identity of runs --------------------------------------------------------------------------------------------------

OLD = {  # of runs made before there was `decay`: selector -> the configuration in its identity, key, training key
    "vae-bernoulli": (
        '{"activation":"tanh","batch":100,"epochs":30,"hidden":[200,200],"latent":50,"likelihood":"bernoulli","lr":0.001,"model":"vae",'
        '"network":"mlp","objective":"elbo","samples":1}',
        "fd6f8239c0e97da7edb51a9d1d76ed1f19c2333e53254440230844986d1a4a46",
        "4f7adada31e6b393be9bba6f4f28a1eefeab41884ff50bf120d496f90011c16d",
    ),
    "iwae-8": (
        '{"activation":"tanh","batch":100,"epochs":30,"hidden":[200,200],"latent":50,"likelihood":"bernoulli","lr":0.001,"model":"vae",'
        '"network":"mlp","objective":"iwae","samples":8}',
        "b5632a9654b386e5b1fbf99ae1be781dbb572dc1ecbc3468f19acb1eca59a9e2",
        "d3552853a0d7df5f045bb8a9572db0ae79d1c225f8d8b3751d085e6304ed9e82",
    ),
    "reference-pca-2": (
        '{"latent":2,"model":"pca"}',
        "6945b629986f43c34c2c69044080fe36ce704ab99b2c3be4002f93fa597431e4",
        "37974d2b7b22482565e08be4cdbeba8e623e04bdbf96f89007904941b456d4a3",
    ),
}


def spec(selector: str) -> RunSpec:
    return RunSpec(configure(selector)[0], "digits", (0, 1), "smoke")


@pytest.mark.parametrize("selector", OLD)
def test_runs_from_before_an_option_was_there_keep_their_identity_and_keys(selector):
    values, key, training_key = OLD[selector]
    now = spec(selector)
    identity = '{"dataset":"digits","fidelity":"smoke","schema":2,"seeds":[0,1],"values":' + values + "}"
    assert now.identity == identity
    assert (now.key(), now.training_key()) == (key, training_key)
    kept = {"key": key, "label": selector, "values": json.loads(values), "dataset": {"name": "digits"}, "support": "binary"}
    kept |= {"fidelity": "smoke", "seeds": [0, 1], "status": {"0": "ok", "1": "ok"}, "schema": 2}
    record = Record.from_json(json.dumps(kept))
    assert record.identity == identity
    assert record.values == dict(now.configuration.values)  # what it was trained with is said all the same


def test_another_schedule_is_another_run():
    constant, same, cosine = (spec(s) for s in ("vae", "vae[decay=constant]", "vae[decay=cosine]"))
    assert (same.identity, same.key(), same.training_key()) == (constant.identity, constant.key(), constant.training_key())
    assert cosine.identity != constant.identity
    assert cosine.key() != constant.key()
    assert cosine.training_key() != constant.training_key()


# -- the schedule ------------------------------------------------------------------------------------------------------


def rates(data, recipe: Recipe, epochs: int, selector: str = "vae[hidden=4,latent=2]") -> tuple[list[list[float]], Training]:
    """The learning rate of every player in each step that is taken."""
    training = Training(Population(lambda: build(selector, data), (0, 1)), data.as_(configure(selector)[0].support), recipe, "key")
    found, turn = [], training.turn

    def noted(i, x, t):
        found.append([optimizer.param_groups[0]["lr"] for optimizer in training.optimizers])
        return turn(i, x, t)

    training.turn = noted
    for _ in range(epochs):
        training.run_epoch()
    return found, training


def test_cosine_goes_from_the_rate_to_zero_over_all_steps(tiny):
    found, training = rates(tiny, Recipe(epochs=3, batch=10, lr=0.2, decay="cosine"), 3)
    total = 3 * training.steps
    assert len(found) == total == 12
    assert [rate for (rate,) in found] == pytest.approx([0.1 * (1 + math.cos(math.pi * n / 12)) for n in range(12)])
    assert found[0] == [0.2]
    assert found[6] == pytest.approx([0.1])  # half of it half way


def test_constant_stays_and_each_player_of_a_game_keeps_its_own_rate(tiny):
    assert {rate for (rate,) in rates(tiny, Recipe(epochs=2, batch=20, lr=0.2), 2)[0]} == {0.2}
    found, _ = rates(tiny, Recipe(epochs=1, batch=20, lr=0.01, decay="cosine"), 1, "gan[hidden=4,latent=2]")
    assert found[2] == found[3] == pytest.approx([0.005, 0.005])  # two steps, each of two players; the second at half


def test_a_training_resumed_under_cosine_ends_as_if_it_had_not_been_interrupted(tiny):
    recipe = Recipe(epochs=4, batch=10, lr=0.05, decay="cosine")
    _, whole = rates(tiny, recipe, 4)
    _, broken = rates(tiny, recipe, 2)
    state = {name: tensor.clone() for name, tensor in broken.state().items()}
    _, resumed = rates(tiny, recipe, 0)
    resumed.restore(state)
    resumed.run_epoch()
    resumed.run_epoch()
    for name, tensor in whole.population.state().items():
        assert torch.equal(tensor, resumed.population.state()[name]), name
    _, constant = rates(tiny, replace(recipe, decay="constant"), 4)
    assert any(not torch.equal(t, constant.population.state()[name]) for name, t in whole.population.state().items())


def test_an_unknown_schedule_gets_one_clear_line():
    with pytest.raises(UserError, match=r"^unknown decay 'cosin'; did you mean 'cosine'\? choices: constant, cosine$"):
        configure("vae[decay=cosin]")


# -- names of data sets ------------------------------------------------------------------------------------------------


def test_a_data_set_is_made_static_or_smaller_by_its_name(digits):
    static = load_dataset("digits?static=true")
    assert static.name == "digits?static=true"
    first, again = (static.as_(Support.BINARY).train, replace(static).as_(Support.BINARY).train)
    assert torch.equal(first, again)
    small = load_dataset("digits?train=64&static=true")
    assert small.sizes == {**digits.sizes, "train": 64}
    assert not small.as_(Support.BINARY).dynamic
    assert load_dataset("digits?train=64").as_(Support.BINARY).dynamic
    assert torch.equal(load_dataset("digits?train=64").train, digits.subset(64, None).train)
    assert torch.equal(small.test, digits.test)
    assert len({digits.digest, static.digest, small.digest, load_dataset("digits?train=64").digest}) == 4
    assert load_dataset("digits").name == "digits"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digits?statik=true", "unknown option 'statik'; did you mean 'static'? choices: static, train (of data set 'digits')"),
        ("digits?static=yes", "option static='yes' is not valid; it takes true or false"),
        ("digits?train=many", "option train='many' is not valid; it takes a whole number"),
        ("digits?train=0", "option train=0 is not valid; it takes a positive whole number"),
        ("digits?train=5000", "train=5000 is not valid: data set 'digits' has 1197 training images"),
    ],
)
def test_a_wrong_option_of_a_data_set_gets_one_clear_line(name, says):
    with pytest.raises(UserError) as error:
        load_dataset(name)
    assert str(error.value) == says


# -- what is trained ---------------------------------------------------------------------------------------------------

PLANS = {"smoke": SMOKE, "quick": QUICK, "full": FULL, "costly": COSTLY}


def planned(name: str, seconds: dict[int, float] | None = None):
    """All cells of a plan; the learning rate of each batch is 1 / batch, of cosine 7, tuned for K 5."""
    chosen = PLANS[name]
    chosen = replace(chosen, images=min(chosen.images, 1197) // 64 * 64)
    rate = {(batch, "constant"): 1 / batch for batch in (100, *chosen.batches)} | {(100, "cosine"): 7.0}
    return chosen, cells(chosen, rate, {b: 2 / b for b in chosen.line}, 5.0, seconds or {k: float(k) for k in chosen.samples})


@pytest.mark.parametrize("name", PLANS)
def test_budgets_are_equal_in_what_they_say(name):
    chosen, found = planned(name)
    n, seen = chosen.images, set()
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
        if cell.budget in (UPDATES, STATIC, RETUNED, LINE):
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
    assert seen == {UPDATES, STATIC, RETUNED, DECODED, LINE, TIME, LARGER}
    assert {c.setting.lr for c in found if c.setting.decay == "cosine"} == {7.0}
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


# -- the verdict -------------------------------------------------------------------------------------------------------

ONE = {  # budget, batch, decay, objective of every family, and the K in it
    (UPDATES, 100, "constant", "elbo"): (2, 8, 64),
    (UPDATES, 100, "cosine", "elbo"): (8,),
    (UPDATES, 100, "constant", "iwae"): (8, 64),
    (UPDATES, 20, "constant", "elbo"): (8,),
    (UPDATES, 4, "constant", "elbo"): (8, 64),
    (STATIC, 100, "constant", "elbo"): (64,),
    (DECODED, 100, "constant", "elbo"): (8, 64),
    (TIME, 100, "constant", "elbo"): (8, 64),
}


def tables(gain, seeds: int = 5, spread: float = 0.1, data: str = "digits"):
    """Tables as `measure` makes them, in which the bound of K draws is `gain(budget, batch, decay, objective, K)` above that of one."""
    described, scores, run = [], [], 0
    noise = [0.7, -1.2, 0.3, 0.9, -0.7, 0.1, -0.4, 0.5, -0.6, 0.4][:seeds]  # of the difference, by seed
    for (budget, batch, decay, objective), ks in ONE.items():
        against = run
        for k in (1, *ks):
            d = gain(budget, batch, decay, objective, k) if k > 1 else 0.0
            row = {"budget": budget, "objective": objective, "batch": batch, "schedule": decay, "learning rate": 0.01, "K": k}
            claim = "yes" if objective == "elbo" else "no"
            described.append({**row, "claim": claim, "run": run, "against run": None if k == 1 else against})
            for seed in range(seeds):
                bound = -100.0 + 3 * seed + d + spread * noise[seed] * (k > 1)  # seeds differ by far more than K does
                scores.append({"run": run, "seed": seed, "bound": bound, "ELBO": bound - 2})
            run += 1
    timed = [{"K": 1, "times that of K = 1": 1.0}, {"K": 64, "times that of K = 1": 9.0}]
    return {
        "training_setup": Table.of("", [{"data set": data, "base batch": 100}]),
        "training_seconds": Table.of("", timed),
        "training_cells": Table.of("", described),
        "training_scores": Table.of("", scores),
    }


def nothing(budget, batch, decay, objective, k):
    return 0.0


def all_better(budget, batch, decay, objective, k):
    return 2.0


def small_better(budget, batch, decay, objective, k):
    return 2.0 if batch <= 4 else 0.1


def test_a_true_claim_is_supported_everywhere():
    effects, sentence, verdict = judge(tables(nothing))
    assert verdict is Verdict.SUPPORTED
    assert len(effects) == 12  # those of IWAE are no evidence
    assert {e.verdict for e in effects} == {Verdict.SUPPORTED}
    assert all("within ±0.5: yes" in e.criterion for e in effects)
    assert "one draw does not need batches of 100" in sentence


def test_a_false_claim_is_not_supported_and_its_mirror_image_is():
    effects, _, verdict = judge(tables(all_better))
    assert verdict is Verdict.REFUTED
    assert {e.verdict for e in effects} == {Verdict.REFUTED}
    assert [round(e.value, 1) for e in effects] == [2.0] * len(effects)
    effects, _, verdict = judge(tables(lambda *where: -2.0))  # many draws do harm: one is as good, though not equivalent
    assert verdict is Verdict.SUPPORTED
    assert all("within ±0.5: no; any difference: yes" in e.criterion for e in effects)


def test_a_claim_that_needs_a_batch_holds_under_conditions():
    _, sentence, verdict = judge(tables(small_better))
    assert verdict is Verdict.CONDITIONAL
    assert "one draw needs larger batches, and 100 are enough" in sentence
    _, _, verdict = judge(tables(lambda budget, *where: 2.0 if budget == UPDATES else -5.0))  # one draw wins where draws are paid for
    assert verdict is Verdict.CONDITIONAL


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("gain", [nothing, all_better, small_better])
def test_too_few_seeds_are_no_evidence(seeds, gain):
    effects, _, verdict = judge(tables(gain, seeds))
    assert verdict is Verdict.INCONCLUSIVE
    assert {e.verdict for e in effects} == {Verdict.INCONCLUSIVE}


def test_noise_is_inconclusive_at_the_base_and_a_condition_below_it():
    _, _, verdict = judge(tables(nothing, spread=3.0))
    assert verdict is Verdict.INCONCLUSIVE
    doubtful = tables(lambda budget, batch, *where: 0.95 if batch == 4 else 0.0)
    assert judge(doubtful)[2] is Verdict.CONDITIONAL


def test_iwae_has_no_vote():
    planted = tables(lambda budget, batch, decay, objective, k: 5.0 if objective == "iwae" else 0.0)
    _, sentence, verdict = judge(planted)
    assert verdict is Verdict.SUPPORTED
    assert "IWAE, another objective, changes it by +5.00 nats" in sentence


def test_the_difference_is_paired_by_seed_and_has_a_t_interval():
    (effect, *_), _, _ = judge(tables(nothing, seeds=3, spread=1.0))
    d = [0.7, -1.2, 0.3]
    mean = sum(d) / 3
    half = 2.9199855803537251 * math.sqrt(sum((x - mean) ** 2 for x in d) / 2) / math.sqrt(3)  # t_{0.95, 2}
    assert (effect.value, effect.low, effect.high) == pytest.approx((mean, mean - half, mean + half))
    assert (effect.level, effect.n) == (0.9, 3)


def test_p_values_are_adjusted_within_a_budget_alone():
    effects, _, _ = judge(tables(lambda budget, batch, decay, objective, k: 0.5, seeds=4, spread=0.6))
    by = {(e.where["budget"], e.where["batch"], e.where["learning rate"], e.where["K"]): e for e in effects}
    alone = one_sided_p([0.5 + 0.6 * x for x in (0.7, -1.2, 0.3, 0.9)], 1.0)
    assert f"Holm p = {3 * alone:.2g}" in by[UPDATES, "100", "0.01, constant", "64"].criterion
    assert f"Holm p = {alone:.2g}" in by[UPDATES, "20", "0.01, constant", "8"].criterion


def test_a_cell_without_a_model_leaves_the_verdict_open():
    planted = tables(nothing)
    last = max(row["run"] for row in planted["training_cells"] if row["K"] == 8)
    kept = [row for row in planted["training_scores"] if row["run"] != last]
    assert judge({**planted, "training_scores": Table.of("", kept)})[2] is Verdict.INCONCLUSIVE


def test_the_slope_is_that_of_the_gain_on_rate_over_batch():
    planted = tables(lambda budget, batch, decay, objective, k: 3.0 + 200 * 0.01 / batch, spread=0.0)
    k, slope = slopes(gains(planted))
    assert k == 8
    assert slope == pytest.approx([200.0] * 5)


def test_the_sign_is_compared_with_what_was_published_on_mnist_alone():
    def like_burda(budget, batch, decay, objective, k):
        return 2.0 if objective == "iwae" else 0.4 if budget == UPDATES else -0.3

    _, sentence, _ = judge(tables(like_burda, data="mnist"))
    assert sentence.count("the same sign") == 3
    _, sentence, _ = judge(tables(lambda *where: -like_burda(*where), data="mnist?train=100"))
    assert sentence.count("the other sign") == 3
    _, sentence, _ = judge(tables(nothing, data="mnist"))
    assert sentence.count("no sign is seen here") == 3
    assert "Burda" not in judge(tables(like_burda))[1]


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_the_smallest_study_measures_judges_and_draws(tmp_path):
    lab = Lab("digits", "smoke", None, Store(tmp_path), torch.device("cpu"))
    found = measure(lab)
    assert {name.partition("_")[0] for name in found.tables} == {"training"}
    for table in found.tables.values():
        for row in table.rows:
            assert all(cell is None or isinstance(cell, str) or math.isfinite(cell) for cell in row)
    effects, sentence, verdict = judge(found.tables)
    assert {e.n for e in effects} == {3}
    assert verdict in Verdict
    assert sentence
    assert [picture.name for picture in draw(found)] == ["training-samples", "training-batches"]
    cell_rows = list(found.tables["training_cells"])
    base = next(row for row in cell_rows if row["K"] == 1)
    values = found.tables["training_scores"].by_seed("bound", run=base["run"])
    assert base["bound (nats)"] == pytest.approx(sum(values.values()) / 3)
    assert all(-60 < value < -10 for value in values.values())
    few = Lab("digits", "smoke", (0, 1), Store(tmp_path / "two"), torch.device("cpu"))
    setting = Setting(1, 100, 0.01, 1)
    assert list(models(few, plan(few), setting, (0, 1))) == [0, 1]
