"""Models and their parts, a file for each family; importing registers."""
# ruff: noqa: F401

from vae_variants.models import autoencoder, categorical, fvbn, gan, likelihoods, linear, made, networks, objectives, references, vae
from vae_variants.models.base import MODELS

__all__ = ["MODELS"]
