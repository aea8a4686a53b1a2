"""Checks of variants."""

from __future__ import annotations

from vae_variants.checks.base import Failed, check, described
from vae_variants.checks.fixtures import digits
from vae_variants.variants import VARIANTS, build, configure

__all__: list[str] = []


@check("variant")
def says_what_it_is(name: str) -> None:
    """It has a description, and names its reference unless it is one."""
    described("variant", name)
    if not (VARIANTS[name].reference or name.startswith("reference-")):
        raise Failed("has no reference", 'name the paper, or "own", as the third argument of Variant')


@check("variant")
def can_be_built(name: str) -> None:
    """Its configuration is one, and gives a model for images of 8x8 pixels."""
    data = digits()
    (found,) = configure(name)
    model = build(found, data)
    if model.shape != data.shape or model.support is not found.support:
        raise Failed("gives a model of another shape or support", "a model keeps the shape and the likelihood's support that it is given")
