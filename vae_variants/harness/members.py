"""Trained models seed by seed, so that one run can take those that others have trained."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from torch import Tensor, stack

History = dict[str, Any]


class Member(NamedTuple):
    """One seed of a finished training: its state, and the history of that training, where it has place `s`."""

    state: dict[str, Tensor]
    history: History
    s: int


def split(state: Mapping[str, Tensor], history: History, seeds: Sequence[int]) -> dict[int, Member]:
    """The members of a training by seed, from its state with a leading axis for the seeds."""
    return {seed: Member({name: tensor[s] for name, tensor in state.items()}, history, s) for s, seed in enumerate(seeds)}


def joined(members: Mapping[int, Member], seeds: Sequence[int], trained: Mapping[str, Any]) -> tuple[dict[str, Tensor], History]:
    """State and history as if `seeds` had trained together. The seconds of an epoch are those of all trainings it took.

    Args:
        members: At least one for each of the seeds.
        seeds: Their order in the result.
        trained: Where the last of them were trained; the history's own entry `trained`.
    """
    chosen = [members[seed] for seed in seeds]
    histories = {id(member.history): member.history for member in chosen}.values()
    curves = {}
    for name in dict.fromkeys(name for history in histories for name in history["curves"]):
        rows = [member.history["curves"].get(name, [[]] * (member.s + 1))[member.s] for member in chosen]
        epochs = max(map(len, rows))
        curves[name] = [[*row, *[None] * (epochs - len(row))] for row in rows]  # a training ends early if all its seeds diverge
    diverged = {str(seed): found for seed in seeds if (found := members[seed].history["diverged"].get(str(seed))) is not None}
    seconds = [round(sum(parts), 4) for parts in zip_longest(*(history["epoch_seconds"] for history in histories), fillvalue=0.0)]
    state = {name: stack([member.state[name] for member in chosen]) for name in chosen[0].state}
    return state, {"curves": curves, "epoch_seconds": seconds, "diverged": diverged, "trained": dict(trained)}
