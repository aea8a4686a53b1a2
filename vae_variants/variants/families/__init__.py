"""The named variants as data, one module a family."""
# ruff: noqa: F401, I001  (the order of the imports is the order of `list`)

from vae_variants.variants.families import baselines, likelihoods, bounds, objectives, regularized, priors, posteriors, geometric
from vae_variants.variants.families import hierarchical, quantized, labelled, autoencoders, autoregressive, adversarial, references
