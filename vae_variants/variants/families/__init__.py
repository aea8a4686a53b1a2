"""The named variants as data, one module a family."""
# ruff: noqa: F401, I001  (the order of the imports is the order of `list`)

from vae_variants.variants.families import baselines, likelihoods, bounds, objectives, regularized, priors, posteriors
from vae_variants.variants.families import quantized, labelled, autoencoders, autoregressive, adversarial, references
from vae_variants.variants.families import (
    adversarial,
    autoencoders,
    autoregressive,
    baselines,
    bounds,
    hierarchical,
    geometric,
    labelled,
    likelihoods,
    objectives,
    posteriors,
    priors,
    references,
    regularized,
)

__all__ = [
    "adversarial",
    "autoencoders",
    "autoregressive",
    "baselines",
    "bounds",
    "hierarchical",
    "geometric",
    "labelled",
    "likelihoods",
    "objectives",
    "posteriors",
    "priors",
    "references",
    "regularized",
]
