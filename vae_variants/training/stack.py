"""The state of a stack as those of its parts, so that runs train together and resume apart, or the other way round."""

from collections.abc import Sequence

import torch
from torch import Tensor

State = dict[str, Tensor]
AXES = {"curves": 1, "losses": 2}  # kind of tensor -> axis of the members, if it is not the first
TIMES = ("seconds", "spent")  # which a part has its share of


def kind(name: str) -> str:
    return name.partition("/")[0]


def together(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Parts along the axis of the members; a number is that of all of them."""
    return parts[0] if len(parts) == 1 or not parts[0].dim() else torch.cat(list(parts), axis)


def joined(states: Sequence[State]) -> State:
    """The `Training.state()` of a stack from those of its parts, which are at the same step of the same epoch."""
    found = {name: together([state[name] for state in states], AXES.get(kind(name), 0)) for name in states[0] if name not in TIMES}
    return found | {name: torch.stack([state[name] for state in states]).sum(0) for name in TIMES if name in states[0]}


def split(state: State, parts: int) -> list[State]:
    """The states of equal parts of a stack; the time of each is an equal share."""
    if parts == 1:
        return [state]
    found = [State() for _ in range(parts)]
    for name, tensor in state.items():
        shared = name in TIMES or not tensor.dim()
        pieces = [tensor / parts if name in TIMES else tensor] * parts if shared else tensor.chunk(parts, AXES.get(kind(name), 0))
        for part, piece in zip(found, pieces, strict=True):
            part[name] = piece
    return found


def place(state: State | None) -> tuple[int, int]:
    """How far a training is: epochs, and steps of the next one."""
    return (0, 0) if state is None else (int(state["epoch"]), len(state["losses"]) if "losses" in state else 0)
