"""Configurations: every option of a run, and the model that they describe."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vae_variants.components import chosen, parameters, parts, takes
from vae_variants.models.base import MODELS, Model
from vae_variants.models.likelihoods import LIKELIHOODS, Support
from vae_variants.models.networks import ACTIVATIONS
from vae_variants.registry import UserError, closest
from vae_variants.variants.recipe import AUTO, DECAYS, KEPT, OPTIMIZERS, PRECISIONS, Recipe

if TYPE_CHECKING:
    from vae_variants.datasets import Dataset


CHOICES: dict[str, Collection[str]] = {
    "activation": ACTIVATIONS, "decay": DECAYS, "precision": PRECISIONS, "optimizer": OPTIMIZERS, "keep": KEPT,
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """Everything that decides a number: plain values by option, defaults included. `label` is only a name."""

    label: str
    values: Mapping[str, Any]
    description: str = ""
    reference: str = ""
    family: str = ""

    @property
    def recipe(self) -> Recipe:
        found = {f.name: self.values.get(f.name, self.values.get(f"recipe.{f.name}")) for f in fields(Recipe)}
        return Recipe(**{name: value for name, value in found.items() if value is not None})

    @cached_property
    def options(self) -> dict[str, Any]:
        """The values that decide the untrained model: all but those of the recipe."""
        named = {part.key: self.values[part.key] for part in parts() if part.key in self.values}
        keys = keys_of(owners(MODELS[self.values["model"]], named))
        recipe = {key for (owner, _), key in keys.items() if owner == "recipe"}
        return {key: value for key, value in self.values.items() if key not in recipe}

    @property
    def support(self) -> Support:
        likelihood = self.values.get("likelihood")
        return LIKELIHOODS[likelihood].support if likelihood else MODELS[self.values["model"]].support

    def with_defaults(self, **overrides: Any) -> Configuration:
        """A copy with other values; `overrides` that this model does not know are ignored."""
        known = {k: convert(k, v, self.values[k]) for k, v in overrides.items() if k in self.values}
        return replace(self, values=complete({**self.values, **known}))


def options_of(entry: Any) -> dict[str, Any]:
    """Names and defaults of the options of a part; none if it is a plain value."""
    return parameters(entry) if callable(entry) else {}


def owners(model: type[Model], named: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Owner -> names and defaults of its options: `recipe`, `model`, and each part that the model takes, of which `named` are chosen."""
    own = parameters(model)
    names = {part.key: str(named.get(part.key, part.usual(model) or own[part.key])) for part in parts() if takes(model, part.key)}
    found = {"recipe": {f.name: f.default for f in fields(Recipe)} if model.players else {}, "model": own | names}
    return found | {part.key: options_of(part.registry[names[part.key]]) for part in parts() if part.key in names}


def keys_of(options: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """(owner, option) -> its key in a configuration: the option's name, or `owner.option` where another owner has one of that name."""
    count = Counter(name for mine in options.values() for name in mine)
    return {(owner, name): name if count[name] == 1 else f"{owner}.{name}" for owner, mine in options.items() for name in mine}


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the default of every other option of its recipe, model and parts.

    An option may be written `owner.option`, and must be where two owners have one of that name.

    Raises:
        UserError: A key that none of them knows, or a value that is not valid; names the choices.
    """
    model = MODELS[given["model"]]
    options = owners(model, {part.key: given[part.key] for part in parts() if part.key in given})
    keys = keys_of(options)
    values = {"model": given["model"]} | {key: options[owner][name] for (owner, name), key in keys.items()}
    long = {f"{owner}.{name}": key for (owner, name), key in keys.items()}
    for key, value in given.items():
        known = long.get(key, key)
        if known not in values:
            raise UserError(unknown(key, given["model"], values, [*options]))
        values[known] = str(value) if any(known == kind.key for kind in chosen()) else convert(known, value, values[known])
    for key, choices in CHOICES.items():
        if values.get(key, next(iter(choices))) not in choices:
            raise UserError(closest(key, values[key], choices))
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def unknown(key: str, model: str, values: Mapping[str, Any], taken: Collection[str]) -> str:
    """One line for a key that a configuration does not have."""
    if same := sorted(known for known in values if known.endswith(f".{key}")):
        return f"option {key!r} of model {model!r} is ambiguous; write {' or '.join(same)}"
    homes = [f"{part.key}={name}" for part in parts() if part.key in taken for name, e in part.registry.items() if key in options_of(e)]
    hint = f"; {key!r} is an option of {' or '.join(homes)}" if homes else ""
    return f"{closest('option', key, values)} (of model {model!r}){hint}"


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
            ok = float(value) == result and (result > 0 or (key in ("epochs", "patience", "positions") and result == 0))
        elif isinstance(like, float):
            result = float(value)
            ok = (
                math.isfinite(result)
                and result >= 0
                and not (result == 0 and key in ("lr", "sigma", "warm_up"))
                and not (result >= 1 and key in ("lr_warm_up", "average"))
            )
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
    """An untrained model of one configuration.

    Model and parts get what they name of the data set: `shape`, `levels`, the number `n` of training images and that of `classes` (0
    without labels). Parts also get the model's `latent`.
    """
    values, model = configuration.values, MODELS[configuration.values["model"]]
    built = {part.key: part for part in parts() if part.key in values}
    options = owners(model, {key: values[key] for key in built})
    keys = keys_of(options)
    given = {"shape": dataset.shape, "levels": dataset.levels, "n": dataset.sizes["train"], "classes": len(dataset.classes or ())}

    def arguments(owner: str, function: Callable[..., Any]) -> dict[str, Any]:
        chosen = {name: values[keys[owner, name]] for name in options[owner] if name not in built}
        latent = values.get(keys.get(("model", "latent"), ""))
        if owner != "model" and latent is None and takes(function, "latent"):
            found = f"{owner}={values[owner]} needs the number of latent units, and model {values['model']!r} has no option latent"
            raise UserError(f"{found}; use the model vae, or another {owner}")
        provided = given if owner == "model" else given | {"latent": latent}
        return {name: value for name, value in provided.items() if takes(function, name)} | chosen

    entries = {key: part.registry[values[key]] for key, part in built.items()}
    extra = {key: built[key].build(e, arguments(key, e) if callable(e) else {}) for key, e in entries.items()}
    return model(**extra, **arguments("model", model))


def canonical(values: Mapping[str, Any]) -> str:
    """Sorted JSON without spaces: equal values give equal text."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
