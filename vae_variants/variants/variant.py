"""A named variant is a model with some options chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vae_variants.registry import Registry


@dataclass(frozen=True)
class Variant:
    """A named configuration: `config` holds the model and the options that differ from its defaults, `family` what it is a kind of."""

    name: str
    description: str
    reference: str
    config: Mapping[str, Any]
    family: str = ""


VARIANTS: Registry[Variant] = Registry("variant")


@VARIANTS.validator
def _fault(obj: Any) -> str:
    if not isinstance(obj, Variant):
        return 'is not a variant; write Variant(name, description, reference, {"model": "vae", ...})'
    if "model" not in obj.config:
        return 'names no model; write {"model": "vae", ...} for its configuration'
    return ""


def family(title: str) -> Callable[..., None]:
    """A function (name, description, reference, **config) that registers a variant of the family `title`."""

    def add(name: str, description: str, reference: str, **config: Any) -> None:
        VARIANTS.add(Variant(name, description, reference, config, title), name=name)

    return add
