"""A benchmark and evaluation harness for variants of the variational autoencoder.

Everything that a plug-in needs can be imported from here.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_variants.analysis.verdicts import all_of, compared
    from vae_variants.api import load, rank, run
    from vae_variants.datasets import DATASETS, load_dataset, split
    from vae_variants.evaluation import METRICS, Skip, evaluate, metric
    from vae_variants.harness import Record
    from vae_variants.models import (
        CODE_PRIORS,
        LIKELIHOODS,
        MODELS,
        NETWORKS,
        OBJECTIVES,
        POSTERIORS,
        PRIORS,
        QUANTIZERS,
        REGULARIZERS,
        SAMPLERS,
        Classifier,
        ClassSampler,
        Coded,
        CodePrior,
        Coder,
        Conditional,
        DataDependent,
        Density,
        Diagonal,
        Drawn,
        Draws,
        Encoder,
        Euclidean,
        GaussianPosterior,
        Generative,
        LatentSampler,
        LatentVariable,
        Layered,
        Likelihood,
        MeanSampler,
        Model,
        Network,
        Player,
        Posterior,
        Prior,
        Quantized,
        Quantizer,
        Sampler,
        Scored,
        ScoredPosterior,
        Space,
        Support,
        Term,
        closed_kl,
    )
    from vae_variants.registry import UserError
    from vae_variants.studies import STUDIES, Findings, Judgement, Picture, Study, by_seed, table
    from vae_variants.variants import VARIANTS, Variant, build, configure, external

__all__ = [
    "CODE_PRIORS",
    "DATASETS",
    "LIKELIHOODS",
    "METRICS",
    "MODELS",
    "NETWORKS",
    "OBJECTIVES",
    "POSTERIORS",
    "PRIORS",
    "QUANTIZERS",
    "REGULARIZERS",
    "SAMPLERS",
    "STUDIES",
    "VARIANTS",
    "ClassSampler",
    "Classifier",
    "CodePrior",
    "Coded",
    "Coder",
    "Conditional",
    "DataDependent",
    "Density",
    "Diagonal",
    "Drawn",
    "Draws",
    "Encoder",
    "Euclidean",
    "Findings",
    "GaussianPosterior",
    "Generative",
    "Judgement",
    "LatentSampler",
    "LatentVariable",
    "Layered",
    "Likelihood",
    "MeanSampler",
    "Model",
    "Network",
    "Picture",
    "Player",
    "Posterior",
    "Prior",
    "Quantized",
    "Quantizer",
    "Record",
    "Sampler",
    "Scored",
    "ScoredPosterior",
    "Skip",
    "Space",
    "Study",
    "Support",
    "Term",
    "UserError",
    "Variant",
    "all_of",
    "build",
    "by_seed",
    "closed_kl",
    "compared",
    "configure",
    "evaluate",
    "external",
    "load",
    "load_dataset",
    "metric",
    "rank",
    "run",
    "split",
    "table",
]  # fmt: skip

# where names are looked for when they are first asked for, since importing torch takes seconds; studies import pandas and matplotlib
HOMES = ("registry", "models", "datasets", "evaluation", "variants", "harness", "api", "analysis.verdicts", "studies")


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = next(module for home in HOMES if hasattr(module := import_module(f"{__name__}.{home}"), name))
        if name == "STUDIES":
            module.load_claims()
        return getattr(module, name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
