"""Annealed importance sampling and locally optimised posteriors on models whose log p(x) is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vae_variants.checks.linear_gaussian import W1, W2, linear_vae
from vae_variants.evaluation.ais import adapt, anneal, anneal_back, hmc, log_normal, schedule
from vae_variants.evaluation.gap import local_posterior
from vae_variants.evaluation.weights import log_mean_exp

F64 = {"dtype": torch.float64}


class LinearGaussian:
    """p(z) = N(0, I), p(x | z) = N(W z + m, v I): everything about it is known. Inner products are taken once."""

    def __init__(self, w: Tensor, mean: Tensor, v: float) -> None:
        self.w, self.mean, self.v = w, mean, v
        self.gram = w.mT @ w

    def simulate(self, n: int) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, self.w.shape[1], **F64)
        return z @ self.w.mT + self.mean + math.sqrt(self.v) * torch.randn(n, len(self.mean), **F64), z

    def exact(self, x: Tensor) -> Tensor:
        covariance = self.w @ self.w.mT + self.v * torch.eye(len(self.mean), **F64)
        return torch.distributions.MultivariateNormal(self.mean, covariance).log_prob(x)

    def log_prior(self, z: Tensor) -> Tensor:
        return log_normal(z, torch.zeros((), **F64), torch.ones((), **F64))

    def log_joint(self, x: Tensor):
        d, b = x - self.mean, (x - self.mean) @ self.w

        def log_joint(z: Tensor) -> Tensor:
            squares = d.square().sum(-1) - 2 * (z * b).sum(-1) + (z @ self.gram * z).sum(-1)
            return self.log_prior(z) - 0.5 * squares / self.v - 0.5 * len(self.mean) * math.log(2 * math.pi * self.v)

        return log_joint


def sandwich(model: LinearGaussian, images: int, temperatures: int, chains: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """forward, exact, reverse (B,)"""
    x, z = model.simulate(images)
    joint, betas, size = model.log_joint(x), schedule(temperatures), z.shape[1]
    sizes = adapt(torch.randn(4, images, size, **F64), model.log_prior, joint, betas)
    forward = anneal(torch.randn(chains, images, size, **F64), model.log_prior, joint, betas, sizes)
    back = anneal_back(z.expand(chains, images, size), model.log_prior, joint, betas, sizes)
    return log_mean_exp(forward.log_w), model.exact(x), -log_mean_exp(back.log_w)


def check(forward: Tensor, exact: Tensor, reverse: Tensor) -> None:
    def error(x: Tensor) -> float:
        return 3 * x.std().item() / len(x) ** 0.5

    assert (forward - exact).mean().item() < error(forward - exact)
    assert (reverse - exact).mean().item() > -error(reverse - exact)
    assert abs((reverse - forward).mean().item()) < 0.05


def test_annealing_holds_log_p_of_the_small_fixture_between_its_two_bounds() -> None:
    w, mean = torch.tensor(W2, **F64), torch.tensor([0.1, -0.2, 0.3, 0.0, 0.5], **F64)
    check(*sandwich(LinearGaussian(w, mean, 0.25), 100, 200))


def test_annealing_holds_log_p_of_784_pixels_between_its_two_bounds() -> None:
    w = 0.1 * torch.randn(784, 4, **F64)
    check(*sandwich(LinearGaussian(w, torch.randn(784, **F64), 0.25), 30, 400, chains=16))


def test_annealing_too_fast_gives_bounds_and_not_a_value() -> None:
    w = 0.1 * torch.randn(784, 6, **F64)
    forward, exact, reverse = sandwich(LinearGaussian(w, torch.randn(784, **F64), 0.25), 100, 30, chains=2)
    assert (forward - exact).mean() < -1
    assert (reverse - exact).mean() > 0.2


def test_a_hamiltonian_transition_leaves_its_law_as_it_is() -> None:
    mean, scale = torch.tensor([1.0, -2.0], **F64), torch.tensor([0.5, 2.0], **F64)
    z = mean + scale * torch.randn(200, 100, 2, **F64)
    for _ in range(10):
        z, accepted = hmc(z, lambda at: log_normal(at, mean, scale), torch.full((100,), 0.6, **F64), 4)
    assert 0.5 < accepted.double().mean() < 0.999
    flat = z.flatten(0, 1)
    torch.testing.assert_close(flat.mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(flat.std(0), scale, atol=0, rtol=0.03)


def test_a_schedule_runs_from_0_to_1() -> None:
    betas = schedule(50)
    assert len(betas) == 51
    assert (betas[0], betas[-1]) == (0, 1)
    assert (betas.diff() > 0).all()
    assert betas.diff()[0] < betas.diff()[25] / 5


def test_the_local_posterior_closes_the_amortisation_gap() -> None:
    model, x, exact = linear_vae(W1)
    best = exact - 0.0020876857052405384  # what a diagonal Gaussian can reach here
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.3, -0.2, 0.4, -0.3], **F64)
    found = local_posterior(model, x.expand(50, -1))
    assert found.optimised.mean().item() == pytest.approx(best, abs=0.01)
    assert found.encoded.mean().item() < best - 0.1


def test_metrics_of_the_gap_add_up(digits) -> None:
    from vae_variants.evaluation import FIDELITIES, Evaluation, evaluate
    from vae_variants.evaluation.gap import annealed, local
    from vae_variants.variants import build

    model = build("vae[hidden=8,latent=2]", digits).eval().requires_grad_(False)
    e = Evaluation(
        model,
        digits,
        0,
        replace(FIDELITIES["smoke"], annealed_images=20, temperatures=100, local_steps=300, bound_samples=300, bound_images=100),
    )
    rows = {v.metric: v.value for v in evaluate(e)}
    total = (annealed(e).log_p - local(e).encoded).mean().item()
    assert rows["approximation_gap"] + rows["amortization_gap"] == pytest.approx(total, abs=1e-6)
    assert rows["approximation_gap"] > -0.05
    assert rows["amortization_gap"] > -0.05
    assert abs(rows["annealing_gap"]) < 0.2
    index = annealed(e).images
    inside = torch.isin(e.bound.index, index)
    assert torch.equal(e.bound.index[annealed(e).rows], index)
    gain = (annealed(e).log_p - e.bound.value[annealed(e).rows]).mean().item()
    assert rows["annealed_log_likelihood"] - rows["log_likelihood"] == pytest.approx(gain, abs=1e-6)
    assert inside.sum() == 20
    assert (annealed(e).log_p - e.bound.value[inside]).mean().item() == pytest.approx(0, abs=0.1)
