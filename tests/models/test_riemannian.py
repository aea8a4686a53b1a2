"""The Riemannian Hamiltonian VAE: its metric and integrator against autograd, and a model whose log p(x) is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.models.test_hamiltonian import bumpy, jacobian
from tests.models.test_posteriors import of_linear
from vae_variants.checks.linear_gaussian import draws
from vae_variants.models.hamiltonian import Phase, gradient, leapfrog
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.posteriors import DiagonalNormal
from vae_variants.models.riemannian import Metric, RiemannianVAE, generalized, walked
from vae_variants.models.vae import VAE

F64 = {"dtype": torch.float64}


def metric(units: int = 3, centres: int = 5) -> Metric:
    roots = torch.randn(centres, units, units, **F64)
    return Metric(torch.randn(centres, units, **F64), roots @ roots.mT, 1.5, 0.1)


def test_the_metric_is_its_formula_and_positive() -> None:
    torch.manual_seed(0)
    found, z = metric(), 2 * torch.randn(40, 3, **F64)
    expected = 0.1 * torch.eye(3, **F64) + sum(
        m * (-(z - c).square().sum(-1) / 1.5**2).exp()[:, None, None] for c, m in zip(found.centres, found.matrices, strict=True)
    )
    spot = found.at(z)
    torch.testing.assert_close(spot.inverse, expected)
    assert (torch.linalg.eigvalsh(spot.inverse) > 0.1 - 1e-9).all()
    torch.testing.assert_close(spot.log_volume, 0.5 * expected.logdet())
    model = RiemannianVAE((1, 2, 5), Bernoulli(), n=20, latent=3, hidden=(7,), centroids=6)
    with torch.no_grad():
        for parameter in model.metric.parameters():
            parameter.mul_(100)
    assert (torch.linalg.eigvalsh(model.geometry().at(5 * torch.randn(40, 3)).inverse) >= 0.01 - 1e-5).all()


def test_its_derivatives_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    found, (z, p) = metric(), torch.randn(2, 3, **F64)
    spot, derivative = found.at(z), torch.autograd.functional.jacobian
    torch.testing.assert_close(spot.uphill, derivative(lambda at: found.at(at).log_volume, z))
    torch.testing.assert_close(spot.velocity(p), spot.inverse @ p)
    torch.testing.assert_close(spot.mixed(p), derivative(lambda at: found.at(at).velocity(p), z))
    kinetic = derivative(lambda at: 0.5 * p @ found.at(at).inverse @ p, z)
    torch.testing.assert_close(0.5 * spot.mixed(p).mT @ p, kinetic)


def hamiltonian(found: Metric, z: Tensor, p: Tensor) -> Tensor:
    spot = found.at(z)
    return -bumpy(z) - spot.log_volume + 0.5 * (p * spot.velocity(p)).sum(-1)


@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_the_determinant_is_that_of_the_steps_as_they_are_taken(iterations: int) -> None:
    torch.manual_seed(0)
    found, (z, p), size, scales = metric(), torch.randn(2, 3, **F64), torch.tensor([0.1, 0.15, 0.2], **F64), torch.tensor([0.9, 0.8], **F64)

    def steps(start: Phase):
        return generalized(start, found, gradient(bumpy), size, scales, iterations)

    log_det = steps(Phase(z, p)).log_det.item()
    whole = jacobian(lambda start: steps(start).phase, z, p).det().log().item()
    assert log_det == pytest.approx(whole - 3 * math.log(0.72), rel=1e-9, abs=1e-12)
    assert (abs(log_det) < 1e-9) == (iterations == 30), "the implicit steps keep volume, their approximations do not"


def test_implicit_steps_keep_the_energy_and_can_be_reversed() -> None:
    torch.manual_seed(0)
    found, start, errors = metric(), Phase(*torch.randn(2, 4, 3, **F64)), []
    for steps in (20, 40):
        size, scales = torch.full((3,), 0.2 / steps, **F64), torch.ones(steps, **F64)
        end = generalized(start, found, gradient(bumpy), size, scales, 30).phase
        errors.append((hamiltonian(found, *end) - hamiltonian(found, *start)).abs().max().item())
    assert errors[0] > 3 * errors[1], "an error of second order"
    assert (end.z - start.z).abs().max() > 0.1
    back = generalized(Phase(end.z, -end.momentum), found, gradient(bumpy), size, scales, 30).phase
    torch.testing.assert_close(back.z, start.z)
    torch.testing.assert_close(back.momentum, -start.momentum)


def test_with_a_constant_metric_it_is_the_leapfrog() -> None:
    torch.manual_seed(0)
    flat = Metric(torch.randn(2, 3, **F64), torch.zeros(2, 3, 3, **F64), 1.5, 1.0)
    start, size, scales = Phase(*torch.randn(2, 4, 3, **F64)), torch.tensor([0.1, 0.2, 0.3], **F64), torch.tensor([0.9, 1.0, 0.7], **F64)
    found, expected = (
        generalized(start, flat, gradient(bumpy), size, scales, iterations=1),
        leapfrog(start, gradient(bumpy), size, scales),
    )
    torch.testing.assert_close(found.phase.z, expected.z)
    torch.testing.assert_close(found.phase.momentum, expected.momentum)
    assert found.log_det.abs().max() < 1e-12


def linear(**options) -> tuple[RiemannianVAE, Tensor, float]:
    source, x, exact = of_linear(DiagonalNormal(2))
    torch.manual_seed(1)
    model = RiemannianVAE((1, 1, 5), source.likelihood, n=9, latent=2, hidden=(), centroids=4, **options).double()
    model.load_state_dict(source.state_dict(), strict=False)
    model.images.copy_(torch.randn(4, 5))
    return model, x, exact


@pytest.mark.parametrize("options", [{"iterations": 1}, {"leapfrog": 3, "iterations": 2}, {"tempering": "free", "floor": 0.5}])
def test_weights_average_to_p_of_x(options) -> None:
    model, x, exact = linear(**options)
    w = (draws(model, x, 60_000).log_w - exact).exp()
    error = w.std().item() / math.sqrt(w.numel())
    assert error < 0.05
    assert w.mean().item() == pytest.approx(1, abs=5 * error)


def test_without_steps_it_is_the_vae_on_the_same_noise() -> None:
    model, x, _ = linear(leapfrog=0)
    vae = VAE((1, 1, 5), model.likelihood, latent=2, hidden=()).double()
    vae.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in vae.state_dict()})
    found = []
    for each in (vae, model):
        torch.manual_seed(1)
        found.append(draws(each, x, 6))
    torch.testing.assert_close(found[1].z, found[0].z)
    torch.testing.assert_close(found[1].log_w, found[0].log_w)


def test_the_walk_follows_the_volume() -> None:
    """With one centre and hardly a floor, sqrt det G^-1(z) is a Gaussian of variance T^2 / Z. Without rejection it is 1.5 times that."""
    torch.manual_seed(0)
    found = Metric(torch.ones(1, 2, **F64), torch.eye(2, **F64)[None], 1.5, 1e-12)
    z = walked(torch.ones(4000, 2, **F64), found, transitions=30, size=1.2, steps=2)
    torch.testing.assert_close(z.mean(0), torch.ones(2, **F64), rtol=0, atol=5 * math.sqrt(1.125 / 4000))
    torch.testing.assert_close(z.var(0), torch.full((2,), 1.125, **F64), rtol=0, atol=5 * 1.125 * math.sqrt(2 / 4000))


def test_samples_start_at_centroids_unless_a_sampler_draws_them() -> None:
    torch.manual_seed(0)
    options = {"n": 20, "latent": 3, "hidden": (7,), "centroids": 6, "temperature": 0.5}
    model = RiemannianVAE((1, 2, 5), Bernoulli(), transitions=1, **options)
    model.initialise(100 * torch.rand(20, 10).round())
    near = torch.cdist(model.latents(50), model.geometry().centres).amin(-1)
    assert near.max() < 3
    assert len(model.images.unique(dim=0)) == 6
    other = RiemannianVAE((1, 2, 5), Bernoulli(), manifold=False, **options)
    torch.manual_seed(2)
    drawn = other.latents(5)
    torch.manual_seed(2)
    assert torch.equal(drawn, other.draw_prior(5))
