"""ELBO with its two terms, log-likelihood (exact, or its importance-weighted bound), bits per dimension. Nats per image."""

from __future__ import annotations

import math

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.model import Density, LatentVariable, Model

__all__ = ["bits_per_dim", "bound_samples", "distortion", "elbo", "ess", "log_likelihood", "rate"]


def density_kind(model: Model) -> str:
    return "exact" if isinstance(model, Density) and model.exact else "lower-bound"


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="lower-bound")
def elbo(e: Evaluation) -> float:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)), mean over the test images"""
    return e.elbo.value.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="none", kind="exact")
def rate(e: Evaluation) -> float:
    """KL(q(z|x) || p(z)) in closed form, mean over the test images"""
    return e.elbo.rate.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="none", kind="estimate")
def distortion(e: Evaluation) -> float:
    """-E_q[log p(x|z)], mean over the test images"""
    return e.elbo.distortion.mean().item()


def bounded(model: Model) -> bool:
    return isinstance(model, LatentVariable) or (isinstance(model, Density) and model.exact)


@metric(needs=(Density,), unit="nats", better="higher", kind=density_kind, applies=bounded)
def log_likelihood(e: Evaluation) -> float:
    """log p(x) where exact, else the bound L_K with K = bound_samples; mean over the test images

    L_K is costly, so where it is known for some test images only, their mean of L_K - ELBO is added to the mean ELBO of
    all: the same expectation as L_K over all of them, with the spread of the gap instead of that of the images.
    """
    if isinstance(e.model, Density) and e.model.exact:
        return e.log_prob.mean().item()
    return (e.elbo.value.mean() + (e.bound.value - e.elbo.value[e.bound.index]).mean()).item()


@metric(needs=(LatentVariable,), unit="draws", better="none")
def bound_samples(e: Evaluation) -> float:
    """K, the draws of z per image in log_likelihood"""
    return e.bound.k


@metric(needs=(LatentVariable,), unit="draws", better="higher", kind="estimate")
def ess(e: Evaluation) -> float:
    """effective number of the K draws, (sum w)^2 / sum w^2, mean over images; near 1 the bound is loose"""
    return e.bound.ess.mean().item()


def discrete(model: Model) -> bool:
    return bounded(model) and model.support.discrete


@metric(
    needs=(Density,),
    unit="bits",
    better="lower",
    kind=lambda model: "exact" if density_kind(model) == "exact" else "estimate",
    applies=discrete,
)
def bits_per_dim(e: Evaluation) -> float:
    """-log_likelihood / (D log 2), for discrete pixels only; from above where log_likelihood is a bound"""
    return -log_likelihood(e) / (e.dataset.dim * math.log(2))
