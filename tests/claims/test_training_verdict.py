"""The verdict of the training level of the study `one-sample`, on planted tables."""

from __future__ import annotations

import math

import pytest

from bench.claims.one_sample import training_verdict
from bench.claims.one_sample.training_cells import DECODED, LARGER, LINE, RETUNED, STATIC, TIME, UPDATES, WHOLE
from bench.claims.one_sample.training_gains import gains, slopes
from vae_variants.analysis.verdicts import one_sided_p
from vae_variants.studies import Table, Verdict


def judge(found):
    """Effects, all sentences as one text, verdict."""
    effects, sentences, verdict = training_verdict.judge(found)
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


def tables(gain, seeds: int = 5, spread: float = 0.1, data: str = "digits", families=ONE):
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


def voting(effects):
    """Those of the comparisons that the verdict rests on, which come first."""
    count = sum("K" in e.where for e in effects)
    assert all("K" in e.where for e in effects[:count])
    return effects[:count]


def test_a_true_claim_is_supported_everywhere():
    effects, sentence, verdict = judge(tables(nothing))
    assert verdict is Verdict.SUPPORTED
    effects = voting(effects)
    assert len(effects) == 12  # those of IWAE are no evidence
    assert {e.verdict for e in effects} == {Verdict.SUPPORTED}
    assert all("within ±0.5: yes" in e.criterion for e in effects)
    assert "one draw does not need batches of 100" in sentence
    assert "no more than 1 nat behind in 8 of 8 comparisons where draws cost nothing and in 4 of 4 comparisons where they are" in sentence
    assert (
        "(K = 64 gains +0.00 nats for as many decoder evaluations and K = 64 gains +0.00 nats in the same time), and further behind in 0"
        in sentence
    )
    assert sentence.count(". ") == 3 and sentence.endswith(".")  # equal updates, draws that are paid for, decay, small batches


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
    _, sentence, verdict = judge(tables(small_better))
    assert verdict is Verdict.CONDITIONAL
    assert "one draw needs larger batches, or longer training, which cannot be told apart here, and 100 are enough" in sentence
    assert "(K = 64, batches of 4, 2 epochs), " in sentence and "(K = 8, batches of 20, 8 epochs)" in sentence
    _, sentence, verdict = judge(tables(lambda budget, *where: 2.0 if budget in (UPDATES, STATIC) else -5.0))  # fails and holds
    assert verdict is Verdict.CONDITIONAL
    assert "no more than 1 nat behind in 0 of 8 comparisons where draws cost nothing and in 4 of 4 comparisons where they are" in sentence
    assert "paid for (K = 64 gains −5.00 nats for" in sentence and "and further behind in 8." in sentence
    assert "one draw is not as good with batches of 100 either" in sentence


@pytest.mark.parametrize("paid", [-5.0, -1.0, 0.0])
def test_holding_where_draws_are_paid_for_makes_no_doubt_a_condition(paid):
    """There it holds nearly by construction."""

    def doubtful(budget, batch, decay, objective, k):
        return paid if budget in (DECODED, TIME, LINE) else 0.95

    _, _, verdict = judge(tables(doubtful, families=WIDE))
    assert verdict is Verdict.INCONCLUSIVE


WIDE = ONE | {  # and what else has a vote
    (UPDATES, 400, "constant", "elbo"): (8,),
    (LINE, 4, "constant", "elbo"): (16,),
    (WHOLE, 100, "constant", "elbo"): (8,),
    (WHOLE, 100, "constant", "iwae"): (8,),
}


@pytest.mark.parametrize("place", [(UPDATES, 400), (LINE, 4), (WHOLE, 100), (STATIC, 100), (TIME, 100), (UPDATES, 4), (UPDATES, 20)])
@pytest.mark.parametrize("d", [0.95, 2.0])
def test_the_two_groups_of_the_criterion(place, d):
    """Doubt or failure in smaller batches under equal updates is a condition; elsewhere doubt leaves the verdict open."""
    _, _, verdict = judge(tables(lambda budget, batch, *where: d if (budget, batch) == place else 0.0, families=WIDE))
    small = place[0] == UPDATES and place[1] < 100
    assert verdict is (Verdict.CONDITIONAL if small or d == 2.0 else Verdict.INCONCLUSIVE)


def test_four_times_the_batch_has_no_vote():
    families = ONE | {(LARGER, 16, "constant", "elbo"): (2,)}
    planted = tables(lambda budget, *where: 9.0 if budget == LARGER else 0.0, families=families)
    effects, sentence, verdict = judge(planted)
    assert verdict is Verdict.SUPPORTED and len(voting(effects)) == 12
    assert "by +9.00 with four times the batch of 4 in place of draws" in sentence


def test_a_pair_of_trainings_is_counted_once():
    """The rate tuned for K may be the common one."""
    planted = tables(nothing)
    rows = list(planted["training_cells"])
    again = next(row for row in rows if row["K"] == 64 and row["budget"] == UPDATES and row["batch"] == 100)
    effects, sentence, _ = judge({**planted, "training_cells": Table.of("", [*rows, {**again, "budget": RETUNED}])})
    assert len(voting(effects)) == 13 and "behind in 8 of 8 comparisons where draws cost nothing" in sentence


@pytest.mark.parametrize(
    ("iwae", "says"),
    [
        (0.25, "but the margin is 4.0 times what IWAE gains here."),
        (-0.5, "but IWAE gains nothing here that the margin of 1 nat could be held against."),
    ],
)
def test_a_margin_that_cannot_bite_is_told(iwae, says):
    _, sentence, _ = judge(tables(lambda budget, batch, decay, objective, k: iwae if objective == "iwae" else 0.0, spread=0.0))
    assert says in sentence
    assert "the margin" not in judge(tables(lambda budget, batch, decay, objective, k: 1.5 if objective == "iwae" else 0.0))[1]


@pytest.mark.parametrize("lost", ["training_setup", "training_cells", "training_scores", "training_seconds"])
def test_tables_without_rows_decide_nothing(lost):
    for planted in ({}, {**tables(nothing), lost: Table.of("", [])}):
        effects, sentence, verdict = judge(planted)
        if lost != "training_seconds" or not planted:
            assert (effects, sentence, verdict) == ([], "No model could be trained.", Verdict.INCONCLUSIVE)
    one = tables(nothing, seeds=1)
    alone = [row for row in one["training_scores"] if row["run"] == 0]
    assert judge({**one, "training_scores": Table.of("", alone)})[2] is Verdict.INCONCLUSIVE


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
    assert "with IWAE, K = 64. One draw" in sentence and "+5.0" in sentence


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
    last = max(row["run"] for row in planted["training_cells"] if row["K"] == 8)
    kept = [row for row in planted["training_scores"] if row["run"] != last]
    assert judge({**planted, "training_scores": Table.of("", kept)})[2] is Verdict.INCONCLUSIVE


def test_the_slope_is_that_of_the_gain_on_rate_over_batch():
    planted = tables(lambda budget, batch, decay, objective, k: 3.0 + 200 * 0.01 / batch, spread=0.0)
    k, slope = slopes(gains(planted))
    assert k == 8
    assert slope == pytest.approx([200.0] * 5)


def of(effects, *words):
    (found,) = (e for e in effects if "quantity" in e.where and all(word in e.where["quantity"] for word in words))
    return found


def test_one_point_does_not_make_a_proportion():
    """A gain that falls off at the noisiest setting: the line through all settings rises, and far less than in proportion."""

    def gain(budget, batch, decay, objective, k):
        return {100: 0.1, 20: 0.3, 4: 0.4}[batch] if budget == UPDATES else 0.0

    effects, sentence, _ = judge(tables(gain))
    assert next(e for e in effects if e.where.get("quantity", "").endswith("batch, K = 8")).verdict is Verdict.SUPPORTED
    short = of(effects, "in proportion from 100")
    assert short.verdict is Verdict.REFUTED and short.value == pytest.approx(0.4 - 25 * 0.1, abs=0.1)
    assert short.criterion == "0 if in proportion; epochs: 2 and 32"
    assert "not in proportion to learning rate over batch" in sentence
    effects, sentence, _ = judge(tables(lambda budget, batch, *where: 10 / batch if budget == UPDATES else 0.0))
    assert of(effects, "in proportion from 100").verdict is Verdict.INCONCLUSIVE
    assert "not in proportion" not in sentence


def test_slopes_are_told_with_and_without_the_point_that_has_all_the_leverage():
    planted = tables(lambda budget, batch, *where: {100: 0.1, 20: 0.1, 4: 0.9}[batch], spread=0.01, families=ONE)
    effects, _, _ = judge(planted)
    found = [e for e in effects if "slope" in e.where.get("quantity", "")]
    assert [e.where["quantity"].endswith("without the noisiest batch") for e in found] == [False, True]
    assert found[0].value > 100 and abs(found[1].value) < 20


def test_mnist_stands_beside_what_was_published():
    """IWAE's gain against the ELBO's, of the trainings of the suite where there are any."""

    def like_burda(budget, batch, decay, objective, k):
        return 2.0 if objective == "iwae" else 0.4 if budget in (UPDATES, WHOLE) else -0.3

    effects, sentence, _ = judge(tables(like_burda, data="mnist"))
    assert "Burda et al. 2016 have +0.41 and +1.98 for K = 50 after 3280 epochs: that IWAE gains more is seen here too." in sentence
    assert "After 32 epochs on 1152 images K = 64 gains" in sentence
    assert of(effects, "gain of IWAE less that of the ELBO, K = 64, equal updates").value == pytest.approx(1.6, abs=0.01)
    _, sentence, _ = judge(tables(like_burda, data="mnist", families=WIDE))
    assert "After 32 epochs on 1152 images K = 8 gains" in sentence
    _, sentence, _ = judge(tables(lambda *where: -like_burda(*where), data="mnist?train=100"))
    assert "here the ELBO gains more, where training is 102 times shorter." in sentence
    _, sentence, _ = judge(tables(nothing, data="mnist"))
    assert "which gains more cannot be told here, where training is 102 times shorter." in sentence
    assert "Burda" not in judge(tables(like_burda))[1]
