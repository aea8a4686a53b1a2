"""Models and their parts, a file for each family; importing registers."""
# ruff: noqa: F401

from vae_variants.models import (
    autoencoder,
    avb,
    bigan,
    bounds,
    categorical,
    critics,
    fitted_samplers,
    flows,
    fvbn,
    gan,
    introspective,
    labelled,
    linear,
    logistic_mixture,
    made,
    perceptual,
    prior_flows,
    real_likelihoods,
    references,
    relaxed,
    spherical,
    vae,
)
from vae_variants.models import validation as _validation
from vae_variants.models.base import (
    MODELS,
    Classifier,
    Coder,
    DataDependent,
    Density,
    Encoder,
    Euclidean,
    GaussianPosterior,
    Generative,
    LatentVariable,
    MeanSampler,
    Model,
    Player,
    Sampler,
    ScoredPosterior,
)
from vae_variants.models.draws import Draws
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.networks import NETWORKS, Network
from vae_variants.models.objectives import OBJECTIVES, Term
from vae_variants.models.posteriors import POSTERIORS, Conditional, Diagonal, Drawn, Posterior, Scored, Space
from vae_variants.models.priors import PRIORS, Prior, closed_kl
from vae_variants.models.regularizers import REGULARIZERS
from vae_variants.models.samplers import SAMPLERS, LatentSampler

__all__ = [
    "LIKELIHOODS",
    "MODELS",
    "NETWORKS",
    "OBJECTIVES",
    "POSTERIORS",
    "PRIORS",
    "REGULARIZERS",
    "SAMPLERS",
    "Classifier",
    "Coder",
    "Conditional",
    "DataDependent",
    "Density",
    "Diagonal",
    "Drawn",
    "Draws",
    "Encoder",
    "Euclidean",
    "GaussianPosterior",
    "Generative",
    "LatentSampler",
    "LatentVariable",
    "Likelihood",
    "MeanSampler",
    "Model",
    "Network",
    "Player",
    "Posterior",
    "Prior",
    "Sampler",
    "Scored",
    "ScoredPosterior",
    "Space",
    "Support",
    "Term",
    "closed_kl",
]  # fmt: skip
