"""Convolutions of a traced training step: member after member, which a CPU does faster than one convolution in groups."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

aten = torch.ops.aten


def separate(graph: GraphModule, members: int, low: bool) -> None:
    """Replaces the grouped convolutions that vmap makes of those of all members, and their gradients.

    Args:
        graph: The traced step.
        members: How many models are stacked.
        low: Whether factors are cast to bfloat16. Results are float32.
    """
    replaced = {aten.convolution.default: convolved, aten.convolution_backward.default: gradients}
    for node in graph.graph.nodes:
        if node.target in replaced:
            at = 8 if node.target is aten.convolution.default else 9  # of `groups`
            count = members if node.args[at] % members == 0 else 1  # it has fewer groups if members share a factor
            if count > 1 or low:
                node.target, node.args = replaced[node.target], (*node.args, count, low, laid_out(node.meta["val"]))
    graph.recompile()


def laid_out(found: Any) -> Any:
    """Shape and strides of a tensor, or of each of several: later views rely on them."""
    if isinstance(found, Tensor):
        return tuple(found.shape), found.stride()
    return None if found is None else tuple(map(laid_out, found))


def parts(tensor: Tensor, axis: int, members: int, low: bool) -> Iterator[Tensor]:
    """The slices of the members, which lie one after another on an axis."""
    return ((part.bfloat16() if low else part) for part in tensor.chunk(members, axis))


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, output_padding: Sequence[int], groups: int, members: int, low: bool, layout: Any,
) -> Tensor:  # fmt: skip
    """x (B, S * C, ...), weight (S * n, ...) -> (B, S * O, ...), as `aten.convolution`."""
    how = (stride, padding, dilation, transposed, output_padding, groups // members)
    out = torch.empty_strided(*layout, dtype=x.dtype)
    for a, w, own in zip(parts(x, 1, members, low), parts(weight, 0, members, low), out.chunk(members, 1), strict=True):
        own.copy_(aten.convolution(a, w, None, *how))
    return out if bias is None else out.add_(bias.reshape(-1, *[1] * (x.ndim - 2)))


def gradients(
    slope: Tensor, x: Tensor, weight: Tensor, _: Sequence[int] | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int, wanted: Sequence[bool], members: int, low: bool,
    layout: Any,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Of the input, weight and bias, as `aten.convolution_backward`; `slope` is the gradient of its result."""
    how = (None, stride, padding, dilation, transposed, output_padding, groups // members, [*wanted[:2], False])
    whole = [torch.empty_strided(*each, dtype=x.dtype) if due else None for each, due in zip(layout[:2], wanted[:2], strict=True)]
    own = [[None] * members if t is None else t.chunk(members, axis) for t, axis in zip(whole, (1, 0), strict=True)]
    slices = (parts(slope, 1, members, low), parts(x, 1, members, low), parts(weight, 0, members, low))
    for s, (g, a, w) in enumerate(zip(*slices, strict=True)):
        for each, found in zip(own, aten.convolution_backward(g, a, w, *how), strict=False):
            if (place := each[s]) is not None:
                place.copy_(found)
    return *whole, slope.sum((0, *range(2, slope.ndim))) if wanted[2] else None
