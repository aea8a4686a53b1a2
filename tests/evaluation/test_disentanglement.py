"""Metrics of disentanglement: of which data and models they are asked, and what a record keeps of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.evaluation.test_evaluation import linear_evaluation
from vae_variants.checks.linear_gaussian import W1
from vae_variants.datasets import Dataset, load_dataset
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, evaluate
from vae_variants.evaluation.disentanglement import unit_information
from vae_variants.evaluation.units import Variance
from vae_variants.harness.measured import score
from vae_variants.models.references import PCA
from vae_variants.variants import build

NAMES = {m.name for m in METRICS.values() if m.module.endswith(".disentanglement")}
ASKED = [METRICS[name] for name in sorted(NAMES)]


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return load_dataset("sprites?size=16").subset(600, 400)


def evaluation(selector: str, data: Dataset) -> Evaluation:
    return Evaluation(build(selector, data).eval().requires_grad_(False), data, 0, FIDELITIES["smoke"])


def given(data: Dataset, codes: dict[str, torch.Tensor], active: torch.Tensor) -> Evaluation:
    """An evaluation of a VAE with these latents, of which some units are active."""
    e = evaluation("vae[hidden=8,latent=3]", data)
    e.codes = codes
    e.variances = {name: Variance(active.double(), torch.ones(len(active)).double()) for name in codes}
    return e


def factors(data: Dataset) -> dict[str, torch.Tensor]:
    return {name: values.double() for name, values in data.factors.values.items()}


def test_they_are_asked_only_of_data_with_factors(drawn: Dataset, digits: Dataset):
    pca = PCA(drawn.shape, latent=4)
    pca.initialise(drawn.grey("train"))
    found = {v.metric: v for v in evaluate(Evaluation(pca, drawn, 0, FIDELITIES["smoke"]), ASKED)}
    assert found.keys() == NAMES - {"unit_marginal_kl"}
    assert all(v.status == "ok" for v in found.values())
    assert found["gaussian_total_correlation"].value == pytest.approx(0, abs=0.05)
    assert found["mcc"].value > 0.3, "places are nearly linear in the first components"
    small = digits.subset(100, 40)
    assert not evaluate(evaluation("vae[hidden=8]", small), ASKED)


def test_perfect_latents_of_sprites_are_perfect_and_inactive_units_take_no_part(drawn: Dataset):
    codes = {name: torch.cat([v, 100 * v.flip(0)], 1) for name, v in factors(drawn).items()}
    e = given(drawn, codes, torch.tensor([1] * 5 + [0] * 5))
    found = {v.metric: v.value for v in evaluate(e, ASKED) if v.metric != "unit_marginal_kl"}
    low = {
        "mig": 0.85,
        "mig_corrected": 0.96,
        "sap": 0.97,
        "modularity": 0.97,
        "explicitness": 0.95,
    }  # the best other unit has a little by chance
    for name in NAMES - {"gaussian_total_correlation", "unit_marginal_kl"}:
        assert low.get(name, 0.98) <= found[name] <= 1 + 1e-9, name
    shares = unit_information(e)
    assert list(shares) == list(drawn.factors.names)
    table = np.array(list(shares.values()))
    assert table.shape == (5, 10) and (table[:, 5:] == 0).all()
    assert table.diagonal().tolist() == pytest.approx([1.0] * 5, abs=1e-6)


def test_a_collapsed_model_is_at_the_level_of_chance(drawn: Dataset):
    e = given(drawn, {name: 1e-9 * v[:, :3] for name, v in factors(drawn).items()}, torch.zeros(3))
    found = {v.metric: v for v in evaluate(e, ASKED) if v.metric != "unit_marginal_kl"}
    assert all(v.status == "ok" for v in found.values())
    zero = ("mig", "mig_corrected", "sap", "dci_disentanglement", "dci_completeness", "modularity", "irs", "mcc", "factor_vae_score")
    assert all(found[name].value == 0 for name in (*zero, "gaussian_total_correlation"))
    assert found["beta_vae_score"].value == pytest.approx(0.2, abs=0.03)
    assert found["explicitness"].value == 0.5
    assert unit_information(e) == {name: [0.0] * 3 for name in drawn.factors.names}


def test_chance_is_the_same_for_every_model(drawn: Dataset):
    first, again, other = (given(drawn, factors(drawn), torch.ones(5)) for _ in range(3))
    other.seed = 1
    noise = torch.randn(600, 5, generator=torch.Generator().manual_seed(0)).double()
    for e in (first, again, other):
        e.codes = {name: v + 4 * noise[: len(v)] for name, v in factors(drawn).items()}
    values = [[METRICS[name].fn(e) for name in ("beta_vae_score", "factor_vae_score")] for e in (first, again, other)]
    assert values[0] == values[1] != values[2]


def test_a_model_that_was_told_classes_is_not_asked(drawn: Dataset):
    found = evaluate(evaluation("m2[hidden=8]", drawn), ASKED)
    assert {v.status for v in found if v.metric != "unit_marginal_kl"} == {"skipped"}
    assert unit_information(evaluation("m2[hidden=8]", drawn)) == {}


def test_a_record_keeps_what_each_unit_tells_of_each_factor(drawn: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vae_variants.harness.measured.evaluate", lambda *_: [])
    monkeypatch.setattr("vae_variants.harness.measured.classifier", lambda *_: (SimpleNamespace(digest=""), 0.0))
    found: dict = {"rows": [], "series": {}}
    score(evaluation("vae[hidden=8,latent=3]", drawn), found)
    names = {f"information/{name}" for name in ("shape", "scale", "orientation", "y", "x")}
    assert found["series"].keys() == {"kl_units", *names}
    assert all(len(found["series"][name]["0"]) == 3 for name in names)


def test_the_marginal_kl_of_gaussian_units_is_its_formula():
    e, _ = linear_evaluation(W1)
    e.test = 2 * torch.randn(1500, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64)
    mean, scale = e.model.moments(e.test)
    centre, variance = mean.mean(0), mean.var(0) + scale.square().mean(0)
    expected = 0.5 * (variance + centre.square() - 1 - variance.log()).sum().item()
    found = METRICS["unit_marginal_kl"].fn(e)
    assert found == pytest.approx(expected, rel=0.2)
    assert expected > 0.2
