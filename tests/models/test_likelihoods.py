"""Likelihoods beside known answers: torch.distributions, differences of distribution functions, a constant."""

from __future__ import annotations

import math

import pytest
import torch

from vae_variants.checks.likelihood import LEVELS, logits, make
from vae_variants.models.likelihoods import LIKELIHOODS, Gaussian

ORACLES = {
    "bernoulli": lambda m, h: torch.distributions.Bernoulli(logits=h),
    "continuous-bernoulli": lambda m, h: torch.distributions.ContinuousBernoulli(logits=h, lims=(0.4999, 0.5001)),
    "gaussian": lambda m, h: torch.distributions.Normal(h, m.sigma),
    "gaussian-learnt": lambda m, h: torch.distributions.Normal(h, m.log_sigma.exp()),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_likelihood_agrees_with_torch_distributions(name: str) -> None:
    likelihood = make(name)
    if name == "gaussian":
        likelihood = Gaussian(0.3)
    if name == "gaussian-learnt":
        torch.nn.init.constant_(likelihood.weight, -0.7)
    h = logits(likelihood, 50, pixels=3)
    x = likelihood.sample(h).detach()
    law = ORACLES[name](likelihood, h)
    torch.testing.assert_close(likelihood.log_prob(h, x), law.log_prob(x).sum(-1), atol=1e-7, rtol=1e-9)
    torch.testing.assert_close(likelihood.mean(h), law.mean, atol=1e-7, rtol=1e-7)


def test_categorical_agrees_with_torch_distributions() -> None:
    likelihood = make("categorical")
    h = logits(likelihood, 50, pixels=3)
    x = likelihood.sample(h)
    law = torch.distributions.Categorical(logits=h.reshape(50, 3, LEVELS))
    torch.testing.assert_close(likelihood.log_prob(h, x), law.log_prob((x * (LEVELS - 1)).round()).sum(-1))


def test_discretized_logistic_is_a_difference_of_cdfs() -> None:
    likelihood = make("discretized-logistic")
    h = logits(likelihood, 40)
    location, scale = h[:, 0], (h[:, 1] - 2).exp()
    for j in range(LEVELS):
        x = j / (LEVELS - 1)
        upper = torch.ones(40) if j == LEVELS - 1 else ((x + 0.125 - location) / scale).sigmoid()
        lower = torch.zeros(40) if j == 0 else ((x - 0.125 - location) / scale).sigmoid()
        found = likelihood.log_prob(h, torch.full((40, 1), x, dtype=torch.float64)).exp()
        torch.testing.assert_close(found, (upper - lower).double(), atol=1e-9, rtol=1e-5)


def test_a_gaussian_of_sigma_one_has_its_constant() -> None:
    x = torch.zeros(784, dtype=torch.float64)
    assert -Gaussian(1.0).log_prob(x, x).item() == pytest.approx(392 * math.log(2 * math.pi), abs=1e-9)


def test_the_mean_of_the_continuous_bernoulli_holds_in_float32_around_its_switches():
    h = torch.cat([torch.linspace(-2, 2, 4001), torch.logspace(-6, 1.5, 400), -torch.logspace(-6, 1.5, 400)]).double()
    exact = torch.where(h.abs() < 1e-3, 0.5 + h / 12 - h**3 / 720, -1 / torch.expm1(-h) - 1 / h)
    assert (LIKELIHOODS["continuous-bernoulli"]().mean(h.float()).double() - exact).abs().max() < 3e-7
