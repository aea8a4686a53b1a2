"""Adversarial games: losses and optima in closed form, penalties and norms beside linear algebra, averages, stacking and resume."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vae_variants.checks.stacking import seeds_train_apart
from vae_variants.datasets import Dataset
from vae_variants.models.base import Coder, Density
from vae_variants.models.bigan import BiGAN
from vae_variants.models.games import GAMES, advance, normalise
from vae_variants.models.gan import GAN
from vae_variants.registry import UserError
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

SHAPE, T = (1, 2, 3), torch.ones(())
CHOICES = ("loss=hinge,penalty=0,spectral=true", "loss=wgan-gp,critic_steps=2", "loss=lsgan,spectral=true,penalty=1")


def images(n: int) -> Tensor:
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def gan(**options: object) -> GAN:
    torch.manual_seed(1)
    return GAN(SHAPE, latent=2, **{"hidden": (4,), "activation": "tanh"} | options).double()  # type: ignore[arg-type]


def test_the_losses_of_each_game_are_their_formulas() -> None:
    d = torch.tensor([-2.0, 0.3, 1.5], dtype=torch.float64)
    sigmoid = [1 / (1 + math.exp(-v)) for v in d.tolist()]
    expected = {
        "ns": ([-math.log(s) for s in sigmoid], [-math.log(1 - s) for s in sigmoid], [-math.log(s) for s in sigmoid]),
        "wgan-gp": ([2.0, -0.3, -1.5], [-2.0, 0.3, 1.5], [2.0, -0.3, -1.5]),
        "hinge": ([3.0, 0.7, 0.0], [0.0, 1.3, 2.5], [2.0, -0.3, -1.5]),
        "lsgan": ([4.5, 0.245, 0.125], [2.0, 0.045, 1.125], [4.5, 0.245, 0.125]),
    }
    assert set(expected) == set(GAMES)
    for name, values in expected.items():
        for score, value in zip(GAMES[name][:3], values, strict=True):
            assert score(d).tolist() == pytest.approx(value), name
    with pytest.raises(UserError, match="did you mean 'hinge'"):
        gan(loss="hing")
    with pytest.raises(UserError, match="unknown penalty_at"):
        gan(penalty_at="fake")


def test_the_losses_of_a_model_are_those_of_its_game() -> None:
    x = images(7)
    for name, game in GAMES.items():
        model = gan(loss=name, penalty=0.0)
        torch.manual_seed(2)
        fake, real = model.discriminator(model.sample(7)), model.discriminator(x)
        torch.manual_seed(2)
        torch.testing.assert_close(model.discriminator_loss(x, T), (game.real(real) + game.fake(fake)).mean())
        torch.manual_seed(2)
        torch.testing.assert_close(model.loss(x, T), game.up(fake).mean())


class Cells(BiGAN):
    """Four pairs (x, z), as unit vectors: of real images each as often as it says, and of generated ones."""

    often = (torch.tensor([4, 3, 2, 1]), torch.tensor([1, 3, 1, 5]))

    def real(self, x: Tensor) -> Tensor:
        return torch.eye(4, dtype=torch.float64).repeat_interleave(self.often[0], 0)

    def generated(self, n: int) -> Tensor:
        return torch.eye(4, dtype=torch.float64).repeat_interleave(self.often[1], 0)


@pytest.mark.parametrize("loss", ["ns", "lsgan"])
def test_the_best_critic_of_pairs_knows_their_ratio(loss: str) -> None:
    """log q(x, z) / p(x, z) of the non-saturating game, q / (q + p) of least squares."""
    model = Cells(SHAPE, latent=2, hidden=(4,), loss=loss, penalty=0.0).double()
    model.discriminator = nn.Linear(4, 1, bias=False).double()
    optimizer = torch.optim.LBFGS(model.discriminator.parameters(), max_iter=100, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = model.discriminator_loss(images(10), T)
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[arg-type]
    q, p = (each.double() / 10 for each in Cells.often)
    expected = (q / p).log() if loss == "ns" else q / (q + p)
    torch.testing.assert_close(model.discriminator.weight.detach().squeeze(0), expected, atol=1e-5, rtol=1e-5)
    value = model.loss(images(10), T)  # generator and encoder want the labels to be swapped
    up, down = GAMES[loss].up(expected), GAMES[loss].down(expected)
    torch.testing.assert_close(value.detach(), (p * up + q * down).sum(), atol=1e-5, rtol=1e-5)


def test_bigan_pairs_images_with_their_latents(digits: Dataset) -> None:
    model = build("bigan[hidden=7,latent=3]", digits)
    assert isinstance(model, BiGAN) and isinstance(model, Coder) and not isinstance(model, Density)
    x = digits.grey("test")[:5]
    model.initialise(x)
    torch.testing.assert_close(model.encoder.centre, x.mean(0))
    torch.testing.assert_close(model.discriminator.features.centre, x.mean(0))
    pairs, made = model.real(x), model.generated(5)
    torch.testing.assert_close(pairs, torch.cat([x, model.encode(x)], -1))
    torch.testing.assert_close(made[:, :64], model.decode(made[:, 64:]))
    ali = build("bigan[posterior=diagonal,hidden=7,latent=3]", digits)
    assert not torch.equal(ali.real(x), ali.real(x)) and torch.equal(ali.encode(x), ali.encode(x))
    with pytest.raises(UserError, match="sphere space"):
        build("bigan[posterior=power-spherical,hidden=7,latent=3]", digits)


@pytest.mark.parametrize("at", ["real", "between"])
def test_the_penalty_of_a_linear_critic_is_its_formula(at: str) -> None:
    """|w|^2 / 2 times the strength at real images, (|w| - 1)^2 between, with their gradients."""
    x, model, plain = images(5), gan(penalty=3.0, penalty_at=at, hidden=()), gan(penalty=0.0, hidden=())
    w = plain.discriminator[0].weight.detach().clone().requires_grad_()
    expected = 1.5 * w.square().sum() if at == "real" else 3.0 * (w.norm() - 1).square()
    (expected_gradient,) = torch.autograd.grad(expected, w)
    found, gradients = [], []
    for each in (model, plain):
        torch.manual_seed(2)
        found.append(each.discriminator_loss(x, T))
        gradients += torch.autograd.grad(found[-1], each.discriminator[0].weight)
    torch.testing.assert_close(found[0] - found[1], expected.detach(), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(gradients[0] - gradients[1], expected_gradient, atol=1e-9, rtol=1e-9)
    assert gan(loss="wgan-gp").between and not gan(loss="hinge").between and not gan(loss="wgan-gp", penalty_at="real").between


def test_normalised_weights_have_spectral_norm_1_and_the_gradient_of_w_over_its_norm() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Conv2d(2, 3, 3)).double()
    plain = [layer.weight.detach().clone().requires_grad_() for layer in network]
    normalise(network)
    for _ in range(300):
        advance(network)
    for layer, w in zip(network, plain, strict=True):
        expected = w / torch.linalg.svdvals(w.flatten(1))[0]
        torch.testing.assert_close(layer.weight, expected, atol=1e-9, rtol=1e-9)
        weights = torch.randn_like(w)
        (found,) = torch.autograd.grad((weights * layer.weight).sum(), layer.parametrizations.weight.original)
        (gradient,) = torch.autograd.grad((weights * expected).sum(), w)
        torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-6)


def test_only_a_critics_step_in_training_moves_its_singular_vectors() -> None:
    model, x = gan(spectral=True, penalty=0.0, loss="hinge"), images(4)

    def vectors() -> list[Tensor]:
        return [buffer.clone() for name, buffer in model.named_buffers() if name.endswith(".u")]

    before = vectors()
    assert len(before) == 2
    model.loss(x, T)
    model.eval().discriminator_loss(x, T)
    assert all(map(torch.equal, before, vectors()))
    model.train().discriminator_loss(x, T)
    assert not any(map(torch.equal, before[:1], vectors()[:1]))


@pytest.mark.parametrize("loss", ["hinge", "wgan-gp"])
def test_seeds_with_a_normalised_critic_train_apart(loss: str) -> None:
    seeds_train_apart(f"gan[loss={loss},spectral=true]", ways=[True])


def played(selector: str, digits: Dataset) -> Training:
    (chosen,), part = configure(selector), digits.subset(60, 20)
    return Training(Population(lambda: build(chosen, part), (0, 3)), part.as_(chosen.support), chosen.recipe, "k")


@pytest.mark.parametrize("options", CHOICES)
def test_a_resumed_game_ends_as_one_that_was_not_interrupted(options: str, digits: Dataset) -> None:
    selector = f"gan[{options},average=0.8,hidden=8,latent=2,epochs=3,batch=20]"
    whole, second = played(selector, digits), played(selector, digits)
    curves = [whole.run_epoch()]
    kept = {name: tensor.clone() for name, tensor in whole.state().items()}
    curves += [whole.run_epoch(), whole.run_epoch()]
    second.restore(kept)
    assert [second.run_epoch(), second.run_epoch()] == curves[1:]
    for name, tensor in whole.state().items():
        assert name == "seconds" or torch.equal(tensor, second.state()[name]), name
    assert any(name.endswith(".u") for name in kept) == ("spectral" in options)


def test_the_average_of_the_generator_is_validated_and_draws_the_samples(digits: Dataset) -> None:
    own, plain = (played(f"gan[{average}hidden=8,latent=2,epochs=3,batch=20]", digits) for average in ("average=0.8,", "average=0,"))
    name, seen, trail = "generator.0.weight", [], []
    own.validate = lambda: seen.append(own.population.params[name].detach().clone()) or {}  # type: ignore[func-returns-value, method-assign]
    while not own.over:
        plain.run_epoch(lambda: trail.append(plain.population.params[name].detach().clone()))
        own.run_epoch()
    expected, averages = trail[0] * 0, []
    start = played("gan[average=0.8,hidden=8,latent=2,epochs=3,batch=20]", digits).population.params[name].detach()
    expected = start.clone()
    for n, weight in enumerate(trail, 1):
        decay = min(0.8, n / (n + 9))
        expected = decay * expected + (1 - decay) * weight
        averages.append(expected)
    for epoch, found in enumerate(seen, 1):
        torch.testing.assert_close(found, averages[epoch * own.steps - 1])
    first = next(own.population.members())
    torch.testing.assert_close(first.get_parameter(name), averages[-1][0])
    torch.manual_seed(4)
    samples = first.sample(3)
    torch.manual_seed(4)
    torch.testing.assert_close(samples, first.generator(torch.randn(3, 2)).sigmoid())
    assert not torch.allclose(averages[-1], trail[-1], atol=1e-5)
