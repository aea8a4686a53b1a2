"""Causal networks and the densities of pixels by them: what a place sees, sums over all images, samples."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from vae_variants.checks.model import all_binary
from vae_variants.models import causal_pixels
from vae_variants.models.causal import GatedStack, MaskedStack
from vae_variants.models.causal_pixels import CausalPixels
from vae_variants.models.likelihoods import LIKELIHOODS, Bernoulli, Categorical, DiscretizedLogistic, Likelihood
from vae_variants.models.logistic_mixture import LogisticMixture
from vae_variants.models.pixel_vae import PixelVAE
from vae_variants.models.pixelcnn import GatedPixelCNN, PixelCNN
from vae_variants.registry import UserError

F64 = {"dtype": torch.float64}
STACKS = {"pixelcnn": partial(MaskedStack, features=12, layers=4, kernel=3), "gated": partial(GatedStack, features=12, layers=4, kernel=3)}
SMALL = {"features": 6, "layers": 2, "kernel": 3}


def sees(network: torch.nn.Module, height: int, width: int, planes: int) -> Tensor:
    """(values, values) whether the gradient of an output by an input is not 0 for one of some images; values in raster order."""
    x = torch.randn(height, width, planes, **F64)
    jacobians = [torch.autograd.functional.jacobian(lambda x: network(x[None])[0], torch.randn_like(x)) for _ in range(4)]
    return torch.stack(jacobians).ne(0).any(0).flatten(0, 2).flatten(1)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("stack", STACKS)
def test_an_output_sees_only_the_values_before_it(stack: str, planes: int) -> None:
    seen = sees(STACKS[stack](planes, planes, planes).double(), 3, 5, planes)
    before = torch.ones(len(seen), len(seen), dtype=torch.bool).tril(-1)
    assert not seen[~before].any()
    if stack == "gated":
        assert seen[before].all(), "no blind spot"
    else:
        assert seen[before].float().mean() > 0.8


def test_a_stack_of_masked_convolutions_has_a_blind_spot_that_the_gated_one_has_not() -> None:
    masked, gated = (sees(STACKS[name](1, 1, 1).double(), 2, 6, 1).reshape(2, 6, 2, 6) for name in STACKS)
    assert masked[1, 0].nonzero().tolist() == [[0, 0], [0, 1]]
    assert gated[1, 0].nonzero().tolist() == [[0, column] for column in range(6)]


def test_a_place_sees_its_own_context_alone_of_those_after_it() -> None:
    network = MaskedStack(1, 1, 1, features=12, layers=1, kernel=3, context=2).double()
    x = torch.randn(1, 2, 3, 1, **F64)
    jacobian = torch.autograd.functional.jacobian(lambda c: network(x, c[None])[0], torch.randn(2, 3, 2, **F64))
    seen = jacobian.ne(0).any(-1).reshape(6, 6)
    assert seen.diagonal().all()
    assert not seen.triu(1).any()


@pytest.mark.parametrize("kernel", [1, 4])
def test_a_kernel_without_a_middle_or_sides_is_refused(kernel: int) -> None:
    with pytest.raises(UserError, match="kernel"):
        PixelCNN((1, 2, 2), Bernoulli(), kernel=kernel)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """In float64, with weights that matter and do not saturate."""
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn_like(p))
        model.pixels.centre.copy_(torch.rand_like(model.pixels.centre))
    return model


@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 2, 5), (3, 2, 2), (2, 1, 5)])
def test_binary_densities_sum_to_one(cls, shape) -> None:
    model = shaken(cls(shape, Bernoulli(), **SMALL))
    x = all_binary(math.prod(shape))
    with torch.no_grad():
        log_p = model.log_prob(x)
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=1e-9)
    assert log_p.std() > 0.3


COLOURS: dict[str, Likelihood] = {
    "logistic-mixture": LogisticMixture((3, 1, 2), levels=3, components=2),
    "discretized-logistic": DiscretizedLogistic(3),
    "categorical": Categorical(3),
}


@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
@pytest.mark.parametrize("likelihood", COLOURS)
def test_densities_of_colours_sum_to_one_and_couple_channels(likelihood: str, cls) -> None:
    model = shaken(cls((3, 1, 2), COLOURS[likelihood], **SMALL))
    x = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=6)), **F64)
    with torch.no_grad():
        log_p = model.log_prob(x)
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=1e-9)
    pair = log_p.exp().reshape(6 * [3]).sum((1, 3, 4, 5))  # of red and green of the first place; the axes are red, red, green, ...
    assert (pair - pair.sum(1, keepdim=True) * pair.sum(0)).abs().max() > 1e-5


def test_a_grey_level_has_256_probabilities_that_sum_to_one_given_the_level_before_it() -> None:
    model = shaken(GatedPixelCNN((1, 1, 2), LogisticMixture((1, 1, 2), levels=256, components=3), **SMALL))
    levels = torch.arange(256, **F64) / 255
    with torch.no_grad():
        first = torch.cartesian_prod(levels[::15], levels)
        log_p = model.log_prob(first).reshape(-1, 256)
        alone = model.pixels.likelihood.log_prob(model.pixels.outputs(first)[:, : model.pixels.likelihood.k], first[:, :1])
    torch.testing.assert_close(log_p.logsumexp(1), alone.reshape(-1, 256)[:, 0])


@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
@pytest.mark.parametrize("likelihood", ["bernoulli", *COLOURS])
def test_the_cached_sampler_draws_what_whole_passes_do(likelihood: str, cls, monkeypatch) -> None:
    monkeypatch.setattr(causal_pixels, "AT_ONCE", 8)
    model = shaken(cls((3, 3, 2), COLOURS.get(likelihood, Bernoulli()), **SMALL))
    drawn = []
    for sample in (model.sample, model.sample_naively):
        torch.manual_seed(3)
        drawn.append(sample(20))
    torch.testing.assert_close(*drawn, rtol=0, atol=1e-12)
    assert drawn[0].shape == (20, 18)
    assert (drawn[0].var(0) > 0.01).sum() > 3
    assert model.sample(0).shape == (0, 18)


def test_large_batches_are_scored_in_parts(monkeypatch) -> None:
    model, x = shaken(PixelCNN((1, 2, 3), Bernoulli(), **SMALL)), all_binary(6)
    with torch.no_grad():
        whole = model.log_prob(x)
        monkeypatch.setattr(causal_pixels, "PLACES", 6 * 10)
        torch.testing.assert_close(model.log_prob(x), whole)


def test_any_likelihood_of_a_pixel_can_be_chosen() -> None:
    x = torch.rand(5, 4)
    for name, cls in LIKELIHOODS.items():
        likelihood = cls()
        model = PixelCNN((1, 2, 2), likelihood, **SMALL)
        model.initialise(x.round())
        assert model.log_prob(x.round()).isfinite().all(), name
        assert model.sample(3).shape == (3, 4)
        torch.testing.assert_close(model.pixels.bias.movedim(-1, -1).flatten(), likelihood.start(x.round()).to(x))


# -- PixelVAE ----------------------------------------------------------------------------------------------------------------


def pixel_vae(**options: int) -> PixelVAE:
    model = PixelVAE((1, 2, 3), Bernoulli(), latent=2, hidden=(5,), features=4, **options)
    shaken(model.likelihood)
    return model.double()


def test_p_of_x_given_z_sums_to_one_for_each_z() -> None:
    model, x = pixel_vae(), all_binary(6)
    z = torch.randn(3, 1, 2, **F64).expand(-1, 64, -1)
    with torch.no_grad():
        log_p = model.log_px(x, z)
    assert log_p.shape == (3, 64)
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(3, **F64), atol=1e-9, rtol=0)
    assert (log_p[0] - log_p[1]).abs().max() > 1e-2


def test_a_decoder_that_sees_no_pixel_is_that_of_a_vae() -> None:
    model, x = pixel_vae(), all_binary(6)
    with torch.no_grad():
        model.likelihood.pixels.network.first.weight.zero_()
        for block in model.likelihood.pixels.network.blocks:
            block.wide.weight.zero_()
        z = torch.randn(64, 2, **F64)
        log_p, logits = model.log_px(x, z), torch.logit(model.decode(z))
        torch.testing.assert_close(log_p, Bernoulli().log_prob(logits, x))


def test_decode_is_the_chain_of_means_and_samples_follow_p_of_x_given_z() -> None:
    model = pixel_vae()
    z = torch.randn(4, 2, **F64)
    pixels, h = model.likelihood.pixels, model.outputs(z).detach()
    x = torch.zeros(4, 6, **F64)
    with torch.no_grad():
        for i in range(6):
            x[:, i] = pixels.outputs(x, model.likelihood.context(h))[:, i].sigmoid()
        torch.testing.assert_close(model.decode(z), x)
        torch.manual_seed(3)
        cached = model.likelihood.sample(h)
        torch.manual_seed(3)
        assert torch.equal(cached, pixels.sample(4, model.likelihood.context(h), kept=False))
        many = model.likelihood.sample(h[:1].expand(20_000, -1))
        expected = 20_000 * model.log_px(all_binary(6), z[:1]).exp()
    counts = torch.bincount((many @ torch.tensor([32.0, 16, 8, 4, 2, 1], **F64)).long(), minlength=64)
    assert ((counts - expected).abs() <= 5 * expected.sqrt() + 1).all()


def test_by_default_a_pixel_sees_two_places_around_it() -> None:
    pixels: CausalPixels = PixelVAE((1, 6, 7), Bernoulli(), latent=2, hidden=(5,)).double().likelihood.pixels
    context = torch.randn(1, 6, 7, 16, **F64)
    jacobian = torch.autograd.functional.jacobian(lambda x: pixels.outputs(x, context)[0].view(6, 7)[4, 3], torch.rand(1, 42, **F64))
    seen = jacobian.view(6, 7).nonzero()
    assert (seen - torch.tensor([4, 3])).abs().max() == 2
    assert len(seen) > 6


@pytest.mark.parametrize("features", [1, 3])
def test_it_starts_at_the_mean_image_for_any_number_of_features(features: int) -> None:
    model, x = PixelVAE((1, 2, 3), Bernoulli(), latent=2, hidden=(5,), features=features).double(), torch.rand(9, 6, **F64)
    model.initialise(x)
    torch.testing.assert_close(model.likelihood.pixels.bias.flatten(), Bernoulli().start(x))
    assert model("loss", x.round(), torch.ones(())).isfinite() and not model.decoder[-1].bias.any()


def test_an_objective_that_needs_the_gradient_of_the_mean_is_refused() -> None:
    from vae_variants.models.objectives import OBJECTIVES

    with pytest.raises(UserError, match="objective"):
        PixelVAE((1, 2, 3), Bernoulli(), OBJECTIVES["log-cosh"])
