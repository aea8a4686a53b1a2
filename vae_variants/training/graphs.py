"""Simplifies the traced list of tensor operations of a training step without changing its values."""

import operator
from collections.abc import Iterator

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from vae_variants.training.precision import rounded

aten = torch.ops.aten

RESHAPES = {aten.expand.default, aten.permute.default, aten.view.default, aten._unsafe_view.default}
TURNS = {*RESHAPES, aten.transpose.int, aten.unsqueeze.default, aten.squeeze.dim}
IN_PLACE = {
    aten.add.Tensor: aten.add_.Tensor, aten.sub.Tensor: aten.sub_.Tensor, aten.mul.Tensor: aten.mul_.Tensor,
    aten.div.Tensor: aten.div_.Tensor, aten.mul.Scalar: aten.mul_.Scalar, aten.div.Scalar: aten.div_.Scalar,
    aten.clamp_min.default: aten.clamp_min_.default, aten.exp.default: aten.exp_.default, aten.neg.default: aten.neg_.default,
    aten.abs.default: aten.abs_.default, aten.log.default: aten.log_.default, aten.addcmul.default: aten.addcmul_.default,
    aten.relu.default: aten.relu_.default, aten.sigmoid.default: aten.sigmoid_.default, aten.tanh.default: aten.tanh_.default,
}  # fmt: skip
INTO_GRADIENT = {
    op.default: op.grad_input for op in (aten.sigmoid_backward, aten.softplus_backward, aten.tanh_backward, aten.threshold_backward)
}
LARGE = 2**22  # multiply-adds of one product; below, threads do not pay


def simplify(graph: GraphModule) -> None:
    """Removes operations without effect, avoids copies of transposed products, and reuses memory that is not read again."""
    nodes = graph.graph
    if any(not harmless(node) for node in nodes.nodes):
        return  # a copy may be needed after it
    for node in nodes.nodes:
        if does_nothing(node):
            node.replace_all_uses_with(node.all_input_nodes[0])
    for node in list(nodes.nodes):
        if (product := transposed_product(node)) is not None:
            with nodes.inserting_before(product):  # before anything writes into a factor
                flipped = [nodes.call_function(aten.transpose.int, (factor, -2, -1)) for factor in reversed(product.all_input_nodes)]
                node.replace_all_uses_with(nodes.call_function(aten.bmm.default, tuple(flipped)))
    nodes.eliminate_dead_code()
    write_over(list(nodes.nodes))
    for node in nodes.nodes:
        if node.target is aten.bmm.default:
            node.target = products
    graph.recompile()


def products(a: Tensor, b: Tensor) -> Tensor:
    """a_s b_s for each s: (S, N, K), (S, K, M) -> (S, N, M).

    A batched product on a CPU assigns whole members to threads, so that with five members and two threads one thread idles a sixth of the
    time. Single products use all threads.
    """
    small = a.shape[1:].numel() * b.shape[-1] < LARGE
    if small or a.device.type != "cpu" or len(a) % torch.get_num_threads() == 0 or rounded(a.device):
        return torch.bmm(a, b)
    out = a.new_empty(len(a), a.shape[1], b.shape[2])
    for left, right, each in zip(a, b, out, strict=True):
        torch.mm(left, right, out=each)
    return out


def round_factors(graph: GraphModule) -> None:
    """Casts the factors of products in a simplified graph to bfloat16, each once; sums and all other operations stay float32."""
    nodes, known = graph.graph, dict[Node, Node]()

    def low(node: Node) -> Node:
        if node not in known:
            with nodes.inserting_after(node):
                if node.target in TURNS and isinstance(node.args[0], Node):
                    known[node] = nodes.call_function(node.target, (low(node.args[0]), *node.args[1:]))
                else:
                    known[node] = nodes.call_function(Tensor.bfloat16, (node,))
        return known[node]

    for node in [node for node in nodes.nodes if node.target is products]:
        with nodes.inserting_before(node):
            product = nodes.call_function(torch.bmm, tuple(low(factor) for factor in node.all_input_nodes))
            node.replace_all_uses_with(nodes.call_function(Tensor.float, (product,)))
    nodes.eliminate_dead_code()
    graph.recompile()


def harmless(node: Node) -> bool:
    """Whether it writes into no memory, or into memory that is read later through its own result alone."""
    if not isinstance(node.target, OpOverload) or not node.target._schema.is_mutable:
        return True
    own = set(sharing(node))
    others = (shared for shared in sharing(memory(node)) if shared not in own)
    return isinstance(node.args[0], Node) and all(user <= node for shared in others for user in shared.users)


def does_nothing(node: Node) -> bool:
    """Whether it is a reshape to the same shape, or a product with 1."""
    if node.target is aten.mul.Scalar:
        return same(node.args[0], node) and node.args[1] in (1, 1.0)
    return node.target in RESHAPES and same(node.args[0], node)


def transposed_product(node: Node) -> Node | None:
    """The batched product of which `node` is a transposed copy."""
    if node.target is not aten.clone.default:
        return None
    (turned,) = node.all_input_nodes
    if turned.target is not aten.transpose.int or {int(str(axis)) % 3 for axis in turned.args[1:]} != {1, 2}:
        return None
    (product,) = turned.all_input_nodes
    return product if product.target is aten.bmm.default and len(product.all_input_nodes) == 2 else None


def write_over(nodes: list[Node]) -> None:
    """Lets an elementwise operation write into its first operand if that is a whole tensor of this graph that is not read later."""
    place = {node: i for i, node in enumerate(nodes)}
    for node in nodes:
        if node.target is aten.add.Tensor and len(node.args) == 2 and not same(node.args[0], node) and same(node.args[1], node):
            node.args = node.args[::-1]  # the larger operand first
        if (node.target not in IN_PLACE and node.target not in INTO_GRADIENT) or not same(node.args[0], node):
            continue
        first, *others = node.all_input_nodes
        maker = memory(first)
        made = value(maker)
        if maker.op != "call_function" or made is None or not made.is_contiguous() or made.numel() != node.meta["val"].numel():
            continue
        if any(memory(other) is maker for other in others) or node.args[1:2] == (first,):
            continue
        if any(place[user] > place[node] for shared in sharing(maker) for user in shared.users):
            continue
        if node.target in INTO_GRADIENT:
            node.kwargs = {**node.kwargs, "grad_input": first}
            node.target = INTO_GRADIENT[node.target]
        else:
            node.target = IN_PLACE[node.target]


def is_view(node: Node) -> bool:
    """Whether it returns memory of its first operand."""
    if node.target is operator.getitem:
        return True
    return isinstance(node.target, OpOverload) and any(returned.alias_info for returned in node.target._schema.returns)


def memory(node: Node) -> Node:
    """The node that allocated the memory of its result."""
    while is_view(node):
        node = node.all_input_nodes[0]
    return node


def sharing(node: Node) -> Iterator[Node]:
    """`node` and all nodes whose results share its memory."""
    yield node
    for user in node.users:
        if is_view(user) and user.all_input_nodes[0] is node:
            yield from sharing(user)


def value(node: object) -> Tensor | None:
    """Shape, strides and type of `node` when it was traced."""
    found = node.meta.get("val") if isinstance(node, Node) else None
    return found if isinstance(found, Tensor) else None


def same(a: object, b: Node) -> bool:
    """Whether shape, strides and type are equal."""
    one, other = value(a), value(b)
    return one is not None and other is not None and (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)
