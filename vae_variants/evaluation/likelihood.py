"""ELBO with its two terms, log-likelihood (exact, or its importance-weighted bound), bits per dimension. Nats per image."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from vae_variants.evaluation.evaluation import LEVELS, Evaluation
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import Density, LatentVariable, Model

__all__ = ["bits_per_dim", "bound_samples", "distortion", "elbo", "ess", "gap", "log_likelihood", "rate"]


def exact(model: Model) -> bool:
    return isinstance(model, Density) and model.exact


def density_kind(model: Model) -> str:
    return "exact" if exact(model) else "lower-bound"


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="lower-bound")
def elbo(e: Evaluation) -> float:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)), mean over the test images

    Formula: -rate - distortion.
    Estimator: KL in closed form, log p(x|z) by draws of z; unbiased, with pixels summed and every constant kept.
    Sample size: all test images, `elbo_samples` draws each (10); the same noise for every model.
    Fails: a model trained for another objective (IWAE, beta-VAE) is judged by a bound that it did not aim at; compare log_likelihood.
    Reference: Kingma & Welling 2014, Auto-Encoding Variational Bayes, estimator B of sec. 2.3.
    """
    return e.elbo.value.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="none", kind="exact")
def rate(e: Evaluation) -> float:
    """KL(q(z|x) || p(z)) in closed form, mean over the test images

    Formula: for a Gaussian q, sum_j (mu_j^2 + s_j^2 - 1) / 2 - log s_j.
    Estimator: closed form, no draws.
    Sample size: all test images.
    Fails: says what the code costs, not what it is about: neither high nor low is good by itself. Near 0 the posterior has collapsed.
    Reference: Alemi et al. 2018, Fixing a Broken ELBO.
    """
    return e.elbo.rate.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="none", kind="estimate")
def distortion(e: Evaluation) -> float:
    """-E_q[log p(x|z)], mean over the test images

    Formula: -(1/K) sum_k log p(x | z_k), z_k from q(z|x).
    Estimator: mean over draws; unbiased.
    Sample size: all test images, `elbo_samples` draws each (10).
    Fails: at the posterior's mean it would be lower, and no term of any bound: that is reconstruction_nats.
    Reference: Alemi et al. 2018, Fixing a Broken ELBO.
    """
    return e.elbo.distortion.mean().item()


def bounds_it(e: Evaluation) -> bool:
    return not exact(e.model)


def bounded(e: Evaluation) -> bool:
    return isinstance(e.model, LatentVariable) or exact(e.model)


def over_all(e: Evaluation, some: Tensor) -> float:
    """The mean over all test images of something (M,) that is near the ELBO and known for the images of the bound, in nats.

    Where those are not all, the mean difference to L_1, from the same draws, is added to the mean ELBO of all: the same expectation,
    with the spread of the gap instead of that of the images.
    """
    if len(e.bound.index) == len(e.test):
        return some.mean().item()
    return (e.elbo.value.mean() + (some - e.bound.levels[1]).mean()).item()


@metric(needs=(Density,), unit="nats", better="higher", kind=density_kind, applies=bounded)
def log_likelihood(e: Evaluation) -> float:
    """log p(x) where exact, else the bound L_K with K = bound_samples; mean over the test images

    Formula: L_K = log (1/K) sum_k p(x, z_k) / q(z_k | x).
    Estimator: log-sum-exp of the K log weights in float64. Known for some test images, it is carried over to all of them by the
    ELBO: mean ELBO of all, plus the mean of L_K - L_1 over those images, both from the same draws.
    Sample size: all test images where exact; else `bound_images` (1000) with `bound_samples` draws (1000; `thorough`: 5000).
    Fails: too low by about half the relative variance of the weights, Var(w) / E(w)^2, over K, and by far more where their tail is
    heavy (see pareto_bad): on binary MNIST by about a nat, and by more for a sharper posterior, so that small differences between
    models can be those of the bound.
    Reference: Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders.
    """
    if exact(e.model):
        return e.log_prob.mean().item()
    return over_all(e, e.bound.value)


@metric(
    needs=(LatentVariable, Density),
    unit="nats",
    better="none",
    kind=lambda model: "estimate" if exact(model) else "lower-bound",
)
def gap(e: Evaluation) -> float:
    """log p(x) - ELBO = KL(q(z|x) || p(z|x)), mean over the test images; at least this much where log p(x) is a bound

    Formula: log_likelihood - elbo.
    Estimator: the difference of the two, over the same images.
    Sample size: those of the two.
    Fails: where log_likelihood is a bound, so is this. What is left of it is split by approximation_gap and amortization_gap.
    Reference: Cremer, Li & Duvenaud 2018, Inference Suboptimality in Variational Autoencoders.
    """
    return log_likelihood(e) - elbo(e)


@metric(needs=(LatentVariable,), unit="draws", better="none", applies=bounds_it)
def bound_samples(e: Evaluation) -> float:
    """K, the draws of z per image in log_likelihood

    Formula: K.
    Estimator: a setting of the fidelity.
    Sample size: none.
    Fails: bounds of different K are not compared.
    Reference: Burda, Grosse & Salakhutdinov 2016.
    """
    return e.bound.k


@metric(needs=(LatentVariable,), unit="draws", better="higher", kind="estimate", applies=bounds_it)
def ess(e: Evaluation) -> float:
    """effective number of the K draws, (sum w)^2 / sum w^2, mean over images; near 1 the bound is loose

    Formula: (sum_k w_k)^2 / sum_k w_k^2.
    Estimator: from the same weights as log_likelihood, in logarithms.
    Sample size: `bound_images` (1000), `bound_samples` draws.
    Fails: cannot see a part of the posterior that no draw has met: it is then too high.
    Reference: Kong 1992, A Note on Importance Sampling using Standardized Weights.
    """
    return e.bound.ess.mean().item()


def bound_of(k: int) -> Callable[[Evaluation], float]:
    def bound(e: Evaluation) -> float:
        return over_all(e, e.bound.levels[k])

    bound.__doc__ = f"""the importance-weighted bound of {k} draw{"s" * (k > 1)}, from the same draws as log_likelihood

    Formula: L_{k} = log (1/{k}) sum_k w_k{", the ELBO with everything by sampling" if k == 1 else ""}.
    Estimator: mean over the disjoint blocks of {k} of the K draws, carried over to all test images as log_likelihood is.
    Sample size: `bound_images` (1000), `bound_samples` draws in blocks.
    Fails: a bound; what the next power of ten adds shows how much is missing.
    Reference: Burda, Grosse & Salakhutdinov 2016.
    """
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


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="estimate", applies=bounds_it)
def jackknife(e: Evaluation) -> float:
    """log_likelihood with the bias of order 1/K removed by the jackknife: no longer a bound

    Formula: K L_K - (K - 1) mean_i L_{K-1}^(-i), with L^(-i) from all draws but the i-th.
    Estimator: exact over the K draws left out one by one.
    Sample size: `bound_images` (1000), `bound_samples` draws.
    Fails: where the tail of the weights is heavy, the bias is not of order 1/K and most of it stays.
    Reference: Nowozin 2018, Debiasing Evidence Approximations.
    """
    return over_all(e, e.bound.jackknife)


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate", applies=bounds_it)
def monte_carlo_error(e: Evaluation) -> float:
    """standard error of log_likelihood that comes from the finite number of draws, by the delta method

    Formula: sqrt(sum_i v_i / M^2 + sum_i u_i / M^2 + sum_n d_n / N^2), over the M images of the bound and all N: v_i =
    Var(w) / (K mean(w)^2) of L_K, u_i = Var(log w) / K of L_1, d_n = Var(log p(x|z)) / `elbo_samples` of the ELBO; where M = N the
    first term alone.
    Estimator: from the same draws. L_K and L_1 of an image go up and down together, so that it is rather too large.
    Sample size: `bound_images` (M = 1000), `bound_samples` draws.
    Fails: too small where the tail of the weights is heavy; says nothing of the bias of L_K, nor of the spread over seeds or images.
    Reference: none
    """
    m, n = len(e.bound.index), len(e.test)
    variance = e.bound.variance.sum().item() / m**2
    if m < n:
        variance += e.bound.variance_1.sum().item() / m**2 + e.elbo.variance.sum().item() / n**2
    return math.sqrt(variance)


@metric(needs=(LatentVariable,), unit="fraction", better="lower", kind="estimate", applies=bounds_it)
def pareto_bad(e: Evaluation) -> float:
    """share of images whose weights have a Pareto tail of shape above 0.7: there no number of draws within reach is enough

    Formula: mean_i 1[k_i > 0.7], k_i the shape of a generalised Pareto law fitted to the largest min(K / 5, 3 sqrt(K)) weights.
    Estimator: posterior mean of the shape over a profile, pulled weakly towards 0.5.
    Sample size: `bound_images` (1000), `bound_samples` draws.
    Fails: needs 25 draws at least; sees the tail only as far out as the draws go.
    Reference: Vehtari et al. 2024, Pareto Smoothed Importance Sampling.
    """
    if e.bound.shape.isnan().any():
        raise Skip("too few draws for the tail of their weights")
    return (e.bound.shape > 0.7).double().mean().item()


def discrete(e: Evaluation) -> bool:
    return bounded(e) and e.model.support.discrete


@metric(
    needs=(Density,),
    unit="bits",
    better="lower",
    kind=lambda model: "exact" if exact(model) else "estimate",
    applies=discrete,
)
def bits_per_dim(e: Evaluation) -> float:
    """-log_likelihood / (D log 2), for discrete pixels only; from above where log_likelihood is a bound

    Formula: -log_likelihood / (D log 2), D the pixels and channels of an image.
    Estimator: that of log_likelihood.
    Sample size: that of log_likelihood.
    Fails: of binary pixels it is a figure of binary pixels: compare it within one kind of pixels only.
    Reference: none
    """
    return -log_likelihood(e) / (e.dataset.dim * math.log(2))
