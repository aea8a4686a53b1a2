"""Bounds and densities against what can be worked out by hand: a Gaussian's KL, probabilistic PCA, weights of known laws.

Beside these, `test_bounds` has the log p(x) of the two linear fixtures, L_K = log p(x) at the true posterior, L_1 = ELBO, L_K growing
with K and the ELBO flat in it; `test_weights` the bias of L_K on exponential weights, `test_gap` annealing,
`test_fixtures_gradients` gradients.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch import Tensor

from tests.models.test_bounds import given
from vae_variants.checks.linear_gaussian import W1, W2, draws, linear_vae
from vae_variants.models.draws import Draws
from vae_variants.models.likelihoods import Bernoulli, ContinuousBernoulli, Gaussian, GaussianLearnt
from vae_variants.models.objectives import elbo, elbo_sampled, iwae
from vae_variants.models.vae import VAE

F64 = {"dtype": torch.float64}
ONE = torch.ones((), **F64)
SIGNS = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), **F64)  # their mean is that of N(0, I) up to cubic terms


def infer_at(model: VAE, x: Tensor, eps: Tensor) -> Draws:
    """`model.infer` with the noise eps (K, Z) in place of a random one, the same for each image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda k, b, z, **_: eps[:, None].expand(k, b, z))
        return model.infer(x, len(eps), ONE)


def hermite(points: int) -> tuple[Tensor, Tensor]:
    """Nodes (points^2, 2) and weights of a quadrature for N(0, I), exact to degree 2 points - 1."""
    node, weight = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(points))
    weight = weight / weight.sum()
    return torch.cartesian_prod(node, node), torch.outer(weight, weight).flatten()


def within(x: Tensor, expected: float, errors: float = 4) -> bool:
    """Is the mean of x the expected one but for its standard error?"""
    return abs(x.mean().item() - expected) < errors * x.std().item() / math.sqrt(x.numel())


# -- KL of a Gaussian ------------------------------------------------------------------------------------------------------


def constant_vae(mu: float, log_s: float) -> VAE:
    model = VAE((1, 1, 1), Gaussian(1.0), latent=1, hidden=()).double()
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.tensor([mu, log_s], **F64))
    return model


def test_kl_has_its_value_and_its_gradient() -> None:
    x = torch.zeros(1, 1, **F64)
    for mu, s, value in ((1.0, 0.5, 0.8181471805599453), (0.0, 1.0, 0.0)):
        model = constant_vae(mu, math.log(s))
        kl = model.infer(x, 1, ONE).kl
        assert kl.item() == pytest.approx(value, abs=1e-14)
        (gradient,) = torch.autograd.grad(kl.sum(), model.encoder[0].bias)
        assert gradient[0].item() == pytest.approx(mu, abs=1e-14)
        assert gradient[1].item() / 2 == pytest.approx((s * s - 1) / 2, abs=1e-14)  # log s is half the log variance


def test_kl_is_that_of_a_million_draws() -> None:
    d = draws(constant_vae(1.0, math.log(0.5)), torch.zeros(1, 1, **F64), 1_000_000)
    assert within(d.log_qz - d.log_pz, 0.8181471805599453)


# -- probabilistic PCA -------------------------------------------------------------------------------------------------------

POSTERIORS = [
    (W1, [0.64518828, -0.34811715], [[0.100418410, 0.004184100], [0.004184100, 0.041841004]]),
    (W2, [0.06153846, -1.2], [[0.2773501**2, 0.0], [0.0, 0.40824829**2]]),
]


@pytest.mark.parametrize(("weights", "mean", "covariance"), POSTERIORS)
def test_ppca_has_its_posterior_of_which_the_weights_are_constant(weights, mean, covariance) -> None:
    model, x, exact = linear_vae(weights)

    def joint(z: Tensor) -> Tensor:
        return (model.log_prior(z) + model.log_px(x, z.unsqueeze(-2)).squeeze(-1)).sum()

    zero = torch.zeros(2, **F64)
    found = -torch.linalg.inv(torch.autograd.functional.hessian(joint, zero))
    centre = found @ torch.autograd.functional.jacobian(joint, zero)
    torch.testing.assert_close(found, torch.tensor(covariance, **F64), atol=1e-8, rtol=0)
    torch.testing.assert_close(centre, torch.tensor(mean, **F64), atol=1e-8, rtol=0)
    torch.testing.assert_close(model.moments(x)[0][0], centre)
    z = torch.randn(100, 1, 2, **F64)  # with the full covariance the gap is 0, whatever z
    law = torch.distributions.MultivariateNormal(centre, found)
    log_w = (model.log_prior(z) + model.log_px(x, z) - law.log_prob(z)).squeeze(-1)
    torch.testing.assert_close(log_w, torch.full_like(log_w, exact), atol=1e-10, rtol=0)


def test_ppca_has_its_gap_for_the_best_diagonal_q() -> None:
    for weights, gap in ((W1, 0.0020876857052405384), (W2, 0.0)):
        model, x, exact = linear_vae(weights)
        for objective in (elbo, elbo_sampled):
            assert exact + objective(infer_at(model, x, SIGNS)).item() == pytest.approx(gap, abs=1e-11)


def test_ppca_has_its_variance_of_log_px_and_none_of_log_w() -> None:
    model, x, exact = linear_vae(W2)
    eps, weight = hermite(5)
    d = infer_at(model, x, eps)
    mean = (weight @ d.log_px).item()
    assert (weight @ (d.log_px - mean).square()).item() == pytest.approx(1.0135490315076114, abs=1e-12)
    d = draws(model, x, 1_000_000)
    assert within((d.log_px - mean).square(), 1.0135490315076114)
    assert d.log_w.var().item() < 1e-26
    assert d.log_w.mean().item() == pytest.approx(exact, abs=1e-11)


def test_a_trained_linear_vae_reaches_the_maximum_likelihood_of_ppca() -> None:
    x = (torch.randn(200, 6, **F64) * torch.tensor([3, 2, 1, 1, 0.5, 0.5])) @ torch.linalg.qr(torch.randn(6, 6, **F64))[0] + 1
    values, vectors = (t.flip(-1) for t in torch.linalg.eigh(torch.cov(x.mT, correction=0)))
    noise = values[2:].mean()
    best = -0.5 * (6 * math.log(2 * math.pi) + values[:2].log().sum() + 4 * noise.log() + 6)
    model = VAE((1, 1, 6), GaussianLearnt(), latent=2, hidden=()).double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, history_size=50, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = elbo(infer_at(model, x, SIGNS)).mean()  # exact: a quadratic in the noise
        value.backward()
        return value

    optimizer.step(loss)
    assert -loss().item() == pytest.approx(best.item(), abs=1e-7)
    w = model.decoder[0].weight.detach()
    assert torch.nn.functional.cosine_similarity(w[:, 0], w[:, 1], dim=0).abs() < 1e-4
    assert torch.linalg.svdvals(torch.linalg.qr(w)[0].mT @ vectors[:, :2]).min() > 1 - 1e-8  # cosine of the largest angle
    variances = model.moments(x)[1].square().detach()
    expected = (noise / values[:2]).sort().values
    torch.testing.assert_close(variances.sort(-1).values, expected.expand(200, -1), atol=0, rtol=1e-3)
    assert model.likelihood.log_sigma.exp().square().item() == pytest.approx(noise.item(), rel=1e-5)


# -- log of a mean of weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "expected"), [(50, -0.010033), (100, -0.005008)])
def test_iwae_of_many_exponential_weights_has_the_known_bias(k: int, expected: float) -> None:
    assert digamma(k) - math.log(k) == pytest.approx(expected, abs=5e-7)
    assert within(-iwae(given(torch.empty(k, 200_000, **F64).exponential_().log())), expected)


def test_log_normal_weights_have_a_gap_of_half_their_variance() -> None:
    model, x, exact = linear_vae(W2)
    with torch.no_grad():
        model.encoder[0].bias[:2] += torch.tensor([0.1, -0.15], **F64)
    gap = 0.5 * sum((shift / s) ** 2 for shift, s in ((0.1, 0.2773501), (0.15, 0.40824829)))  # KL of two Gaussians of one shape
    eps, weight = hermite(30)
    log_w = infer_at(model, x, eps).log_w.squeeze(1)
    assert exact - (weight @ log_w).item() == pytest.approx(gap, abs=1e-8)
    assert (weight @ (log_w - exact + gap).square()).item() == pytest.approx(2 * gap, abs=1e-8)
    assert (log_w + weight.log()).logsumexp(0).item() == pytest.approx(exact, abs=1e-8)
    d = draws(model, x.expand(50_000, -1), 20)
    assert within(-elbo_sampled(d), exact - gap)
    assert exact - gap / 10 < -iwae(d).mean().item() < exact


# -- constants of densities --------------------------------------------------------------------------------------------------


def test_densities_have_their_constants() -> None:
    x = torch.rand(784, **F64)
    assert -Gaussian(1.0).log_prob(x, x).item() == pytest.approx(720.4478, abs=5e-5)
    half = torch.zeros(1, **F64)  # a logit of 0 is a mean of 1/2
    assert ContinuousBernoulli().log_prob(half, torch.rand(1, **F64)).item() == pytest.approx(0.0, abs=1e-12)
    log_c = ContinuousBernoulli().log_prob(half, half) - Bernoulli().log_prob(half, half)  # both at x = 0
    assert log_c.item() == pytest.approx(math.log(2), abs=1e-12)


def test_the_density_of_a_continuous_bernoulli_integrates_to_one() -> None:
    node, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(60))
    h = torch.tensor([-30.0, -2.0, -0.05, -1e-3, 0.0, 0.04999, 0.05001, 1.0, 30.0], **F64)[:, None, None]
    density = ContinuousBernoulli().log_prob(h, (node[:, None] + 1) / 2).exp()
    torch.testing.assert_close(density @ weight / 2, torch.ones(9, **F64), atol=1e-9, rtol=0)


def test_dequantised_densities_convert_to_nats_of_the_levels() -> None:
    constant = 784 * math.log(256)
    assert constant == pytest.approx(4347.4, abs=0.05)
    level = torch.randint(0, 256, (50, 784)).double()
    u = torch.rand(40, 50, 784, **F64)
    h = torch.randn(784, **F64)
    converted = ContinuousBernoulli().log_prob(h, (level + u) / 256) - constant
    edge = torch.expm1(h * (level + 1) / 256) - torch.expm1(h * level / 256)
    exact = (edge / torch.expm1(h)).log().sum(-1)  # the mass between the edges of a level
    assert (converted.mean(0) - exact).abs().max() < 0.1
    assert within(converted - exact, 0.0, errors=5)  # the loss by Jensen's inequality is far smaller still
