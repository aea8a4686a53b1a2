"""Conformance checks of everything that is registered. The tests run all of them; `vae-variants check` runs those of a plug-in."""
# ruff: noqa: F401  (importing adds the checks)

from vae_variants.checks import (
    dataset,
    latent,
    likelihood,
    metric,
    model,
    network,
    objective,
    posterior,
    prior,
    quantizer,
    regularizer,
    sampler,
    stacking,
    study,
    variant,
)
from vae_variants.checks.base import CHECKS, Check, Failed, Outcome, Skipped, check, checks_of, outcomes

__all__ = ["CHECKS", "Check", "Failed", "Outcome", "Skipped", "check", "checks_of", "outcomes"]
