"""Posteriors against what can be worked out: Jacobians, quadrature, known moments, and a model whose posterior is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from vae_variants.checks.linear_gaussian import W1, draws, linear_vae
from vae_variants.checks.stacking import seeds_train_apart
from vae_variants.models.flows import LEAST, Flow, InverseAutoregressive, Planar, Radial, Sylvester, Transformed
from vae_variants.models.objectives import elbo, iwae
from vae_variants.models.posteriors import POSTERIORS, Full, FullNormal, Posterior
from vae_variants.models.priors import StandardNormal, rule
from vae_variants.models.relaxed import Concrete, ConcretePrior, GumbelSoftmax
from vae_variants.models.spherical import PowerSpherical, PowerSphericalPosterior, UniformSphere, log_surface
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError
from vae_variants.variants import configure

F64 = {"dtype": torch.float64}
FLOWS = [Planar(4, flows=3), Radial(4, flows=3), Sylvester(4, flows=3, columns=2), Sylvester(3), InverseAutoregressive(4, flows=3, width=9)]
TRACED = [
    "full",
    "hamiltonian,leapfrog=2",
    "sylvester,flows=1",
    "iaf",
    "power-spherical,prior=sphere",
    "gumbel-softmax,prior=concrete,latent=10",
]


def numbers(posterior: Posterior, images: int = 1, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(images, posterior.inputs, **F64)


# -- flows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", FLOWS, ids=lambda posterior: f"{type(posterior).__name__}-{posterior.latent}")
def test_log_q_of_a_flow_is_the_change_of_variables(posterior: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q = posterior.double()(numbers(posterior, 3))
    assert isinstance(q, Transformed)
    eps = torch.randn(2, 3, posterior.latent, **F64)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: eps)
    z, log_q = q.draw(2)
    start = q.base.mean + q.base.scale * eps
    whole = torch.autograd.functional.jacobian(lambda each: q.flow(each).z, start)  # (2, 3, Z, 2, 3, Z)
    blocks = torch.stack([torch.stack([whole[k, b, :, k, b] for b in range(3)]) for k in range(2)])
    torch.testing.assert_close(log_q, q.base.log_prob(start) - blocks.det().abs().log())
    assert (blocks.det() > 0).all()
    assert whole.square().sum().item() == pytest.approx(blocks.square().sum().item()), "samples and images do not depend on each other"
    torch.testing.assert_close(z, q.flow(start).z)
    torch.testing.assert_close(q.mean, q.flow(q.base.mean[None]).z[0])


WORST = {  # encoder's numbers after mean and log scale for which z = 0 shrinks most in one step of four units, and how many directions do
    "planar": (Planar(4, flows=1), [-100.0, 0, 0, 0, 1.0, 0, 0, 0, 0], 1),
    "radial": (Radial(4, flows=1), [0.0, 0, 0, 0, 3.0, -200.0], 4),
    "sylvester": (Sylvester(4, flows=1, columns=2), [1.0, 0, 0, 0, 0, 1, 0, 0, 50, 50, 0, -50, -50, 0, 0, 0], 2),
}


@pytest.mark.parametrize("name", WORST)
def test_no_step_shrinks_a_direction_to_nothing(name: str) -> None:
    posterior, worst, directions = WORST[name]
    h = torch.cat([torch.zeros(8), torch.tensor(worst)])[None].requires_grad_()
    log_det = posterior.float()(h).flow(torch.zeros(1, 1, 4)).log_det
    assert log_det.item() == pytest.approx(directions * math.log(LEAST), abs=1e-3)
    (gradient,) = torch.autograd.grad(log_det.sum(), h)
    assert gradient.norm() < 10 / LEAST


@pytest.mark.parametrize("make", [Planar, Radial, lambda n: Sylvester(n, columns=1), InverseAutoregressive], ids=["p", "r", "s", "i"])
def test_a_flow_of_one_unit_increases_wherever_the_encoder_is(make) -> None:
    torch.manual_seed(0)
    posterior = make(1).double()
    q = posterior(numbers(posterior, 50, scale=3.0))
    line = torch.linspace(-20, 20, 4001, **F64)[:, None, None].expand(-1, 50, 1)
    z, log_det = q.flow(line)
    assert (z.diff(dim=0) > 0).all()
    slope = (z[2:] - z[:-2]).squeeze(-1) / (line[2:] - line[:-2]).squeeze(-1)
    smooth = log_det[1:-1].exp().clamp(max=5.0)  # where slopes are steep, a difference is no derivative
    assert (slope - smooth).abs().median() < 1e-4


def test_a_planar_step_stays_finite_for_a_small_direction() -> None:
    v = torch.randn(6, 4, **F64)
    step = Planar.step(v, 1e-9 * torch.randn(6, 4, **F64), torch.ones(6, 1, **F64))
    z = torch.randn(6, 4, **F64)
    assert (step(z).z - z).abs().max() < 2 * v.norm(dim=-1).max()
    away = torch.ones(1, 2, **F64)
    steep = Planar.step(-40 * away, away, 0 * away[:, :1])  # w.v = -80: w.u is as good as -1
    assert steep(torch.randn(9, 2, **F64)).log_det.isfinite().all()


def test_a_sylvester_frame_is_orthonormal_and_its_matrices_are_bounded() -> None:
    posterior = Sylvester(7, columns=5)
    q = posterior.frame(torch.randn(4, 3, 35, **F64))
    torch.testing.assert_close(q.mT @ q, torch.eye(5, **F64).expand(4, 3, 5, 5))
    r = posterior.bounded(3 * torch.randn(4, 15, **F64))
    assert r.tril(-1).abs().max() == 0 and (r.diagonal(dim1=-2, dim2=-1).abs() < 1).all() and (r.triu(1) != 0).sum() == 40
    assert Sylvester(3).columns == 3


def test_an_iaf_step_sees_the_units_before_and_the_order_is_reversed() -> None:
    posterior = InverseAutoregressive(5, flows=2, width=30).double()
    steps = posterior.steps(torch.randn(1, 30, **F64))
    for step, upper in zip(steps, (False, True), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda z, step=step: step(z[None]).z[0], torch.randn(5, **F64))
        assert (jacobian.tril(-1) if upper else jacobian.triu(1)).abs().max() == 0
        assert ((jacobian.triu(1) if upper else jacobian.tril(-1)) != 0).sum() == 10
        sigma = jacobian.diagonal()
        assert ((sigma > 0) & (sigma < 1)).all()
    first, second = (posterior.steps(torch.full((1, 30), c, **F64))[0](torch.zeros(1, 5, **F64)).z[0] for c in (0.0, 1.0))
    assert (first != second).all(), "each unit sees the context"


# -- densities at any z --------------------------------------------------------------------------------------------------


def test_a_full_normal_is_that_of_its_covariance() -> None:
    posterior = FullNormal(4)
    q = posterior(numbers(posterior, 3))
    law = torch.distributions.MultivariateNormal(q.mean, scale_tril=q.tril)
    for shape in ((), (5,), (2, 5)):
        z = torch.randn(*shape, 3, 4, **F64)
        torch.testing.assert_close(q.log_prob(z), law.log_prob(z))
    torch.testing.assert_close(q.log_prob(z[0, :, :1]), law.log_prob(z[0, :, :1].expand(5, 3, 4)))  # one z under each q
    kl = rule(StandardNormal, Full)(StandardNormal(4), q)
    normal = torch.distributions.MultivariateNormal(torch.zeros(4, **F64), torch.eye(4, **F64))
    torch.testing.assert_close(kl.sum(-1), torch.distributions.kl_divergence(law, normal))
    assert kl.shape == (3, 4)
    z = q.draw(200_000).z
    torch.testing.assert_close(torch.cov(z[:, 0].mT), (q.tril @ q.tril.mT)[0], atol=0.15, rtol=0.03)


def test_a_full_normal_integrates_to_one() -> None:
    posterior = FullNormal(2)
    q = posterior(numbers(posterior))
    axis = torch.linspace(-12, 12, 601, **F64)
    offsets = torch.cartesian_prod(axis, axis)
    z = q.mean + offsets @ q.tril[0].mT
    total = q.log_prob(z.unsqueeze(-2)).exp().sum() * (axis[1] - axis[0]) ** 2 * q.tril[0].det()
    assert total.item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kappa", [0.3, 5.0, 200.0])
def test_a_power_spherical_density_integrates_to_one(kappa: float) -> None:
    angle = torch.linspace(-math.pi, math.pi, 200_001, **F64)[1:]
    mean = torch.nn.functional.normalize(torch.randn(1, 2, **F64), dim=-1)
    q = PowerSpherical(mean, torch.tensor([kappa], **F64))
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    assert (q.log_prob(circle.unsqueeze(-2)).exp().sum() * 2 * math.pi / 200_000).item() == pytest.approx(1, abs=1e-5)
    mean = torch.nn.functional.normalize(torch.randn(1, 3, **F64), dim=-1)  # Archimedes: a zone has the area 2 pi times its height
    q, height = PowerSpherical(mean, torch.tensor([kappa], **F64)), torch.linspace(-1, 1, 200_001, **F64)
    across = torch.nn.functional.normalize(torch.linalg.cross(mean, torch.randn(1, 3, **F64)), dim=-1)
    z = height[:, None] * mean + (1 - height.square()).sqrt()[:, None] * across
    density = q.log_prob(z.unsqueeze(-2)).squeeze(-1).exp()
    assert (2 * math.pi * torch.trapezoid(density, height)).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("latent", [2, 3, 10])
def test_power_spherical_samples_have_its_moments_and_its_entropy(latent: int) -> None:
    torch.manual_seed(0)
    posterior = PowerSphericalPosterior(latent)
    q = posterior(numbers(posterior, 4))
    z, log_q = q.draw(100_000)
    torch.testing.assert_close(z.norm(dim=-1), torch.ones_like(log_q))
    expected = q.mean * ((q.a - q.b) / (q.a + q.b)).unsqueeze(-1)
    assert ((z.mean(0) - expected).abs() < 5 * z.std(0) / math.sqrt(100_000)).all()
    assert ((log_q.mean(0) + q.entropy).abs() < 5 * log_q.std(0) / math.sqrt(100_000)).all()
    kl = rule(UniformSphere, PowerSpherical)(UniformSphere(latent), q)
    torch.testing.assert_close(kl.squeeze(-1), log_surface(latent) - q.entropy)
    assert (kl > 0).all()


def test_the_gradient_of_power_spherical_samples_is_that_of_their_mean() -> None:
    torch.manual_seed(0)
    h = torch.tensor([[0.3, -0.8, 0.5, 0.2]], requires_grad=True, **F64)
    posterior = PowerSphericalPosterior(3)
    target = torch.tensor([1.0, -2.0, 0.5], **F64)
    q = posterior(h)
    (exact,) = torch.autograd.grad(((q.mean * (q.kappa / (2 * q.b + q.kappa)).unsqueeze(-1)) @ target).sum(), h)
    h = h.detach().expand(200_000, -1).clone().requires_grad_()
    (each,) = torch.autograd.grad((posterior(h).draw(1).z @ target).sum(), h)
    assert ((each.mean(0) - exact[0]).abs() < 5 * each.std(0) / math.sqrt(200_000)).all()


def test_the_uniform_sphere_has_the_surface_of_the_sphere() -> None:
    for latent, surface in ((2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)):
        prior = UniformSphere(latent)
        z = prior.sample(20_000, None)
        torch.testing.assert_close(prior.log_prob(z, None), torch.full((20_000,), -math.log(surface)))
        torch.testing.assert_close(torch.cov(z.mT), torch.eye(latent) / latent, atol=0.02, rtol=0)


@pytest.mark.parametrize("temperature", [0.67, 1.5])
def test_a_concrete_density_integrates_to_one(temperature: float) -> None:
    t = torch.linspace(-80, 80, 400_001, **F64)
    q = Concrete(torch.tensor([[[0.7, -0.4]]], **F64), temperature)
    z = torch.stack([t.sigmoid(), (-t).sigmoid()], -1)  # dz = z (1 - z) dt
    assert torch.trapezoid(q.log_prob(z.unsqueeze(-2)).squeeze(-1).exp() * z.prod(-1), t).item() == pytest.approx(1, abs=1e-9)
    axis = torch.linspace(-50, 50, 1001, **F64)
    q = Concrete(torch.tensor([[[0.7, -0.4, 0.1]]], **F64), temperature)
    z = torch.nn.functional.pad(torch.cartesian_prod(axis, axis), (0, 1)).softmax(-1)
    total = (q.log_prob(z.unsqueeze(-2)).squeeze(-1).exp() * z.prod(-1)).sum() * (axis[1] - axis[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-6)


def test_the_largest_of_a_relaxed_vector_is_a_sample_of_its_categories() -> None:
    torch.manual_seed(0)
    posterior = GumbelSoftmax(8, categories=4)
    q = posterior(numbers(posterior))
    largest = q.draw(50_000).z.unflatten(-1, (2, 4)).argmax(-1).squeeze(1)
    share = torch.stack([(largest == c).double().mean(0) for c in range(4)], -1)
    p = q.mean.unflatten(-1, (2, 4))[0]
    assert ((share - p).abs() < 5 * (p * (1 - p) / 50_000).sqrt()).all()
    prior = ConcretePrior(8, categories=4).double()
    z = prior.sample(5, None)
    torch.testing.assert_close(prior.log_prob(z, None), Concrete(torch.zeros(5, 2, 4, **F64), 0.67).log_prob(z))


def test_a_relaxed_vector_is_finite_where_a_probability_underflows() -> None:
    logits = torch.tensor([[[150.0, 0.0, -150.0]]], requires_grad=True)
    q = Concrete(logits, 0.67)
    z, log_q = q.draw(20)
    assert (z == 0).any() and log_q.isfinite().all()
    (gradient,) = torch.autograd.grad((log_q - ConcretePrior(3, categories=3).log_prob(z, None)).sum(), logits)
    assert gradient.isfinite().all()


# -- models ----------------------------------------------------------------------------------------------------------------


def of_linear(posterior: Posterior) -> tuple[VAE, Tensor, float]:
    """The linear-Gaussian model with another posterior, whose mean is the exact one and whose other numbers are small."""
    model, x, exact = linear_vae(W1)
    other = VAE((1, 1, 5), model.likelihood, posterior=posterior, latent=2, hidden=()).double()
    other.decoder.load_state_dict(model.decoder.state_dict())
    torch.manual_seed(0)
    with torch.no_grad():
        weight, bias = model.encoder[0].weight, model.encoder[0].bias
        other.encoder[0].weight.zero_()
        other.encoder[0].weight[:4].copy_(weight)
        other.encoder[0].bias.normal_(0, 0.3)
        other.encoder[0].bias[:4].copy_(bias)
    return other, x, exact


@pytest.mark.parametrize("name", ["full", "planar", "radial", "sylvester", "iaf", "hamiltonian"])
def test_bounds_stay_under_log_px(name: str) -> None:
    model, x, exact = of_linear(POSTERIORS[name](2))
    values = []
    for k, objective in ((1, elbo), (1, iwae), (10, iwae), (50, iwae)):
        bound = -objective(draws(model, x.expand(4000, -1), k))
        error = bound.std().item() / math.sqrt(4000)
        assert bound.mean().item() < exact + 5 * error + 1e-9
        values.append(bound.mean().item())
    assert all(after > before - 0.05 for before, after in pairwise(values))
    assert values[-1] == pytest.approx(exact, abs=0.15)


def test_a_full_normal_touches_log_px() -> None:
    model, x, exact = of_linear(FullNormal(2))
    w = model.decoder[0].weight.detach()
    tril = torch.linalg.cholesky(torch.linalg.inv(torch.eye(2, **F64) + w.T @ w / 0.25))
    with torch.no_grad():
        model.encoder[0].bias[2:].copy_(torch.cat([tril.diag().log(), tril[1:, 0]]))
    d = draws(model, x, 50)
    torch.testing.assert_close(d.log_w, torch.full_like(d.log_w, exact))
    many = draws(model, x, 400_000)
    error = many.log_px.std().item() / math.sqrt(400_000)
    assert -elbo(many).item() == pytest.approx(exact, abs=5 * error)


@pytest.mark.parametrize("options", TRACED)
def test_stacked_and_traced_seeds_train_apart(options: str) -> None:
    seeds_train_apart(f"vae[posterior={options}]", ways=[True])


def test_a_pair_that_does_not_fit_is_refused() -> None:
    for posterior, prior, latent, words in (
        (PowerSphericalPosterior, StandardNormal, 4, "the prior's latents lie in real space, those of q(z | x) in sphere"),
        (GumbelSoftmax, UniformSphere, 10, "the prior's latents lie in sphere space, those of q(z | x) in simplex"),
        (GumbelSoftmax, lambda latent: ConcretePrior(latent, categories=5), 10, "are vectors of 5 probabilities, those of q(z | x) of 10"),
    ):
        with pytest.raises(UserError) as refused:
            VAE((1, 1, 5), linear_vae(W1)[0].likelihood, prior=prior(latent), posterior=posterior(latent), latent=latent, hidden=())
        assert words in str(refused.value) and "\n" not in str(refused.value)
    for make in (GumbelSoftmax, ConcretePrior):
        with pytest.raises(UserError, match="latent=12 units are no whole number of vectors of categories=10"):
            make(12)
    for make in (PowerSphericalPosterior, UniformSphere):
        with pytest.raises(UserError, match="at least two units"):
            make(1)


@pytest.mark.parametrize(("categories", "share"), [(2, 0.99), (4, 0.48), (10, 0.20)])
def test_the_more_relaxed_categories_the_less_of_what_q_tells_is_in_the_mean_of_z(categories: int, share: float) -> None:
    """J^2 / (S F) of a contrast of two logits: J = dE[z] / dlogits, S = Cov(z), F the Fisher information of q, all at equal logits."""
    logits = torch.zeros(100_000, 1, categories, **F64, requires_grad=True)
    q = Concrete(logits, 0.67)
    z = q.draw(1).z[0].detach()
    (score,) = torch.autograd.grad(q.log_prob(z).sum(), logits)
    told, seen = (each.flatten(1)[:, 0] - each.flatten(1)[:, 1] for each in (score, z))
    assert told.var().item() / 2 == pytest.approx(categories / (categories + 1), rel=0.02)
    assert torch.stack([told, seen]).corrcoef()[0, 1].square().item() == pytest.approx(share, abs=0.01)


def test_named_variants_have_their_parts() -> None:
    (gumbel,) = configure("vae-gumbel")
    assert (gumbel.values["posterior"], gumbel.values["prior"], gumbel.values["latent"]) == ("gumbel-softmax", "concrete", 200)
    (spherical,) = configure("vae-spherical")
    assert (spherical.values["posterior"], spherical.values["prior"]) == ("power-spherical", "sphere")
