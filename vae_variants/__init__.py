"""A benchmark and evaluation harness for variants of the variational autoencoder."""

from typing import TYPE_CHECKING, Any

from vae_variants import form as _form  # noqa: F401  (from here on registries look at what is added)
from vae_variants.api import load, rank, run
from vae_variants.datasets import DATASETS, load_dataset
from vae_variants.evaluation import METRICS, evaluate, metric
from vae_variants.harness import Record
from vae_variants.likelihoods import LIKELIHOODS
from vae_variants.model import MODELS
from vae_variants.objectives import OBJECTIVES
from vae_variants.registry import UserError
from vae_variants.variants import VARIANTS, Variant, build, configure

if TYPE_CHECKING:
    from vae_variants.studies import STUDIES

__all__ = [
    "DATASETS", "LIKELIHOODS", "METRICS", "MODELS", "OBJECTIVES", "STUDIES", "VARIANTS",
    "Record", "UserError", "Variant", "build", "configure", "evaluate", "load", "load_dataset", "metric", "rank", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "STUDIES":  # brings pandas and matplotlib, which the rest does without
        from vae_variants.studies import STUDIES

        return STUDIES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
