"""The verdict of the training level of the study `one-sample`, on planted tables."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bench.claims.one_sample import gains
from bench.claims.one_sample.settings import DECODED, LARGER, LINE, RETUNED, STATIC, TIME, UPDATES, WHOLE
from vae_variants.analysis.verdicts import one_sided_p
from vae_variants.studies import Verdict


def judge(found):
    """Effects, all sentences as one text, verdict."""
    effects, sentences, verdict = gains.judge(found)
    return effects, " ".join(sentences), verdict


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
EPOCHS = {4: 2, 20: 8}  # by batch; others have 32


def tables(gain, seeds: int = 5, spread: float = 0.1, families=ONE):
    """Tables as `measure` makes them, in which the bound of K draws is `gain(budget, batch, decay, objective, K)` above that of one."""
    described, scores, run, first = [], [], 0, {}  # the last one: budget -> its K = 1 at the base batch, for IWAE too
    noise = [0.7, -1.2, 0.3, 0.9, -0.7, 0.1, -0.4, 0.5, -0.6, 0.4][:seeds]  # of the difference, by seed
    for (budget, batch, decay, objective), ks in families.items():
        against = first.setdefault(budget, run) if objective == "iwae" or (batch == 100 and decay == "constant") else run
        for k in (1, *ks) if objective == "elbo" else ks:
            d = gain(budget, batch, decay, objective, k) if k > 1 else 0.0
            row = {"budget": budget, "objective": objective, "batch": batch, "schedule": decay, "learning rate": 0.01, "K": k}
            row |= {"epochs": EPOCHS.get(batch, 32), "training images": 1152, "updates": EPOCHS.get(batch, 32) * (1152 // batch)}
            claim = "yes" if objective == "elbo" and budget != LARGER else "no"
            described.append({**row, "claim": claim, "not converged": "", "run": run, "against run": None if k == 1 else against})
            for seed in range(seeds):
                bound = -100.0 + 3 * seed + d + spread * noise[seed] * (k > 1)  # seeds differ by far more than K does
                scores.append({"run": run, "seed": seed, "bound": bound, "ELBO": bound - 2})
            run += 1
    return {"training_cells": pd.DataFrame(described), "training_scores": pd.DataFrame(scores)}


def nothing(budget, batch, decay, objective, k):
    return 0.0


def all_better(budget, batch, decay, objective, k):
    return 2.0


def small_better(budget, batch, decay, objective, k):
    return 2.0 if batch <= 4 else 0.1


def voting(effects):
    """Those of the comparisons that the verdict rests on, which come first."""
    count = sum("K" in e.where for e in effects)
    assert all("K" in e.where for e in effects[:count])
    return effects[:count]


def of(effects, *words):
    """That of a comparison without a vote."""
    (found,) = (e for e in effects if "quantity" in e.where and all(word in e.where["quantity"] for word in words))
    return found


def test_a_true_claim_is_supported_everywhere():
    effects, sentence, verdict = judge(tables(nothing))
    assert verdict is Verdict.SUPPORTED
    effects = voting(effects)
    assert len(effects) == 12  # those of IWAE are no evidence
    assert {e.verdict for e in effects} == {Verdict.SUPPORTED}
    assert all("within ±0.5: yes" in e.criterion for e in effects)
    assert "8 of 8" in sentence and "4 of 4" in sentence and "behind in 0" in sentence  # free, paid for, failed
    assert sentence.count(". ") == 1 and sentence.endswith(".")


def test_a_false_claim_is_not_supported_and_its_mirror_image_is():
    effects, _, verdict = judge(tables(all_better))
    effects = voting(effects)
    assert verdict is Verdict.REFUTED
    assert {e.verdict for e in effects} == {Verdict.REFUTED}
    assert [round(e.value, 1) for e in effects] == [2.0] * len(effects)
    effects, _, verdict = judge(tables(lambda *where: -2.0))  # many draws do harm: one is as good, though not equivalent
    assert verdict is Verdict.SUPPORTED
    assert all("within ±0.5: no; any difference: yes" in e.criterion for e in voting(effects))


def test_a_claim_that_needs_a_batch_holds_under_conditions():
    effects, _, verdict = judge(tables(small_better))
    assert verdict is Verdict.CONDITIONAL
    assert {e.where["batch"] for e in voting(effects) if e.verdict is Verdict.REFUTED} == {"4"}
    _, sentence, verdict = judge(tables(lambda budget, *where: 2.0 if budget in (UPDATES, STATIC) else -5.0))  # fails and holds
    assert verdict is Verdict.CONDITIONAL
    assert "0 of 8" in sentence and "4 of 4" in sentence and "behind in 8" in sentence


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("paid", [-5.0, -1.0, 0.0])
def test_holding_where_draws_are_paid_for_makes_no_doubt_a_condition(paid, whole):
    """There it holds nearly by construction."""

    def doubtful(budget, batch, decay, objective, k):
        return paid if budget in (DECODED, TIME, LINE) else 0.95

    _, _, verdict = judge(tables(doubtful, families=END if whole else WIDE))
    assert verdict is Verdict.INCONCLUSIVE


WIDE = ONE | {  # and what else has a vote
    (UPDATES, 400, "constant", "elbo"): (8,),
    (LINE, 4, "constant", "elbo"): (16,),
}
END = WIDE | {(WHOLE, 100, "cosine", "elbo"): (8,), (WHOLE, 100, "cosine", "iwae"): (8,)}


@pytest.mark.parametrize("place", [(UPDATES, 400), (LINE, 4), (STATIC, 100), (TIME, 100), (UPDATES, 4), (UPDATES, 20), (WHOLE, 100)])
@pytest.mark.parametrize("d", [0.95, 2.0])
def test_trainings_to_the_end_decide(place, d):
    """Doubt or failure in short trainings is a condition; in those to the end doubt leaves the verdict open."""
    _, said, verdict = judge(tables(lambda budget, batch, *where: d if (budget, batch) == place else 0.0, families=END))
    assert verdict is (Verdict.INCONCLUSIVE if place[0] == WHOLE and d < 1 else Verdict.CONDITIONAL)
    assert f"Trained to the end, K = 8 gains +{d if place[0] == WHOLE else 0:.1f}" in said


def test_trainings_that_have_not_converged_decide_nothing():
    for gain in (nothing, all_better):
        planted = tables(gain, families=END)
        cells = planted["training_cells"]
        for one in (True, False):  # the one of K = 1, and the one with K samples; IWAE has no vote
            late = (cells["budget"] == WHOLE) & (cells["objective"] == "elbo") & ((cells["K"] == 1) == one)
            marked = cells.assign(**{"not converged": late.map({True: "yes", False: ""})})
            _, said, verdict = judge({**planted, "training_cells": marked})
            assert verdict is Verdict.INCONCLUSIVE and "had not converged" in said
        assert judge({**planted, "training_cells": cells.drop(columns="not converged")})[2] is Verdict.INCONCLUSIVE
        other = cells.assign(**{"not converged": (cells["objective"] == "iwae").map({True: "yes", False: ""})})
        assert judge({**planted, "training_cells": other})[2] is judge(planted)[2]


@pytest.mark.parametrize("place", [(UPDATES, 400), (LINE, 4), (STATIC, 100), (TIME, 100), (UPDATES, 4), (UPDATES, 20)])
@pytest.mark.parametrize("d", [0.95, 2.0])
def test_the_two_groups_of_the_criterion_without_trainings_to_the_end(place, d):
    """Doubt or failure in smaller batches under equal updates is a condition; elsewhere doubt leaves the verdict open."""
    _, _, verdict = judge(tables(lambda budget, batch, *where: d if (budget, batch) == place else 0.0, families=WIDE))
    small = place[0] == UPDATES and place[1] < 100
    assert verdict is (Verdict.CONDITIONAL if small or d == 2.0 else Verdict.INCONCLUSIVE)


def test_four_times_the_batch_has_no_vote():
    families = ONE | {(LARGER, 16, "constant", "elbo"): (2,)}
    planted = tables(lambda budget, *where: 9.0 if budget == LARGER else 0.0, families=families)
    effects, _, verdict = judge(planted)
    assert verdict is Verdict.SUPPORTED and len(voting(effects)) == 12
    assert of(effects, LARGER).value == pytest.approx(9.0, abs=0.1)


def test_a_pair_of_trainings_is_counted_once():
    """The rate tuned for K may be the common one."""
    planted = tables(nothing)
    cells = planted["training_cells"]
    again = cells[(cells["K"] == 64) & (cells["budget"] == UPDATES) & (cells["batch"] == 100) & (cells["claim"] == "yes")]
    effects, sentence, _ = judge({**planted, "training_cells": pd.concat([cells, again.assign(budget=RETUNED)])})
    assert len(again) == 1 and len(voting(effects)) == 13 and "8 of 8" in sentence


@pytest.mark.parametrize(("iwae", "wide"), [(0.25, True), (-0.5, True), (1.5, False)])
def test_a_margin_that_even_iwae_does_not_reach_is_told(iwae, wide):
    _, sentence, _ = judge(tables(lambda budget, batch, decay, objective, k: iwae if objective == "iwae" else 0.0, spread=0.0))
    assert ("less than the margin" in sentence) == wide


@pytest.mark.parametrize("lost", ["training_cells", "training_scores"])
def test_tables_without_rows_decide_nothing(lost):
    for planted in ({}, {**tables(nothing), lost: pd.DataFrame()}):
        effects, sentence, verdict = judge(planted)
        assert (effects, verdict) == ([], Verdict.INCONCLUSIVE) and sentence
    one = tables(nothing, seeds=1)
    assert judge({**one, "training_scores": one["training_scores"].query("run == 0")})[2] is Verdict.INCONCLUSIVE


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
    effects, sentence, verdict = judge(planted)
    assert verdict is Verdict.SUPPORTED
    assert of(effects, "IWAE, K = 64").value == pytest.approx(5.0, abs=0.1) and "+5.0" in sentence


def test_the_difference_is_paired_by_seed_and_has_a_t_interval():
    (effect, *_), _, _ = judge(tables(nothing, seeds=3, spread=1.0))
    d = [0.7, -1.2, 0.3]
    mean = sum(d) / 3
    half = 2.9199855803537251 * math.sqrt(sum((x - mean) ** 2 for x in d) / 2) / math.sqrt(3)  # t_{0.95, 2}
    assert (effect.value, effect.low, effect.high) == pytest.approx((mean, mean - half, mean + half))
    assert (effect.level, effect.n) == (0.9, 3)


def test_p_values_are_adjusted_within_a_budget_alone():
    effects, _, _ = judge(tables(lambda budget, batch, decay, objective, k: 0.5, seeds=4, spread=0.6))
    by = {(e.where["budget"], e.where["batch"], e.where["learning rate"], e.where["K"]): e for e in voting(effects)}
    alone = one_sided_p([0.5 + 0.6 * x for x in (0.7, -1.2, 0.3, 0.9)], 1.0)
    assert f"Holm p = {3 * alone:.2g}" in by[UPDATES, "100", "0.01, constant", "64"].criterion
    assert f"Holm p = {alone:.2g}" in by[UPDATES, "20", "0.01, constant", "8"].criterion


def test_a_cell_without_a_model_leaves_the_verdict_open():
    planted = tables(nothing)
    cells, scores = planted["training_cells"], planted["training_scores"]
    last = cells.loc[cells["K"] == 8, "run"].max()
    assert judge({**planted, "training_scores": scores[scores["run"] != last]})[2] is Verdict.INCONCLUSIVE
