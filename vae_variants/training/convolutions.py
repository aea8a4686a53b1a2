"""Convolutions of a traced training step: member after member, which a CPU does faster than one convolution in groups."""

from collections.abc import Iterator, Sequence

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
                node.target, node.args = replaced[node.target], (*node.args, count, low)
    graph.recompile()


def parts(tensor: Tensor, axis: int, members: int, low: bool) -> Iterator[Tensor]:
    """The slices of the members, which lie one after another on an axis."""
    return ((part.bfloat16() if low else part) for part in tensor.chunk(members, axis))


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, output_padding: Sequence[int], groups: int, members: int, low: bool,
) -> Tensor:  # fmt: skip
    """x (B, S * C, ...), weight (S * n, ...) -> (B, S * O, ...), as `aten.convolution`."""
    how = (stride, padding, dilation, transposed, output_padding, groups // members)
    outputs, out = weight.shape[1] * groups if transposed else len(weight), x.new_empty(0)
    for s, (a, w) in enumerate(zip(parts(x, 1, members, low), parts(weight, 0, members, low), strict=True)):
        found = aten.convolution(a, w, None, *how)
        out = out if s else x.new_empty(len(x), outputs, *found.shape[2:])
        out.chunk(members, 1)[s].copy_(found)
    return out if bias is None else out.add_(bias.reshape(-1, *[1] * (x.ndim - 2)))


def gradients(
    slope: Tensor, x: Tensor, weight: Tensor, _: Sequence[int] | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int, wanted: Sequence[bool], members: int, low: bool,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Of the input, weight and bias, as `aten.convolution_backward`; `slope` is the gradient of its result."""
    how = (None, stride, padding, dilation, transposed, output_padding, groups // members, [*wanted[:2], False])
    of_x, of_weight = (t.new_empty(t.shape) if due else None for t, due in zip((x, weight), wanted[:2], strict=True))
    slices = (parts(slope, 1, members, low), parts(x, 1, members, low), parts(weight, 0, members, low))
    for s, (g, a, w) in enumerate(zip(*slices, strict=True)):
        found = aten.convolution_backward(g, a, w, *how)
        for whole, axis, part in zip((of_x, of_weight), (1, 0), found, strict=False):
            if whole is not None:
                whole.chunk(members, axis)[s].copy_(part)
    return of_x, of_weight, slope.sum((0, *range(2, slope.ndim))) if wanted[2] else None
