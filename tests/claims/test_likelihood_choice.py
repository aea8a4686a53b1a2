"""The choice of the likelihood: what each minimises, with known answers, and the verdict on planted tables."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.claims.likelihood_choice import (
    AVERAGED,
    BERNOULLI,
    LEARNT,
    SCORES,
    LikelihoodChoice,
    equivalence_error,
    inversions,
    minimiser,
    row_of,
)
from vae_variants.datasets import Dataset
from vae_variants.evaluation import Evaluation, fidelity
from vae_variants.harness import Store
from vae_variants.models.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian
from vae_variants.models.objectives import beta
from vae_variants.models.vae import VAE
from vae_variants.studies import Lab, Verdict


def test_both_likelihoods_are_least_at_the_mean_and_another_is_not() -> None:
    x = torch.rand(40, 6)
    binary = (x < torch.tensor([0.1, 0.3, 0.5, 0.6, 0.8, 0.95])).double()
    moving = (binary.mean(0) > 0) & (binary.mean(0) < 1)
    assert torch.allclose(minimiser(Bernoulli(), binary[:, moving]), binary[:, moving].mean(0), atol=1e-12)
    assert torch.allclose(minimiser(Gaussian(0.3), x), x.double().mean(0), atol=1e-12)
    skewed = torch.tensor([[0.0], [0.0], [1.0]])
    assert minimiser(Gaussian(1.0), skewed).item() == pytest.approx(1 / 3)  # neither the median nor the middle
    assert minimiser(ContinuousBernoulli(), skewed).item() == pytest.approx(1 / 3, abs=1e-6)  # its law's mean, not its parameter


def model(sigma: float) -> VAE:
    torch.manual_seed(3)
    return VAE((1, 2, 3), Gaussian(sigma), latent=2, hidden=(4,)).double()


@pytest.mark.parametrize("sigma", [0.05, 0.7, 3.0])
def test_sigma_is_a_weight_of_the_kl(sigma: float) -> None:
    x = torch.rand(5, 6, dtype=torch.float64)
    assert equivalence_error(model(sigma), x, sigma) < 1e-12
    assert equivalence_error(model(sigma), x, 1.5 * sigma) > 1e-3


def test_beta_is_two_sigma_squared() -> None:
    """The gradient of SSE + beta KL with the objective of that name: of a decoder with sigma = sqrt(1/2), for which nats are SSE."""
    x, sigma = torch.rand(5, 6, dtype=torch.float64), 0.3
    first, second = model(sigma), model(math.sqrt(0.5))
    torch.manual_seed(1)
    draws = first.infer(x, 1, torch.ones(()))
    a = torch.autograd.grad((draws.kl - draws.log_px.mean(0)).mean(), list(first.parameters()))
    torch.manual_seed(1)
    b = torch.autograd.grad(partial(beta, beta=2 * sigma**2)(second.infer(x, 1, torch.ones(()))).mean(), list(second.parameters()))
    for one, other in zip(a, b, strict=True):
        assert torch.allclose(2 * sigma**2 * one, other, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 5.0])
def test_the_squared_error_is_that_of_the_decoder(sigma: float, tiny: Dataset) -> None:
    decoder = VAE(tiny.shape, Gaussian(sigma), latent=2, hidden=(4,)).requires_grad_(False)
    e = Evaluation(decoder, tiny, 5, fidelity("smoke"))
    with e.noise("elbo"):
        draws = decoder.infer(e.test, e.fidelity.elbo_samples, torch.ones(()))
    wanted = (e.test - decoder.decode(draws.z)).square().sum(-1).mean().item()
    found = row_of(e)
    assert found["squared error"] == pytest.approx(wanted, rel=1e-3)
    assert found["−SSE / 2σ² − KL"] == pytest.approx(-wanted / (2 * sigma**2) - found["rate"], rel=1e-3)


def test_the_mean_over_pixels_is_a_wide_decoder() -> None:
    """SSE / D + KL has the gradient of the ELBO at sigma = sqrt(D / 2)."""
    x, h = torch.rand(3, 50).double(), torch.rand(3, 50, dtype=torch.float64, requires_grad=True)
    (a,) = torch.autograd.grad(-Gaussian(math.sqrt(25)).log_prob(h, x).sum(), h)
    (b,) = torch.autograd.grad((x - h).square().mean(-1).sum(), h)
    assert torch.allclose(a, b, atol=1e-12)


SIGMAS = {"Gaussian, σ = 0.1": 0.1, "Gaussian, σ = 1": 1.0}


def planted(
    seeds: int = 3, errors: tuple[float, ...] = (0.012, 0.01, 0.03, 0.013, 0.06), identity: float = 1e-15, spread: float = 0.0002
) -> dict[str, pd.DataFrame]:
    """Tables of five decoders with those squared errors: Bernoulli, sigma of 0.1 and 1, learnt, and the mean over pixels."""
    rows = []
    names = (BERNOULLI, *SIGMAS, LEARNT, AVERAGED)
    for name, error in zip(names, errors, strict=True):
        for seed in range(seeds):
            sigma = None if name == BERNOULLI else SIGMAS.get(name, 0.11 if name == LEARNT else 5.0)
            score = None if sigma is None else -100 * error - seed
            rows.append(
                {
                    "decoder": name,
                    "seed": seed,
                    "σ": sigma,
                    "MSE per pixel": error + spread * seed * (1 if name == LEARNT else 0),
                    "rate": 0.001 * seed if name == AVERAGED else 10.0,
                    "active units": 0 if name == AVERAGED else 5,
                    "ELBO": -seed - (sigma or 0.0),
                    "−SSE − KL": score,
                    "−SSE / 2σ² − KL": None if sigma is None else sigma,
                }
            )
    minimum = [{"likelihood": "Bernoulli", "what": "identity", "error": identity, "n": 50, "of": "pixels"}]
    return {"minimum": pd.DataFrame(minimum), "decoders": pd.DataFrame(rows)}


def test_verdicts() -> None:
    judge, alike = LikelihoodChoice().judge, (0.0101, 0.01, 0.0102, 0.0103, 0.06)
    assert judge(planted()).verdict is Verdict.CONDITIONAL  # a large sigma reconstructs worse
    assert judge(planted(errors=alike)).verdict is Verdict.SUPPORTED  # the mean over pixels is not judged
    assert judge(planted(errors=(0.02, 0.03, 0.01, 0.01, 0.06))).verdict is Verdict.REFUTED  # worse with a small sigma: no condition
    assert judge(planted(errors=alike, identity=1e-3)).verdict is Verdict.REFUTED
    assert judge(planted(identity=1e-3)).verdict is Verdict.REFUTED
    assert judge(planted(errors=(0.0101, 0.01, 0.0102, 0.0108, 0.06))).verdict is Verdict.INCONCLUSIVE
    assert judge(planted(seeds=2)).verdict is Verdict.INCONCLUSIVE
    assert judge(planted(seeds=2, errors=alike)).verdict is Verdict.INCONCLUSIVE
    effects = {(e.where["decoder"], e.where["what"]): e.value for e in judge(planted()).effects}
    assert effects["Gaussian, σ = 1", "MSE above that of Gaussian, σ = 0.1"] == pytest.approx(2.0)
    assert effects[AVERAGED, "rate: has it collapsed?"] == pytest.approx(0.001)


def test_parts_that_are_missing_are_not_supported() -> None:
    judge, tables, empty = LikelihoodChoice().judge, planted(errors=(0.0101, 0.01, 0.0102, 0.0103, 0.06)), pd.DataFrame()
    assert judge(tables).verdict is Verdict.SUPPORTED
    assert judge({}).verdict is Verdict.INCONCLUSIVE
    assert judge(dict.fromkeys(tables, empty)).verdict is Verdict.INCONCLUSIVE
    assert judge({**tables, "minimum": empty}).verdict is Verdict.INCONCLUSIVE
    assert judge({**planted(), "minimum": empty}).verdict is Verdict.INCONCLUSIVE
    for name in (BERNOULLI, LEARNT, "Gaussian, σ = 1"):
        fewer = tables["decoders"][tables["decoders"]["decoder"] != name]
        assert judge({**tables, "decoders": fewer}).verdict is Verdict.INCONCLUSIVE, name
    one = tables["decoders"][tables["decoders"]["decoder"] == AVERAGED]
    assert judge({**tables, "decoders": one}).verdict is Verdict.INCONCLUSIVE


def test_inversions() -> None:
    tables = planted()
    assert inversions(tables["decoders"], "−SSE / 2σ² − KL") == pytest.approx([1.0, 1.0, 1.0])
    found = inversions(tables["decoders"], "−SSE − KL")
    assert found[0] == pytest.approx(0.0)  # errors grow with sigma here, but for the learnt one, whose sigma is between
    assert inversions(tables["decoders"].head(1), SCORES[0]) == []


def test_on_digits(tmp_path: Path) -> None:
    lab = Lab("digits", "smoke", (0, 1), Store(tmp_path), torch.device("cpu"))
    study = LikelihoodChoice()
    found = study.measure(lab)
    table = found.tables["decoders"]
    assert study.judge(found.tables).verdict is Verdict.INCONCLUSIVE
    assert found.tables["minimum"]["error"].max() < 1e-9
    for row in table.dropna(subset="σ").to_dict("records"):
        constant = 64 * (math.log(row["σ"]) + 0.5 * math.log(2 * math.pi))
        assert row["ELBO"] == pytest.approx(row["−SSE / 2σ² − KL"] - constant, abs=1e-3)
        assert row["σ that would suit"] == pytest.approx(math.sqrt(row["squared error"] / 64), rel=1e-6)
    assert table.loc[table["decoder"] == AVERAGED, "σ"].tolist() == pytest.approx([math.sqrt(32)] * 2, rel=1e-5)
    assert table["MSE, binarised images encoded"].notna().tolist() == (table["decoder"] == BERNOULLI).tolist()
    (picture,) = study.draw(found)
    titles = [ax.get_title() for ax in picture.figure.axes]
    assert all("(" in title for title in titles) and sum("nats" in title for title in titles) == 2  # each with its unit
