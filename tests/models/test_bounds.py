"""Objectives beside known answers: a linear-Gaussian model, and weights whose bias is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vae_variants.checks.linear_gaussian import W1, W2, draws, linear_vae
from vae_variants.models.draws import Draws
from vae_variants.models.objectives import elbo, elbo_sampled, iwae


def test_the_fixtures_are_those_of_the_literature_of_this_project() -> None:
    assert linear_vae(W1)[2] == pytest.approx(-11.587021175172655, abs=1e-10)
    assert linear_vae(W2)[2] == pytest.approx(-10.442695791953048, abs=1e-10)


def test_bounds_touch_log_p_at_the_true_posterior() -> None:
    model, x, exact = linear_vae(W2)
    for k in (1, 5, 50):
        d = draws(model, x, k)
        torch.testing.assert_close(d.log_w, torch.full_like(d.log_w, exact), atol=1e-9, rtol=0)
        assert -iwae(d).item() == pytest.approx(exact, abs=1e-9)
        assert -elbo_sampled(d).item() == pytest.approx(exact, abs=1e-9)


def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior() -> None:
    model, x, exact = linear_vae(W1)
    found = -elbo(draws(model, x, 2_000_000)).item()
    assert exact - found == pytest.approx(0.0020876857052405384, abs=0.01)
    sampled = draws(model, x, 2_000_000).log_w
    assert exact - sampled.mean().item() == pytest.approx(0.0020876857052405384, abs=5 * sampled.std().item() / 2e6**0.5)


def test_iwae_of_one_sample_is_the_sampled_elbo_and_grows_with_k() -> None:
    model, x, exact = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.3, -0.3, 0.4, 0.4], dtype=torch.float64)
    d = draws(model, x.expand(4000, -1), 1)
    torch.testing.assert_close(iwae(d), elbo_sampled(d))
    values = [-iwae(draws(model, x.expand(4000, -1), k)).mean().item() for k in (1, 4, 16, 64)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(exact, abs=0.02)


def given(log_w: Tensor) -> Draws:
    zero = torch.zeros_like(log_w)
    return Draws(log_w, zero, zero, zero[0], zero[0].unsqueeze(-1), zero.unsqueeze(-1), torch.ones(()))


@pytest.mark.parametrize(("k", "expected"), [(1, -0.577216), (2, -0.270363), (5, -0.103320), (10, -0.050833)])
def test_iwae_has_the_known_bias_on_exponential_weights(k: int, expected: float) -> None:
    log_w = torch.empty(k, 400_000, dtype=torch.float64).exponential_().log()
    value = -iwae(given(log_w))
    assert value.mean().item() == pytest.approx(expected, abs=5 * value.std().item() / 400_000**0.5)


def test_more_samples_do_not_move_the_elbo() -> None:
    model, x, _ = linear_vae(W1)
    one, many = (-elbo(draws(model, x.expand(20_000, -1), k)) for k in (1, 8))
    spread = math.hypot(one.std().item(), many.std().item()) / math.sqrt(20_000)
    assert abs(one.mean().item() - many.mean().item()) < 4 * spread
    assert many.std().item() == pytest.approx(one.std().item() / math.sqrt(8), rel=0.05)


def test_the_closed_form_kl_is_the_sampled_one() -> None:
    model, x, _ = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.5, -0.5, 0.4, 0.8], dtype=torch.float64)
    d = draws(model, x, 400_000)
    sampled = (d.log_qz - d.log_pz).squeeze(1)
    assert sampled.mean().item() == pytest.approx(d.kl.item(), abs=5 * sampled.std().item() / 400_000**0.5)
    torch.testing.assert_close(d.kl_units.sum(-1), d.kl)
