"""VAEs of which everything is known: one whose latent variable can be summed over, and a linear-Gaussian one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation
from vae_variants.models.categorical import CategoricalVAE
from vae_variants.models.likelihoods import Bernoulli, Gaussian
from vae_variants.models.linear import LinearVAE
from vae_variants.variants import build

C = 16


@pytest.fixture(params=["bernoulli", "gaussian"])
def model(request) -> CategoricalVAE:
    found = CategoricalVAE((1, 2, 3), Bernoulli() if request.param == "bernoulli" else Gaussian(0.5), categories=C, hidden=(7,)).double()
    with torch.no_grad():
        for p in found.parameters():
            p.copy_(torch.randn_like(p))
    return found


def images(model: CategoricalVAE) -> torch.Tensor:
    return model.sample(40)


def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior_by_enumeration(model) -> None:
    x = images(model)
    each = torch.stack([model.log_px(x, code.expand(len(x), -1)) - math.log(C) for code in torch.eye(C, dtype=torch.float64)], -1)
    log_p = each.logsumexp(-1)
    torch.testing.assert_close(model.log_prob(x), log_p, atol=1e-10, rtol=0)
    posterior = torch.distributions.Categorical(logits=each)
    q = torch.distributions.Categorical(logits=model.encoder(x))
    kl = torch.distributions.kl_divergence(q, posterior)
    assert kl.min() > 0.01
    torch.testing.assert_close(log_p - model.bound(x), kl, atol=1e-10, rtol=0)


def test_the_true_posterior_leaves_no_gap(model, monkeypatch) -> None:
    x = images(model)
    posterior = model.enumerate(x)[1].detach()
    monkeypatch.setattr(model.encoder, "forward", lambda _: posterior)
    torch.testing.assert_close(model.bound(x), model.log_prob(x), atol=1e-10, rtol=0)


def test_draws_agree_with_the_sums(model) -> None:
    x = images(model)[:5]
    with torch.no_grad():
        d = model.infer(x, 40_000, torch.ones((), dtype=torch.float64))
    error = 5 * d.log_w.std(0) / 200
    assert ((d.log_w.mean(0) - model.bound(x)).abs() < error).all()
    torch.testing.assert_close(d.log_px, model.log_px(x, d.z))
    q = torch.distributions.Categorical(logits=model.encoder(x))
    torch.testing.assert_close(d.kl, math.log(C) - q.entropy())
    torch.testing.assert_close(d.z.mean(0), q.probs, atol=0.02, rtol=0)
    decoded = torch.stack([model.decode(z) for z in d.z[:4000]])
    assert ((model.decode(q.probs) - decoded.mean(0)).abs() < 5 * decoded.std(0) / math.sqrt(4000) + 1e-3).all()


def test_the_evaluator_bounds_an_exact_log_likelihood(digits) -> None:
    e = Evaluation(build("vae-categorical[hidden=8]", digits).eval().requires_grad_(False), digits, 0, FIDELITIES["smoke"])
    value = {name: METRICS[name].fn(e) for name in ("elbo", "bound_10", "log_likelihood", "gap")}
    assert METRICS["log_likelihood"].kind_for(e.model) == "exact"
    assert value["elbo"] < value["bound_10"] < value["log_likelihood"]
    assert value["gap"] == pytest.approx((e.model.log_prob(e.test) - e.model.bound(e.test)).mean().item(), abs=0.01)
    assert not METRICS["bound_samples"].asked_of(e)


@pytest.fixture
def linear() -> LinearVAE:
    found = LinearVAE((1, 2, 3), latent=2).double()
    with torch.no_grad():
        for p in found.parameters():
            p.copy_(0.7 * torch.randn_like(p))
    return found


def test_a_linear_vae_has_the_density_of_its_normal_law(linear) -> None:
    x, w = linear.sample(30), linear.decoder.weight
    covariance = w @ w.mT + linear.likelihood.scale**2 * torch.eye(6, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(linear.decoder.bias, covariance)
    torch.testing.assert_close(linear.log_prob(x), law.log_prob(x), atol=1e-9, rtol=0)


def test_the_bound_of_a_linear_vae_is_that_of_its_draws_and_touches_log_p_at_the_posterior(linear) -> None:
    x = linear.sample(5)
    with torch.no_grad():
        d = linear.infer(x, 40_000, torch.ones((), dtype=torch.float64))
        assert ((d.log_w.mean(0) - linear.bound(x)).abs() < 5 * d.log_w.std(0) / 200).all()
        assert (linear.bound(x) < linear.log_prob(x) - 0.01).all()
        linear.decoder.weight.copy_(torch.linalg.qr(linear.decoder.weight).Q * torch.tensor([2.0, 0.5], dtype=torch.float64))
        v = linear.likelihood.scale.square()
        precision = 1 + linear.decoder.weight.square().sum(0) / v
        linear.encoder.weight.copy_(linear.decoder.weight.mT / v / precision[:, None])
        linear.encoder.bias.copy_(-linear.encoder.weight @ linear.decoder.bias)
        linear.log_scale.copy_(-0.5 * precision.log())
        torch.testing.assert_close(linear.bound(x), linear.log_prob(x), atol=1e-9, rtol=0)


def test_annealing_finds_the_exact_log_likelihood_of_a_linear_vae(digits) -> None:
    torch.manual_seed(2)
    model = build("vae-linear[latent=3]", digits).eval().requires_grad_(False)
    level = replace(FIDELITIES["smoke"], annealed_images=60, temperatures=100, bound_samples=100, elbo_samples=500)
    e = Evaluation(model, digits.subset(None, 60), 0, level)
    value = {name: METRICS[name].fn(e) for name in ("elbo", "log_likelihood", "annealed_log_likelihood", "annealing_gap", "gap")}
    assert value["annealed_log_likelihood"] == pytest.approx(value["log_likelihood"], abs=0.02)
    assert abs(value["annealing_gap"]) < 0.05
    assert value["gap"] == pytest.approx((model.log_prob(e.test) - model.bound(e.test)).mean().item(), abs=0.3)
    assert value["gap"] > 0.5
