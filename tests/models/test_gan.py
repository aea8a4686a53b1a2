"""The GAN: its losses against closed forms, a game whose end is known, and that it learns more than one mode."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.feature_sets import prdc
from vae_variants.evaluation.sharpness import is_noise, laplacian_variance, median_filtered
from vae_variants.models.gan import GAN
from vae_variants.models.likelihoods import Support
from vae_variants.training.loop import Training
from vae_variants.training.noise import stream
from vae_variants.training.population import Population
from vae_variants.variants import build, configure
from vae_variants.variants.recipe import Recipe

SHAPE = (1, 2, 3)


def gan(penalty: float, hidden: tuple[int, ...] = (), activation: str = "tanh") -> GAN:
    torch.manual_seed(1)
    return GAN(SHAPE, latent=2, penalty=penalty, hidden=hidden, activation=activation).double()


def discriminator_loss(model: GAN, x: Tensor) -> Tensor:
    torch.manual_seed(2)  # the same fakes each time
    return model.discriminator_loss(x, torch.ones(()))


def images(n: int) -> Tensor:
    return torch.rand(n, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_the_penalty_of_a_linear_discriminator_is_half_gamma_times_its_squared_weights() -> None:
    x = images(5)
    (w,) = (p.detach() for n, p in gan(0.0).discriminator.named_parameters() if n.endswith("weight"))
    for gamma in (0.3, 2.0):
        torch.testing.assert_close(
            discriminator_loss(gan(gamma), x) - discriminator_loss(gan(0.0), x), gamma / 2 * w.square().sum(), atol=1e-12, rtol=1e-10
        )
    with_penalty, without = gan(2.0), gan(0.0)
    for model in (with_penalty, without):
        discriminator_loss(model, x).backward()
    difference = with_penalty.discriminator[0].weight.grad - without.discriminator[0].weight.grad
    torch.testing.assert_close(difference, 2.0 * w, atol=1e-12, rtol=1e-10)


def test_the_penalty_is_the_mean_over_real_images_of_the_squared_gradient() -> None:
    """d(x) = v . tanh(W x + b) + c has the gradient W^T (v (1 - tanh^2))."""
    x, model, plain = images(7), gan(1.4, (4,)), gan(0.0, (4,))
    inner, _, outer = model.discriminator

    def by_hand() -> Tensor:
        slope = (outer.weight * (1 - (x @ inner.weight.mT + inner.bias).tanh().square())) @ inner.weight  # (7, 6)
        return 0.7 * slope.square().sum(1).mean()

    torch.testing.assert_close(
        discriminator_loss(model, x) - discriminator_loss(plain, x), by_hand().detach(), atol=1e-12, rtol=1e-10, check_dtype=True
    )
    parameters = list(model.discriminator.parameters())
    with_penalty = torch.autograd.grad(discriminator_loss(model, x), parameters)
    without = torch.autograd.grad(discriminator_loss(plain, x), list(plain.discriminator.parameters()))
    expected = torch.autograd.grad(by_hand(), parameters, allow_unused=True)
    for a, b, e in zip(with_penalty, without, expected, strict=True):
        torch.testing.assert_close(a - b, torch.zeros_like(a) if e is None else e, atol=1e-12, rtol=1e-9)


def test_the_generator_wants_its_images_to_be_called_real() -> None:
    """A step against the gradient of its loss raises the logits of its images; the discriminator's lowers them and raises those of x."""
    x, model = images(50), gan(0.0, (8,), "leaky-relu")

    def logits() -> tuple[float, float]:
        torch.manual_seed(2)
        with torch.no_grad():
            return model.discriminator(model.sample(50)).mean().item(), model.discriminator(x).mean().item()

    def step(loss: Tensor, parameters: list[Tensor]) -> None:
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                p -= 1e-2 * g

    before = logits()
    torch.manual_seed(2)
    value = model.loss(x, torch.ones(()))
    torch.manual_seed(2)
    torch.testing.assert_close(value, F.softplus(-model.discriminator(model.sample(50))).mean())
    step(value, list(model.generator.parameters()))
    middle = logits()
    assert middle[0] > before[0] and middle[1] == before[1]
    step(discriminator_loss(model, x), list(model.discriminator.parameters()))
    after = logits()
    assert after[1] - after[0] > middle[1] - middle[0]


def test_a_game_over_one_image_ends_with_the_penalty_and_goes_round_without() -> None:
    """The Dirac-GAN of Mescheder et al. 2018: one pixel, always 0.6, a linear discriminator, and a generator without noise."""

    def played(penalty: float) -> tuple[float, float]:
        model = GAN((1, 1, 1), latent=1, penalty=penalty, hidden=()).double()
        with torch.no_grad():
            model.generator[0].weight.zero_()
            model.generator[0].bias.fill_(-1.0)
            model.discriminator[0].weight.fill_(0.5)
            model.discriminator[0].bias.zero_()
        turns = [(model.discriminator_loss, list(model.discriminator.parameters())), (model.loss, [model.generator[0].bias])]
        x, t, distances = torch.full((1, 1), 0.6, dtype=torch.float64), torch.ones(()), []
        for _ in range(600):
            for loss, parameters in turns:
                gradients = torch.autograd.grad(loss(x, t), parameters)
                with torch.no_grad():
                    for p, g in zip(parameters, gradients, strict=True):
                        p -= 0.5 * g
            distances.append(abs(model.generator[0].bias.sigmoid().item() - 0.6))
        return max(distances[-200:]), abs(model.discriminator[0].weight.item())

    far, slope = played(0.1)
    assert far < 1e-3 and slope < 1e-3
    assert played(0.0)[0] > 0.05


def test_stacked_seeds_have_the_losses_and_gradients_of_separate_ones() -> None:
    population = Population(lambda: GAN(SHAPE, latent=2, hidden=(5,)).double(), (0, 1, 2))
    x = torch.stack([images(4), images(5)[1:], images(6)[2:]])
    t = torch.ones((), dtype=torch.float64)
    for player in population.template.players:
        population.reseed(4)
        together = population.call(player.loss, (0, None))(x, t)
        names = population.names(player)
        population.reseed(4)
        gradients = torch.autograd.grad(together.sum(), [population.params[name] for name in names])
        for s, member in enumerate(population.members()):
            member.requires_grad_(True)
            with stream(population.generators[s]):
                alone = member(player.loss, x[s], t)
            torch.testing.assert_close(together[s], alone, atol=1e-12, rtol=1e-10)
            own = dict(member.named_parameters())
            expected = torch.autograd.grad(alone, [own[name] for name in names])
            for name, gradient, e in zip(names, gradients, expected, strict=True):
                torch.testing.assert_close(gradient[s], e, atol=1e-12, rtol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def test_the_generator_has_as_many_weights_as_the_decoder_of_the_vae(digits: Dataset) -> None:
    def size(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    for options in ("hidden=64,latent=20", "hidden=200-200,latent=50"):
        assert size(build(f"gan[{options}]", digits).generator) == size(build(f"vae[{options}]", digits).decoder)


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> GAN:
    (chosen,) = configure("gan[hidden=64,latent=20]")
    torch.manual_seed(0)
    training = Training(Population(lambda: build(chosen, digits), (0,)), digits.as_(Support.UNIT), Recipe(60, 50, chosen.values["lr"]), "k")
    while training.epoch < training.recipe.epochs:
        training.run_epoch()
    (member,) = training.population.members()
    assert isinstance(member, GAN)
    return member


def test_on_digits_it_covers_the_classes_without_noise(digits: Dataset, trained: GAN) -> None:
    """In pixels: about as much of the real images is near a sample as of a sample, every class among it; and noise is neither."""
    real = digits.grey("test")
    fake = trained.sample(len(real))
    found, noise = prdc(real, fake), prdc(real, torch.rand_like(real))
    assert noise.coverage < 0.05
    assert found.coverage > 0.3 and found.precision > 0.45
    nearest = digits.labels["train"][torch.cdist(trained.sample(500), digits.grey("train")).argmin(1)]
    assert nearest.bincount(minlength=10).min() >= 5

    def left(x: Tensor) -> float:
        kept = laplacian_variance(median_filtered(x, digits.shape), digits.shape).median() / laplacian_variance(x, digits.shape).median()
        return kept.item()

    ratio = laplacian_variance(fake, digits.shape).median() / laplacian_variance(real, digits.shape).median()
    assert not is_noise(left(fake) / left(real), ratio.item())
    assert math.isfinite(ratio.item())
