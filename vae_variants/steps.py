"""The gradient of a player's loss for all members of a population, traced once to a plain list of tensor operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import grad
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from vae_variants.model import Player

if TYPE_CHECKING:
    from vae_variants.training import Population

__all__ = ["Gradient", "gradient", "traced"]

aten = torch.ops.aten
RESHAPES = {aten.expand.default, aten.view.default, aten._unsafe_view.default, aten.permute.default}

LARGE = 2**22  # multiply-adds of one product, from which on it is worth the threads

Gradient = Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor]]]


def gradient(population: Population, player: Player, trace: bool = True) -> Gradient:
    """x (S, B, D), t () -> the loss of each member (S,), and its gradients, in the order of `population.owned(player.prefix)`.

    A stack is traced in the first call: the same operations in the same order without the cost of vmap and of autograd, so that every bit
    is that of the untraced call. With `trace` false, or where a model cannot be traced because its operations depend on
    values, nothing is.
    """
    if population.models:
        return separately(population, player)
    state = population.params | population.buffers
    owned = [name for name in population.params if name.startswith(player.prefix)]

    def total(mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        values = population.stacked(player.loss, (0, None))(rest | dict(zip(owned, mine, strict=True)), x, t)
        return values.sum(), values

    def found(mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        gradients, values = grad(total, has_aux=True)(mine, rest, x, t)
        return values, [g.contiguous() for g in gradients]  # as the parameters are, which a fused optimiser takes for granted

    graph: list[Callable[..., Any]] = [] if trace else [found]

    def each(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        now = {name: tensor.detach() for name, tensor in state.items()}
        mine = [now.pop(name) for name in owned]
        if not graph:
            graph.append(traced(found, mine, now, x, t))
        return graph[0](mine, now, x, t)

    return each


def traced(f: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """`f` as a list of tensor operations for arguments of these shapes, or `f` itself where these depend on values of the arguments.

    Operations whose results nobody uses are left out. The random numbers that tracing draws are given back.
    """
    device = next((a.device for a in args if isinstance(a, Tensor)), torch.device("cpu"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            graph = make_fx(f)(*args)
        except RuntimeError:
            return f
    simplify(graph)
    return graph


def simplify(graph: GraphModule) -> None:
    """Leaves out what has no effect, and lets products of matrices come out the way they are wanted instead of copying them afterwards."""
    nodes = graph.graph
    if any(node.op == "call_function" and changes(node) for node in nodes.nodes):
        return  # what looks like a copy may be there to be changed
    for node in nodes.nodes:
        if node.op == "call_function" and does_nothing(node):
            node.replace_all_uses_with(node.args[0])
    for node in nodes.nodes:
        if (product := transposed_product(node)) is not None:
            left, right = product.args
            with nodes.inserting_before(node):
                flipped = [nodes.call_function(aten.transpose.int, (factor, -2, -1)) for factor in (right, left)]
                node.replace_all_uses_with(nodes.call_function(aten.bmm.default, tuple(flipped)))
    for node in nodes.nodes:
        if node.target is aten.bmm.default:
            node.target = products
    nodes.eliminate_dead_code()
    graph.recompile()


def products(a: Tensor, b: Tensor) -> Tensor:
    """a_s b_s for each s: (S, N, K), (S, K, M) -> (S, N, M).

    On a CPU a batched product gives whole members to threads, so that with five members and two threads one of them waits for the other a
    sixth of the time. One by one every product has all threads.
    """
    if a.device.type != "cpu" or len(a) % torch.get_num_threads() == 0 or a.shape[1:].numel() * b.shape[-1] < LARGE:
        return torch.bmm(a, b)
    out = a.new_empty(len(a), a.shape[1], b.shape[2])
    for left, right, each in zip(a, b, out, strict=True):
        torch.mm(left, right, out=each)
    return out


def changes(node: Node) -> bool:
    """Whether it writes to what it is given."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def does_nothing(node: Node) -> bool:
    """A new shape that is the old one, or times 1."""
    source = node.args[0] if node.args else None
    if not isinstance(source, Node) or "val" not in source.meta:
        return False
    before, after = source.meta["val"], node.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor) or before.shape != after.shape or before.dtype != after.dtype:
        return False
    if node.target is aten.mul.Scalar:
        return node.args[1] == 1
    return node.target in RESHAPES and before.stride() == after.stride()


def transposed_product(node: Node) -> Node | None:
    """The product of stacks of matrices of which `node` is a copy, the other way up."""
    if node.target is aten.clone.default and node.args[0].target is aten.transpose.int:
        turned = node.args[0]
        axes = {axis % 3 for axis in turned.args[1:]}
        if turned.args[0].target is aten.bmm.default and axes == {1, 2}:
            return turned.args[0]
    return None


def separately(population: Population, player: Player) -> Gradient:
    """Member by member."""
    owned = population.owned(player.prefix)
    loss = population.call(player.loss, (0, None))

    def each(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        values = loss(x, t)
        return values.detach(), [g.contiguous() for g in torch.autograd.grad(values.sum(), owned)]

    return each
