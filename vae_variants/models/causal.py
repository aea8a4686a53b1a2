"""Networks over grids whose outputs at a place see only the places before it in raster order: PixelCNN and gated PixelCNN.

Each is evaluated on whole grids, or place by place with the features of earlier places kept. Grids are (N, height, width, planes).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.registry import UserError


def reach(kernel: int) -> int:
    """Places on each side of the middle of a kernel. Raises `UserError` if it has no middle or no sides."""
    if kernel < 3 or kernel % 2 == 0:
        raise UserError(f"kernel={kernel} has no place in the middle with others beside it; write an odd number such as kernel=3")
    return kernel // 2


def shares(planes: int, groups: int) -> Tensor:
    """(planes,) the group of each plane: equal runs 0 .. groups - 1."""
    return torch.arange(planes) * groups // planes


def later(to: Tensor, of: Tensor, *, strict: bool) -> Tensor:
    """(outputs, inputs) which planes of groups `to` may see those of groups `of` at their own place: earlier groups, or also their own."""
    return (to[:, None] > of) if strict else (to[:, None] >= of)


def before(to: Tensor, of: Tensor, reach: int, *, strict: bool) -> Tensor:
    """Mask A (`strict`) or B of a PixelCNN: `reach` rows above, `reach` places to the left, and its own: see `later`."""
    mask = torch.ones(len(to), len(of), reach + 1, 2 * reach + 1)
    mask[:, :, reach, reach:] = 0
    mask[:, :, reach, reach] = later(to, of, strict=strict).float()
    return mask


def left(to: Tensor, of: Tensor, reach: int, *, strict: bool) -> Tensor:
    """The last row of `before`, without the places to the right."""
    return before(to, of, reach, strict=strict)[:, :, -1:, : reach + 1]


def rows_above(outputs: int, inputs: int, reach: int, *, own: bool) -> Tensor:
    """`reach` rows above and, if `own`, the own row, with `reach` places on both sides."""
    mask = torch.ones(outputs, inputs, reach + 1, 2 * reach + 1)
    mask[:, :, reach] = float(own)
    return mask


class CausalConv(nn.Module):
    """A convolution with the weights where `mask` (outputs, inputs, rows, columns) is 1, and 0 elsewhere.

    The last row of the mask is the row of the output's place, and `right` of its columns lie to the right of it. Outside the grid are
    zeros. It is one product of the weights with the inputs at those offsets that the mask sees, which with stacked seeds is faster on a
    CPU than torch's convolution.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, right: int = 0, *, bias: bool = True) -> None:
        super().__init__()
        outputs, _, rows, columns = mask.shape
        self.offsets = mask.amax((0, 1)).nonzero().tolist()  # (row, column)
        self.register_buffer("mask", torch.cat([mask[:, :, r, c] for r, c in self.offsets], 1), persistent=False)
        bound = 1 / math.sqrt(max(1.0, mask.sum().item() / outputs))  # that of torch's convolutions, for the inputs that are seen
        self.weight = nn.Parameter(torch.empty_like(self.mask).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None
        self.left, self.right, self.up = columns - 1 - right, right, rows - 1

    @property
    def pointwise(self) -> bool:
        return not (self.left or self.right or self.up)

    def padded(self, x: Tensor) -> Tensor:
        """x (N, H, W, inputs) with the margin that the convolution sees."""
        return x if self.pointwise else F.pad(x, (0, 0, self.left, self.right, self.up, 0))

    def forward(self, padded: Tensor) -> Tensor:
        """Inputs with their margin (N, height + up, left + width + right, inputs) -> (N, height, width, outputs)."""
        height, width = padded.shape[1] - self.up, padded.shape[2] - self.left - self.right
        seen = [padded[:, r : r + height, c : c + width] for r, c in self.offsets]
        return F.linear(torch.cat(seen, -1), self.weight * self.mask, self.bias)


def pointwise(to: Tensor, of: Tensor, *, bias: bool = True) -> CausalConv:
    """A 1x1 convolution that keeps the order of groups."""
    return CausalConv(later(to, of, strict=False).float()[:, :, None, None], bias=bias)


class Whole:
    """Evaluates convolutions on whole grids."""

    def image(self, conv: CausalConv, x: Tensor) -> Tensor:
        """Of the network's input (N, H, W, planes)."""
        return self.features(conv, x)

    def features(self, conv: CausalConv, h: Tensor) -> Tensor:
        """Of inner features (N, H, W, inputs)."""
        return cast(Tensor, conv(conv.padded(h)))


class Stepwise(Whole):
    """Evaluates convolutions on a part of one row, and keeps their inputs, which later places see. Rows are visited in their order."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)
        self.kept = dict[CausalConv, Tensor]()
        self.row, self.column, self.width = 0, 0, width

    def at(self, row: int, column: int, width: int) -> None:
        """Moves to `width` places of a row, from `column` on."""
        self.row, self.column, self.width = row, column, width

    def here(self, conv: CausalConv, padded: Tensor) -> Tensor:
        """A convolution of a whole padded grid, at these places alone."""
        end = self.column + conv.left + self.width + conv.right
        return cast(Tensor, conv(padded[:, self.row : self.row + conv.up + 1, self.column : end]))

    def image(self, conv: CausalConv, x: Tensor) -> Tensor:
        """Of the network's input (N, H, W, planes), as far as it is known -> (N, 1, width, outputs)."""
        return self.here(conv, conv.padded(x))

    def features(self, conv: CausalConv, h: Tensor) -> Tensor:
        """Of inner features here (N, 1, width, inputs) -> (N, 1, width, outputs)."""
        if conv.pointwise:
            return super().features(conv, h)
        if conv not in self.kept:
            self.kept[conv] = conv.padded(h.new_zeros(h.shape[0], *self.size, h.shape[-1]))
        start = self.column + conv.left
        self.kept[conv][:, self.row + conv.up, start : start + self.width] = h[:, 0]
        return self.here(conv, self.kept[conv])


class CausalNetwork(nn.Module, ABC):
    """Base class: grids (N, H, W, planes) -> (N, H, W, outputs), where an output sees the places before its own, and planes at its own.

    Planes of input, features and outputs come in `groups`, such as the channels of an image: at its own place an output sees the input
    planes of earlier groups. With one group it sees none there.
    """

    @abstractmethod
    def above(self, x: Tensor, look: Whole) -> list[Tensor]:
        """What the rows before it give to each place: tensors (N, H or 1, W, .)."""

    @abstractmethod
    def along(self, x: Tensor, above: Sequence[Tensor], look: Whole, context: Tensor | None) -> Tensor:
        """Outputs, from the input, what `above` gave and a context (N, height, width, .), if the network takes one."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        look = Whole()
        return self.along(x, self.above(x, look), look, context)

    @torch.no_grad()
    def walk(
        self, x: Tensor, put: Callable[[Tensor, int, int, int], None], groups: int, context: Tensor | None = None, *, kept: bool = True
    ) -> None:
        """Fills a grid x (N, H, W, planes) place by place, group by group.

        Args:
            put: Writes into x; takes the outputs (N, outputs) of a place, its row, its column, and the group.
            kept: Whether features of earlier places are kept; if not, each place costs a whole pass.
        """
        height, width = x.shape[1:3]
        look = Stepwise(height, width)
        for row in range(height):
            look.at(row, 0, width)
            rows = self.above(x, look) if kept else []
            for column in range(width):
                look.at(row, column, 1)
                here = None if context is None else context[:, row : row + 1, column : column + 1]
                for group in range(groups):
                    if kept:
                        found = self.along(x, [part[:, :, column : column + 1] for part in rows], look, here)[:, 0, 0]
                    else:
                        found = self(x, context)[:, row, column]
                    put(found, row, column, group)


class Block(nn.Module):
    """h + f(h) with f: ReLU, 1x1 to half the features, ReLU, masked 3x3 convolution, ReLU, 1x1 back (van den Oord et al. 2016a)."""

    def __init__(self, whole: Tensor, half: Tensor) -> None:
        super().__init__()
        self.narrow, self.wide = pointwise(half, whole), pointwise(whole, half)
        self.middle = CausalConv(before(half, half, 1, strict=False), 1)

    def forward(self, h: Tensor, look: Whole) -> Tensor:
        inner = look.features(self.middle, look.features(self.narrow, h.relu()).relu())
        return h + look.features(self.wide, inner.relu())


class MaskedStack(CausalNetwork):
    """The network of a PixelCNN: a convolution with mask A, `layers` residual blocks with mask B, two 1x1 convolutions.

    It does not see all places before its own: a stack of masked convolutions has a blind spot to the right above.

    Args:
        planes, outputs: Of input and output, in `groups`.
        features: Planes between them.
        kernel: Width of the first convolution.
        context: Planes of a further grid, which the outputs see at their own place; 0: there is none.
    """

    def __init__(self, planes: int, outputs: int, groups: int, *, features: int, layers: int, kernel: int, context: int = 0) -> None:
        super().__init__()
        of, whole, half, to = (shares(n, groups) for n in (planes, features, max(groups, features // 2), outputs))
        self.first = CausalConv(before(whole, of, reach(kernel), strict=True), reach(kernel))
        self.context = CausalConv(torch.ones(features, context, 1, 1), bias=False) if context else None
        self.blocks = nn.ModuleList(Block(whole, half) for _ in range(layers))
        self.mix, self.last = pointwise(whole, whole), pointwise(to, whole, bias=False)

    def above(self, x: Tensor, look: Whole) -> list[Tensor]:
        return []

    def along(self, x: Tensor, above: Sequence[Tensor], look: Whole, context: Tensor | None) -> Tensor:
        h = look.image(self.first, x)
        if self.context is not None and context is not None:
            h = h + look.features(self.context, context)
        for block in self.blocks:
            h = block(h, look)
        return look.features(self.last, look.features(self.mix, h.relu()).relu())


def gate(h: Tensor) -> Tensor:
    """tanh(a) sigmoid(b) of the two halves a and b of the planes (van den Oord et al. 2016b)."""
    a, b = h.chunk(2, -1)
    return a.tanh() * b.sigmoid()


class GatedLayer(nn.Module):
    """A layer of the vertical stack, of the horizontal stack, and the link from the first to the second."""

    def __init__(self, vertical: Tensor, horizontal: Tensor, features: Tensor) -> None:
        super().__init__()
        both = len(features) * 2
        self.vertical = CausalConv(vertical, vertical.shape[-1] // 2)
        self.horizontal = CausalConv(horizontal)
        self.link = CausalConv(torch.ones(both, both, 1, 1), bias=False)
        self.out = pointwise(features, features)


class GatedStack(CausalNetwork):
    """The network of a gated PixelCNN: it sees all places before its own, as far as its reach and number of layers allow.

    The vertical stack sees all rows above, the horizontal stack its own row and, in each layer, what the vertical stack found there
    (van den Oord et al. 2016b). The first layer has the given kernel, each of the `layers` after it a kernel of 3.

    Args:
        planes, outputs: Of input and output, in `groups`.
        features: Planes of each stack.
        kernel: Width of the first layer.
    """

    def __init__(self, planes: int, outputs: int, groups: int, *, features: int, layers: int, kernel: int) -> None:
        super().__init__()
        of, h, to = (shares(n, groups) for n in (planes, features, outputs))
        pair = torch.cat([h, h])
        first = GatedLayer(rows_above(len(pair), planes, reach(kernel), own=False), left(pair, of, reach(kernel), strict=True), h)
        rest = (GatedLayer(rows_above(len(pair), features, 1, own=True), left(pair, h, 1, strict=False), h) for _ in range(layers))
        self.layers = nn.ModuleList([first, *rest])
        self.mix, self.last = pointwise(h, h), pointwise(to, h, bias=False)

    def above(self, x: Tensor, look: Whole) -> list[Tensor]:
        links, v = list[Tensor](), x
        for i, layer in enumerate(cast(Sequence[GatedLayer], self.layers)):
            v = look.features(layer.vertical, gate(v)) if i else look.image(layer.vertical, x)
            links.append(look.features(layer.link, v))
        return links

    def along(self, x: Tensor, above: Sequence[Tensor], look: Whole, context: Tensor | None) -> Tensor:
        h: Tensor | None = None
        for layer, link in zip(cast(Sequence[GatedLayer], self.layers), above, strict=True):
            inner = look.image(layer.horizontal, x) if h is None else look.features(layer.horizontal, h)
            found = look.features(layer.out, gate(inner + link))
            h = found if h is None else h + found
        assert h is not None
        return look.features(self.last, look.features(self.mix, h.relu()).relu())
