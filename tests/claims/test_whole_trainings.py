"""What the study of one sample says of a training to the end, from its curves alone."""

from __future__ import annotations

import pytest

from bench.claims.one_sample.settings import WHOLE, Comparison, Setting
from bench.claims.one_sample.training import Experiment


@pytest.mark.parametrize(("step", "said"), [(1.0, "yes"), (0.0, "")])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_a_training_that_still_gains_at_its_end_has_not_converged(monkeypatch, objective, step, said):
    curve = [-100 + step * epoch for epoch in range(20)]
    experiment = Experiment.__new__(Experiment)
    monkeypatch.setattr(experiment, "images", lambda _: 1000, raising=False)
    monkeypatch.setattr(experiment, "curves", lambda _: {"validation_log_prob": [curve, curve]}, raising=False)
    whole, short = (Setting(8, 100, 1e-3, 20, "cosine", objective, whole=whole) for whole in (True, False))
    told = [experiment.described(Comparison(WHOLE, setting), {setting: 0}) for setting in (whole, short)]
    assert [row["not converged"] for row in told] == [said, ""]
    assert [row["updates"] for row in told] == [200, 200]
