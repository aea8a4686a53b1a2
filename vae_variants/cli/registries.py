"""The registry of a kind of component, with everything that is built in."""

from __future__ import annotations

from typing import Any

from vae_variants.components import KINDS
from vae_variants.plugins import built_in
from vae_variants.registry import Registry

__all__ = ["registry_of"]


def registry_of(kind: str) -> Registry[Any]:
    """The registry of a kind that `KINDS` names."""
    built_in()
    if kind == "study":
        from vae_variants.studies import load_claims  # imports pandas and matplotlib

        load_claims()
    return KINDS[kind].registry
