"""A benchmark and evaluation harness for variants of the variational autoencoder."""

from vae_variants.api import load, rank, run
from vae_variants.datasets import DATASETS, load_dataset
from vae_variants.evaluation import METRICS, evaluate, metric
from vae_variants.harness import Record
from vae_variants.likelihoods import LIKELIHOODS
from vae_variants.model import MODELS
from vae_variants.objectives import OBJECTIVES
from vae_variants.registry import UserError
from vae_variants.variants import VARIANTS, Variant, build, configure

__all__ = [
    "DATASETS", "LIKELIHOODS", "METRICS", "MODELS", "OBJECTIVES", "VARIANTS",
    "Record", "UserError", "Variant", "build", "configure", "evaluate", "load", "load_dataset", "metric", "rank", "run",
]  # fmt: skip
