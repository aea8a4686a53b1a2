"""A benchmark and evaluation harness for variants of the variational autoencoder."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_variants.api import load, rank, run
    from vae_variants.datasets import DATASETS, load_dataset
    from vae_variants.evaluation import METRICS, evaluate, metric
    from vae_variants.harness import Record
    from vae_variants.models import MODELS
    from vae_variants.models.likelihoods import LIKELIHOODS
    from vae_variants.models.objectives import OBJECTIVES
    from vae_variants.registry import UserError
    from vae_variants.studies import STUDIES
    from vae_variants.variants import VARIANTS, Variant, build, configure

__all__ = [
    "DATASETS", "LIKELIHOODS", "METRICS", "MODELS", "OBJECTIVES", "STUDIES", "VARIANTS",
    "Record", "UserError", "Variant", "build", "configure", "evaluate", "load", "load_dataset", "metric", "rank", "run",
]  # fmt: skip

HOMES = {  # module -> names that are imported from it when they are first asked for: torch takes seconds, and help does without
    "api": ("load", "rank", "run"),
    "datasets": ("DATASETS", "load_dataset"),
    "evaluation": ("METRICS", "evaluate", "metric"),
    "harness": ("Record",),
    "models.likelihoods": ("LIKELIHOODS",),
    "models": ("MODELS",),
    "models.objectives": ("OBJECTIVES",),
    "registry": ("UserError",),
    "studies": ("STUDIES",),  # brings pandas and matplotlib, which the rest does without
    "variants": ("VARIANTS", "Variant", "build", "configure"),
}


def __getattr__(name: str) -> Any:
    for home, names in HOMES.items():
        if name in names:
            module = import_module(f"{__name__}.{home}")
            if name == "STUDIES":
                module.load_claims()
            return getattr(module, name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
