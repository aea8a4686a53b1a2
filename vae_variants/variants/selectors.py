"""Selectors: `name[key=value,key=a|b]`, a variant or a model with options."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vae_variants.models.base import MODELS, Model
from vae_variants.registry import UserError, closest
from vae_variants.variants.configurations import Configuration, build_model, complete
from vae_variants.variants.variant import VARIANTS, Variant

if TYPE_CHECKING:
    from vae_variants.datasets import Dataset


SELECTOR = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<options>[^\[\]]*)\])?")


def matched(selector: str) -> tuple[str, str]:
    match = SELECTOR.fullmatch(selector.strip())
    if match is None or not selector.isprintable() or "`" in selector:
        raise UserError(f"selector {selector!r} is not of the form name or name[key=value,key=a|b]")
    return match["name"].strip(), match["options"] or ""


def split_selector(selector: str) -> tuple[str, dict[str, str]]:
    """`name[key=value,...]` -> name and options as text. Raises `UserError`, also for a grid."""
    name, options = matched(selector)
    choices = list(grid(selector, options))
    if len(choices) > 1:
        raise UserError(f"{selector!r} spans {len(choices)} choices where one is wanted")
    return name, choices[0]


def configure(selector: str, overrides: Mapping[str, Any] | None = None) -> list[Configuration]:
    """The configurations that a selector names.

    Args:
        selector: A variant or a model with options: `vae[likelihood=gaussian,sigma=0.1,latent=2|10]`. `a|b` spans a grid; widths are
            joined by hyphens (`hidden=200-200`).
        overrides: Replace the defaults of a model that knows them, but not what the variant or the selector chose.

    Raises:
        UserError: Names the valid choices.
    """
    name, options = matched(selector)
    if name in VARIANTS:
        variant = VARIANTS[name]
    elif name in MODELS:
        variant = Variant(name, MODELS.describe(name), "", {"model": name})
    else:
        raise UserError(closest("variant or model", name, [*VARIANTS, *MODELS]))
    found = []
    for choice in grid(selector, options):
        label = name + (f"[{','.join(f'{k}={v}' for k, v in choice.items())}]" if choice else "")
        chosen = {**variant.config, **choice}
        known = complete(chosen)
        values = complete({**{k: v for k, v in (overrides or {}).items() if k in known}, **chosen})
        found.append(Configuration(label, values, variant.description, variant.reference, variant.family))
    return found


def grid(selector: str, options: str) -> Iterator[dict[str, str]]:
    pairs = [part.partition("=") for part in options.split(",") if part.strip()]
    if any(not (key.strip() and equals and value.strip()) for key, equals, value in pairs):
        raise UserError(f"selector {selector!r}: each option is key=value, for example latent=10 or latent=2|10")
    keys = [key.strip() for key, _, _ in pairs]
    if "model" in keys:
        raise UserError(f"selector {selector!r}: the model comes before the bracket, as in vae[latent=10]")
    if len(set(keys)) < len(keys):
        raise UserError(f"selector {selector!r} sets an option twice")
    for values in itertools.product(*(value.split("|") for _, _, value in pairs)):
        yield dict(zip(keys, (v.strip() for v in values), strict=True))


def build(selector: str | Configuration, dataset: Dataset) -> Model:
    """An untrained model of one configuration, for images of the data set's shape and grey levels. Raises `UserError` for a grid."""
    if isinstance(selector, str):
        configurations = configure(selector)
        if len(configurations) > 1:
            raise UserError(f"selector {selector!r} spans {len(configurations)} configurations; build takes one")
        selector = configurations[0]
    return build_model(selector, dataset)
