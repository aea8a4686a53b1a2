"""Networks: pairs of encoder and decoder builders, registered under one name."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_variants.components import made
from vae_variants.models.numerics import SiLU
from vae_variants.registry import Registry, UserError, closest

Shape = tuple[int, int, int]

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "silu": SiLU}


class Network(NamedTuple):
    """Builders of encoder and decoder; both treat images as flat vectors of D = C * H * W pixels.

    encoder(shape, n_out, hidden, activation): (B, D) -> (B, n_out)
    decoder(n_in, shape, k, hidden, activation): (B, n_in) -> (B, D * k), with the k outputs of a pixel adjacent
    cells(shape): rows and columns of the grid that its latents are, those of a cell adjacent; None if they are no grid
    """

    encoder: Callable[[Shape, int, Sequence[int], str], nn.Module]
    decoder: Callable[[int, Shape, int, Sequence[int], str], nn.Module]
    description: str
    cells: Callable[[Shape], tuple[int, int]] | None = None


NETWORKS: Registry[Network | Callable[..., Network]] = Registry("network")  # a network, or a function of options that gives one


def network_of(entry: str | Network | Callable[..., Network]) -> Network:
    """A network by its registered name or as it is; with the defaults of its options if it has some."""
    return made(NETWORKS[entry] if isinstance(entry, str) else entry, {})


class Centred(nn.Sequential):
    """Layers that see images less `centre`, the mean training image, so that a white ground is no harder than a black one."""

    centre: Tensor

    def __init__(self, network: nn.Module, pixels: int) -> None:
        super().__init__(*(network if type(network) is nn.Sequential else (network,)))
        self.register_buffer("centre", torch.zeros(pixels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - self.centre)


class Bias(nn.Module):
    """Adds a number of its own to each output."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.bias


def encoder(network: str | Network, shape: Shape, n_out: int, hidden: Sequence[int], activation: str) -> Centred:
    """The encoder of a registered network; `start` centres its input."""
    return Centred(network_of(network).encoder(shape, n_out, hidden, activation), math.prod(shape))


def decoder(network: str | Network, n_in: int, shape: Shape, k: int, hidden: Sequence[int], activation: str) -> nn.Module:
    """The decoder of a registered network. If its last parameter is no bias of all outputs, it gets one more layer that is."""
    built, outputs = network_of(network).decoder(n_in, shape, k, hidden, activation), math.prod(shape) * k
    if output_bias(built, outputs) is not None:
        return built
    return built.append(Bias(outputs)) if type(built) is nn.Sequential else nn.Sequential(built, Bias(outputs))


def output_bias(network: nn.Module, outputs: int) -> nn.Parameter | None:
    """The last parameter of a network, if it is a bias of that many outputs."""
    name, last = next(reversed(dict(network.named_parameters()).items()), ("", None))
    return last if last is not None and name.endswith("bias") and last.shape == (outputs,) else None


@torch.no_grad()
def start(encoder: nn.Module, decoder: nn.Module, mean: Tensor, outputs: Tensor) -> None:
    """Centres the input of an encoder at `mean` (D,), and sets the output bias of a decoder to `outputs` (k * D,), if they have them."""
    if isinstance(encoder, Centred):
        encoder.centre.copy_(mean)
    if (bias := output_bias(decoder, len(outputs))) is not None:
        bias.copy_(outputs)


def layers(widths: Sequence[int], activation: str) -> nn.Sequential:
    """Linear layers of the given widths with activations in between. Raises `UserError` for an unknown activation."""
    if activation not in ACTIVATIONS:
        raise UserError(closest("activation", activation, ACTIVATIONS))
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        modules += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


NETWORKS.add(
    Network(
        encoder=lambda shape, n_out, hidden, activation: layers([math.prod(shape), *hidden, n_out], activation),
        decoder=lambda n_in, shape, k, hidden, activation: layers([n_in, *reversed(hidden), math.prod(shape) * k], activation),
        description="fully connected layers of the widths in `hidden`; the decoder mirrors the encoder",
    ),
    name="mlp",
)


def fans(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> tuple[float, float]:
    """How many inputs of a layer reach one of its outputs, and how many outputs one input reaches, on average away from the edges."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    many = math.prod(layer.kernel_size)
    few = many / math.prod(layer.stride)
    back, forth = (few, many) if isinstance(layer, nn.ConvTranspose2d) else (many, few)
    return layer.in_channels * back, layer.out_channels * forth


@torch.no_grad()
def scaled(network: nn.Module, activation: str) -> nn.Module:
    """A network with weights by its activation, uniform, and biases 0. The last layer keeps torch's smaller weights.

    Before tanh as Glorot & Bengio (2010), before the others as He et al. (2015): variances 2 / (n_in + n_out) and 2 / n_in.
    """
    *layers, last = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    for layer in layers:
        n_in, n_out = fans(layer)
        bound = math.sqrt(6 / (n_in + n_out if activation == "tanh" else n_in))
        nn.init.uniform_(layer.weight, -bound, bound)
    for layer in (*layers, last):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return network


NETWORKS.add(
    Network(
        encoder=lambda *options: scaled(network_of("mlp").encoder(*options), options[-1]),
        decoder=lambda *options: scaled(network_of("mlp").decoder(*options), options[-1]),
        description="`mlp` with initial weights by Glorot (tanh) or He (other activations) instead of torch's",
    ),
    name="mlp-scaled",
)


class PixelMajor(nn.Module):
    """(B, C * k, H, W) -> (B, C * H * W * k)."""

    def __init__(self, channels: int, k: int) -> None:
        super().__init__()
        self.channels, self.k = channels, k

    def forward(self, h: Tensor) -> Tensor:
        return h.unflatten(-3, (self.channels, self.k)).movedim(-3, -1).flatten(-4)


def conv_encoder(shape: Shape, n_out: int, hidden: Sequence[int], activation: str) -> nn.Module:
    c, height, width = shape
    a, quarter = ACTIVATIONS[activation], math.ceil(height / 4) * math.ceil(width / 4)
    return nn.Sequential(
        nn.Unflatten(-1, shape),
        nn.Conv2d(c, 32, 3, stride=2, padding=1), a(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), a(),
        nn.Flatten(-3),
        layers([64 * quarter, *hidden[-1:], n_out], activation),
    )  # fmt: skip


def conv_decoder(n_in: int, shape: Shape, k: int, hidden: Sequence[int], activation: str) -> nn.Module:
    c, *size = shape
    a, half = ACTIVATIONS[activation], [math.ceil(s / 2) for s in size]
    quarter = [math.ceil(s / 2) for s in half]
    grow = [(to[0] - 2 * at[0] + 1, to[1] - 2 * at[1] + 1) for at, to in ((quarter, half), (half, size))]
    return nn.Sequential(
        layers([n_in, *hidden[-1:], 64 * math.prod(quarter)], activation), a(),
        nn.Unflatten(-1, (64, *quarter)),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=grow[0]), a(),
        nn.ConvTranspose2d(32, c * k, 3, stride=2, padding=1, output_padding=grow[1]),
        PixelMajor(c, k),
    )  # fmt: skip


NETWORKS.add(
    Network(conv_encoder, conv_decoder, "two strided 3x3 convolutions (32, 64 channels) and one dense layer of width hidden[-1]"),
    name="conv",
)
