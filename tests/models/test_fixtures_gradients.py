"""Gradient estimators: identities, signal and noise on Rainforth's toy, and the variance of the ELBO, against closed forms.

That the ELBO is flat in K, and that L_1 is the ELBO, is in `test_bounds`.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tests.models.test_bounds import given
from tests.models.test_fixtures_bounds import F64, ONE, SIGNS, infer_at
from vae_variants.checks.linear_gaussian import VARIANCE, W1, W2, draws, linear_vae
from vae_variants.models.likelihoods import Bernoulli, Gaussian
from vae_variants.models.objectives import Objective, dreg, elbo, elbo_sampled, iwae, stl
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError


def small_vae() -> tuple[VAE, Tensor]:
    model = VAE((1, 1, 6), Bernoulli(), latent=3, hidden=(5,)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.7 * torch.randn_like(p))
    return model, torch.randint(0, 2, (3, 6)).double()


def gradient(value: Tensor, module: nn.Module) -> Tensor:
    """Of the sum of `value`, to all parameters of `module` in one vector; 0 where none arrives."""
    parameters = list(module.parameters())
    return nn.utils.parameters_to_vector(torch.autograd.grad(value.sum(), parameters, retain_graph=True, materialize_grads=True))


def test_the_iwae_gradient_is_that_of_the_log_weights_weighted_by_the_weights() -> None:
    model, x = small_vae()
    d = model.infer(x, 5, ONE)
    share = d.log_w.detach().exp() / d.log_w.detach().exp().sum(0)
    expected = sum(share[k, b] * gradient(d.log_w[k, b], model) for k in range(5) for b in range(3))
    torch.testing.assert_close(-gradient(iwae(d), model), expected)


def test_gradients_of_one_draw_agree() -> None:
    model, x = small_vae()
    d = model.infer(x, 1, ONE)
    torch.testing.assert_close(gradient(iwae(d), model), gradient(elbo_sampled(d), model))
    torch.testing.assert_close(gradient(dreg(d), model), gradient(stl(d), model))
    torch.testing.assert_close(gradient(stl(d), model.decoder), gradient(elbo_sampled(d), model.decoder))
    assert (gradient(stl(d), model.encoder) - gradient(elbo_sampled(d), model.encoder)).abs().max() > 0.01


def test_values_of_stl_and_dreg_are_the_bounds() -> None:
    model, x = small_vae()
    d = model.infer(x, 5, ONE)
    torch.testing.assert_close(stl(d), elbo_sampled(d))
    torch.testing.assert_close(dreg(d), iwae(d))


def test_the_dreg_gradient_is_its_formula() -> None:
    model, x = small_vae()
    d = model.infer(x, 5, ONE)
    mu, s = model.moments(x)
    z = d.z.detach().requires_grad_()
    q = torch.distributions.Normal(mu.detach(), s.detach())
    log_w = model.log_px(x, z) + model.log_prior(z) - q.log_prob(z).sum(-1)
    share = log_w.detach().softmax(0)
    weight = torch.tensor([0.5, 0.0, 2.0], **F64)  # of the images in a loss
    (slope,) = torch.autograd.grad(log_w.sum(), z, retain_graph=True)
    reparameterised = mu + s * ((d.z - mu) / s).detach()
    encoder = gradient(weight[:, None] * share[..., None].square() * slope * reparameterised, model.encoder)
    torch.testing.assert_close(-gradient(weight * dreg(d), model.encoder), encoder)
    decoder = gradient(weight * share * log_w, model.decoder)
    torch.testing.assert_close(-gradient(weight * dreg(d), model.decoder), decoder)
    torch.testing.assert_close(gradient(dreg(d), model.decoder), gradient(iwae(d), model.decoder))


def test_the_stl_gradient_has_no_variance_at_the_posterior_and_is_that_of_the_elbo_on_average() -> None:
    model, x, _ = linear_vae(W2)
    for _ in range(20):
        d = model.infer(x, 1, ONE)
        assert gradient(stl(d), model.encoder).abs().max() < 1e-10
        assert gradient(elbo_sampled(d), model.encoder).abs().max() > 1e-3
    model, x, _ = linear_vae(W1)
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.3, -0.2, 0.4, -0.3], **F64)
    d = infer_at(model, x, SIGNS)
    torch.testing.assert_close(gradient(stl(d), model), gradient(elbo(d), model))
    assert gradient(elbo(d), model.encoder).abs().max() > 0.1


def gradients(model: VAE, x: Tensor, n: int, names: tuple[str, ...]) -> list[Tensor]:
    """n independent gradients of the loss at one image, to each of the named parameters, (n, ...)."""
    chosen = {name: p.detach() for name, p in model.named_parameters() if name in names}

    def one(_: Tensor) -> dict[str, Tensor]:
        return grad(lambda p: functional_call(model, p, ("loss", x, ONE)))(chosen)

    found = vmap(one, randomness="different", chunk_size=2000)(torch.zeros(n))
    return [found[name] for name in names]


def test_the_dreg_gradient_is_that_of_iwae_on_average() -> None:
    model, x, _ = linear_vae(W1)
    model.samples = 4
    with torch.no_grad():
        model.encoder[0].bias += torch.tensor([0.1, -0.1, 0.2, -0.2], **F64)
    found = []
    for model.objective in (iwae, dreg):
        torch.manual_seed(1)  # the same noise
        found += gradients(model, x, 40_000, ("encoder.0.bias",))
    difference = found[1] - found[0]
    assert (difference.mean(0).abs() < 4 * difference.std(0) / 200).all()
    assert (found[0].mean(0).abs() > 8 * found[0].std(0) / 200).any()  # there is something to agree on
    assert (difference.std(0) > 0.1 * found[0].std(0)).all()


@pytest.mark.parametrize("objective", [stl, dreg])
def test_an_objective_that_needs_a_path_says_so_where_there_is_none(objective: Objective) -> None:
    with pytest.raises(UserError, match="this model"):
        objective(given(torch.zeros(2, 3, **F64)))


# -- signal and noise of gradients: Rainforth et al. 2018 --------------------------------------------------------------------


def toy(objective: Objective, samples: int) -> tuple[VAE, Tensor]:
    """z ~ N(mu, I), x | z ~ N(z, I) in 20 dimensions, q = N(x / 2 + b, 2/3 I) with b near its best; the VAE's code is z - mu."""
    generator = torch.Generator().manual_seed(4)
    mu, x = torch.randn(2, 20, generator=generator, **F64)
    model = VAE((1, 1, 20), Gaussian(1.0), objective, latent=20, samples=samples, hidden=()).double()
    eye, zero = torch.eye(20, **F64), torch.zeros(20, 20, **F64)
    with torch.no_grad():
        model.decoder[0].weight.copy_(eye)
        model.decoder[0].bias.copy_(mu)
        model.encoder[0].weight.copy_(torch.cat([eye / 2, zero]))
        model.encoder[0].bias.copy_(torch.cat([-mu / 2 + 0.1, torch.full((20,), 0.5 * math.log(2 / 3), **F64)]))
    return model, x[None]


def test_rainforths_toy_has_its_likelihood_and_posterior() -> None:
    model, x = toy(iwae, 1)
    mu = model.decoder[0].bias.detach()
    exact = torch.distributions.Normal(mu, math.sqrt(2)).log_prob(x).sum()
    z = torch.randn(50, 1, 20, **F64)
    posterior = torch.distributions.Normal((x + mu) / 2, math.sqrt(0.5)).log_prob(z + mu).sum(-1)
    log_w = model.log_prior(z) + model.log_px(x, z) - posterior
    torch.testing.assert_close(log_w, exact.expand_as(log_w), atol=1e-10, rtol=0)
    d = draws(model, x.expand(200, -1), 1000)
    assert -iwae(d).mean().item() == pytest.approx(exact.item(), abs=0.01)


@pytest.mark.parametrize(
    ("objective", "ks", "n", "expected"), [(iwae, (2, 8, 32), 16_000, (-0.5, 0.5)), (dreg, (32, 128, 512), 500, (0.5, 0.5))]
)
def test_the_signal_to_noise_of_gradients_goes_with_the_number_of_draws_as_in_rainforth(objective, ks, n, expected) -> None:
    """Slopes of log SNR in log K for the means of the encoder and for the decoder."""
    rows = []
    for k in ks:
        model, x = toy(objective, k)
        encoder, decoder = gradients(model, x, n, ("encoder.0.bias", "decoder.0.bias"))
        for g in (encoder[:, :20], decoder):
            squared = (g.mean(0).square() - g.var(0) / n).mean()  # less what noise alone adds to it
            rows.append(0.5 * (squared / g.var(0).mean()).log().item())
    slopes = np.polyfit(np.log(ks), np.reshape(rows, (3, 2)), 1)[0]
    assert slopes == pytest.approx(expected, abs=0.1)


# -- variance of the estimator -----------------------------------------------------------------------------------------------


def test_the_variance_of_the_elbo_is_that_between_images_and_that_of_draws_over_their_numbers() -> None:
    model, x, _ = linear_vae(W1)
    w, s = model.decoder[0].weight.detach(), model.moments(x)[1][0].detach()
    scaled = w * s
    eye = torch.eye(5, **F64)
    rest = eye - w @ model.encoder[0].weight[:2].detach()  # of x - mu, after its posterior mean is taken away
    residuals = rest @ (w @ w.mT + VARIANCE * eye) @ rest.mT
    # log p(x | z) is -|r - W s eps|^2 / (2 variance) and log p(x) a chi-square of 5 degrees of freedom over -2
    draw = (scaled.mT @ residuals @ scaled).trace() / VARIANCE**2 + (scaled.mT @ scaled).square().sum() / (2 * VARIANCE**2)
    between, draw = 2.5, draw.item()
    variances = {}
    for k in (1, 4, 16):
        value = elbo(draws(model, model.simulate(200_000)[0].detach(), k))
        for b in (1, 4, 16):
            variances[b, k] = value.unflatten(0, (-1, b)).mean(1).var().item()
            assert variances[b, k] == pytest.approx((between + draw / k) / b, rel=0.05)
    spread = [elbo(draws(model, x.expand(60_000, -1), k)).var().item() for k in (1, 4, 16)]
    assert np.polyfit(np.log([1, 4, 16]), np.log(spread), 1)[0] == pytest.approx(-1, abs=0.03)
    assert np.polyfit(np.log([1, 4, 16]), [math.log(variances[b, 1]) for b in (1, 4, 16)], 1)[0] == pytest.approx(-1, abs=0.03)
