"""Adversarial variational Bayes and Soft-IntroVAE beside closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from vae_variants.checks.linear_gaussian import W1, linear_vae
from vae_variants.datasets import Dataset
from vae_variants.models.avb import AdversarialBayes, ImplicitPosterior
from vae_variants.models.base import Density, LatentVariable, Sampler
from vae_variants.models.draws import Draws
from vae_variants.models.posteriors import Diagonal
from vae_variants.registry import UserError
from vae_variants.variants import build

T = torch.ones((), dtype=torch.float64)


def linear(k: int) -> Draws:
    """K samples for 3 images, of a linear-Gaussian VAE."""
    model, x, _ = linear_vae(W1)
    torch.manual_seed(0)
    return model.infer(x + torch.randn(3, 5, dtype=torch.float64), k, T)


def ratio(d: Draws, contrast: bool):
    """log q(z | x) / r(z | x) at z, which the critic is given less the mean and over the scale if `contrast`."""
    q = d.q
    assert isinstance(q, Diagonal)

    def logit(_: Draws, z: torch.Tensor) -> torch.Tensor:
        if contrast:
            return q.log_prob(q.mean + q.scale * z) - Diagonal(q.mean, q.log_scale).log_prob(q.mean + q.scale * z)
        return q.log_prob(z) - d.model.log_prior(z)

    return logit


@pytest.mark.parametrize("contrast", [False, True])
def test_with_the_true_log_ratio_the_objective_is_the_elbo(contrast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    d, term = linear(4), AdversarialBayes((1, 1, 5), 2, contrast).double()
    monkeypatch.setattr(term, "logit", ratio(d, contrast))
    torch.testing.assert_close(term(d), -d.log_w.mean(0))


@pytest.mark.parametrize("contrast", [False, True])
def test_the_true_log_ratio_is_the_best_critic(contrast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shifts, scales and slopes of it all cost more."""
    d, term = linear(20_000), AdversarialBayes((1, 1, 5), 2, contrast).double()
    best, losses = ratio(d, contrast), []
    for change in (
        lambda v, z: v,
        lambda v, z: v + 0.3,
        lambda v, z: v - 0.3,
        lambda v, z: v + 0.3 * z[..., 0],
        lambda v, z: 0.5 * v + 0.1,
    ):
        monkeypatch.setattr(term, "logit", lambda draws, z, change=change: change(best(draws, z), z))
        torch.manual_seed(1)
        losses.append(term.critic_loss(d).mean().item())
    assert min(losses[1:]) > losses[0] + 1e-3


def test_an_implicit_posterior_without_warp_is_diagonal() -> None:
    torch.manual_seed(0)
    posterior, h = ImplicitPosterior(3, moments=4000).double(), torch.randn(5, 9, dtype=torch.float64)
    with torch.no_grad():
        for parameter in posterior.warp[-1].parameters():
            parameter.zero_()
    diagonal, fixed = Diagonal(h[:, :3], h[:, 3:6]), posterior.eval()(h)
    torch.manual_seed(1)
    z = fixed.draw(4).z
    torch.manual_seed(1)
    torch.testing.assert_close(z, diagonal.draw(4).z)
    torch.testing.assert_close(fixed.mean, diagonal.mean)
    torch.testing.assert_close(fixed.scale, diagonal.scale, rtol=0.06, atol=0)
    assert torch.equal(posterior(h).mean, posterior(h).mean)
    assert not torch.equal(posterior.train()(h).scale, posterior(h).scale), "q could adapt to fixed noise in training"


def test_the_moments_of_an_implicit_posterior_are_those_of_its_samples() -> None:
    torch.manual_seed(0)
    posterior = ImplicitPosterior(2, moments=4000).double()
    q = posterior.eval()(torch.randn(3, 6, dtype=torch.float64))
    z = q.draw(50_000).z.detach()
    torch.testing.assert_close(q.mean.detach(), z.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(q.scale.detach(), z.std(0), atol=0, rtol=0.06)


def test_only_a_posterior_with_a_density_leaves_avb_its_nats(digits: Dataset) -> None:
    implicit, known = (build(f"vae[objective=avb,posterior={p},hidden=7,latent=3]", digits) for p in ("implicit", "diagonal"))
    assert isinstance(implicit, Sampler) and not isinstance(implicit, (Density, LatentVariable))
    assert isinstance(known, Density) and isinstance(known, LatentVariable)
    x = digits.as_(known.support).train[:4]
    for name, player in (
        ("encoder.0.weight", 0),
        ("decoder.0.weight", 0),
        ("posterior.warp.0.weight", 0),
        ("objective.critic.0.weight", 1),
    ):
        value = implicit(implicit.players[player].loss, x, torch.ones(()))
        (gradient,) = torch.autograd.grad(value, implicit.get_parameter(name))
        assert gradient.abs().sum() > 0, name
    point = build("vae[objective=avb,posterior=point,hidden=7,latent=3]", digits)
    with pytest.raises(UserError, match="contrast=false"):
        point("loss", x, torch.ones(()))


@pytest.mark.parametrize("negative", [0.0, 5.0])
def test_soft_intro_is_its_formula_for_gaussian_pixels(negative: float, digits: Dataset) -> None:
    model = build(f"vae[objective=soft-intro-vae,likelihood=gaussian,sigma=0.5,hidden=7,latent=3,negative={negative},gamma=0.3]", digits)
    x, t, n = digits.grey("train")[:6], torch.ones(()), 64
    assert isinstance(model, Density)
    d = model.draws(x, t)

    def error(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return (x - mean).square().sum(-1) / (2 * 0.5**2)

    constant = n * math.log(0.5 * math.sqrt(2 * math.pi))
    found = []
    for loss in (model.objective, model.objective.decoder_loss):
        torch.manual_seed(1)
        found.append(loss(d))
    torch.manual_seed(1)
    images = torch.cat([model.decode(d.z[0]), model.decode(torch.randn(6, 3))])
    q = model.conditional(images)
    z = q.mean + q.scale * torch.randn(12, 3)
    kl = 0.5 * (q.mean.square() + q.scale.square() - 1).sum(-1) - q.log_scale.sum(-1)
    again, first = error(images, model.decode(z)), error(x, model.decode(d.z[0])) + constant
    payoff = (-2 / n * (again + (negative or n / 12) * kl)).exp().mean()
    torch.testing.assert_close(found[0], (first + d.kl) / n + 0.5 * payoff, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], (first + kl.mean() + 0.3 * (again.mean() + constant)) / n, atol=1e-5, rtol=1e-5)


def test_the_encoder_raises_the_kl_of_generated_images_and_the_decoder_lowers_it(digits: Dataset) -> None:
    model = build("vae[objective=soft-intro-vae,likelihood=gaussian,sigma=0.1,hidden=7,latent=3,beta=0]", digits)
    d = model.draws(digits.grey("train")[:50], torch.ones(()))
    assert [player.owns for player in model.players] == [("",), ("decoder.",)]

    def kl() -> torch.Tensor:
        torch.manual_seed(2)
        images = torch.cat([d.mean.flatten(0, 1).detach(), model.decode(torch.randn(50, 3)).detach()])
        return model.infer(images, 1, d.t).kl.mean()

    parameters = list(model.encoder.parameters())
    payoff = 64 * model.objective(d).mean() + d.log_px.mean()  # what is left depends on generated images alone
    gradients, rise = (torch.autograd.grad(value, parameters, retain_graph=True) for value in (payoff, kl()))
    assert sum((a * b).sum() for a, b in zip(gradients, rise, strict=True)) < 0
    images = torch.cat([d.mean.flatten(0, 1), model.decode(torch.randn(50, 3))])
    parameters = list(model.decoder.parameters())
    model.objective.beta = 1.0
    wanted, payoff = model.infer(images, 1, d.t).kl.mean(), 64 * model.objective.decoder_loss(d).mean() + d.log_px.mean()
    gradients, rise = (torch.autograd.grad(value, parameters, retain_graph=True) for value in (payoff, wanted))
    assert sum((a * b).sum() for a, b in zip(gradients, rise, strict=True)) > 0
