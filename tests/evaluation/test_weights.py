"""Importance weights of known laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import digamma

from vae_variants.evaluation.weights import bound, effective_draws, jackknife, log_mean_exp, pareto_shape, variance


def exponential(k: int, b: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(k, b, dtype=torch.float64).exponential_(generator=generator).log()


@pytest.mark.parametrize("k", [1, 2, 5, 10, 50, 100])
def test_bounds_have_the_known_bias_on_exponential_weights(k):
    found = bound(exponential(100, 20_000), k)
    assert found.mean().item() == pytest.approx(digamma(k) - math.log(k), abs=5 * found.std().item() / 20_000**0.5)


def test_bounds_of_fewer_draws_are_means_over_blocks_of_draws():
    log_w = exponential(7, 3)
    expected = torch.stack([log_mean_exp(log_w[:3]), log_mean_exp(log_w[3:6])]).mean(0)
    torch.testing.assert_close(bound(log_w, 3), expected)
    torch.testing.assert_close(bound(log_w, 7), log_mean_exp(log_w))
    torch.testing.assert_close(bound(log_w, 1), log_w.mean(0))
    with pytest.raises(ValueError, match="8 draws"):
        bound(log_w, 8)


def test_effective_draws_and_variance_of_simple_weights():
    log_w = torch.tensor([[0.0, 0.0], [0.0, -1000.0], [0.0, -1000.0], [0.0, -1000.0]]) + 700
    torch.testing.assert_close(effective_draws(log_w), torch.tensor([4.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(variance(log_w), torch.tensor([0.0, 1.0], dtype=torch.float64))
    log_w = exponential(50, 40_000)
    assert variance(log_w).mean().item() == pytest.approx(log_mean_exp(log_w).var().item(), rel=0.05)


def test_the_jackknife_is_its_definition_and_takes_most_of_the_bias():
    log_w = exponential(6, 2)
    log_w[0, 1] += 200  # one draw has all the weight
    leave = torch.stack([log_mean_exp(torch.cat([log_w[:i], log_w[i + 1 :]])) for i in range(6)]).mean(0)
    torch.testing.assert_close(jackknife(log_w), 6 * log_mean_exp(log_w) - 5 * leave)
    log_w = exponential(50, 100_000)
    corrected = jackknife(log_w)
    assert abs(corrected.mean().item()) < 4 * corrected.std().item() / 100_000**0.5 + 1e-3
    assert bound(log_w, 50).mean().item() < -0.009


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_the_pareto_shape_is_found(shape):
    x = stats.genpareto.rvs(shape, size=(4000, 200), random_state=np.random.default_rng(1))
    found = pareto_shape(torch.from_numpy(x).log())
    # the tail of a generalised Pareto law has the same shape; a weak pull towards 0.5 is part of the method
    m = int(3 * math.sqrt(4000))
    assert found.mean().item() == pytest.approx((m * shape + 5) / (m + 10), abs=0.03)
    tail = np.sort(x[:, 0])[-m - 1 :]
    likely = stats.genpareto.fit(tail[1:] - tail[0], floc=0)[0]
    assert found[0].item() == pytest.approx((m * likely + 5) / (m + 10), abs=0.08)
    assert pareto_shape(torch.zeros(20, 3)).isnan().all()
    scaled = pareto_shape(torch.from_numpy(x).log() + 5000)
    torch.testing.assert_close(found, scaled)
