"""Gradients of a player's loss for all members, as a list of tensor operations that is traced once."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from vae_variants.memory import allocations, available
from vae_variants.models.base import Player
from vae_variants.training.convolutions import separate
from vae_variants.training.graphs import round_factors, simplify
from vae_variants.training.noise import PerSeed, seed_by_member
from vae_variants.training.population import Population
from vae_variants.training.precision import autocast, casts

SHARE = 0.5  # of the free memory; the optimiser and other programs need some too
Step = Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor]]]
Loss = Callable[[list[Tensor], dict[str, Tensor], Tensor, Tensor], tuple[Tensor, list[Tensor]]]


def listed(function: Callable[..., Any], *arguments: Any) -> GraphModule:
    """The tensor operations of a call. One mode describes all results: without it, make_fx makes one for each, which takes longer."""
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make_fx(function)(*arguments)


class Gradient:
    """x (S, B, D), t () -> the loss of each member (S,), and its gradients in the order of `population.owned(player)`.

    The first call traces the step to a list of tensor operations, without the cost of vmap and autograd in later calls. On a GPU the list
    becomes one CUDA graph. A model whose operations depend on values, or that is called member by member, is not traced; `how` names
    the way that was chosen. If a step of the whole stack might need over half of the free memory, a few members go at a time. Returned
    tensors are valid until the next call.
    """

    def __init__(self, population: Population, player: Player, precision: str = "fp32", trace: bool = True) -> None:
        self.population, self.player, self.precision, self.trace = population, player, precision, trace
        self.how = ""
        self.run: Step | None = None

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.run is None:
            self.run = self.separate() if self.population.models else self.stacked(x, t)
        return self.run(x, t)

    def separate(self) -> Step:
        """Member by member."""
        self.how = "member by member"
        owned, loss = self.population.owned(self.player), self.population.call(self.player.loss, (0, None))

        def each(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            with autocast(self.precision, x.device):
                values = loss(x, t)
            return values.detach(), [g.contiguous() for g in torch.autograd.grad(values.sum(), owned, materialize_grads=True)]

        return each

    def stacked(self, x: Tensor, t: Tensor) -> Step:
        """All members at once, or as many as memory allows."""
        members = len(self.population)
        size = self.fitting(x, t) if members > 1 else 1
        if size == members:
            return self.part(x, t, slice(0, members), graph=x.device.type == "cuda")
        parts = [slice(i, i + size) for i in range(0, members, size)]
        steps = [self.part(x[part], t, part) for part in parts]
        self.how += f", {size} of {members} at a time to fit into memory"

        def each(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            values, gradients = zip(*(step(x[part], t) for step, part in zip(steps, parts, strict=True)), strict=True)
            return torch.cat(values), [torch.cat(slices) for slices in zip(*gradients, strict=True)]

        return each

    def fitting(self, x: Tensor, t: Tensor) -> int:
        """Number of members per step that fits into memory, from the allocations of one member."""
        loss, mine, rest = self.loss(slice(0, 1))
        with self.population.trial():
            needed = allocations(lambda: loss(mine, rest, x[:1], t))
        room, members = SHARE * available(x.device), len(self.population)
        most = min(members, max(1, int(room // max(1, needed))))
        return math.ceil(members / math.ceil(members / most))  # parts of one size, or nearly so

    def loss(self, part: slice) -> tuple[Loss, list[Tensor], dict[str, Tensor]]:
        """Losses and gradients of some members as a function, and its first arguments: the player's parameters, and all other inputs."""
        state = {name: tensor.detach()[part] for name, tensor in self.population.inputs.items()}
        names = self.population.names(self.player)
        mine, rest = [state.pop(name) for name in names], state

        def total(mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            values = self.population.stacked(self.player.loss, (0, None))(rest | dict(zip(names, mine, strict=True)), x, t)
            return values.sum(), values

        def found(mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            gradients, values = grad(total, has_aux=True)(mine, rest, x, t)
            return values, [g.contiguous() for g in gradients]  # a fused optimiser expects the layout of the parameters

        return found, mine, rest

    def part(self, x: Tensor, t: Tensor, members: slice, graph: bool = False) -> Step:
        """The step of some members."""
        found, mine, rest = self.loss(members)
        generators = self.population.generators[members]

        def cast(*arguments: Any) -> tuple[Tensor, list[Tensor]]:
            with autocast(self.precision, x.device):
                return found(*arguments)

        loss: Loss = cast
        self.how = "stacked"
        if self.trace:
            with self.population.trial():
                try:
                    on_cpu = x.device.type == "cpu"  # casts are added to the list later
                    loss = listed(found if on_cpu else cast, mine, rest, x, t)
                    simplify(loss)
                    if on_cpu:
                        low = casts(self.precision, x.device)
                        separate(loss, len(generators), low)
                        if low:
                            round_factors(loss)
                    seed_by_member(loss, generators)
                    self.how = "traced"
                    if graph:
                        captured = Captured(loss, mine, rest, x, t, generators)
                        self.how = "CUDA graph"
                        return captured
                except RuntimeError as error:
                    self.how += f" ({str(error).splitlines()[0][:200]})"
        if loss is not cast:
            return lambda x, t: loss(mine, rest, x, t)

        def step(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            with PerSeed(generators):
                return cast(mine, rest, x, t)

        return step


class Captured:
    """The operations of `loss` as one CUDA graph: one launch per step instead of one per operation."""

    def __init__(
        self, loss: Loss, mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor, generators: Sequence[torch.Generator]
    ) -> None:
        self.x, self.t, self.graph = x.clone(), t.clone(), torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(x.device)
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):
            for _ in range(3):  # first calls allocate memory, which a graph must not
                loss(mine, rest, self.x, self.t)
        torch.cuda.current_stream(x.device).wait_stream(side)
        for generator in generators:
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            self.found = loss(mine, rest, self.x, self.t)

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.x.copy_(x)
        self.t.copy_(t)
        self.graph.replay()
        values, gradients = self.found
        return values.clone(), gradients
