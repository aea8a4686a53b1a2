"""ELBO with its two terms, log-likelihood (exact, or its importance-weighted bound), bits per dimension. Nats per image."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from vae_variants.evaluation.evaluation import LEVELS, Evaluation
from vae_variants.evaluation.metrics import Skip, metric
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


def bounded(e: Evaluation) -> bool:
    return isinstance(e.model, LatentVariable) or (isinstance(e.model, Density) and e.model.exact)


def over_all(e: Evaluation, some: Tensor) -> float:
    """The mean over all test images of something (M,) that is near the ELBO and known for some of them, in nats.

    The mean difference to the ELBO over those images is added to the mean ELBO of all: the same expectation, with the spread of
    the gap instead of that of the images.
    """
    return (e.elbo.value.mean() + (some - e.elbo.value[e.bound.index]).mean()).item()


@metric(needs=(Density,), unit="nats", better="higher", kind=density_kind, applies=bounded)
def log_likelihood(e: Evaluation) -> float:
    """log p(x) where exact, else the bound L_K with K = bound_samples; mean over the test images"""
    if isinstance(e.model, Density) and e.model.exact:
        return e.log_prob.mean().item()
    return over_all(e, e.bound.value)


@metric(needs=(LatentVariable,), unit="draws", better="none")
def bound_samples(e: Evaluation) -> float:
    """K, the draws of z per image in log_likelihood"""
    return e.bound.k


@metric(needs=(LatentVariable,), unit="draws", better="higher", kind="estimate")
def ess(e: Evaluation) -> float:
    """effective number of the K draws, (sum w)^2 / sum w^2, mean over images; near 1 the bound is loose"""
    return e.bound.ess.mean().item()


def bound_of(k: int) -> Callable[[Evaluation], float]:
    def bound(e: Evaluation) -> float:
        return over_all(e, e.bound.levels[k])

    bound.__doc__ = f"the importance-weighted bound of {k} draw{'s' * (k > 1)}, from the same draws as log_likelihood"
    return bound


for _k in LEVELS:
    metric(
        needs=(LatentVariable,),
        unit="nats",
        better="higher",
        kind="lower-bound",
        applies=lambda e, k=_k: k < e.fidelity.bound_samples,  # type: ignore[misc]
        name=f"bound_{_k}",
    )(bound_of(_k))


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="estimate")
def jackknife(e: Evaluation) -> float:
    """log_likelihood with the bias of order 1/K removed by the jackknife: no longer a bound"""
    return over_all(e, e.bound.jackknife)


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate")
def monte_carlo_error(e: Evaluation) -> float:
    """standard error of log_likelihood that comes from the finite number of draws, by the delta method"""
    return math.sqrt(e.bound.variance.sum().item()) / len(e.bound.index)


@metric(needs=(LatentVariable,), unit="fraction", better="lower", kind="estimate")
def pareto_bad(e: Evaluation) -> float:
    """share of images whose weights have a Pareto tail of shape above 0.7: there no number of draws within reach is enough"""
    if e.bound.shape.isnan().any():
        raise Skip("too few draws for the tail of their weights")
    return (e.bound.shape > 0.7).double().mean().item()


def discrete(e: Evaluation) -> bool:
    return bounded(e) and e.model.support.discrete


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
