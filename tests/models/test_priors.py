"""Priors and samplers against closed forms and independent computations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vae_variants.datasets import Dataset
from vae_variants.models import priors
from vae_variants.models.fitted_samplers import MAFSampler, SecondStageSampler
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.objectives import reconstruction
from vae_variants.models.posteriors import Diagonal, PointPosterior, Space
from vae_variants.models.prior_flows import Coupling, Flow, Inverted, MAFPrior, RealNVPPrior, masked_autoregressive
from vae_variants.models.priors import PRIORS, ExemplarPrior, MixturePrior, StandardNormal, VampPrior
from vae_variants.models.samplers import SAMPLERS, GaussianMixtureSampler
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError
from vae_variants.training.loop import fit
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

Z, SHAPE = 4, (1, 2, 5)


def q(x: torch.Tensor) -> Diagonal:
    return Diagonal(3 * x[..., :Z], x[..., -Z:] - 1)


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(3, 7, Z, dtype=torch.float64)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 10, dtype=torch.float64)


def test_a_mixture_of_one_standard_component_is_normal(z) -> None:
    mixture = MixturePrior(Z, components=1).double()
    nn.init.zeros_(mixture.means)
    torch.testing.assert_close(mixture.log_prob(z, q), StandardNormal(Z).double().log_prob(z, q))


def test_a_mixture_is_that_of_torch(z) -> None:
    mixture = MixturePrior(Z, components=5).double().requires_grad_(False)
    for p in mixture.parameters():
        p.copy_(torch.randn_like(p))
    parts = torch.distributions.Independent(torch.distributions.Normal(mixture.means, mixture.log_scales.exp()), 1)
    expected = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=mixture.logits), parts)
    torch.testing.assert_close(mixture.log_prob(z, q), expected.log_prob(z))


def test_vamp_at_the_exemplars_is_the_exemplar_prior(z, images) -> None:
    exemplar = ExemplarPrior(Z, SHAPE, len(images)).double()
    exemplar.initialise(images)
    vamp = VampPrior(Z, SHAPE, components=len(images)).double()
    vamp.initialise(images)
    expected = torch.stack([q(x.unsqueeze(0)).log_prob(z.unsqueeze(-2)).squeeze(-1) for x in images]).logsumexp(0) - math.log(len(images))
    torch.testing.assert_close(exemplar.log_prob(z, q), expected)
    torch.testing.assert_close(vamp.log_prob(z, q), expected)
    assert sorted(exemplar.exemplars.tolist()) == sorted(images.tolist()), "each image once"


def test_exemplars_are_at_most_as_many_as_the_images() -> None:
    assert ExemplarPrior(Z, SHAPE, 7, components=9).exemplars.shape == (7, 10)
    assert ExemplarPrior(Z, SHAPE, 70, components=9).exemplars.shape == (9, 10)


def test_pseudo_inputs_are_clamped_and_still_learn(z) -> None:
    vamp = VampPrior(Z, SHAPE, components=6).double()
    wide = 4 * torch.rand(6, 10, dtype=torch.float64) - 1.5
    vamp.initialise(wide)
    torch.testing.assert_close(vamp.inputs.sort(0).values, wide.clamp(0, 1).sort(0).values)
    (gradient,) = torch.autograd.grad(vamp.log_prob(z, q).sum(), vamp.pseudo)
    assert (gradient[:, :Z] != 0).all(), "also those of pixels outside"


def test_a_mixture_in_parts_is_the_whole(z, images, monkeypatch) -> None:
    vamp = VampPrior(Z, SHAPE, components=6).double()
    whole = vamp.log_prob(z, q)
    monkeypatch.setattr(priors, "MOST", 5 * 6 * Z)  # five rows at once
    torch.testing.assert_close(vamp.log_prob(z, q), whole)
    assert vamp.log_prob(z[:0], q).shape == (0, 7)


FLOWS = {
    "coupling": lambda: Coupling(Z, 8),
    "coupling-reversed": lambda: Coupling(Z - 1, 8, reverse=True),
    "realnvp": lambda: RealNVPPrior(Z, flows=3, width=8).flow,
    "maf": lambda: MAFPrior(Z, flows=3, width=8).flow,
    "iaf": lambda: Inverted(masked_autoregressive(Z, 2, 8)),
    "maf-of-one-unit": lambda: masked_autoregressive(1, 2, 8),
}


@pytest.fixture(params=FLOWS)
def flow(request) -> tuple[Flow, int]:
    found = FLOWS[request.param]().double().requires_grad_(False)
    for p in found.parameters():
        p.add_(0.5 * torch.randn_like(p))
    return found, {"coupling-reversed": Z - 1, "maf-of-one-unit": 1}.get(request.param, Z)


def test_the_inverse_of_a_flow_undoes_it(flow) -> None:
    f, width = flow
    z = torch.randn(3, 5, width, dtype=torch.float64)
    u, log_det = f(z)
    assert log_det.shape == (3, 5)
    assert not torch.allclose(u, z, atol=0.1)
    torch.testing.assert_close(f.inverse(u), z)
    torch.testing.assert_close(f(f.inverse(z))[0], z)


def test_the_log_determinant_is_that_of_autograds_jacobian(flow) -> None:
    f, width = flow
    for z in 2 * torch.randn(4, width, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(lambda z: f(z)[0], z)
        torch.testing.assert_close(f(z)[1], torch.linalg.slogdet(jacobian)[1])


def test_every_unit_of_a_flow_prior_is_transformed_and_none_explodes() -> None:
    for name in ("realnvp", "maf"):
        prior = PRIORS[name](5, width=8).double().requires_grad_(False)  # type: ignore[call-arg]
        for p in prior.parameters():
            p.mul_(100).add_(100 * torch.randn_like(p))
        z = torch.randn(200, 5, dtype=torch.float64)
        u, log_det = prior.flow(z)
        assert (u != z).any(0).all()
        assert log_det.abs().max() < 3 * 5 * len(prior.flow.flows) + 1e-9
        assert prior.sample(200, q).isfinite().all()


def test_priors_without_a_density_of_q_or_with_one_unit_are_refused() -> None:
    for prior in (VampPrior(Z, SHAPE), ExemplarPrior(Z, SHAPE, 60)):
        with pytest.raises(UserError, match=r"this prior needs .* posterior=diagonal"):
            VAE(SHAPE, Bernoulli(), reconstruction, prior=prior, posterior=PointPosterior(Z), latent=Z)
    with pytest.raises(UserError, match="latent=2"):
        RealNVPPrior(1)
    assert MAFPrior(1, width=8).log_prob(torch.zeros(3, 1), q).shape == (3,)


@pytest.mark.parametrize("name", ["gaussian-mixture", "maf", "second-stage"])
def test_a_fitted_sampler_is_refused_off_the_plane(name, monkeypatch) -> None:
    monkeypatch.setattr(StandardNormal, "space", Space.SPHERE)
    posterior = PointPosterior(Z)
    monkeypatch.setattr(PointPosterior, "space", Space.SPHERE)
    with pytest.raises(UserError, match="sampler=prior"):
        VAE(SHAPE, Bernoulli(), posterior=posterior, sampler=SAMPLERS[name](Z), latent=Z)
    VAE(SHAPE, Bernoulli(), reconstruction, posterior=posterior, latent=Z)


def test_fitting_leaves_the_random_stream_alone_and_constant_units_finite() -> None:
    codes = torch.randn(100, 3) * torch.tensor([1.0, 0.0, 100.0])
    for sampler in (MAFSampler(3, width=8, steps=20), SecondStageSampler(3, width=8, steps=20)):
        before = torch.get_rng_state()
        with torch.no_grad():
            sampler.fit(codes)
        assert torch.equal(torch.get_rng_state(), before)
        found = sampler.draw(50, None)
        assert found.isfinite().all()
        assert found[:, 1].abs().max() < 1e-3
        assert not [*sampler.parameters()]


def test_a_flow_follows_a_bent_density_that_one_gaussian_does_not() -> None:
    a, b = torch.randn(2, 4000, dtype=torch.float64)
    codes = torch.stack([a, a.square() + 0.3 * b], -1)
    sampler, gaussian = MAFSampler(2, width=20, steps=200).double(), GaussianMixtureSampler(2, components=1).double()
    with torch.no_grad():
        for each in (sampler, gaussian):
            each.fit(codes)
        bent, straight = sampler.draw(4000, None), gaussian.draw(4000, None)

    def residual(z: torch.Tensor) -> float:
        return (z[:, 1] - z[:, 0].square()).std().item()

    assert residual(bent) < 0.6 < 1.5 < residual(straight)


def test_the_mixture_does_not_depend_on_the_scale_of_the_latents() -> None:
    codes = torch.cat([torch.randn(300, 3), 0.3 * torch.randn(200, 3) + 2]).double()
    scale, shift = torch.tensor([0.01, 1.0, 50.0], dtype=torch.float64), torch.tensor([3.0, 0.0, -700.0], dtype=torch.float64)
    one, two = (GaussianMixtureSampler(3, components=2).double() for _ in range(2))
    one.fit(codes)
    two.fit(shift + scale * codes)
    torch.testing.assert_close(two.means, shift + scale * one.means)
    torch.testing.assert_close(two.scale_tril, scale[:, None] * one.scale_tril)


def test_a_sampler_is_fitted_to_samples_of_the_posterior(tiny: Dataset) -> None:
    """Their covariance is that of the means of q plus its own; one Gaussian that is fitted to them has it."""
    (chosen,) = configure("vae[sampler=gaussian-mixture,components=1,latent=2,hidden=8]")
    model, x = build(chosen, tiny), tiny.as_(Support.BINARY).train.repeat(100, 1)
    before = torch.get_rng_state()
    with torch.no_grad():
        model.finish(x)
        assert torch.equal(torch.get_rng_state(), before)
        q = model.conditional(x)
        expected = q.mean.mT.cov(correction=0) + q.draw(200).z.var(0).mean(0).diag()
    found = model.sampler.scale_tril[0]
    torch.testing.assert_close(found @ found.mT, expected, rtol=0.1, atol=0.02)
    assert expected.diag().min() > 5 * q.mean.var(0).max()  # the means alone vary far less


@pytest.mark.parametrize("name", ["mixture", "vamp", "realnvp"])
def test_a_learnt_prior_fits_the_posteriors_better_than_the_normal_one(name: str, digits: Dataset) -> None:
    (chosen,) = configure(f"vae[prior={name}]", {"hidden": [64], "latent": 5, "batch": 100, "epochs": 20, "lr": 3e-3})
    population = Population(lambda: build(chosen, digits), (0, 1))
    data = digits.as_(Support.BINARY)
    fit(population, data, chosen.recipe)
    with torch.no_grad():
        for member in population.members():
            z = member.infer(data.validation, 20, torch.ones(())).z
            assert member.log_prior(z).mean() > StandardNormal(5).log_prob(z, None).mean() + 0.1
