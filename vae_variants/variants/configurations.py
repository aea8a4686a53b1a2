"""Configurations: every option of a run with its default written out, and the model that one describes."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vae_variants.models.base import MODELS, Model
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.networks import ACTIVATIONS, NETWORKS
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.registry import Registry, UserError, closest
from vae_variants.variants.recipe import DECAYS, PRECISIONS, Recipe

if TYPE_CHECKING:
    from vae_variants.datasets import Dataset

__all__ = ["Configuration", "build_model", "canonical", "complete", "convert", "parameters", "takes"]

PROVIDED = ("shape", "levels")  # constructor arguments that come from the data set, not from a configuration


@dataclass(frozen=True)
class Configuration:
    """Everything that decides a number, after defaults: flat, plain values; `label` is only what it is called."""

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
        """The same with other values where this model knows the key; the rest of `overrides` does not concern it."""
        known = {k: convert(k, v, self.values[k]) for k, v in overrides.items() if k in self.values}
        return replace(self, values=complete({**self.values, **known}))


CHOICES: dict[str, Registry[Any]] = {"likelihood": LIKELIHOODS, "objective": OBJECTIVES}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults of what a configuration may set on a constructor or objective."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.kind is not p.VAR_KEYWORD and p.default is not p.empty and p.name not in PROVIDED}


def takes(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with every default of its recipe, model, likelihood and objective written out.

    Raises `UserError` for a key that none of them knows, naming those that they do.
    """
    model = MODELS[given["model"]]
    values: dict[str, Any] = {"model": given["model"]}
    if model.players:
        values |= {f.name: f.default for f in fields(Recipe)}
    arguments = parameters(model)
    arguments.pop("objective", None)
    if takes(model, "likelihood"):
        values["likelihood"] = given.get("likelihood", "bernoulli")
        arguments |= parameters(LIKELIHOODS[values["likelihood"]])
    if takes(model, "objective"):
        values["objective"] = given.get("objective", "elbo")
        arguments |= parameters(OBJECTIVES[values["objective"]])
    values |= arguments
    for key, value in given.items():
        if key not in values:
            homes = [
                f"{kind}={name}"
                for kind, registry in CHOICES.items()
                if kind in values
                for name in registry
                if key in parameters(registry[name])
            ]
            hint = f"; {key!r} is an option of {' or '.join(homes)}" if homes else ""
            raise UserError(f"{closest('option', key, values)} (of model {given['model']!r}){hint}")
        if key not in ("model", "likelihood", "objective"):
            value = convert(key, value, values[key])
        values[key] = value
    if "network" in values:
        NETWORKS[values["network"]]
    if values.get("activation", "tanh") not in ACTIVATIONS:
        raise UserError(closest("activation", values["activation"], ACTIVATIONS))
    if values.get("decay", "constant") not in DECAYS:
        raise UserError(closest("decay", values["decay"], DECAYS))
    if values.get("precision", "fp32") not in PRECISIONS:
        raise UserError(closest("precision", values["precision"], PRECISIONS))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def convert(key: str, value: Any, like: Any) -> Any:
    """`value`, as given on a command line or in a suite, in the type of the default `like`."""
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
        raise UserError(f"option {key}={value!r} is not valid; it takes {kinds.get(type(like), 'a name')}")
    return result


def build_model(configuration: Configuration, dataset: Dataset) -> Model:
    """An untrained model of one configuration, for images of the data set's shape and levels."""
    values = configuration.values

    def arguments(function: Callable[..., Any]) -> dict[str, Any]:
        chosen = {k: v for k, v in values.items() if k in parameters(function) and k not in ("likelihood", "objective")}
        return chosen | ({"levels": dataset.levels} if takes(function, "levels") else {})

    model = MODELS[values["model"]]
    extra: dict[str, Any] = {}
    if "likelihood" in values:
        likelihood: type[Likelihood] = LIKELIHOODS[values["likelihood"]]
        extra["likelihood"] = likelihood(**arguments(likelihood))
    if "objective" in values:
        objective = OBJECTIVES[values["objective"]]
        extra["objective"] = partial(objective, **arguments(objective))
    return model(dataset.shape, **extra, **arguments(model))


def canonical(values: Mapping[str, Any]) -> str:
    """One spelling for equal values: sorted JSON without spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
