"""Random numbers of stacked members, drawn for each seed from a stream of its own.

So seed 3 is the same whichever seeds train beside it, and however memory splits them. Torch's random operations have a leading axis for
the members wherever `torch.func.vmap` maps over them; each slice of it is drawn with the generator of its member.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._python_dispatch import TorchDispatchMode

from vae_variants.training.batches import fork_rng

aten = torch.ops.aten
MANY = 2**16  # numbers of one member; below, threads cost more than they save
FACTORIES = {aten.randn.default: aten.normal_.default, aten.rand.default: aten.uniform_.default}  # what fills an empty tensor alike


def random(func: Any) -> bool:
    """Whether an operation draws."""
    return torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())


def drawn(func: Any, generators: Sequence[torch.Generator], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a random operation on all members gives, member by member; large amounts are drawn in parallel on a CPU."""
    members = len(generators)
    if func in FACTORIES:
        return filled(FACTORIES[func], torch.empty(args[0], **{**kwargs, "device": generators[0].device}), generators)
    if func._schema.is_mutable and len(args) > 0 and not any(isinstance(arg, Tensor) and arg.dim() for arg in args[1:]):
        return filled(func, args[0], generators, *args[1:])
    if func is aten.native_dropout.default:  # the one without a generator
        kept = filled(aten.bernoulli_.float, torch.empty_like(args[0]), generators, 1 - args[1])
        return args[0] * kept / (1 - args[1]), kept.bool()
    depth = max((arg.dim() for arg in args if isinstance(arg, Tensor)), default=0)
    parts = [chunks(arg, members, depth) for arg in args]
    overload = func if any(argument.name == "generator" for argument in func._schema.arguments) else with_generator(func)
    found = [overload(*(part[s] for part in parts), **kwargs, generator=g) for s, g in enumerate(generators)]
    return torch.cat(found) if isinstance(found[0], Tensor) else tuple(map(torch.cat, zip(*found, strict=True)))


def filled(func: Any, tensor: Tensor, generators: Sequence[torch.Generator], *args: Any) -> Tensor:
    """`tensor`, whose equal parts along the first axis an operation in place has filled with the generators."""
    parts = tensor.chunk(len(generators))

    def fill(s: int) -> None:
        func(parts[s], *args, generator=generators[s])

    if tensor.device.type == "cpu" and len(generators) > 1 and parts[0].numel() > MANY:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(fill, range(len(generators))))
    else:
        for s in range(len(generators)):
            fill(s)
    return tensor


def chunks(arg: Any, members: int, depth: int) -> Sequence[Any]:
    """The part of an argument for each member: of a tensor with `depth` axes and of a size, along the first one; else all of it."""
    if isinstance(arg, Tensor) and arg.dim() == depth and len(arg) % members == 0:
        return arg.chunk(members)
    if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], int):  # a size
        return [[arg[0] // members, *arg[1:]]] * members
    return [arg] * members


def with_generator(func: Any) -> Any:
    """The overload of an operation that takes a generator."""
    packet, name = func.overloadpacket, func._schema.overload_name
    wanted = {"": "generator"}.get(name, f"{name}_generator")
    return getattr(packet, wanted)


class Turns:
    """The generators that an operation draws with: all of them, or those of one member after the other for `torch.randperm`."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators, self.permutations = generators, 0

    def of(self, func: Any) -> Sequence[torch.Generator]:
        if func is not aten.randperm.default:
            return self.generators
        self.permutations += 1
        return [self.generators[(self.permutations - 1) % len(self.generators)]]


class PerSeed(TorchDispatchMode):
    """A context in which the random operations of stacked members are drawn with `generators`, one for each member."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.turns = Turns(generators)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return drawn(func, self.turns.of(func), args, kwargs or {}) if random(func) else func(*args, **(kwargs or {}))


class Draw:
    """A random operation of a traced step, drawn with the generators of its members."""

    __name__ = "draw"

    def __init__(self, func: Any, generators: Sequence[torch.Generator]) -> None:
        self.func, self.generators = func, generators

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return drawn(self.func, self.generators, args, kwargs)


def seed_by_member(step: GraphModule, generators: Sequence[torch.Generator]) -> None:
    """Has the random operations of a traced step drawn with the generators of its members."""
    turns = Turns(generators)
    for node in step.graph.nodes:
        if node.op == "call_function" and random(node.target):
            node.target = Draw(node.target, turns.of(node.target))
    step.recompile()


@contextmanager
def stream(generator: torch.Generator) -> Iterator[None]:
    """A context in which the global random stream of the generator's device is that of the generator."""
    device = generator.device
    on_cpu = device.type == "cpu"
    with fork_rng(device):
        torch.set_rng_state(generator.get_state()) if on_cpu else torch.cuda.set_rng_state(generator.get_state(), device)
        yield
        generator.set_state(torch.get_rng_state() if on_cpu else torch.cuda.get_rng_state(device))
