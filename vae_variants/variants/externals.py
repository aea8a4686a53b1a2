"""Registers models that were trained elsewhere."""

import inspect
from collections.abc import Callable
from typing import TypeVar, overload

from vae_variants.models.base import MODELS
from vae_variants.models.externals import External
from vae_variants.models.likelihoods import Support
from vae_variants.registry import kebab
from vae_variants.variants.variant import VARIANTS, Variant

Load = TypeVar("Load", bound=Callable[[], object])


@overload
def external(load: Load, *, name: str | None = None, support: str = "unit", exact: bool = False) -> Load: ...
@overload
def external(load: None = None, *, name: str | None = None, support: str = "unit", exact: bool = False) -> Callable[[Load], Load]: ...
def external(
    load: Load | None = None, *, name: str | None = None, support: str = "unit", exact: bool = False
) -> Load | Callable[[Load], Load]:
    """Registers what a function without arguments returns as a model and a variant, which is scored as it is and not trained.

    It may have the methods `encode` (images (B, C, H, W) in [0, 1] -> latents (B, ...)), `decode` (latents -> images), `sample`
    (n -> images (n, C, H, W)) and `log_prob` (images in the support -> (B,) nats). What it lacks is not measured.

    Args:
        load: The function. Without it, `external` is a decorator.
        name: Default: the function's name in kebab case.
        support: The images of `log_prob`: binary, unit (in [0, 1]), byte (stored levels over the greatest), real.
        exact: Whether `log_prob` is exact; else it is a lower bound.

    Returns:
        `load`.

    Raises:
        Refused: The name is taken or is not valid.
    """
    if load is None:
        return lambda found: external(found, name=name, support=support, exact=exact)
    key = name or kebab(load.__name__)
    text = inspect.getdoc(load) or f"the model that {load.__name__}() returns"
    body = {"load": staticmethod(load), "support": Support(support), "exact": exact, "__doc__": text, "__module__": load.__module__}
    MODELS.add(type(load.__name__, (External,), body), name=key, source=load)
    VARIANTS.add(Variant(key, text.split("\n")[0], "", {"model": key}, "external"), name=key, source=load)
    return load
