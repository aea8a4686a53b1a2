"""Variance of gradients: a model whose gradients are known, planted components and Rainforth's toy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from bench.claims.one_sample import estimator_anova
from bench.claims.one_sample.estimator_anova import Anova, Parts, best_draws, multiply_adds, nested, networks, per_sample
from tests.models.test_fixtures_gradients import toy
from vae_variants.checks.linear_gaussian import W2, linear_vae
from vae_variants.models.likelihoods import Bernoulli, Gaussian, GaussianLearnt
from vae_variants.models.objectives import OBJECTIVES, Draws, dreg, elbo, iwae, stl
from vae_variants.models.vae import VAE

F64 = {"dtype": torch.float64}


# -- planted components ------------------------------------------------------------------------------------------------------


def planted(images: int, draws: int, parameters: int, within: float, between: float, mean: float) -> Tensor:
    centre = math.sqrt(between) * torch.randn(images, 1, parameters, **F64)
    return mean + centre + math.sqrt(within) * torch.randn(images, draws, parameters, **F64)


WHOLE = {"w": slice(None)}


@pytest.mark.parametrize("draws", [2, 8])
def test_components_are_those_that_were_planted(draws: int) -> None:
    """Two draws, where most of the variance of an image's mean is that of draws, must do as well as many."""
    anova = Anova()
    for part in planted(4000, draws, 20, within=6.0, between=0.5, mean=0.3).split(700):
        anova.add({"w": part})
    parts = anova.parts(WHOLE)
    assert parts.within == pytest.approx(20 * 6.0, rel=0.03)
    assert parts.between == pytest.approx(20 * 0.5, rel=0.1)
    assert parts.ratio == pytest.approx(12, rel=0.1)
    assert parts.signal == pytest.approx(20 * 0.3**2, rel=0.2)
    assert parts.squared_ratio == pytest.approx((0.5 + 0.3**2) / 6.0, rel=0.12)
    assert parts.snr == pytest.approx(math.sqrt((0.5 + 0.3**2) / 6.0), rel=0.06)
    assert parts.parameter_ratio == pytest.approx(math.sqrt((0.5 + 0.3**2) / 6.0), rel=0.06)
    assert parts.batch_ratio(100) == pytest.approx(0.3 * math.sqrt(100 / 6.5), rel=0.1)


@pytest.mark.parametrize("b", [1, 10, 100])
def test_the_cosine_to_endless_draws_is_that_of_minibatches(b: int) -> None:
    """Of many parameters, where a minibatch's cosine is near that of root mean squares."""
    anova, size = Anova(), 400
    anova.add({"w": planted(1000, 4, size, within=6.0, between=0.5, mean=0.3)})
    endless = 0.3 + math.sqrt(0.5) * torch.randn(200, b, size, **F64)
    one = endless + math.sqrt(6.0) * torch.randn(200, b, size, **F64)
    measured = torch.cosine_similarity(one.mean(1), endless.mean(1)).mean().item()
    assert anova.parts(WHOLE).batch_cosine(b) == pytest.approx(measured, rel=0.02)
    assert Parts(1.0, 0.0, -0.1, None, None).batch_cosine(b) is None


def test_components_are_the_textbook_ones_of_a_one_way_analysis() -> None:
    g = planted(7, 3, 4, within=2.0, between=1.0, mean=1.0)
    anova = Anova()
    for part in g.split(3):
        anova.add({"w": part})
    parts = anova.parts(WHOLE)
    means = g.mean(1)
    within = g.var(1).mean(0)
    assert parts.within == pytest.approx(within.sum().item())
    assert parts.between == pytest.approx((means.var(0) - within / 3).sum().item())
    assert parts.signal == pytest.approx((means.mean(0).square() - means.var(0) / 7).sum().item())


def test_single_precision_gradients_are_added_up_in_double() -> None:
    g = 1000 + planted(50, 16, 10, within=1e-2, between=1e-2, mean=0.0)
    parts = []
    for dtype in (torch.float32, torch.float64):
        anova = Anova()
        anova.add({"w": g.to(dtype)})
        parts.append(anova.parts(WHOLE))
    assert parts[0].within == pytest.approx(parts[1].within, rel=0.01)
    assert parts[0].between == pytest.approx(parts[1].between, rel=0.02)


def test_a_slice_takes_its_rows_and_one_set_of_draws_is_refused() -> None:
    anova = Anova()
    g = torch.randn(6, 4, 5, 2, **F64)
    g[:, :, 3:] = g[:, :1, 3:]  # no noise of draws in the last rows
    anova.add({"w": g})
    assert anova.parts({"w": slice(3, None)}).within == 0 and anova.parts({"w": slice(3, None)}).snr is None
    assert anova.parts({"w": slice(0, 3)}).within == pytest.approx(anova.parts(WHOLE).within)
    with pytest.raises(ValueError, match="two sets"):
        Anova().add({"w": g[:, :1]})


# -- gradients of models -----------------------------------------------------------------------------------------------------


def bias_only() -> VAE:
    """x = z + b + noise with one unit and q(z | x) = N(a x, s^2): gradients are polynomials of x and the noise."""
    model = VAE((1, 1, 1), Gaussian(1.0), latent=1, hidden=()).double()
    with torch.no_grad():
        model.decoder[0].weight.fill_(1.0)
        model.decoder[0].bias.fill_(0.25)
        model.encoder[0].weight.copy_(torch.tensor([[0.5], [0.0]], **F64))
        model.encoder[0].bias.copy_(torch.tensor([0.0, math.log(0.6)], **F64))
    return model


def test_a_model_has_its_known_components() -> None:
    """d/db of -log p(x | z) is z + b - x: within s^2, between (1 - a)^2 Var x; d/dmu is that plus mu; d/dlog s has s eps as a factor."""
    model = bias_only()
    x = torch.linspace(-2, 2, 400, **F64)[:, None]
    v = x.var().item()
    anova = Anova()
    for gradients in per_sample(model, elbo, x, 1, 200):
        anova.add(gradients)
    decoder = anova.parts({"decoder.0.bias": slice(None)})
    assert decoder.within == pytest.approx(0.36, rel=0.03)
    assert decoder.between == pytest.approx(0.25 * v, rel=0.03)
    assert decoder.signal == pytest.approx(0.25**2, rel=0.1)
    mean = anova.parts({"encoder.0.bias": slice(0, 1)})
    assert mean.within == pytest.approx(0.36, rel=0.03)
    assert mean.between == pytest.approx(0.0, abs=0.01)  # a x + b - x + a x = b
    scale = anova.parts({"encoder.0.bias": slice(1, 2)})  # s eps (a x + s eps + b - x) + s^2 - 1
    expected = 0.36 * (0.25 * v * 399 / 400 + 0.25**2) + 2 * 0.6**4
    assert scale.within == pytest.approx(expected, rel=0.06)
    assert scale.between == pytest.approx(0.0, abs=0.01)
    fewer = nested(model, elbo, x, 16, 50)["decoder"]
    more = nested(model, elbo, x, 1, 50)["decoder"]
    assert more.within / fewer.within == pytest.approx(16, rel=0.1)
    assert fewer.between == pytest.approx(more.between, rel=0.1)


def test_the_path_gradient_of_the_fixture_has_no_noise_and_others_have() -> None:
    model, x, _ = linear_vae(W2)
    x = torch.cat([x, model.simulate(9)[0].detach()])
    parts = nested(model, stl, x, 1, 8)
    assert parts["encoder"].within < 1e-18 and parts["decoder"].within > 0.1
    assert nested(model, elbo, x, 1, 8)["encoder"].within > 0.01


def test_a_gradient_is_that_of_a_backward_pass() -> None:
    """Without noise (s = 0), of each image alone, for every objective, whatever K; and in chunks as in one go."""
    model = VAE((1, 2, 3), Bernoulli(), latent=2, hidden=(4,)).double()
    with torch.no_grad():
        model.encoder[-1].weight[2:] = 0
        model.encoder[-1].bias[2:] = -20
    x = torch.randint(0, 2, (5, 6)).double()
    for name in ("elbo", "iwae", "dreg"):
        for image, k in ((0, 1), (3, 4)):
            model.zero_grad()
            OBJECTIVES[name](model.infer(x[image : image + 1], k, torch.ones((), **F64))).sum().backward()
            expected = {n: p.grad for n, p in model.named_parameters()}
            (found,) = per_sample(model, OBJECTIVES[name], x, k, 2)
            for n, g in found.items():
                assert g.shape == (5, 2, *expected[n].shape)
                if "decoder" in n:
                    torch.testing.assert_close(g[image, 1], expected[n], atol=1e-6, rtol=1e-6)


def test_chunks_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = bias_only(), torch.linspace(-1, 1, 10, **F64)[:, None]
    with torch.no_grad():
        model.encoder[0].bias[1] = -30  # no noise: all chunks see the same
    whole = nested(model, elbo, x, 1, 2)
    monkeypatch.setattr(estimator_anova, "NUMBERS", 1)
    assert len(list(per_sample(model, elbo, x, 1, 2))) == 10
    assert nested(model, elbo, x, 1, 2)["decoder"].between == pytest.approx(whole["decoder"].between)


def test_draws_differ_from_set_to_set_and_from_image_to_image() -> None:
    model = bias_only()
    (found,) = per_sample(model, elbo, torch.zeros(3, 1, **F64), 1, 4)
    assert len(found["decoder.0.bias"].unique()) == 12


def test_networks_divide_the_parameters() -> None:
    model = VAE((1, 2, 3), GaussianLearnt(), latent=2, hidden=(4,))  # whose scale is a number without axes
    assert nested(model, elbo, torch.rand(2, 6), 1, 2)["decoder"].within > 0
    assert "likelihood.log_sigma" in networks(model)["decoder"]
    found = networks(model)
    names = {name for name, _ in model.named_parameters()}
    assert set(found["encoder"]) | set(found["decoder"]) == names and not set(found["encoder"]) & set(found["decoder"])
    head = found["log-scale head"]
    assert set(head) == {"encoder.2.weight", "encoder.2.bias"}
    assert model.encoder[2].bias[head["encoder.2.bias"]].shape == (2,)
    x = torch.rand(4, 6)
    _, scale = model.posterior(x)
    scale.log().sum().backward()
    assert model.encoder[2].bias.grad[head["encoder.2.bias"]].tolist() == [4.0, 4.0]  # those rows, and no others, make log s
    assert model.encoder[2].bias.grad[:2].tolist() == [0.0, 0.0]


def test_no_ratio_is_given_where_images_cannot_be_told_apart() -> None:
    anova = Anova()
    g = planted(20, 4, 3, within=1.0, between=0.0, mean=1.0)
    anova.add({"w": g - g.mean(1, keepdim=True)})
    parts = anova.parts(WHOLE)
    assert parts.between < 0 and parts.ratio is None and parts.squared_ratio < 0 and parts.snr == 0


def test_costs_are_weights_and_the_best_k_is_the_minimum() -> None:
    assert multiply_adds(nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2))) == 21
    for r, encoder, decoder in ((0.02, 100, 100), (3.0, 200, 100), (50.0, 100, 100)):
        best = best_draws(r, encoder, decoder)
        cost = {k: (1 + r / k) * (encoder + k * decoder) for k in [0.01 * i for i in range(1, 3000)]}
        assert min(cost, key=cost.__getitem__) == pytest.approx(best, abs=0.02)
        one, two = ((1 + r / k) * (encoder + k * decoder) for k in (1, 2))
        assert (one < two) == (best < math.sqrt(2))


@pytest.mark.parametrize(("objective", "ks", "expected"), [(iwae, (4, 32), -0.5), (dreg, (32, 256), 0.5)])
def test_the_ratio_goes_with_k_as_on_rainforths_toy(objective, ks, expected) -> None:
    """Encoder's means; one image, seen as many, so that the noise is that of draws."""
    found = []
    for k in ks:
        model, x = toy(objective, k)
        anova = Anova()
        for gradients in per_sample(model, objective, x.expand(40, -1), k, 100):
            anova.add({name: g for name, g in gradients.items() if name == "encoder.0.bias"})
        found.append(anova.parts({"encoder.0.bias": slice(0, 20)}).snr)
    slope = math.log(found[1] / found[0]) / math.log(ks[1] / ks[0])
    assert slope == pytest.approx(expected, abs=0.15)


def test_the_sum_over_draws_in_place_of_their_mean_is_seen() -> None:
    model, x = bias_only(), torch.linspace(-2, 2, 100, **F64)[:, None]

    def added_up(d: Draws) -> Tensor:
        return d.kl - d.log_px.sum(0)

    right, wrong = (nested(model, objective, x, 4, 50)["decoder"] for objective in (elbo, added_up))
    assert wrong.within / right.within == pytest.approx(16, rel=0.1)


def test_parameters_come_by_their_names() -> None:
    model = bias_only()
    (found,) = per_sample(model, elbo, torch.zeros(2, 1, **F64), 1, 2)
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert sum(g[0, 0].numel() for g in found.values()) == len(parameters_to_vector(model.parameters()))
