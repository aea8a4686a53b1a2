"""Configurations: every option of a run, and the model that they describe."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from vae_variants.components import chosen, parameters, parts, takes
from vae_variants.models.base import MODELS, Model
from vae_variants.models.likelihoods import LIKELIHOODS, Support
from vae_variants.models.networks import ACTIVATIONS
from vae_variants.registry import UserError, closest
from vae_variants.variants.recipe import AUTO, DECAYS, PRECISIONS, Recipe

if TYPE_CHECKING:
    from vae_variants.datasets import Dataset


@dataclass(frozen=True)
class Configuration:
    """Everything that decides a number: plain values by option, defaults included. `label` is only a name."""

    label: str
    values: Mapping[str, Any]
    description: str = ""
    reference: str = ""

    @property
    def recipe(self) -> Recipe:
        return Recipe(**{f.name: self.values[f.name] for f in fields(Recipe) if f.name in self.values})

    @property
    def support(self) -> Support:
        likelihood = self.values.get("likelihood")
        return LIKELIHOODS[likelihood].support if likelihood else MODELS[self.values["model"]].support

    def with_defaults(self, **overrides: Any) -> Configuration:
        """A copy with other values; `overrides` that this model does not know are ignored."""
        known = {k: convert(k, v, self.values[k]) for k, v in overrides.items() if k in self.values}
        return replace(self, values=complete({**self.values, **known}))


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the default of every other option of its recipe, model and parts.

    Raises:
        UserError: A key that none of them knows, or a value that is not valid; names the choices.
    """
    model = MODELS[given["model"]]
    values: dict[str, Any] = {"model": given["model"]}
    if model.players:
        values |= {f.name: f.default for f in fields(Recipe)}
    arguments = parameters(model)
    taken = [part for part in parts() if takes(model, part.key)]
    for part in taken:
        name = str(given.get(part.key, part.default or arguments[part.key]))
        if part.default:
            values[part.key] = name
            arguments.pop(part.key, None)
        arguments |= options_of(part.registry[name])
    values |= arguments
    for key, value in given.items():
        if key not in values:
            homes = [f"{part.key}={name}" for part in taken for name, entry in part.registry.items() if key in options_of(entry)]
            hint = f"; {key!r} is an option of {' or '.join(homes)}" if homes else ""
            raise UserError(f"{closest('option', key, values)} (of model {given['model']!r}){hint}")
        values[key] = str(value) if any(key == kind.key for kind in chosen()) else convert(key, value, values[key])
    for key, choices in (("activation", [*ACTIVATIONS]), ("decay", [*DECAYS]), ("precision", [*PRECISIONS])):
        if values.get(key, choices[0]) not in choices:
            raise UserError(closest(key, values[key], choices))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def options_of(entry: Any) -> dict[str, Any]:
    """Names and defaults of the options of a part; none if it is a plain value."""
    return parameters(entry) if callable(entry) else {}


def convert(key: str, value: Any, like: Any) -> Any:
    """Converts `value`, as given on a command line or in a suite, to the type of the default `like`. Raises `UserError`."""
    if key == "lr":
        if value == AUTO:
            return AUTO
        like = 1.0
    try:
        if isinstance(like, (list, tuple)):
            parts = value.split("-") if isinstance(value, str) else [value] if isinstance(value, int) else value
            result: Any = [int(part) for part in parts]
            ok = len(result) > 0 and all(part > 0 for part in result)
        elif isinstance(like, bool):
            result = {"true": True, "false": False}[str(value).lower()]
            ok = True
        elif isinstance(like, int):
            result = int(value)
            ok = float(value) == result and (result > 0 or (key == "epochs" and result == 0))
        elif isinstance(like, float):
            result = float(value)
            ok = math.isfinite(result) and result >= 0 and not (result == 0 and key in ("lr", "sigma", "warm_up"))
        else:
            result, ok = str(value), True
    except (TypeError, ValueError, KeyError, OverflowError):
        ok = False
    if not ok:
        kinds = {list: "widths such as 200-200", tuple: "widths such as 200-200", bool: "true or false"}
        kinds |= {int: "a positive whole number", float: "a positive number"}
        also = f" or {AUTO}" if key == "lr" else ""
        raise UserError(f"option {key}={value!r} is not valid; it takes {kinds.get(type(like), 'a name')}{also}")
    return result


def build_model(configuration: Configuration, dataset: Dataset) -> Model:
    """An untrained model of one configuration, for images of the data set's shape and grey levels."""
    values, model = configuration.values, MODELS[configuration.values["model"]]
    built = [part for part in parts() if part.build and part.key in values]

    def arguments(function: Callable[..., Any]) -> dict[str, Any]:
        plain = {k: values[k] for k in parameters(function) if k in values and all(part.key != k for part in built)}
        return plain | ({"levels": dataset.levels} if takes(function, "levels") else {})

    extra: dict[str, Any] = {}
    for part in built:
        entry = part.registry[values[part.key]]
        extra[part.key] = part.build(entry, arguments(entry))  # type: ignore[misc]
    return model(dataset.shape, **extra, **arguments(model))


def canonical(values: Mapping[str, Any]) -> str:
    """Sorted JSON without spaces: equal values give equal text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
