"""One file per family of models; every module here is imported, and importing registers."""

from importlib import import_module
from pkgutil import iter_modules

from vae_variants.model import MODELS

__all__ = ["MODELS"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
