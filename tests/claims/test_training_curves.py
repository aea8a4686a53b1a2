"""The gain of K samples by epoch in the study `one-sample`: planted curves, and the suite's own trainings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch

from bench.claims.one_sample import curves
from bench.claims.one_sample.settings import WHOLE
from bench.claims.one_sample.training import OF_THE_SUITE, VARIANT, Experiment, by_epoch
from vae_variants.harness import Store
from vae_variants.studies.lab import Lab

EPOCHS, SEEDS = 40, 3


def planted(gain: Callable[[int], float], seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, pd.DataFrame]:
    """Curves of K = 1 and 8 whose difference is `gain(epoch)` in the mean over seeds, while seeds differ by far more."""
    one = {"budget": WHOLE, "K": 1, "run": 0, "against run": None}
    cells = pd.DataFrame([one, {**one, "K": 8, "run": 1, "against run": 0}, {**one, "K": 8, "run": 2, "against run": 0}])
    rows = [
        {"run": run, "seed": s, "epoch": n, "ELBO": -100 + 7 * s + run * (gain(n) + 0.3 * (s - 1))}
        for run, found in ((0, range(SEEDS)), (1, seeds))
        for s in found
        for n in range(1, EPOCHS + 1)
    ]
    return {"training_cells": cells, "training_curves": pd.DataFrame(rows)}


def test_k_stops_to_matter_where_its_gain_last_falls_below_the_margin() -> None:
    (curve,) = curves.curves(planted(lambda n: 20 / n))
    assert (curve.samples, list(curve.gains.columns)) == (8, [0, 1, 2])
    assert curve.gains.loc[30].mean() == pytest.approx(20 / 30, abs=0.02)
    assert curve.settled(1.0) == 21
    (curve,) = curves.curves(planted(lambda n: 3.0 if n == 25 else 0.0))  # a mean over two epochs
    assert curve.settled(1.0) == 27
    assert [c.settled(1.0) for c in curves.curves(planted(lambda n: 0.0))] == [1]
    assert [c.settled(1.0) for c in curves.curves(planted(lambda n: n / 10))] == [None]


def test_the_words_say_until_when_it_matters() -> None:
    assert curves.settled(planted(lambda n: 20 / n), 1.0) == {8: "from epoch 21 of 40 on less than 1"}
    assert curves.settled(planted(lambda n: 2.0), 1.0) == {8: "1 or more to the end"}
    assert curves.settled({}, 1.0) == {} and not curves.draw({}, 1.0)
    assert [picture.name for picture in curves.draw(planted(lambda n: 20 / n), 1.0)] == ["training-curve"]


def test_seeds_are_paired() -> None:
    (curve,) = curves.curves(planted(lambda n: 0.0, seeds=(2,)))
    assert list(curve.gains.columns) == [2] and curve.gains.loc[5, 2] == pytest.approx(0.3)
    assert not list(curves.curves(planted(lambda n: 0.0, seeds=(7,))))


def test_a_loss_of_many_samples_is_preferred_to_a_bound_of_one(tmp_path) -> None:
    experiment = Experiment(Lab("digits", "full", None, Store(tmp_path), torch.device("cpu")))
    one, many, other = experiment.of_the_suite(1), experiment.of_the_suite(8), experiment.of_the_suite(8, "iwae")
    assert by_epoch(many, {"validation_loss": [[3.0, None]], "validation_log_prob": [[-4.0, -5.0]]}, (5,)) == [
        {"seed": 5, "epoch": 1, "ELBO": -3.0}
    ]
    assert by_epoch(one, {"validation_log_prob": [[-4.0, -5.0]]}, (0,))[-1] == {"seed": 0, "epoch": 2, "ELBO": -5.0}
    assert not by_epoch(other, {"validation_loss": [[3.0]]}, (0,))


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_trainings_to_the_end_are_those_of_the_suite(data: str, tmp_path, request: pytest.FixtureRequest) -> None:
    """Their key is that of the suite's run, so that its models are taken from the store, each with its own tuned rate."""
    request.getfixturevalue(data)
    lab = Lab(data, "full", None, Store(tmp_path), torch.device("cpu"))
    experiment = Experiment(lab)
    for objective, name in OF_THE_SUITE.items():
        for k in experiment.plan.whole:
            label = VARIANT if k == 1 else f"{name}-{k}"
            (spec,) = lab.specs(label, None)
            setting = experiment.of_the_suite(k, objective)
            mine = replace(spec, configuration=experiment.configuration(setting), dataset=experiment.data_name(setting))
            assert replace(mine, seeds=experiment.seeds_of(setting)).training_key() == spec.training_key()
