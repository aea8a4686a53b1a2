"""Images whose values depend on each other in raster order, by a causal network and any likelihood of a value."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from vae_variants.models.causal import CausalNetwork
from vae_variants.models.likelihoods import Likelihood
from vae_variants.models.logistic_mixture import LogisticMixture
from vae_variants.models.networks import Shape

PLACES = 2**18  # of grids that are evaluated together
AT_ONCE = 1024  # images that are sampled together


class Builder(Protocol):
    """Makes a network for so many planes of input and output in groups."""

    def __call__(self, planes: int, outputs: int, groups: int) -> CausalNetwork: ...


class CausalPixels(nn.Module):
    """p(x) = prod_i p(x_i | h_i): places in raster order, channels in theirs, h_i outputs of a network that sees the values before i.

    A `likelihood` that couples the channels of a place itself (`logistic-mixture` with three of them) is given outputs that see the places
    before alone. The network sees images less the mean training image. Each output has a bias for each place, which starts at the mean
    training image.

    Args:
        shape: (channels, height, width).
        likelihood: Of a value given k outputs.
        network: Makes the network.
    """

    centre: Tensor

    def __init__(self, shape: Shape, likelihood: Likelihood, network: Builder) -> None:
        super().__init__()
        channels, height, width = shape
        self.shape, self.likelihood = shape, likelihood
        self.groups = 1 if isinstance(likelihood, LogisticMixture) and likelihood.coupled else channels
        self.network = network(channels, channels * likelihood.k, self.groups)
        self.bias = nn.Parameter(torch.zeros(channels, height, width, likelihood.k))
        self.register_buffer("centre", torch.zeros(height, width, channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Takes centre, bias and parameters of the likelihood from training images x (N, D)."""
        self.centre.copy_(self.grid(x.mean(0)))
        self.bias.copy_(self.likelihood.start(x).view_as(self.bias))

    def grid(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., H, W, C)."""
        return x.unflatten(-1, self.shape).movedim(-3, -1)

    def outputs(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (N, D), a grid of context (N, H, W, .) if the network takes one -> the likelihood's inputs (N, k * D)."""
        h = self.network(self.grid(x) - self.centre, context).unflatten(-1, (self.shape[0], -1))
        return (h.movedim(-2, -4) + self.bias).flatten(-4)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (N, D) -> (N,) nats."""
        size = max(1, PLACES // self.centre[..., 0].numel())
        contexts = [None] * len(x) if context is None else context.split(size)
        parts = zip(x.split(size), contexts, strict=context is not None)
        return torch.cat([self.likelihood.log_prob(self.outputs(part, given), part) for part, given in parts])

    def sample(self, n: int, context: Tensor | None = None, *, kept: bool = True) -> Tensor:
        """n images (n, D), value by value. With `kept` false, the same images from the same noise, by one pass for each value."""
        found = [self.centre.new_zeros(0, self.centre.numel())]
        for start in range(0, n, AT_ONCE):
            given = None if context is None else context[start : start + AT_ONCE]
            found.append(self._filled(min(AT_ONCE, n - start), given, self.likelihood.sample, kept=kept))
        return torch.cat(found)

    def mean(self, context: Tensor) -> Tensor:
        """Images (n, D) whose values are their means given the means of the values before them: without noise, but not E[x | context]."""
        return self._filled(context.shape[0], context, self.likelihood.mean)

    @torch.no_grad()
    def _filled(self, n: int, context: Tensor | None, value: Callable[[Tensor], Tensor], *, kept: bool = True) -> Tensor:
        each = self.shape[0] // self.groups  # channels of a group
        x = self.centre.new_zeros(n, *self.centre.shape)

        def put(outputs: Tensor, row: int, column: int, group: int) -> None:
            mine = slice(group * each, (group + 1) * each)
            h = outputs.unflatten(-1, (self.shape[0], -1))[:, mine] + self.bias[mine, row, column]
            x[:, row, column, mine] = value(h.flatten(1)) - self.centre[row, column, mine]

        self.network.walk(x, put, self.groups, context, kept=kept)
        return (x + self.centre).movedim(-1, 1).flatten(1)
