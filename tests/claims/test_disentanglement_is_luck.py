"""The study of seeds against methods: its variances, its interval, and its verdict on planted tables."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from bench.claims.disentanglement_is_luck import DATA, SCORES, Luck, of_seeds, share
from vae_variants.harness import Store
from vae_variants.harness.suites import fitting
from vae_variants.studies import Findings, Lab, Verdict, table

CPU = torch.device("cpu")


def drawn(between: float, within: float, methods: int = 11, seeds: int = 5, chance: int = 0) -> np.ndarray:
    rng = np.random.default_rng(chance)
    return 0.5 + between * rng.normal(size=(methods, 1)) + within * rng.normal(size=(methods, seeds))


def planted(values: dict[str, np.ndarray]) -> pd.DataFrame:
    one = next(iter(values.values()))
    rows = [{"method": f"m{i}", "seed": j, **{m: float(v[i, j]) for m, v in values.items()}} for i, j in np.ndindex(one.shape)]
    return table("scores", rows)


def judged(between: dict[str, float], within: float = 0.1, **sizes: int):
    chances = {metric: i for i, metric in enumerate(SCORES)}
    return Luck().judge({"scores": planted({m: drawn(between[m], within, chance=chances[m], **sizes) for m in SCORES})})


def test_the_share_is_that_of_an_analysis_of_variance():
    values = drawn(0.2, 0.1)
    long = pd.DataFrame([(i, v) for i, row in enumerate(values) for v in row], columns=["method", "value"])
    grand, means = long["value"].mean(), long.groupby("method")["value"].transform("mean")
    inside = ((long["value"] - means) ** 2).sum() / (55 - 11)
    levels = ((means - grand) ** 2).sum() / (11 - 1)
    expected = inside / (inside + (levels - inside) / 5)
    assert of_seeds(values)[0] == pytest.approx(expected, rel=1e-12)
    assert of_seeds(np.tile(np.arange(3.0)[:, None], 4)) == (0.0, 0.0, 0.0)
    assert of_seeds(drawn(0.0, 0.1, methods=200, seeds=20))[0] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("between", [0.05, 0.1, 0.3])
def test_the_interval_covers_the_true_share_as_often_as_it_says(between: float):
    truth = 0.01 / (0.01 + between**2)
    found = [of_seeds(drawn(between, 0.1, chance=i)) for i in range(1500)]
    inside = np.mean([low <= truth <= high for _, low, high in found])
    assert inside == pytest.approx(0.95, abs=0.02)


def test_seeds_methods_or_both_decide():
    assert judged(dict.fromkeys(SCORES, 0.0), methods=30).verdict == Verdict.SUPPORTED
    assert judged(dict.fromkeys(SCORES, 0.5)).verdict == Verdict.REFUTED
    assert judged({m: 0.5 * (m == "sap") for m in SCORES}, methods=30).verdict == Verdict.CONDITIONAL
    assert judged(dict.fromkeys(SCORES, 0.1)).verdict == Verdict.INCONCLUSIVE
    for few in ({"seeds": 1}, {"methods": 2}, {"seeds": 2}):
        assert judged(dict.fromkeys(SCORES, 0.0), **few).verdict == Verdict.INCONCLUSIVE


def test_seeds_that_a_method_lacks_are_left_out_for_all():
    values = drawn(0.1, 0.1)
    scores = planted(dict.fromkeys(SCORES, values))
    scores.loc[(scores["method"] == "m3") & (scores["seed"] == 4), "sap"] = None
    found, whole = share(scores, "sap"), share(scores, "modularity")
    assert (found.n, whole.n) == (4, 5)
    assert found.value == pytest.approx(of_seeds(values[:, :4])[0])


def test_data_with_factors_are_measured_themselves_and_their_suite_is_that_of_disentanglement(tmp_path, monkeypatch):
    asked: list[tuple[str, list[str]]] = []

    def records(lab: Lab, labels: list[str], seeds: int | None = None) -> dict[str, SimpleNamespace]:
        asked.append((lab.name, labels))
        values = iter(np.random.default_rng(0).random(1000).tolist())
        return {label: SimpleNamespace(seeds=range(3), value=lambda metric, seed: next(values)) for label in labels}

    monkeypatch.setattr(Lab, "records", records)
    for data in ("sprites?size=16", "digits"):
        found = Luck().measure(Lab(data, "quick", None, Store(tmp_path), CPU))
    (one, labels), (other, same) = asked
    assert (one, other) == ("sprites?size=16", DATA) and labels == same
    assert {"vae-bernoulli", "beta-vae-4[beta=16]", "dip-vae-ii"} <= set(labels) and "ae[latent=10]" not in labels
    assert not any(label.startswith("reference") for label in labels)
    scores = found.tables["scores"]
    assert DATA in scores.attrs["caption"] and len(scores) == 3 * len(labels)
    assert fitting("sprites?size=16") == "disentangle" and fitting("digits") == "digits"
    (picture,) = Luck().draw(Findings(found.tables))
    assert len(picture.figure.axes) == len(SCORES)
