"""The gradient of a player's loss for all members of a population, as a list of tensor operations instead of a new tape for each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import grad
from torch.fx.experimental.proxy_tensor import make_fx

from vae_variants.memory import allocations, available
from vae_variants.models.base import Player
from vae_variants.training.graphs import round_factors, simplify
from vae_variants.training.precision import autocast, casts

if TYPE_CHECKING:
    from vae_variants.training.population import Population

__all__ = ["Gradient"]

SHARE = 0.5  # of the memory that is there, for what a step makes: the optimiser and other programs need some too
Step = Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor]]]
Loss = Callable[[list[Tensor], dict[str, Tensor], Tensor, Tensor], tuple[Tensor, list[Tensor]]]


class Gradient:
    """x (S, B, D), t () -> the loss of each member (S,), and its gradients in the order of `population.owned(player.prefix)`.

    The first call traces a stack: the same operations without the cost of vmap and of autograd. On a GPU they become one CUDA graph.
    What cannot be done is left out, and `how` says so: a model whose operations depend on values is not traced, one that is called
    member by member neither. A stack whose step might take more than half of the memory that is there goes a few members at a time, with
    other draws than all at once would have. What is returned is valid until the next call.
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
        owned, loss = self.population.owned(self.player.prefix), self.population.call(self.player.loss, (0, None))

        def each(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            with autocast(self.precision, x.device):
                values = loss(x, t)
            return values.detach(), [g.contiguous() for g in torch.autograd.grad(values.sum(), owned)]

        return each

    def stacked(self, x: Tensor, t: Tensor) -> Step:
        """All members at once, or as many as there is memory for, in the fastest way that works for arguments of these shapes."""
        members, devices = len(self.population), [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            size = self.fitting(x, t) if members > 1 else 1
        if size == members:
            return self.part(x, t, slice(0, members), graph=x.device.type == "cuda")
        parts = [slice(i, i + size) for i in range(0, members, size)]
        steps = [self.part(x[part], t, part) for part in parts]
        self.how += f", {size} of {members} at a time for want of memory"

        def each(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            values, gradients = zip(*(step(x[part], t) for step, part in zip(steps, parts, strict=True)), strict=True)
            return torch.cat(values), [torch.cat(slices) for slices in zip(*gradients, strict=True)]

        return each

    def fitting(self, x: Tensor, t: Tensor) -> int:
        """How many members a step may take at once: what one of them makes in it tells."""
        loss, mine, rest = self.loss(slice(0, 1))
        room, needed, members = SHARE * available(x.device), allocations(lambda: loss(mine, rest, x[:1], t)), len(self.population)
        most = min(members, max(1, int(room // max(1, needed))))
        return math.ceil(members / math.ceil(members / most))  # parts of one size, or nearly so

    def loss(self, part: slice) -> tuple[Loss, list[Tensor], dict[str, Tensor]]:
        """Losses and gradients of some members as a function, and what it takes before x and t: the player's parameters, all else."""
        state = {name: tensor.detach()[part] for name, tensor in (self.population.params | self.population.buffers).items()}
        names = [name for name in self.population.params if name.startswith(self.player.prefix)]
        mine, rest = [state.pop(name) for name in names], state

        def total(mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            values = self.population.stacked(self.player.loss, (0, None))(rest | dict(zip(names, mine, strict=True)), x, t)
            return values.sum(), values

        def found(mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
            gradients, values = grad(total, has_aux=True)(mine, rest, x, t)
            return values, [g.contiguous() for g in gradients]  # as the parameters are, which a fused optimiser takes for granted

        return found, mine, rest

    def part(self, x: Tensor, t: Tensor, members: slice, graph: bool = False) -> Step:
        """The step of some members."""
        found, mine, rest = self.loss(members)

        def cast(*arguments: Any) -> tuple[Tensor, list[Tensor]]:
            with autocast(self.precision, x.device):
                return found(*arguments)

        loss: Loss = cast
        self.how = "stacked"
        if self.trace:
            with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
                try:
                    on_cpu = x.device.type == "cpu"  # where casts are added to the list, and not more of them than it takes
                    loss = make_fx(found if on_cpu else cast)(mine, rest, x, t)
                    simplify(loss)
                    if on_cpu and casts(self.precision, x.device):
                        round_factors(loss)
                    self.how = "traced"
                    if graph:
                        captured = Captured(loss, mine, rest, x, t)
                        self.how = "CUDA graph"
                        return captured
                except RuntimeError as error:
                    self.how += f" ({str(error).splitlines()[0][:200]})"
        return lambda x, t: loss(mine, rest, x, t)


class Captured:
    """The operations of `loss` on a GPU as one CUDA graph: a step costs one launch instead of one for each operation."""

    def __init__(self, loss: Loss, mine: list[Tensor], rest: dict[str, Tensor], x: Tensor, t: Tensor) -> None:
        self.x, self.t, self.graph = x.clone(), t.clone(), torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(x.device)
        side.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries allocate what they need in their first calls, which a graph must not
                loss(mine, rest, self.x, self.t)
        torch.cuda.current_stream(x.device).wait_stream(side)
        with torch.cuda.graph(self.graph):
            self.found = loss(mine, rest, self.x, self.t)

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.x.copy_(x)
        self.t.copy_(t)
        self.graph.replay()
        values, gradients = self.found
        return values.clone(), gradients
