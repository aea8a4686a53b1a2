"""Values of estimators of the ELBO: a linear VAE whose moments are known, and planted values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import Tensor

from bench.claims.one_sample import estimators
from bench.claims.one_sample.estimators import (
    FrozenModel,
    Spread,
    ages,
    batch_formula,
    bias,
    by_batch,
    by_samples,
    frozen_models,
    sampled,
    slope,
    some_images,
)
from vae_variants.checks.linear_gaussian import W1, W2, linear_vae
from vae_variants.harness import Store
from vae_variants.models.draws import Draws
from vae_variants.models.likelihoods import Bernoulli, GaussianLearnt
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.models.vae import VAE
from vae_variants.studies import Lab
from vae_variants.training.batches import derive_seed

F64 = {"dtype": torch.float64}
FIXTURE = 1.0135490315076114  # Var log p(x | z) at the posterior of the fixture W2


# -- the fixture -------------------------------------------------------------------------------------------------------------


def test_both_estimators_have_the_moments_of_the_fixture() -> None:
    """At the posterior log w is log p(x), whatever z; log p(x | z) varies by the closed form."""
    model, x, log_p = linear_vae(W2)
    a, b = sampled(model, x.expand(150, -1), 4000)  # more images than are done at a time
    assert a.shape == b.shape == (4000, 150)
    assert Spread.of(a).within.max() < 1e-20
    assert (a - log_p).abs().max() < 1e-10
    found = Spread.of(b)
    assert found.sigma_w2 == pytest.approx(FIXTURE, rel=0.01)
    assert (found.mean - log_p).mean().item() == pytest.approx(0, abs=5 * math.sqrt(FIXTURE / 6e5))
    assert abs(found.sigma_b2) < 1e-3  # one image, again and again


# -- planted values --------------------------------------------------------------------------------------------------------


def planted(draws: int, images: int, between: float, within: float) -> Tensor:
    """Images of mean 7 and a known variance (exact for these images), draws of a known variance around them."""
    centre = torch.randn(images, **F64)
    centre = (centre - centre.mean()) / centre.std() * math.sqrt(between)
    return 7 + centre + math.sqrt(within) * torch.randn(draws, images, **F64)


def test_within_and_between_are_those_that_were_planted() -> None:
    found = Spread.of(planted(400, 500, 2.0, 6.0))
    assert found.sigma_w2 == pytest.approx(6.0, rel=0.02)
    assert found.sigma_b2 == pytest.approx(2.0, rel=0.05)
    assert found.ratio == pytest.approx(3.0, rel=0.06)
    assert Spread.of(planted(4, 20_000, 2.0, 6.0)).sigma_b2 == pytest.approx(2.0, rel=0.1)  # 3.5 with the draws left in


def test_the_variance_falls_with_samples_and_not_with_correlated_ones() -> None:
    values = planted(1000, 300, 5.0, 3.0)
    found = by_samples(values, (1, 2, 4, 8, 16, 32, 64))
    assert found[1] == pytest.approx(3.0, rel=0.02)
    assert slope(found) == pytest.approx(-1, abs=0.03)
    same = values[:250].repeat_interleave(4, 0)  # each draw four times
    repeated = by_samples(same, (1, 4, 16))
    assert repeated[4] == pytest.approx(repeated[1], rel=0.02)
    assert slope({k: k**-0.5 for k in (1, 4, 16)}) == pytest.approx(-0.5)


def test_the_variance_of_minibatches_is_the_formula() -> None:
    values = planted(400, 200, 2.0, 6.0)
    expected = Spread.of(values[:200])
    for k in (1, 4, 16):
        measured = by_batch(values[200:], (1, 4, 64), k, 30_000)
        for b, variance in measured.items():
            assert variance == pytest.approx(batch_formula(expected, b, k), rel=0.06)
            assert variance == pytest.approx((2.0 * 199 / 200 + 6.0 / k) / b, rel=0.08)
        assert slope(measured) == pytest.approx(-1, abs=0.03)


# -- bias --------------------------------------------------------------------------------------------------------------------


def test_the_elbo_of_k_draws_has_no_bias_and_a_wrong_one_has() -> None:
    model, x, _ = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.3, -0.2, 0.4, -0.3], **F64)  # not the posterior: both estimators vary
    x = torch.cat([x, model.simulate(199)[0].detach()])
    a, b = sampled(model, x, 500)
    for values, name in ((a, "elbo-sampled"), (b, "elbo")):
        reference = Spread.of(values)
        for k, repeats in ((1, 16), (8, 4)):
            error, standard = bias(OBJECTIVES[name], model, x, reference, k, repeats)
            assert abs(error) < 4 * standard < 0.3
        first, fourth = (bias(OBJECTIVES[name], model, x, reference, k, 1)[1] for k in (1, 4))
        assert first / fourth == pytest.approx(2, rel=0.01)

    def added_up(d: Draws) -> Tensor:
        return d.kl - d.log_px.sum(0)

    error, standard = bias(added_up, model, x, Spread.of(b), 8, 4)
    assert abs(error) > 50 * standard
    error, standard = bias(OBJECTIVES["iwae"], model, x, Spread.of(a), 8, 4)  # another objective: above the ELBO
    assert error > 5 * standard


def test_z_is_standard_normal() -> None:
    """The standard error is that of the error: neither draws nor images are counted twice."""
    model, x, _ = linear_vae(W1)
    x = torch.cat([x, model.simulate(9)[0].detach()])
    z = []
    for _ in range(200):
        reference = Spread.of(sampled(model, x, 60)[1])
        error, standard = bias(OBJECTIVES["elbo"], model, x, reference, 4, 3)
        z.append(error / standard)
    assert torch.tensor(z).std().item() == pytest.approx(1, abs=0.2)
    assert abs(sum(z) / 200) < 4 / math.sqrt(200)


def test_ages_are_different_models() -> None:
    assert ages(30) == {"early": 1, "middle": 10, "final": 30}
    assert ages(2) == {"early": 1, "final": 2}
    assert ages(1) == {"final": 1}


# -- from models to figures --------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab("digits", "smoke", None, Store(tmp_path / "runs"), torch.device("cpu"))


def planted_models(lab: Lab) -> Iterator[FrozenModel]:
    """Untrained models in place of trained ones."""
    for name, likelihood in (("vae-latent-50", Bernoulli()), ("vae-gaussian-learnt", GaussianLearnt())):
        for seed in range(3):
            torch.manual_seed(derive_seed(name, seed))
            yield FrozenModel(name, "final", 1, seed, VAE(lab.dataset.shape, likelihood, latent=2, hidden=(8,)))


def test_what_is_measured_can_be_judged_and_repeated(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "frozen_models", planted_models)
    found = estimators.measure(lab)
    torch.manual_seed(99)  # of no concern
    monkeypatch.setattr(estimators, "frozen_models", lambda lab: islice(planted_models(lab), 1))
    for name, table in estimators.measure(lab).items():
        assert len(table) and np.isfinite(found[name].select_dtypes("number")).all(axis=None)
        assert_frame_equal(table, found[name].iloc[: len(table)])
    effects, sentences = estimators.judge(found)
    assert effects and all(math.isfinite(e.value) for e in effects) and all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.slow
def test_the_frozen_models_are_trained_to_each_age(lab: Lab) -> None:
    found = list(frozen_models(lab, ("vae-latent-2",)))
    assert [(s.age, s.epochs, s.seed) for s in found] == [(age, n, seed) for age, n in (("early", 1), ("final", 2)) for seed in range(3)]
    early, final = (s.model.encoder[0].weight for s in (found[0], found[3]))
    assert not torch.equal(early, final)
    plain = lab.configurations("vae-latent-2")[0].with_defaults(decay="constant", keep="last")
    assert torch.equal(final, lab.models(plain, (0, 1, 2))[0].get_parameter("encoder.0.weight"))
    assert set(some_images(lab, found[0].model, 10).unique().tolist()) <= {0.0, 1.0}
