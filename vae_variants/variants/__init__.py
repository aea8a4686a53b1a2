"""Named variants, selectors and configurations."""

from vae_variants.variants.configurations import Configuration, canonical, complete, convert
from vae_variants.variants.named import VARIANTS, Variant
from vae_variants.variants.recipe import Recipe
from vae_variants.variants.selectors import build, configure, split_selector

__all__ = [
    "VARIANTS",
    "Configuration",
    "Recipe",
    "Variant",
    "build",
    "canonical",
    "complete",
    "configure",
    "convert",
    "split_selector",
]
