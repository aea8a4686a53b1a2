"""Convolutional networks by the size of the image: their stages, attention, grids of latents, and options in selectors."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from vae_variants.datasets import Dataset
from vae_variants.models.deep_networks import Attention, channels, deep_conv, resnet, sizes
from vae_variants.models.networks import NETWORKS, network_of
from vae_variants.registry import UserError
from vae_variants.variants import build, configure

SHAPES = [(1, 2, 3), (1, 8, 8), (1, 28, 20), (3, 33, 17), (3, 64, 64)]


def test_stages_halve_the_image_until_it_is_small() -> None:
    assert sizes((1, 28, 28)) == [(28, 28), (14, 14), (7, 7), (4, 4)]
    assert sizes((3, 33, 17)) == [(33, 17), (17, 9), (9, 5), (5, 3), (3, 2)]
    assert sizes((1, 2, 3)) == [(2, 3), (1, 2)]
    assert [len(sizes((3, n, n))) - 1 for n in (16, 32, 64, 128, 256)] == [2, 3, 4, 5, 6]
    assert channels(32, 6) == [32, 64, 128, 256, 256, 256]


@pytest.mark.parametrize("options", [{}, {"depth": 2}, {"attention": True}, {"grid": True}, {"width": 12}], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_halves_fit_any_image_and_can_be_stacked(shape, options) -> None:
    network, pixels = resnet(**{"width": 8, **options}), math.prod(shape)
    for built, n_in, n_out in (
        (lambda: network.encoder(shape, 7, (1,), "silu"), pixels, 7),
        (lambda: network.decoder(5, shape, 2, (1,), "silu"), 5, 2 * pixels),
    ):
        modules, x = [built(), built()], torch.randn(3, n_in)
        alone = torch.stack([module(x) for module in modules])
        assert alone.shape == (2, 3, n_out) and not torch.allclose(alone[0], alone[1])
        together = vmap(lambda state, module=modules[0], x=x: functional_call(module, state, (x,)))(stack_module_state(modules)[0])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_network_of_256_pixels_is_built() -> None:
    shape = (3, 256, 256)
    network = resnet(width=4)
    assert network.encoder(shape, 6, (1,), "silu")(torch.rand(1, math.prod(shape))).shape == (1, 6)
    assert network.decoder(6, shape, 1, (1,), "silu")(torch.rand(1, 6)).shape == (1, math.prod(shape))


def test_attention_is_torch_s_own() -> None:
    attention, h = Attention(16), torch.randn(2, 16, 3, 5)
    torch.testing.assert_close(attention(h), h, rtol=0, atol=0)
    attention.strength.data.fill_(1.0)
    q, k, v = (part.mT for part in attention.mixed(attention.norm(h)).flatten(-2).chunk(3, -2))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).mT.unflatten(-1, (3, 5))
    torch.testing.assert_close(attention(h), h + attention.out(expected), rtol=1e-5, atol=1e-6)


def test_without_blocks_it_is_deep_conv() -> None:
    shape, x = (1, 16, 12), torch.rand(2, 192)
    torch.manual_seed(1)
    one = deep_conv(width=8).encoder(shape, 4, (1,), "tanh")(x)
    torch.manual_seed(1)
    two = resnet(width=8, depth=0).encoder(shape, 4, (1,), "tanh")(x)
    assert torch.equal(one, two)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["silu", "tanh"])
@pytest.mark.parametrize("shape", [(1, 28, 20), (3, 64, 64)], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_starts_tells_how_strong_a_contrast_is(name, shape, activation) -> None:
    """Half of what goes in gives about half of what comes out: normalisation on the way would give all of it."""
    torch.manual_seed(0)
    network, pixels = network_of(name), math.prod(shape)
    for built, n_in in ((network.encoder(shape, 8, (30, 30), activation), pixels), (network.decoder(8, shape, 1, (30, 30), activation), 8)):
        x = 0.2 * torch.randn(32, n_in)
        rest, half, whole = (built(share * x) for share in (0.0, 0.5, 1.0))
        assert 0.25 < (half - rest).norm() / (whole - rest).norm() < 0.75


@torch.no_grad()
@pytest.mark.parametrize("activation", ["silu", "tanh"])
@pytest.mark.parametrize("name", ["deep-conv", "resnet"])
def test_more_stages_keep_the_scale(name, activation) -> None:
    torch.manual_seed(0)
    network, spreads = network_of(name), []
    for shape in ((3, 16, 16), (3, 128, 128)):
        coder, decoder = network.encoder(shape, 8, (1,), activation), network.decoder(8, shape, 1, (1,), activation)
        spreads.append([coder(0.2 * torch.randn(16, math.prod(shape))).std(0).mean(), decoder(torch.randn(16, 8)).std(0).mean()])
    few, many = torch.tensor(spreads)
    assert (few / many < 6).all() and (many / few < 6).all(), spreads


@pytest.mark.parametrize("network", [deep_conv(width=8, grid=True), resnet(width=8, grid=True)], ids=["deep-conv", "resnet"])
def test_a_grid_of_latents_sees_the_image_around_each_cell(network) -> None:
    shape = (1, 64, 64)
    encoder = network.encoder(shape, 2 * 16, (1,), "silu")
    assert not any(isinstance(layer, torch.nn.Linear) for layer in encoder.modules())
    x = torch.rand(1, 64 * 64).requires_grad_()
    reached = torch.autograd.grad(encoder(x)[0, 0], x)[0].reshape(64, 64)
    assert reached[:16, :16].abs().mean() > 0 and not reached[40:, 40:].any()


def test_options_of_a_network_are_options_of_a_selector(tiny: Dataset) -> None:
    (c,) = configure("vae[network=resnet,depth=2,network.width=4,activation=silu,latent=3]")
    model = build(c, tiny)
    assert len(model.encoder) == len(network_of("resnet").encoder(tiny.shape, 6, (1,), "silu"))
    assert c.values["depth"] == 2 and c.values["attention"] is False
    wide = build(configure("vae[network=resnet,network.width=8,activation=silu,latent=3]")[0], tiny)
    assert sum(p.numel() for p in wide.parameters()) > sum(p.numel() for p in model.parameters())
    (plain,) = configure("vae[latent=3]")
    assert "depth" not in plain.values and "attention" not in plain.values
    with pytest.raises(UserError, match="depth"):
        configure("vae[network=conv,depth=2]")
