"""Tuning: what is tried, what is chosen, and that the test images have no say."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vae_variants.datasets import load_dataset
from vae_variants.evaluation import METRICS
from vae_variants.evaluation.criterion import criterion
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.fidelities import VALIDATION
from vae_variants.harness import RunSpec, Store, load_suite, run_all
from vae_variants.harness.choices import committed, written
from vae_variants.harness.spec import prepared
from vae_variants.harness.tuning import Tuning, tune
from vae_variants.models.base import MODELS
from vae_variants.registry import UserError
from vae_variants.variants import build, configure

CPU = torch.device("cpu")
GRID = {"lr": [1e-3, 3e-3, 1e-2, 3e-2]}
Score = Callable[[dict[str, Any]], float | None]


def spec(selector: str = "vae", epochs: int = 100, seeds: tuple[int, ...] = (0, 1)) -> RunSpec:
    return RunSpec(configure(selector, {"epochs": epochs})[0], "digits", seeds, "full")


class Judge:
    """Makes trials whose scores are a function of their options, and remembers the rounds. Whole trainings diverge above a rate."""

    def __init__(self, score: Score, better: str = "higher", stable: float = math.inf, finite: bool = False) -> None:
        self.score, self.better, self.stable, self.finite, self.rounds = score, better, stable, finite, list[list[RunSpec]]()

    def __call__(self, trials: list[RunSpec]) -> Sequence[Any]:
        if trials[0].fidelity != VALIDATION.name:
            return [self.whole(trial.configuration.values) for trial in trials]
        self.rounds.append(trials)
        return [self.record(trial) for trial in trials]

    def whole(self, values: Any) -> Any:
        lost = self.stable < math.inf and values["lr"] > self.stable
        curves = {"train_loss": [[9.0, 7.0, 6.0], [9.0, 7.0, 30.0 if lost and self.finite else 6.0]]}
        status, reason = ("diverged", {"1": "in epoch 9"}) if lost and not self.finite else ("ok", {})
        return SimpleNamespace(status={"0": "ok", "1": status}, reason=reason, values=values, curves=curves)

    def record(self, trial: RunSpec) -> Any:
        value, row = self.score(dict(trial.configuration.values)), {"metric": "m", "better": self.better, "reason": ""}
        rows = [] if value is None else [{**row, "seed": s, "value": value + (-1) ** s} for s in trial.seeds]
        reason = {} if rows else {"1000": "diverged"}
        return SimpleNamespace(rows=rows, ok=bool(rows), seeds=list(trial.seeds), reason=reason, dataset={"sizes": {"test": 9}})


def near(best: float) -> Score:
    return lambda values: -abs(math.log(values["lr"] / best))


def chosen(judge: Judge, tuning: Tuning, selector: str = "vae") -> RunSpec:
    (found,) = tune([spec(selector)], tuning, {}, judge)
    return found


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_best_mean_score_is_chosen_by_seeds_and_epochs_of_its_own(better):
    sign = 1 if better == "higher" else -1
    judge = Judge(lambda values: sign * near(1e-2)(values), better)
    found = chosen(judge, Tuning(GRID, share=0.25))
    assert found.configuration.values["lr"] == found.tuning["chosen"]["lr"] == 1e-2
    assert (found.label, found.seeds, found.fidelity) == ("vae", (0, 1), "full")
    (trials,) = judge.rounds
    assert [t.configuration.values["lr"] for t in trials] == GRID["lr"]
    assert {(t.configuration.values["epochs"], t.seeds, t.fidelity) for t in trials} == {(25, (1000, 1001), "validation")}
    assert [t["score"] for t in found.tuning["tried"]] == pytest.approx([sign * near(1e-2)({"lr": lr}) for lr in GRID["lr"]])
    assert found.tuning["edge"] == [] and found.tuning["images"] == 9


@pytest.mark.parametrize(
    ("best", "extend", "lr", "edge", "rounds"),
    [
        (0.08, 2, 0.09, [], 3),  # 0.09 is tried and better, 0.27 is worse
        (10.0, 2, 0.27, ["lr"], 3),  # still at the edge after two more
        (10.0, 0, 0.03, ["lr"], 1),
        (3e-4, 1, 3.3e-4, ["lr"], 2),
    ],
)
def test_a_rate_at_the_edge_is_extended_as_far_as_the_suite_says_and_told(best, extend, lr, edge, rounds):
    judge = Judge(near(best))
    found = chosen(judge, Tuning(GRID, extend=extend))
    assert (found.configuration.values["lr"], found.tuning["edge"], len(judge.rounds)) == (lr, edge, rounds)


def test_options_of_a_variant_are_tried_in_all_combinations_and_not_those_that_a_selector_sets():
    judge = Judge(lambda values: near(3e-3)(values) - values.get("free_bits", 0))
    tuning = Tuning(GRID, {"vae[objective=free-bits]": {"free_bits": [0.1, 0.2, 0.5]}, "made": {"lr": [0.5]}})
    found = chosen(judge, tuning, "vae[objective=free-bits]")
    assert len(judge.rounds[0]) == 12 and found.tuning["chosen"] == {"lr": 3e-3, "free_bits": 0.1}
    assert found.tuning["edge"] == ["free_bits"]
    fixed = [spec("vae[lr=0.5]"), spec("made"), spec("reference-pca-2"), replace(spec(), configuration=spec(epochs=0).configuration)]
    judge = Judge(near(1.0))
    assert tune(fixed, tuning, {}, judge) == fixed and judge.rounds == []


def test_halving_keeps_the_better_half_and_trains_it_longer():
    judge = Judge(near(9.0))
    grid = {"lr": [float(n) for n in range(1, 9)]}
    found = chosen(judge, Tuning(grid, share=0.9, halving=True, extend=0))
    told = [([t.configuration.values["lr"] for t in trials], trials[0].configuration.values["epochs"]) for trials in judge.rounds]
    assert told == [([1, 2, 3, 4, 5, 6, 7, 8], 10), ([8, 7, 6, 5], 30), ([8, 7], 90)]
    assert found.configuration.values["lr"] == 8 and len(found.tuning["tried"]) == 14


def test_epochs_that_are_chosen_are_trained_in_full():
    judge = Judge(lambda values: -abs(values["epochs"] - 12))
    found = chosen(judge, Tuning({"epochs": [6, 12, 24]}, share=0.1))
    assert [t.configuration.values["epochs"] for t in judge.rounds[0]] == [6, 12, 24]
    assert found.configuration.values["epochs"] == 12


def test_a_preset_and_a_command_limit_epochs_that_were_chosen_too():
    (tried,) = (s for s in load_suite("digits").plan() if s.label == "gan")
    assert tried.configuration.values["epochs"] == tried.tuning["chosen"]["epochs"] == 100
    for limits, epochs in (({"fidelity": "smoke"}, 2), ({"fidelity": "quick"}, 10), ({"epochs": 7}, 7)):
        (found,) = (s for s in load_suite("digits").plan(**limits) if s.label == "gan")
        assert found.configuration.values["epochs"] == epochs and "epochs" not in found.tuning["chosen"]
        assert found.configuration.values["lr"] == tried.configuration.values["lr"]


def test_values_that_diverge_are_never_chosen_and_without_any_score_the_suite_stands():
    judge = Judge(lambda values: None if values["lr"] > 5e-3 else values["lr"])
    found = chosen(judge, Tuning(GRID))
    assert found.configuration.values["lr"] == 3e-3
    assert [t["reason"] for t in found.tuning["tried"]] == ["", "", "diverged", "diverged"]
    for judge in (Judge(lambda values: None), lambda trials: [None] * len(trials)):
        found = chosen(judge, Tuning(GRID))
        assert found.configuration == spec().configuration and found.tuning["chosen"] == {}


@pytest.mark.parametrize(
    ("stable", "given_up", "lr"),
    [(1e-2, [], 1e-2), (5e-3, [1e-2], 3e-3), (2e-3, [1e-2, 3e-3, 3e-2], 1e-3), (1e-4, [1e-2, 3e-3, 3e-2], 1e-3)],
)
@pytest.mark.parametrize(("finite", "why"), [(False, "in epoch 9"), (True, "seed 1 ended far worse than it began")])
def test_values_with_which_the_whole_training_diverges_give_way_to_the_next_best(stable, given_up, lr, finite, why):
    """Until nothing is left: then the last stand, and the row says that it diverged."""
    found = chosen(Judge(near(8e-3), stable=stable, finite=finite), Tuning(GRID, extend=0))
    assert (found.configuration.values["lr"], found.tuning["edge"]) == (lr, ["lr"] if lr == 1e-3 else [])
    told = [(t["values"]["lr"], t["epochs"], t["score"]) for t in found.tuning["tried"] if t["reason"] == f"whole training: {why}"]
    assert told == [(rate, 100, None) for rate in given_up]


def test_a_seed_of_the_trials_cannot_be_reported():
    with pytest.raises(UserError, match="seed 1001 is one of those"):
        tune([spec(seeds=(0, 1001))], Tuning(GRID), {}, Judge(near(1.0)))


def test_a_choice_counts_for_the_same_problem_alone(tmp_path):
    tuning = Tuning(GRID)
    found = chosen(Judge(near(3e-3)), tuning)
    (tmp_path / "mine.tuning.json").write_text(written({"vae": found.tuning}))
    known = committed(tmp_path / "mine.toml")
    assert known == {"vae": dict(found.tuning)} and committed(tmp_path / "other.toml") == {}

    def chooses(one: RunSpec, how: Tuning = tuning) -> bool:
        (again,) = tune([one], how, known)
        return again.configuration.values["lr"] == 3e-3 and again.tuning == found.tuning

    assert chooses(spec()) and chooses(spec(epochs=7)) and chooses(spec(seeds=(4,)))
    assert not chooses(replace(spec(), dataset="mnist"))
    assert not chooses(replace(spec("vae[latent=3]"), configuration=replace(spec("vae[latent=3]").configuration, label="vae")))
    assert not any(chooses(spec(), other) for other in (Tuning({"lr": [1e-3]}), Tuning(GRID, share=0.5), Tuning(GRID, seeds="77,")))
    (tmp_path / "mine.tuning.json").write_text(written({"vae": {**found.tuning, "tried": 3}}))
    with pytest.raises(UserError, match=r"vae\.tried: Input should be a valid array"):
        committed(tmp_path / "mine.toml")


def test_trials_are_scored_on_validation_images_whatever_the_test_images_are():
    whole = load_dataset("digits").subset(100, 40)
    other = replace(whole, test=whole.test.flip(1))
    digests = {data.without_test().digest for data in (whole, other)}
    assert len(digests) == 1 and whole.digest != other.digest
    found = whole.without_test()
    assert torch.equal(found.test, whole.validation) and torch.equal(found.train, whole.train)
    assert found.labels is not None and whole.labels is not None and torch.equal(found.labels["test"], whole.labels["validation"])
    assert prepared("digits", VALIDATION.name).digest == load_dataset("digits").without_test().digest


@pytest.mark.parametrize("name", [*(name for name in MODELS if MODELS[name].players), "ae-gmm"])
def test_every_model_that_trains_has_a_score_to_be_chosen_by(name, monkeypatch):
    """Not its training: which metric is asked."""
    monkeypatch.setattr("vae_variants.evaluation.criterion.value_of", lambda m, e: SimpleNamespace(status="ok", metric=m))
    model = build(f"{name}[features=8]" if "features" in configure(name)[0].values else name, data := load_dataset("digits"))
    m = criterion(Evaluation(model, data, 0, VALIDATION)).metric
    density = "log_likelihood" in {n for n in METRICS if METRICS[n].asked_of(Evaluation(model, data, 0, VALIDATION))}
    assert m.name == ("log_likelihood" if density else "reconstruction_mse" if len(model.players) == 1 else "fd_cnn")
    assert m.better in ("higher", "lower")


def test_a_suite_is_tuned_on_real_runs_and_a_second_call_makes_none(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'dataset = "digits"\nseeds = 1\nruns = [{ variants = ["vae[hidden=8,latent=2]", "ae[hidden=8,latent=2]"] }]\n'
        '[schedule]\nepochs = 4\nkeep = "best"\n[tuning]\ngrid = { lr = [1e-9, 3e-3] }\nshare = 0.5\nseeds = "1000,"\n'
    )
    store, counts = Store(tmp_path / "runs"), list[int]()

    def execute(trials: list[RunSpec]) -> Sequence[Any]:
        before = {record.key for _, record in store.records()}
        found = run_all(trials, store, CPU)
        counts.append(len({record.key for record in found} - before))
        return found

    suite = load_suite(str(tmp_path / "mine.toml"))
    plans = [suite.plan(execute=execute) for _ in range(2)]
    assert plans[0] == plans[1] and counts == [4, 2, 0, 0], "trials, then the runs themselves"
    assert [s.configuration.values["lr"] for s in plans[0]] == [3e-3, 3e-3]
    assert [s.tuning["metric"] for s in plans[0]] == ["log_likelihood", "reconstruction_mse"]
    (first, second) = (run_all(plans[0], store, CPU) for _ in range(2))
    assert [r.tuning for r in first] == [dict(s.tuning) for s in plans[0]] and first == second
    assert [s.configuration.values["lr"] for s in suite.plan(execute=execute, tune="none")] == ["auto", "auto"]
    assert suite.plan() == suite.plan(fidelity="full", tune="again") == suite.plan(tune="none")  # without trials nothing is chosen
    changed = replace(plans[0][0], tuning={**plans[0][0].tuning, "edge": ["lr"]})
    (record,) = run_all([changed], store, CPU)
    assert record.tuning["edge"] == ["lr"] and record.rows == first[0].rows
    assert store.get(changed, record.key) == record
