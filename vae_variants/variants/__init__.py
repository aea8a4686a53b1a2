"""Named variants, selectors and configurations."""

from vae_variants.variants import families as families
from vae_variants.variants.configurations import Configuration, canonical, complete, convert
from vae_variants.variants.externals import external
from vae_variants.variants.recipe import Recipe
from vae_variants.variants.selectors import build, configure, split_selector
from vae_variants.variants.variant import VARIANTS, Variant

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
    "external",
    "split_selector",
]
