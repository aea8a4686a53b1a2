"""Objectives that combine bounds, beside the bounds that they are made of, and losses without a density."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vae_variants.checks.linear_gaussian import W2, draws, linear_vae
from vae_variants.checks.objective import off_the_posterior
from vae_variants.datasets import Dataset
from vae_variants.models.base import Density
from vae_variants.models.bounds import Piwae, ciwae, miwae
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.objectives import capacity, cyclical, elbo, elbo_sampled, info, iwae, renyi
from vae_variants.models.perceptual import log_cosh, ms_ssim, similarity
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError
from vae_variants.variants import build


def test_miwae_of_one_group_is_iwae_and_of_k_groups_the_elbo() -> None:
    d, _ = off_the_posterior(7, 6)
    torch.testing.assert_close(miwae(d, groups=1), iwae(d))
    torch.testing.assert_close(miwae(d, groups=6), elbo_sampled(d))
    halves = [iwae(d._replace(log_px=d.log_px[s], log_pz=d.log_pz[s], log_qz=d.log_qz[s])) for s in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(miwae(d, groups=2), torch.stack(halves).mean(0))
    torch.testing.assert_close(miwae(d, groups=4), miwae(d, groups=2))


def test_ciwae_lies_between_iwae_and_the_elbo() -> None:
    d, _ = off_the_posterior(7, 6)
    torch.testing.assert_close(ciwae(d, weight=0.0), iwae(d))
    torch.testing.assert_close(ciwae(d, weight=1.0), elbo_sampled(d))
    torch.testing.assert_close(ciwae(d, weight=0.25), 0.25 * elbo_sampled(d) + 0.75 * iwae(d))
    with pytest.raises(UserError, match="weight=2 is not a share"):
        ciwae(d, weight=2.0)


def test_the_gradients_of_piwae_are_those_of_its_two_bounds() -> None:
    x, t = torch.rand(5, 8).round(), torch.tensor(0.5)
    model = VAE((1, 2, 4), Bernoulli(), Piwae(groups=2), latent=3, samples=6, hidden=(7,), regularizer=lambda d: 0.1 * d.z.square().mean())

    def gradients(loss, start: str) -> dict[str, torch.Tensor]:
        parameters = {name: p for name, p in model.named_parameters() if name.startswith(start)}
        torch.manual_seed(0)
        return dict(zip(parameters, torch.autograd.grad(loss(), list(parameters.values())), strict=True))

    def bound(objective):
        def loss() -> torch.Tensor:
            d = model.draws(x, t)
            return objective(d).mean() + model.regularizer(d).mean()

        return loss

    owner, inference = model.players
    assert inference.owns == ("encoder.", "posterior.") and owner.owns == ("",)
    for player, start, objective in ((inference, "encoder", lambda d: miwae(d, 2)), (owner, "decoder", iwae)):
        found = gradients(lambda player=player: model(player.loss, x, t), start)
        assert found
        torch.testing.assert_close(found, gradients(bound(objective), start))


def test_renyi_is_iwae_at_order_0_falls_with_the_order_and_touches_log_p_at_the_posterior() -> None:
    d, _ = off_the_posterior(7, 6)
    torch.testing.assert_close(renyi(d, alpha=0.0), iwae(d))
    torch.testing.assert_close(renyi(d, alpha=1 - 1e-7), elbo_sampled(d), atol=1e-4, rtol=0)
    values = torch.stack([renyi(d, alpha=alpha) for alpha in (0.0, 0.5, 0.9, 2.0, 5.0)])
    assert (values.diff(dim=0) > 0).all()
    model, x, exact = linear_vae(W2)
    assert -renyi(draws(model, x, 5), alpha=0.5).item() == pytest.approx(exact, abs=1e-9)
    with pytest.raises(UserError, match="objective=elbo"):
        renyi(d, alpha=1.0)


def test_weights_and_capacities_change_through_training() -> None:
    d, _ = off_the_posterior(7, 6)
    for t, weight in ((0.0, 0.0), (0.0625, 0.5), (0.125, 1.0), (0.2, 1.0), (0.25, 0.0), (0.8125, 0.5), (1.0, 1.0)):
        now = d._replace(t=torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(cyclical(now), weight * d.kl - d.log_px.mean(0), msg=f"at {t}")
    half = d._replace(t=torch.tensor(0.5, dtype=torch.float64))
    for wanted in (0.0, 2 * d.kl.mean().item(), 100.0):
        expected = 3 * abs(d.kl.mean().item() - wanted / 2) - d.log_px.mean(0)
        torch.testing.assert_close(capacity(half, gamma=3.0, capacity=wanted), expected)


def test_info_is_the_elbo_if_its_divergence_has_no_weight() -> None:
    d, _ = off_the_posterior(7, 6)
    torch.testing.assert_close(info(d, alpha=0.0, strength=1.0), elbo(d))
    shifted = d._replace(z=d.z + 5)
    assert (info(shifted, alpha=0.0, strength=3.0) > elbo(d) + 1).all(), "latents far from the prior cost"


def test_losses_without_a_density_are_their_formula_and_0_for_the_image_itself() -> None:
    d, _ = off_the_posterior(6, 3)
    error = d.x - d.mean
    torch.testing.assert_close(log_cosh(d, sharpness=2.0), d.kl + (2 * error).cosh().log().sum(-1).mean(0) / 2)
    perfect = d._replace(outputs=d.x.expand_as(d.outputs))
    for loss in (log_cosh(perfect), ms_ssim(perfect, (1, 1, 5))):
        torch.testing.assert_close(loss, d.kl)
    assert (ms_ssim(d, (1, 1, 5)) > d.kl).all()


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 28, 28), (1, 64, 40)])
def test_structural_similarity_is_1_of_an_image_with_itself_and_falls_with_noise(size: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, *size, generator=generator, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(similarity(x, x), torch.ones(4, dtype=torch.float64))
    values = torch.stack([similarity(x, x + scale * noise) for scale in (0.0, 0.05, 0.2, 0.5)])
    assert (values.diff(dim=0) < 0).all() and (values > 0).all()


def test_structural_similarity_of_one_scale_is_its_formula() -> None:
    """7x7 pixels have one scale and one window."""
    x, y = torch.rand(2, 1, 1, 7, 7, dtype=torch.float64)
    place = torch.arange(7, dtype=torch.float64) - 3
    w = F.normalize((-0.5 * (place / 1.5).square()).exp(), p=1, dim=0)
    w = w[:, None] * w
    mean = [(w * image).sum() for image in (x, y)]
    cov = [(w * (a - a_mean) * (b - b_mean)).sum() for a, a_mean, b, b_mean in ((x, mean[0], x, mean[0]), (y, mean[1], y, mean[1]))]
    both = (w * (x - mean[0]) * (y - mean[1])).sum()
    expected = (2 * both + 9e-4) / (sum(cov) + 9e-4) * (2 * mean[0] * mean[1] + 1e-4) / (mean[0] ** 2 + mean[1] ** 2 + 1e-4)
    assert similarity(x, y).item() == pytest.approx(max(expected.item(), 1e-3), rel=1e-6)
    assert math.isfinite(expected.item())


def test_each_player_of_vae_gan_trains_what_it_owns(digits: Dataset) -> None:
    model = build("vae[objective=vae-gan,likelihood=gaussian,hidden=7,latent=3,critic_width=6]", digits)
    assert not isinstance(model, Density) and [player.name for player in model.players] == ["", "decoder", "objective"]
    d = model.draws(digits.grey("train")[:6], torch.tensor(0.5))
    term = model.objective
    distance = (term.features(d.x) - term.features(d.mean[0])).square().sum(-1) / 2
    torch.testing.assert_close(term(d), d.kl + distance)
    with torch.no_grad():
        for parameter in term.last.parameters():
            parameter.zero_()  # a critic that cannot tell
    torch.testing.assert_close(term.critic_loss(d), torch.full((6,), 3 * math.log(2)))
    torch.testing.assert_close(term.decoder_loss(d), distance + 2 * math.log(2))
