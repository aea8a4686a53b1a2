"""Laws of networks."""

from __future__ import annotations

import math

import torch
from torch.func import functional_call, stack_module_state, vmap

from vae_variants.checks.check import Broken, law
from vae_variants.checks.words import described, size
from vae_variants.models.networks import ACTIVATIONS, NETWORKS

__all__: list[str] = []

SHAPES = ((1, 8, 8), (3, 7, 5))


@law("network", first=True)
def says_what_it_is(name: str) -> None:
    """It has a description for `list`."""
    described(NETWORKS, name)


@law("network", first=True)
def shapes(name: str) -> None:
    """Encoder and decoder fit images of any size and number of channels, and any number of outputs per pixel."""
    network = NETWORKS[name]
    for shape in SHAPES:
        pixels = math.prod(shape)
        for k in (1, 2):
            for activation in ACTIVATIONS:
                found = tuple(network.encoder(shape, 6, (9,), activation)(torch.rand(4, pixels)).shape)
                if found != (4, 6):
                    raise Broken(f"the encoder gives {size(found)} for 4 images of {size(shape)}, expected (4, 6)", "it gives (B, n_out)")
                found = tuple(network.decoder(3, shape, k, (9,), activation)(torch.rand(4, 3)).shape)
                if found != (4, pixels * k):
                    raise Broken(
                        f"the decoder gives {size(found)} for {size(shape)}, k = {k}, expected (4, {pixels * k})", "it gives (B, D * k)"
                    )


@law("network")
def can_be_stacked(name: str) -> None:
    """Both halves can be mapped over seeds (torch.func.vmap), and the gradient reaches every parameter."""
    network, shape = NETWORKS[name], SHAPES[1]
    halves = {
        "encoder": (lambda: network.encoder(shape, 6, (9,), "tanh"), math.prod(shape)),
        "decoder": (lambda: network.decoder(3, shape, 2, (9,), "tanh"), 3),
    }
    for half, (build, n_in) in halves.items():
        modules, x = [build(), build()], torch.rand(4, n_in)
        parameters, buffers = stack_module_state(modules)
        try:
            found = vmap(lambda state, x, door=modules[0]: functional_call(door, state, (x,)), (0, None), randomness="different")(
                parameters | buffers, x
            )
        except RuntimeError as error:
            mend = "use layers without state that they change: no BatchNorm with running averages"
            raise Broken(f"the {half} cannot be stacked (vmap): {' '.join(str(error).split())[:200]}", mend) from error
        if not torch.allclose(found, torch.stack([module(x) for module in modules]), atol=1e-5):
            raise Broken(f"the {half} gives other values stacked (vmap) than alone", "nothing may be shared between images or seeds")
        gradients = torch.autograd.grad(modules[0](x).square().sum(), list(modules[0].parameters()), allow_unused=True)
        for (parameter, _), gradient in zip(modules[0].named_parameters(), gradients, strict=True):
            if gradient is None or not gradient.abs().sum() > 0:
                raise Broken(f"the gradient does not reach {parameter} of the {half}", "use it, or take it away")
