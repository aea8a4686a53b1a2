"""The named variants as data, one module a family."""

from vae_variants.variants.families import (
    adversarial,
    autoencoders,
    autoregressive,
    baselines,
    bounds,
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
    "labelled",
    "likelihoods",
    "objectives",
    "posteriors",
    "priors",
    "references",
    "regularized",
]
