"""Regularizers beside closed forms: total correlation of Gaussians, discrepancies of equal and shifted distributions, covariances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vae_variants.checks.regularizer import drawn
from vae_variants.datasets import Dataset
from vae_variants.models.critics import Adversarial, Factor, permuted
from vae_variants.models.divergences import mmd, sliced, total_correlation
from vae_variants.models.draws import Draws
from vae_variants.models.posteriors import Diagonal
from vae_variants.models.regularizers import dip, gradient_penalty, l2, spectral, tc
from vae_variants.registry import UserError
from vae_variants.variants import build

RHO = 0.8


def correlated(n: int, noise: float = 0.4) -> Diagonal:
    """q(z | x_n) = N(mean_n, noise^2), whose aggregate is N(0, [[1, RHO], [RHO, 1]]) up to sampling."""
    generator = torch.Generator().manual_seed(1)
    covariance = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64) - noise**2 * torch.eye(2, dtype=torch.float64)
    mean = torch.randn(n, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).mT
    return Diagonal(mean, torch.full_like(mean, math.log(noise)))


def given(q: Diagonal, k: int = 1) -> Draws:
    """Samples of q, without a model."""
    torch.manual_seed(0)
    z, zero = q.draw(k).z, q.mean.new_zeros(k, len(q.mean))
    return Draws(zero, zero, zero, zero[0], zero.mT, z, q.mean.new_ones(()), q=q)


@pytest.mark.parametrize("stratified", [False, True], ids=["weighted", "stratified"])
def test_total_correlation_of_a_gaussian_aggregate_by_both_samplings(stratified: bool) -> None:
    """-log(1 - rho^2) / 2; weighted sampling adds (Z - 1) log N to it, since it divides by N B and not by B."""
    expected, b, n = -0.5 * math.log(1 - RHO**2), 1500, 60_000
    q = correlated(b)
    found = total_correlation(given(q).z, q, n, stratified).mean().item()
    bias = 0.0 if stratified else math.log(n)
    assert found - bias == pytest.approx(expected, abs=0.06)


def test_beta_tc_of_beta_1_is_the_elbo() -> None:
    d = given(correlated(20), 3)
    assert torch.equal(tc(d, 100, weight=0.0), torch.zeros(20, dtype=torch.float64))
    torch.testing.assert_close(tc(d, 100, weight=2.0), 2 * tc(d, 100, weight=1.0))
    assert tc(d, 100, sampling="stratified").shape == (20,)
    with pytest.raises(UserError, match="unknown sampling 'other'"):
        tc(d, 100, sampling="other")


def test_stratified_weights_are_those_of_an_unbiased_estimate() -> None:
    """If q(z | x) is the same for all images, log q(z) is it, and the total correlation is 0."""
    q = Diagonal(torch.zeros(6, 2, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64))
    torch.testing.assert_close(total_correlation(given(q).z, q, 600, True), torch.zeros(1, 6, dtype=torch.float64))


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_the_discrepancy_of_equal_distributions_is_0_within_error(kernel: str) -> None:
    torch.manual_seed(0)
    values = torch.stack([mmd(*torch.randn(2, 1, 50, 3, dtype=torch.float64), kernel) for _ in range(400)])
    assert abs(values.mean().item()) < 4 * values.std().item() / 20
    assert values.min() < 0, "an unbiased estimate is negative at times"
    shifted = mmd(torch.randn(1, 400, 3, dtype=torch.float64) + 1, torch.randn(1, 400, 3, dtype=torch.float64), kernel)
    assert shifted.item() > 10 * values.std().item()


def test_the_discrepancy_is_its_formula() -> None:
    z, y = torch.randn(2, 1, 4, 3, dtype=torch.float64)
    c = 2 * y.square().sum(-1).mean()

    def k(a: Tensor, b: Tensor) -> float:
        return sum((s * c / (s * c + (a - b).square().sum())).item() for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    pairs = [(i, j) for i in range(4) for j in range(4)]
    within = sum(k(z[0, i], z[0, j]) + k(y[0, i], y[0, j]) for i, j in pairs if i != j) / 12
    assert mmd(z, y).item() == pytest.approx(within - 2 * sum(k(z[0, i], y[0, j]) for i, j in pairs) / 16)


def test_the_sliced_distance_of_a_shift_is_its_share_of_each_direction() -> None:
    """A shift by m costs |m|^2 / Z in the mean over directions; equal samples cost nothing."""
    torch.manual_seed(0)
    z = torch.randn(2, 200, 4, dtype=torch.float64)
    assert sliced(z, z[:, torch.randperm(200)]).item() == 0
    assert sliced(z + 2.0, z, directions=20_000).item() == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_dip_is_0_for_decorrelated_latents_of_unit_variance(kind: str) -> None:
    mean = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    noise = 0.6 if kind == "ii" else 1.0
    q = Diagonal(0.8 * mean if kind == "ii" else mean, torch.full_like(mean, math.log(noise)))
    assert dip(given(q), kind=kind).item() == pytest.approx(0.0, abs=1e-12)
    turned = Diagonal(mean * torch.tensor([1.0, 0.0]) + mean[:, :1] * torch.tensor([0.0, 1.0]), q.log_scale)
    variance = 1 + noise**2 if kind == "ii" else 1.0
    assert dip(given(turned), kind=kind, off=3.0, diagonal=7.0).item() == pytest.approx(3 * 2 + 7 * 2 * (variance - 1) ** 2)


def test_permuted_latents_keep_their_values_unit_by_unit() -> None:
    z = torch.randn(2, 50, 3)
    torch.testing.assert_close(permuted(z).sort(1).values, z.sort(1).values)
    q = correlated(20_000)
    free = permuted(given(q).z)[0]
    assert abs(torch.corrcoef(free.mT)[0, 1].item()) < 0.03 < torch.corrcoef(given(q).z[0].mT)[0, 1].item()


def test_the_critic_of_factor_gives_the_total_correlation_at_its_optimum() -> None:
    """The optimal logit of two Gaussians is a quadratic form, whose mean is -log(1 - rho^2) / 2; and there its loss has no gradient."""

    class Optimum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            precision = torch.linalg.inv(torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)) - torch.eye(2, dtype=torch.float64)
            self.form, self.constant = nn.Parameter(precision), nn.Parameter(torch.tensor(-0.5 * math.log(1 - RHO**2), dtype=torch.float64))

        def forward(self, z: Tensor) -> Tensor:
            return (self.constant - 0.5 * ((z @ self.form) * z).sum(-1)).unsqueeze(-1)

    term = Factor(2, weight=1.0)
    term.critic = Optimum()
    d = given(correlated(100_000))
    assert term(d).mean().item() == pytest.approx(-0.5 * math.log(1 - RHO**2), abs=0.02)
    gradients = torch.autograd.grad(term.critic_loss(d).mean(), list(term.critic.parameters()))
    assert all(gradient.abs().max() < 0.01 for gradient in gradients)
    with torch.no_grad():
        term.critic.constant.add_(0.5)
    assert torch.autograd.grad(term.critic_loss(d).mean(), term.critic.constant)[0].abs() > 0.05


def test_a_critics_players_own_it_and_leave_the_model_alone(digits: Dataset) -> None:
    for name in ("factor", "adversarial"):
        model = build(f"vae[regularizer={name},critic_steps=3,hidden=7,latent=3]", digits)
        player = model.players[1]
        assert player.steps == 3 and player.optimizer == "adam-0.5"
        value = model(player.loss, digits.as_(model.support).train[:20], torch.tensor(0.5))
        gradients = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
        for (parameter, _), gradient in zip(model.named_parameters(), gradients, strict=True):
            assert (gradient is not None) == parameter.startswith("regularizer.critic."), parameter


def test_the_gradient_penalty_is_the_squared_jacobian_in_expectation() -> None:
    d, parameters = drawn(1, 400)
    expected = 0.5 * 0.3 * parameters["decoder.0.weight"].square().sum()
    torch.manual_seed(0)
    assert gradient_penalty(d, weight=0.0, slope=0.3).item() == pytest.approx(expected.item(), rel=0.1)
    assert gradient_penalty(d, weight=2.0, slope=0.0).item() == pytest.approx(l2(d, 2.0).mean().item())


def test_the_spectral_penalty_is_the_squared_norm_and_l2_can_shrink_the_decoder() -> None:
    d, parameters = drawn(1)
    w, bias = parameters["decoder.0.weight"], parameters["decoder.0.bias"]
    expected = 0.5 * 0.3 * torch.linalg.matrix_norm(w, 2).square()
    assert spectral(d, weight=0.0, norm=0.3, iterations=50).item() == pytest.approx(expected.item(), rel=1e-6)
    value = l2(d, 0.0, shrink=0.2).mean().item()
    assert value == pytest.approx(0.1 * (w.square().sum() + bias.square().sum()).item())


def test_a_model_without_a_prior_or_a_posterior_is_told_so_in_one_line(digits: Dataset) -> None:
    x = digits.grey("train")[:20]
    for name, words in (
        ("mmd", "no prior"),
        ("sliced", "no prior"),
        ("adversarial", "no prior"),
        ("tc", "posterior=diagonal"),
        ("dip", "posterior=diagonal"),
    ):
        model = build(f"autoencoder[likelihood=gaussian,regularizer={name},hidden=7,latent=3]", digits)
        with pytest.raises(UserError, match=words) as error:
            model("loss", x, torch.tensor(0.5))
        assert "\n" not in str(error.value)
    assert isinstance(build("vae[regularizer=adversarial,latent=3,hidden=7]", digits).regularizer, Adversarial)


@pytest.mark.parametrize(("model", "name"), [("vae[latent=3", "mmd"), ("vae[latent=3", "factor"), ("hierarchical[latents=3-2", "l2")])
def test_the_gradient_of_a_regularizer_is_the_same_beside_any_objective(model: str, name: str, digits: Dataset) -> None:
    """Dreg scales the gradient that its own terms send to each sample; that of a regularizer is no term of it."""
    x, t = digits.grey("train")[:10].round().double(), torch.tensor(0.5, dtype=torch.float64)

    def gradient(objective: str, regularizer: str) -> Tensor:
        built = build(f"{model},objective={objective},samples=4,hidden=7,regularizer={regularizer}]", digits).double()
        with torch.no_grad():
            for p in built.parameters():
                p.copy_(torch.linspace(-0.5, 0.5, p.numel()).view(p.shape))
        torch.manual_seed(1)
        return torch.cat([each.flatten() for each in torch.autograd.grad(built.loss(x, t), list(built.encoder.parameters()))])

    found = [gradient(objective, name) - gradient(objective, "none") for objective in ("iwae", "dreg")]
    torch.testing.assert_close(*found)
    assert found[0].abs().max() > 1e-3
