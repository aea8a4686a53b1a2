"""Masked networks, whose outputs for a unit see only the units before it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.numerics import SiLU


def degrees(width: int, units: int) -> Tensor:
    """For each of `width` hidden units the last position that it may see, evenly over 0..units - 2."""
    return torch.arange(width) * max(units - 1, 1) // width


class MaskedLinear(nn.Linear):
    """A linear layer with the weights where `mask` (outputs, inputs) is 1, and 0 elsewhere."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedNetwork(nn.Module):
    """Gives `k` numbers for each of Z units, which depend on the units before it alone (MADE, Germain et al. 2015).

    Args:
        units: Z.
        k: Numbers for each unit.
        hidden: Widths of the hidden layers, at least one.
        inputs: Numbers by which a unit is given, such as the categories of a one-hot vector.
        context: Width of a further input that all outputs see; 0: there is none.
        reverse: Whether the order of the units is Z - 1, ..., 0, not 0, ..., Z - 1.
    """

    def __init__(self, units: int, k: int, hidden: Sequence[int], *, inputs: int = 1, context: int = 0, reverse: bool = False) -> None:
        super().__init__()
        self.k = k
        rank = torch.arange(units)
        rank = rank.flip(0) if reverse else rank
        # with a context, some hidden units see it alone: the first unit depends on them
        seen = [degrees(width, units + 1) - 1 if context else degrees(width, units) for width in hidden]
        between = [after[:, None] >= before for before, after in pairwise(seen)]
        masks = [seen[0][:, None] >= rank.repeat_interleave(inputs), *between, (rank[:, None] > seen[-1]).repeat(k, 1)]
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        self.context = nn.Linear(context, hidden[0], bias=False) if context else None
        self.activation = SiLU()

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """z (..., Z * inputs) and the context (..., context), if there is one -> k tensors (..., Z)."""
        h = self.layers[0](z)
        if self.context is not None:
            h = h + self.context(context)
        for layer in self.layers[1:]:
            h = layer(self.activation(h))
        return h.chunk(self.k, -1)
