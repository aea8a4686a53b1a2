"""Numbers in which the models of a stack differ, such as beta or sigma: each member is called with its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_variants.models.base import Model

STATE = ("_parameters", "_buffers")  # of a module: what is stacked as tensors
WHOLE = (type, FunctionType, MethodType, BuiltinFunctionType)  # what is not looked into: two of them are the same or not


class Place(NamedTuple):
    """Where a model holds a number: the attributes of an object, or the keywords of a function whose options are bound."""

    holder: dict[str, Any]
    key: str


class Unlike(Exception):
    """Models that differ in more than numbers, so that one cannot be called in the place of another."""


def differing(models: Sequence[Model]) -> dict[str, list[Place]]:
    """The real numbers in which models of the same classes differ: path -> the place of each model's own.

    Raises:
        Unlike: If they differ in anything else but parameters and buffers, or in what training asks a model for.
    """
    found = dict(compared("", models, set()))
    if asked := sorted(found.keys() & {f"/{name}" for name in Model.__annotations__}):
        raise Unlike(f"the models differ in {asked[0][1:]}, which training needs to be one for all")
    return found


def compared(path: str, values: Sequence[Any], seen: set[tuple[int, ...]]) -> Iterator[tuple[str, list[Place]]]:
    """The differing numbers below one place of several models, which hold `values` there. Raises `Unlike`."""
    first, *others = values
    if all(other is first for other in others) or tuple(map(id, values)) in seen:
        return
    seen.add(tuple(map(id, values)))
    parts = [contents(value) for value in values]
    alike = all(type(other).__name__ == type(first).__name__ for other in others) and all(part.keys() == parts[0].keys() for part in parts)
    if not alike or not (parts[0] or all(same(first, other) for other in others)):
        raise Unlike(f"the models differ in {path[1:] or 'their class'}")
    for name in parts[0]:
        mine, own = [part[name] for part in parts], path if name == "_modules" else f"{path}/{name}"
        if name in STATE:
            if any(shapes(each) != shapes(mine[0]) for each in mine):
                raise Unlike(f"the models differ in the tensors of {path[1:] or 'the model'}")
        elif not all(type(value) is float for value in mine) or isinstance(first, (tuple, list)):
            yield from compared(own, mine, seen)
        elif len(set(mine)) > 1:
            yield own, [Place(part, name) for part in parts]


def contents(value: Any) -> dict[str, Any]:
    """What a value is made of, by name; the object's own dictionary if it has one. Empty if it is looked at as a whole."""
    if isinstance(value, (Tensor, *WHOLE)):
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, (tuple, list)):
        return {str(i): part for i, part in enumerate(value)}
    if isinstance(value, partial):
        return {"function": value.func, "arguments": value.args, "options": value.keywords}
    return getattr(value, "__dict__", {})


def shapes(tensors: Mapping[str, Tensor | None]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items() if tensor is not None}


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


@contextmanager
def holding(places: Mapping[str, Place], values: Mapping[str, Any]) -> Iterator[None]:
    """A context in which a model holds other values at some places."""
    before = {name: holder[key] for name, (holder, key) in places.items()}
    try:
        for name, (holder, key) in places.items():
            holder[key] = values[name]
        yield
    finally:
        for name, (holder, key) in places.items():
            holder[key] = before[name]
