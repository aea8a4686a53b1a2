"""How a model starts: from the mean training image, so that a picture and its negative are learnt alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vae_variants.components import takes
from vae_variants.datasets import Data, load_dataset
from vae_variants.models.base import MODELS, Coder, Encoder
from vae_variants.models.likelihoods import LIKELIHOODS, Bernoulli, ConstantScale, Likelihood, Support
from vae_variants.models.networks import NETWORKS, Network, decoder, fans, output_bias
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure
from vae_variants.variants.recipe import Recipe

LEVELS = 17
OPTIONS = {"hidden": [7], "latent": 3, "categories": 4, "orders": 2}
SELECTORS = [
    *(f"vae[likelihood={name}]" for name in LIKELIHOODS),
    *("vae[objective=iwae,samples=4]", "vae[network=conv]", "ae", "ae[network=conv]", "ae-gmm", "vae-categorical", "vae-linear"),
    *("conditional-vae", "m2", "vq-vae", "hvae", "rhvae[centroids=9]", "vae-two-layers[latents=3-2]", "vdvae[width=8]"),
    *("gan", "gan[network=conv]", "bigan", "fvbn", "made", "made-orders-8", "nade", "eonade", "pixelcnn", "gated-pixelcnn", "pixel-vae"),
]


def images(support: Support, n: int = 60) -> Tensor:
    """Digits as a model of that support sees them, some pixels always black, in float64."""
    x = load_dataset("digits").train[:n].double() / (LEVELS - 1)
    return (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < x).double() if support is Support.BINARY else x


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_mean_of_a_decoder_that_starts_is_the_mean_image(name: str) -> None:
    cls = LIKELIHOODS[name]
    likelihood = cls(**({"levels": LEVELS} if takes(cls, "levels") else {})).double()
    x = images(likelihood.support, 400)
    x = torch.cat([x, 1 - x], 1)  # always white as well
    h = likelihood.start(x)
    assert h.shape == (likelihood.k * x.shape[1],)
    wanted = x.mean(0) if isinstance(likelihood, ConstantScale) else x.mean(0).clamp(likelihood.clip, 1 - likelihood.clip)
    torch.testing.assert_close(likelihood.mean(h.double()), wanted, atol=2e-3, rtol=0)


def test_a_decoder_starts_at_the_mean_image(digits) -> None:
    for selector in ("vae", "ae[network=conv]", "ae-gmm", "vae-categorical", "gan"):
        (chosen,) = configure(selector, OPTIONS)
        population = Population(lambda chosen=chosen: build(chosen, digits), (0, 1))
        population.initialise(x := digits.as_(chosen.support).train)
        for member in population.members():
            member = getattr(member, "autoencoder", member)
            bias = output_bias(getattr(member, "decoder", None) or member.generator, 64)
            torch.testing.assert_close(bias, getattr(member, "likelihood", Bernoulli()).start(x).float())


@pytest.mark.parametrize("selector", ["vae[likelihood=gaussian-learnt]", "vae-linear"])
def test_a_learnt_sigma_starts_at_the_spread_about_the_mean_image(selector: str, digits) -> None:
    (chosen,) = configure(selector, OPTIONS)
    population = Population(lambda: build(chosen, digits), (0, 1))
    population.initialise(x := digits.grey("train"))
    for member in population.members():
        assert member.likelihood.scale.item() == pytest.approx((x - x.mean(0)).square().mean().sqrt().item(), rel=1e-4)


def test_a_likelihood_whose_mean_cannot_be_inverted_starts_at_zero() -> None:
    class Two(Bernoulli):
        k = 2

    class Falling(Bernoulli):
        def mean(self, h: Tensor) -> Tensor:
            return (-h).sigmoid()

    class Flat(Bernoulli):
        def mean(self, h: Tensor) -> Tensor:
            return h.sigmoid() / 4

    x = images(Support.BINARY)
    for likelihood in (Two(), Falling(), Flat()):
        assert torch.equal(likelihood.start(x), torch.zeros(likelihood.k * 64, dtype=x.dtype))


def test_a_network_without_a_bias_of_each_output_gets_one() -> None:
    for name in NETWORKS:
        built = decoder(name, 3, (3, 8, 8), 2, (7,), "silu")
        assert output_bias(built, 3 * 64 * 2) is not None
    plain = Network(NETWORKS["mlp"].encoder, lambda n, shape, k, hidden, activation: nn.Linear(n, 64 * k, bias=False), "no bias")
    NETWORKS.add(plain, name="unbiased")
    try:
        built = decoder("unbiased", 3, (1, 8, 8), 2, (7,), "silu")
        assert output_bias(built, 128) is not None and built(torch.zeros(2, 3)).shape == (2, 128)
    finally:
        NETWORKS.drop("unbiased")


@pytest.mark.parametrize(("activation", "variance"), [("tanh", 2 / (400 + 300)), ("relu", 2 / 400), ("silu", 2 / 400)])
def test_a_scaled_network_starts_with_the_variance_of_its_activation(activation: str, variance: float) -> None:
    built = NETWORKS["mlp-scaled"].encoder((1, 20, 20), 50, (300, 200), activation)
    first, _, last = (layer for layer in built.modules() if isinstance(layer, nn.Linear))
    assert first.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert last.weight.var().item() == pytest.approx(1 / (3 * 200), rel=0.05)
    assert not first.bias.any() and not last.bias.any()


def test_fans_are_what_gradients_reach() -> None:
    for layer, size in (
        (nn.Linear(7, 5), (7,)),
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 16, 16)),
        (nn.Conv2d(3, 5, 3, padding=1), (3, 16, 16)),
        (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), (3, 16, 16)),
    ):
        n_in, n_out = fans(layer)
        layer.weight.data.fill_(1.0)
        x = torch.ones(1, *size).requires_grad_()
        y = layer(x) - (layer.bias if len(size) == 1 else layer.bias[:, None, None])
        assert y.round()[(0, 0, *[y.shape[-1] // 2] * (y.dim() - 2))] == n_in
        reached = torch.autograd.grad(y.sum(), x)[0]
        middle = reached[0, 0, 6:10, 6:10] if len(size) > 1 else reached[0, 0]
        assert middle.mean().item() == pytest.approx(n_out)


def trained(selector: str, x: Tensor, mirrored: bool) -> tuple[list[dict[str, list[float]]], nn.Module, Tensor]:
    (chosen,) = configure(selector, OPTIONS)
    data = Data(chosen.support, x, x[:20], x[:20], dynamic=False, labels=torch.arange(len(x)) % 10, classes=10)
    population = Population(lambda: build(chosen, load_dataset("digits")).double(), (0,))
    training = Training(population, data, Recipe(2, 20), "key")
    if mirrored:
        likelihood = chosen.values.get("likelihood", "")
        mine = SEES_OR_MAKES.get(chosen.values["model"])
        state = population.state()
        if mine:
            population.restore({name: -tensor if name in mine else tensor for name, tensor in state.items()})
        else:
            population.restore({name: turned(name, tensor, state, likelihood) for name, tensor in state.items()})
        training = Training(population, data, Recipe(2, 20), "key")  # a codebook starts from what the encoder gives
    curves = [training.run_epoch(), training.run_epoch()]
    return curves, next(population.members()), x


def looks(name: str) -> bool:
    return not {"encoder", "discriminator"}.isdisjoint(name.split("."))


SEES_OR_MAKES = {  # model -> its weights that see images, or make outputs of a value
    "riemannian-vae": {"encoder.0.weight", "decoder.2.weight", "metric.0.weight"},
    "bigan": {"encoder.0.weight", "discriminator.features.0.weight", "generator.2.weight"},
    "hierarchical": {"encoder.0.weight", "decoder.2.weight"},
    "vdvae": {"encoder.1.first.weight", "decoder.1.weight"},
    "labelled-vae": {"encoder.0.weight", "classifier.0.weight", "decoder.2.weight"},
    "quantized-vae": {"encoder.0.weight", "decoder.2.weight"},
    "nade": {"input_weight", "output_weight"},
    "eonade": {"input_weight", "output_weight"},
    "pixelcnn": {"pixels.network.first.weight", "pixels.network.last.weight"},
    "gated-pixelcnn": {f"pixels.network.{name}.weight" for name in ("layers.0.vertical", "layers.0.horizontal", "last")},
    "pixel-vae": {"encoder.0.weight", "likelihood.pixels.network.first.weight", "likelihood.pixels.network.last.weight"},
}

LOCATIONS = {  # likelihood -> outputs per pixel, and which of them are locations
    "discretized-logistic": (2, slice(0, 1)),
    "gaussian-pixel": (2, slice(0, 1)),
    "logistic-mixture": (15, slice(5, 10)),
}


def turned(name: str, tensor: Tensor, state: dict[str, Tensor], likelihood: str) -> Tensor:
    """First weights of what sees images and last weights of what makes them with the other sign; biases start from the data."""
    part, _, _ = name.rpartition(".")
    if not name.endswith(("weight", "bias")) or "likelihood" in name or name in ("weight", "bias"):
        return tensor
    if "layers." in name:  # of MADE
        return -tensor if name.endswith("weight") else tensor
    sees = looks(name)
    own = [n for n in state if n.endswith("weight") and looks(n) == sees and "likelihood" not in n]
    if sees:
        return -tensor if name == own[0] else tensor
    if part != own[-1].rpartition(".")[0] or (name.endswith("bias") and tensor.numel() in (64, 128, 64 * LEVELS, 64 * 15)):
        return tensor
    if likelihood in LOCATIONS:
        k, mine = LOCATIONS[likelihood]
        tensor = tensor.clone().unflatten(1, (64, k))
        tensor[:, :, mine] *= -1  # locations, not scales
        return tensor.flatten(1, 2)
    return tensor.unflatten(1, (64, LEVELS)).flip(2).flatten(1, 2) if likelihood == "categorical" else -tensor


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_picture_and_its_negative_are_learnt_alike(selector: str) -> None:
    """From mirrored weights: the same losses in every epoch, the same latents, and images that are negatives."""
    (chosen,) = configure(selector, OPTIONS)
    x = images(chosen.support)
    (curves, model, x), (others, other, y) = trained(selector, x, False), trained(selector, 1 - x, True)
    for one, two in zip(curves, others, strict=True):
        assert one == {name: pytest.approx(values, rel=1e-6) for name, values in two.items()}
    if isinstance(model, Encoder):
        torch.testing.assert_close(model.encode(x), other.encode(y), rtol=1e-5, atol=1e-7)
    if isinstance(model, Coder):
        torch.testing.assert_close(model.decode(model.encode(x)), 1 - other.decode(other.encode(y)), rtol=1e-5, atol=1e-6)


def test_every_model_that_trains_is_in_that_law() -> None:
    named = {configure(selector, OPTIONS)[0].values["model"] for selector in SELECTORS}
    assert named == {name for name, model in MODELS.items() if model.players}


def test_the_rate_falls_with_the_pixels_unless_it_is_given() -> None:
    assert Recipe().rate(64) == Recipe().rate(5) == 1e-2
    assert Recipe().rate(64 * 8) == pytest.approx(5e-3)
    assert 1e-3 < Recipe().rate(3 * 64 * 64) < 3e-3
    assert Recipe(lr=0.5).rate(12288) == 0.5
    assert configure("vae[lr=auto]")[0].recipe == configure("vae")[0].recipe
    assert Likelihood.start is Bernoulli.start
