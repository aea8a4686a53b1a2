"""Likelihoods beside known answers: torch.distributions, differences of distribution functions, a constant."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vae_variants.checks.likelihood import LEVELS, logits, make
from vae_variants.models.likelihoods import LIKELIHOODS, Gaussian
from vae_variants.registry import UserError

ORACLES = {
    "bernoulli": lambda m, h: torch.distributions.Bernoulli(logits=h),
    "continuous-bernoulli": lambda m, h: torch.distributions.ContinuousBernoulli(logits=h, lims=(0.4999, 0.5001)),
    "gaussian": lambda m, h: torch.distributions.Normal(h, m.sigma),
    "gaussian-learnt": lambda m, h: torch.distributions.Normal(h, m.log_sigma.exp()),
    "gaussian-optimal": lambda m, h: torch.distributions.Normal(h, 0.6),
    "gaussian-pixel": lambda m, h: torch.distributions.Normal(h[:, ::2], h[:, 1::2].exp() + m.floor),
    "laplace": lambda m, h: torch.distributions.Laplace(h, math.exp(-0.7) / math.sqrt(2)),
    "student-t": lambda m, h: torch.distributions.StudentT(m.df, h, math.exp(-0.7) * math.sqrt(3 / 5)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_likelihood_agrees_with_torch_distributions(name: str) -> None:
    likelihood = make(name)
    if name == "gaussian":
        likelihood = Gaussian(0.3)
    if name == "gaussian-optimal":
        likelihood.mse.fill_(0.36)
    if name in ("gaussian-learnt", "laplace", "student-t"):
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


def test_the_optimal_sigma_is_that_of_the_batch_in_training_and_a_constant_afterwards() -> None:
    likelihood = LIKELIHOODS["gaussian-optimal"](memory=0.5).double()
    h, x = torch.randn(2, 4, 6, dtype=torch.float64)
    h.requires_grad_()
    mse = (x - h).square().mean()
    value = likelihood.log_prob(h, x).mean()
    assert value.item() == pytest.approx(-3 * (1 + math.log(2 * math.pi * mse.item())))
    (expected,) = torch.autograd.grad(-3 * mse.log(), h)
    torch.testing.assert_close(torch.autograd.grad(value, h)[0], expected)
    assert likelihood.mse.item() == pytest.approx(0.5 + 0.5 * mse.item())
    likelihood.eval()
    before = likelihood.mse.clone()
    alone = torch.stack([likelihood.log_prob(h[i], x[i]) for i in range(4)])
    torch.testing.assert_close(likelihood.log_prob(h, x), alone)
    assert torch.equal(likelihood.mse, before)


def test_a_mixture_of_logistics_sums_to_1_over_the_colours_of_a_place_and_couples_them() -> None:
    likelihood = LIKELIHOODS["logistic-mixture"](shape=(3, 1, 2), levels=LEVELS, components=3).double()
    assert likelihood.k == 12
    h = 2.5 * torch.randn(1, 6 * 12, dtype=torch.float64)
    level = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    colours = torch.cartesian_prod(level, level, level)  # of the first place; the second is black
    x = torch.stack([colours, torch.zeros_like(colours)], -1).flatten(1)
    first = likelihood.log_prob(h.expand(len(x), -1), x).logsumexp(0)
    other = likelihood.log_prob(h.expand(len(x), -1), x.unflatten(1, (3, 2)).flip(2).flatten(1)).logsumexp(0)
    black = likelihood.log_prob(h, torch.zeros(1, 6, dtype=torch.float64))
    torch.testing.assert_close(first + other, black[0])
    drawn = likelihood.sample(h.expand(4000, -1))
    p = (likelihood.log_prob(h.expand(len(x), -1), x) - first).exp()
    counts = torch.stack([(drawn[:, ::2] - colour).abs().amax(-1) < 1e-6 for colour in colours]).sum(-1)
    assert ((counts - 4000 * p).abs() < 5 * (4000 * p * (1 - p)).sqrt() + 1).all()


def test_a_gaussian_of_sigma_one_has_its_constant() -> None:
    x = torch.zeros(784, dtype=torch.float64)
    assert -Gaussian(1.0).log_prob(x, x).item() == pytest.approx(392 * math.log(2 * math.pi), abs=1e-9)


def test_the_mean_of_the_continuous_bernoulli_holds_in_float32_around_its_switches():
    h = torch.cat([torch.linspace(-2, 2, 4001), torch.logspace(-6, 1.5, 400), -torch.logspace(-6, 1.5, 400)]).double()
    exact = torch.where(h.abs() < 1e-3, 0.5 + h / 12 - h**3 / 720, -1 / torch.expm1(-h) - 1 / h)
    assert (LIKELIHOODS["continuous-bernoulli"]().mean(h.float()).double() - exact).abs().max() < 3e-7


def panels() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of a quadrature over [0, 1] whose panels shrink towards both ends."""
    edges = torch.cat([torch.zeros(1), torch.logspace(-5, math.log10(0.5), 30)]).double()
    edges = torch.cat([edges, 1 - edges[:-1].flip(0)])
    node, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(20))
    half = edges.diff()[:, None] / 2
    return (edges[:-1, None] + half * (node + 1)).flatten(), (half * weight).flatten()


@pytest.mark.parametrize("limit", [2.0, 9.21, 32.0, 510.0])
def test_the_continuous_bernoulli_is_normalised_at_its_limit_and_nowhere_denser(limit: float) -> None:
    likelihood, (x, weight) = LIKELIHOODS["continuous-bernoulli"](limit=limit).double(), panels()
    largest = limit / -math.expm1(-limit)
    for h in (0.0, 0.3 * limit, -limit, limit, 1.01 * limit, -1e4, 1e6):
        logit = torch.full((len(x), 1), h, dtype=torch.float64)
        density = likelihood.log_prob(logit, x.unsqueeze(-1)).exp()
        assert density @ weight == pytest.approx(1, abs=1e-10)
        assert density @ (weight * x) == pytest.approx(likelihood.mean(logit[:1]).item(), abs=1e-10)
        assert density.max() <= largest * (1 + 1e-12)
    end = torch.tensor([[-1e4], [1e4]], dtype=torch.float64)
    assert likelihood.log_prob(end, torch.tensor([[0.0], [1.0]]).double()).exp().tolist() == pytest.approx([largest, largest])
    drawn = likelihood.sample(end[:1].expand(20_000, 1)).mean().item()
    assert drawn == pytest.approx(likelihood.mean(end[:1]).item(), rel=0.05)


def test_beyond_its_limit_the_continuous_bernoulli_is_pulled_back_and_never_pushed_out() -> None:
    likelihood = LIKELIHOODS["continuous-bernoulli"](limit=20.0).double()
    h = torch.tensor([-1e4, -21.0, -19.0, 19.0, 21.0, 1e4], dtype=torch.float64).unsqueeze(-1).requires_grad_()
    mean = likelihood.mean(h).squeeze(-1).tolist()
    for x in (0.0, 0.04, 0.06, 0.5, 0.94, 0.96, 1.0):
        (slope,) = torch.autograd.grad(likelihood.log_prob(h, torch.full_like(h, x)).sum(), h)
        free = [x - m for m in mean]  # the derivative of log_prob without a limit
        wanted = [max(free[0], 0), max(free[1], 0), *free[2:4], min(free[4], 0), min(free[5], 0)]
        assert slope.squeeze(-1).tolist() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_no_logit_of_a_continuous_bernoulli_says_more_than_a_level_of_the_stored_images(levels: int) -> None:
    likelihood = LIKELIHOODS["continuous-bernoulli"](levels=levels).double()
    half = 0.5 / (levels - 1)  # what rounds to black
    black = likelihood.log_prob(torch.full((1, 1), -1e5).double(), torch.zeros(1, 1).double())
    uniform = math.log(1 / half)
    assert uniform <= black.item() <= uniform - math.log(-math.expm1(-1 / half)) + 1e-9
    start = likelihood.start(torch.zeros(3, 5).double())
    assert start.abs().max() < min(1 / half, 51) and likelihood.mean(start).max() == pytest.approx(likelihood.clip, abs=1e-6)


def test_a_limit_of_the_continuous_bernoulli_is_positive() -> None:
    with pytest.raises(UserError, match="positive"):
        LIKELIHOODS["continuous-bernoulli"](limit=-1.0)
