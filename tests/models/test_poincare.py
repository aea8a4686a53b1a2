"""The Poincaré ball against its formulas: distances, volumes, and densities integrated over the disk."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.objectives import elbo
from vae_variants.models.poincare import (
    FARTHEST,
    RiemannianNormalPrior,
    WrappedNormal,
    WrappedNormalPosterior,
    WrappedNormalPrior,
    exp_0,
    log_0,
    log_stretch,
    moved,
    seen_from,
)
from vae_variants.models.priors import StandardNormal
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError

F64 = {"dtype": torch.float64}
CURVATURES = (0.5, 1.0, 2.0)
POLAR = (600, 240)  # points of distance and of angle


def disk(c: float) -> tuple[Tensor, Tensor]:
    """Points of the disk (R, A, 2) at equal distances from 0 and angles, and their hyperbolic areas, sinh(sqrt(c) r) / sqrt(c) dr da."""
    r = (torch.arange(POLAR[0], **F64) + 0.5) * FARTHEST / math.sqrt(c) / POLAR[0]
    a = (torch.arange(POLAR[1], **F64) + 0.5) * 2 * math.pi / POLAR[1]
    area = (math.sqrt(c) * r).sinh() / math.sqrt(c) * (r[1] - r[0]) * (a[1] - a[0])
    radius = (0.5 * math.sqrt(c) * r).tanh() / math.sqrt(c)
    return radius[:, None, None] * torch.stack([a.cos(), a.sin()], -1), area[:, None].expand(*POLAR)


def densities(c: float):
    mean = exp_0(torch.tensor([[1.3, -0.6]], **F64), c)
    q = WrappedNormal(mean, torch.tensor([[-0.7, 0.1]], **F64), c)
    yield lambda z: q.log_prob(z.unsqueeze(-2)).squeeze(-1), lambda n: q.draw(n).z.squeeze(1)
    for prior in (WrappedNormalPrior(2, curvature=c, spread=0.9), RiemannianNormalPrior(2, curvature=c, spread=0.8)):
        yield lambda z, prior=prior: prior.log_prob(z, None), lambda n, prior=prior: prior.double().sample(n, None)


@pytest.mark.parametrize("c", CURVATURES)
def test_exp_and_log_are_inverse_and_an_isometry_keeps_distances(c: float) -> None:
    torch.manual_seed(0)
    v = torch.randn(200, 3, **F64) * torch.logspace(-12, 0.4, 200, **F64)[:, None]
    z = exp_0(v, c)
    torch.testing.assert_close(log_0(z, c), v, rtol=1e-9, atol=0)
    m = exp_0(1.5 * torch.randn(200, 3, **F64), c)
    w = moved(m, z, c)
    assert (w.square().sum(-1) < 1 / c).all()
    torch.testing.assert_close(seen_from(m, w, c), v, rtol=1e-6, atol=1e-9)
    ratio = 2 * c * (w - m).square().sum(-1) / ((1 - c * m.square().sum(-1)) * (1 - c * w.square().sum(-1)))
    torch.testing.assert_close(seen_from(m, w, c).norm(dim=-1)[100:], (1 + ratio).acosh()[100:] / math.sqrt(c), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("c", CURVATURES)
def test_the_stretch_is_the_volume_of_the_exponential_map(c: float) -> None:
    for v in 2 * torch.randn(5, 3, **F64):
        jacobian = torch.autograd.functional.jacobian(lambda at: exp_0(at, c), v)
        factor = 2 / (1 - c * exp_0(v, c).square().sum())
        torch.testing.assert_close(log_stretch(v, c), jacobian.det().log() + 3 * factor.log())
    assert log_stretch(torch.zeros(3, **F64), c).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("c", CURVATURES)
def test_densities_integrate_to_one_over_the_disk_and_samples_follow_them(c: float) -> None:
    torch.manual_seed(0)
    (points, area), n = disk(c), 20_000
    for log_prob, draw in densities(c):
        mass = log_prob(points).exp() * area
        assert mass.sum().item() == pytest.approx(1, abs=1e-4)
        cells = mass.unflatten(0, (100, -1)).unflatten(2, (4, -1)).sum((1, 3))  # rings and quadrants
        z = draw(n)
        ring = (log_0(z, c).norm(dim=-1) * math.sqrt(c) * 100 / FARTHEST).long().clamp(max=99)
        quadrant = (torch.atan2(z[:, 1], z[:, 0]) % (2 * math.pi) * 2 / math.pi).long().clamp(max=3)
        counts = torch.bincount(4 * ring + quadrant, minlength=400).reshape(100, 4)
        assert ((counts - n * cells).abs() < 5 * (n * cells * (1 - cells)).sqrt() + 1).all()
        assert (counts > 100).sum() > 30


def test_a_ball_without_curvature_is_flat() -> None:
    torch.manual_seed(0)
    h, c = torch.randn(4, 6, **F64), 1e-9
    q = WrappedNormalPosterior(3, curvature=c)(h)
    z = q.draw(50).z
    normal = torch.distributions.Normal(h[:, :3], h[:, 3:].exp())
    torch.testing.assert_close(q.log_prob(z), normal.log_prob(2 * z).sum(-1), rtol=1e-5, atol=1e-5)
    for prior in (WrappedNormalPrior(3, curvature=c, spread=1.5), RiemannianNormalPrior(3, curvature=c, spread=1.5)):
        expected = torch.distributions.Normal(0, 1.5).log_prob(2 * z).sum(-1)
        torch.testing.assert_close(prior.log_prob(z, None), expected, rtol=1e-5, atol=1e-5)
    away = 2 * RiemannianNormalPrior(3, curvature=c, spread=1.5).double().sample(40_000, None)
    torch.testing.assert_close(torch.cov(away.mT), 2.25 * torch.eye(3, **F64), rtol=0, atol=0.06)


def test_log_q_of_a_sample_is_its_density() -> None:
    torch.manual_seed(0)
    q = WrappedNormalPosterior(4)(0.7 * torch.randn(5, 8))
    z, log_q = q.draw(100)
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-3, atol=1e-3)
    q = WrappedNormalPosterior(4)(0.7 * torch.randn(5, 8, **F64))
    z, log_q = q.draw(100)
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e-3, 1.0, 10.0, 100.0, 1e4])
def test_numbers_stay_finite_wherever_the_encoder_is(size: float) -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        for log_s in (-20.0, 0.0, 5.0):
            h = torch.cat([size * torch.randn(6, 3), torch.full((6, 3), log_s)], -1).to(dtype).requires_grad_()
            posterior, priors = WrappedNormalPosterior(3), (WrappedNormalPrior(3), RiemannianNormalPrior(3))
            q = posterior(h)
            z, log_q = q.draw(20)
            assert z.dtype is dtype and (z.norm(dim=-1) < 1).all() and (q.mean.norm(dim=-1) < 1).all()
            edge = torch.cat([z.detach(), torch.eye(3, dtype=dtype).repeat(1, 2, 1)]).requires_grad_()
            for value, at in ((log_q, h), (q.log_prob(z), h), (q.log_prob(edge), edge), *((p.log_prob(edge, None), edge) for p in priors)):
                (gradient,) = torch.autograd.grad(value.sum(), at, retain_graph=True)
                assert value.isfinite().all() and gradient.isfinite().all()
            (gradient,) = torch.autograd.grad(priors[0].chart(z).sum(), h)
            assert gradient.isfinite().all()


def ball(**options: float) -> VAE:
    return VAE(
        (1, 2, 5),
        Bernoulli(),
        prior=WrappedNormalPrior(3, **options),
        posterior=WrappedNormalPosterior(3, **options),
        latent=3,
        hidden=(7,),
    ).double()


def test_the_decoder_sees_the_logarithm() -> None:
    torch.manual_seed(0)
    model = ball(curvature=0.5)
    z = model.draw_prior(6)
    torch.testing.assert_close(model.outputs(z), model.decoder(log_0(z, 0.5)))
    x = torch.rand(4, 10, **F64).round()
    torch.testing.assert_close(model.encode(x), exp_0(model.encoder(x)[:, :3], 0.5))
    assert model.sample_mean(5).isfinite().all() and elbo(model.infer(x, 3, torch.ones(()))).isfinite().all()


def test_pairs_and_sizes_that_do_not_fit_are_refused() -> None:
    for prior, posterior, words in (
        (StandardNormal(3), WrappedNormalPosterior(3), "real space, those of q\\(z | x\\) in hyperbolic"),
        (WrappedNormalPrior(3, curvature=2), WrappedNormalPosterior(3), "give prior.curvature and posterior.curvature the same value"),
    ):
        with pytest.raises(UserError, match=words):
            VAE((1, 2, 5), Bernoulli(), prior=prior, posterior=posterior, latent=3, hidden=(7,))
    with pytest.raises(UserError, match="curvature above 0"):
        WrappedNormalPosterior(3, curvature=0)
    for make in (WrappedNormalPrior, RiemannianNormalPrior):
        with pytest.raises(UserError, match="too near the edge"):
            make(200)
    RiemannianNormalPrior(1)
