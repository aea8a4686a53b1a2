"""What holds for everything in the registries: tried by the tests on all of it, by `vae-variants check` on what a file adds."""
# ruff: noqa: F401  (importing adds the laws)

from vae_variants.checks import dataset, likelihood, metric, model, network, objective, stacking, study, variant
from vae_variants.checks.check import LAWS, Broken, Law, Outcome, Untried, law, outcomes

__all__ = ["LAWS", "Broken", "Law", "Outcome", "Untried", "law", "outcomes"]
