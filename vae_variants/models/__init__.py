"""Models and their parts, a file for each family; importing registers."""
# ruff: noqa: F401

from vae_variants.models import autoencoder, categorical, fvbn, gan, linear, made, references, vae
from vae_variants.models import validation as _validation
from vae_variants.models.base import (
    MODELS,
    Coder,
    DataDependent,
    Density,
    Encoder,
    GaussianPosterior,
    LatentVariable,
    MeanSampler,
    Model,
    Player,
    Sampler,
)
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support
from vae_variants.models.networks import NETWORKS, Network
from vae_variants.models.objectives import OBJECTIVES, Draws

__all__ = [
    "LIKELIHOODS", "MODELS", "NETWORKS", "OBJECTIVES", "Coder", "DataDependent", "Density", "Draws", "Encoder", "GaussianPosterior",
    "LatentVariable", "Likelihood", "MeanSampler", "Model", "Network", "Player", "Sampler", "Support",
]  # fmt: skip
