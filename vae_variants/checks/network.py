"""Checks of networks."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from vae_variants.checks.base import Failed, check
from vae_variants.checks.fixtures import gradient_reaches, size, stacks
from vae_variants.models.networks import ACTIVATIONS, network_of

SHAPES = ((1, 8, 8), (3, 7, 5))


@check("network", first=True)
def shapes(name: str) -> None:
    """Encoder and decoder fit images of any size and number of channels, and any number of outputs per pixel."""
    network = network_of(name)
    for shape in SHAPES:
        pixels = math.prod(shape)
        for k in (1, 2):
            for activation in ACTIVATIONS:
                found = tuple(network.encoder(shape, 6, (9,), activation)(torch.rand(4, pixels)).shape)
                if found != (4, 6):
                    raise Failed(f"the encoder gives {size(found)} for 4 images of {size(shape)}, expected (4, 6)", "it gives (B, n_out)")
                found = tuple(network.decoder(3, shape, k, (9,), activation)(torch.rand(4, 3)).shape)
                if found != (4, pixels * k):
                    raise Failed(
                        f"the decoder gives {size(found)} for {size(shape)}, k = {k}, expected (4, {pixels * k})", "it gives (B, D * k)"
                    )


@torch.no_grad()
def awake(module: nn.Module) -> nn.Module:
    """The module with small random numbers where a parameter starts at 0, which would hide what it multiplies."""
    for parameter in module.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)
    return module


@check("network")
def can_be_stacked(name: str) -> None:
    """Both halves can be mapped over seeds (torch.func.vmap), and the gradient reaches every parameter."""
    network, shape = network_of(name), SHAPES[1]
    halves = {
        "encoder": (lambda: network.encoder(shape, 6, (9,), "tanh"), math.prod(shape)),
        "decoder": (lambda: network.decoder(3, shape, 2, (9,), "tanh"), 3),
    }
    fixes = (
        "use tensor operations alone: no .item(), no if on a value; what a layer changes is a buffer",
        "nothing may be shared between images or seeds",
    )
    for half, (build, n_in) in halves.items():
        modules, x = [awake(build()), awake(build())], torch.rand(4, n_in)
        parameters, buffers = stack_module_state(modules)

        def forward(state: dict[str, Tensor], x: Tensor, template: nn.Module = modules[0]) -> Tensor:
            return functional_call(template, state, (x,))

        alone = torch.stack([module(x) for module in modules])
        stacks(f"the {half} ", forward, (parameters | buffers, torch.stack([x, x])), alone, fixes)
        value = modules[0](x).square().sum()
        gradient_reaches(f"the {half}", value, dict(modules[0].named_parameters()), "use it, or remove it")
