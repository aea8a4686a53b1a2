"""ELBO, rate, distortion, log-likelihood and bits per dimension, in nats (or bits) per image."""

import math
from collections.abc import Callable

from torch import Tensor

from vae_variants.evaluation.evaluation import LEVELS, Evaluation
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import ClosedElbo, Coded, Density, LatentVariable, Model


def exact(model: Model) -> bool:
    return isinstance(model, Density) and model.exact


def kind(if_exact: str, otherwise: str) -> Callable[[Model], str]:
    return lambda model: if_exact if exact(model) else otherwise


def kind_of_rate(model: Model) -> str:
    return "exact" if isinstance(model, LatentVariable) and model.closed_kl else "estimate"


def kind_of_distortion(model: Model) -> str:
    return "exact" if isinstance(model, ClosedElbo) and model.closed_kl else "estimate"


def kind_of_gap(model: Model) -> str:
    return ("exact" if isinstance(model, ClosedElbo) else "estimate") if exact(model) else "lower-bound"


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="lower-bound")
def elbo(e: Evaluation) -> float:
    """E_q[log p(x|z)] - KL(q(z|x) || p(z)), mean over the test images

    Formula: -rate - distortion.
    Estimator: that of rate and distortion. Unbiased; summed over pixels with every constant.
    Sample size: all test images, `elbo_samples` samples each (10), with the same noise for every model.
    Fails: a model trained on another objective (IWAE, beta-VAE) did not optimise this bound; compare log_likelihood instead.
    Reference: Kingma & Welling 2014, Auto-Encoding Variational Bayes, estimator B of sec. 2.3.
    """
    return e.elbo.value.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="none", kind=kind_of_rate)
def rate(e: Evaluation) -> float:
    """KL(q(z|x) || p(z)), mean over the test images

    Formula: E_q[log q(z|x) - log p(z)]; for a diagonal Gaussian q and p(z) = N(0, I), sum_j (mu_j^2 + s_j^2 - 1) / 2 - log s_j.
    Estimator: closed form, without samples, if there is one for the pair of q and p; else from the samples of the ELBO: see the kind.
    Sample size: all test images.
    Fails: measures what the latents cost, not what they encode. Near 0 the posterior has collapsed. Hamiltonian posteriors count position
    and momentum together: an upper bound of the rate of z.
    Reference: Alemi et al. 2018, Fixing a Broken ELBO.
    """
    return e.elbo.rate.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="none", kind=kind_of_distortion)
def distortion(e: Evaluation) -> float:
    """-E_q[log p(x|z)], mean over the test images

    Formula: -(1/K) sum_k log p(x | z_k), z_k from q(z|x).
    Estimator: mean over samples, unbiased; without samples for linear-vae, categorical-vae and quantized-vae, whose ELBO has a closed form.
    Sample size: all test images, `elbo_samples` samples each (10).
    Fails: differs from reconstruction_nats, which uses the posterior mean and is lower.
    Reference: Alemi et al. 2018, Fixing a Broken ELBO.
    """
    return e.elbo.distortion.mean().item()


def is_bounded(e: Evaluation) -> bool:
    """Whether more samples of q tighten the bound of log p(x)."""
    return not exact(e.model) and varied(e)


def varied(e: Evaluation) -> bool:
    """Whether samples of q differ: those of a code do not."""
    return not isinstance(e.model, Coded)


def bounded(e: Evaluation) -> bool:
    return isinstance(e.model, LatentVariable) or exact(e.model)


def over_all(e: Evaluation, some: Tensor) -> float:
    """The mean over all test images of `some` (M,) nats, known for the images of the bound only.

    Adds the mean difference to L_1, from the same samples, to the mean ELBO of all images: the same expectation with less variance.
    """
    if len(e.bound.index) == len(e.test):
        return some.mean().item()
    return (e.elbo.value.mean() + (some - e.bound.levels[1]).mean()).item()


@metric(needs=(Density,), unit="nats", better="higher", kind=kind("exact", "lower-bound"), applies=bounded)
def log_likelihood(e: Evaluation) -> float:
    """exact log p(x) if the model has it, else the bound L_K with K = bound_samples; mean over the test images; the ELBO of codes

    Formula: L_K = log (1/K) sum_k p(x, z_k) / q(z_k | x).
    Estimator: log-sum-exp of the K log weights in float64. If L_K is known for some images only, the ELBO carries it over to all: the mean
    ELBO of all images plus the mean of L_K - L_1 over those, from the same samples. The ELBO itself if q(z|x) is one code (`Coded`).
    Sample size: all test images if exact; else `bound_images` (1000) with `bound_samples` samples (1000; `thorough`: 5000).
    Fails: too low by about Var(w) / (2 K E(w)^2), and by more if the weights have a heavy tail (see pareto_bad). On binary MNIST this is
    about a nat, so small differences between models can come from the bound. For a model of codes too low by all that other codes of an
    image add to p(x).
    Reference: Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders.
    """
    if exact(e.model):
        return e.log_prob.mean().item()
    if not varied(e):
        return e.elbo.value.mean().item()
    return over_all(e, e.bound.value)


@metric(needs=(LatentVariable, Density), unit="nats", better="none", kind=kind_of_gap, applies=varied)
def gap(e: Evaluation) -> float:
    """log p(x) - ELBO = KL(q(z|x) || p(z|x)), mean over the test images; a lower bound if log p(x) is bounded

    Formula: log_likelihood - elbo.
    Estimator: the difference of the two, over the same images.
    Sample size: those of the two.
    Fails: a lower bound if log_likelihood is one. approximation_gap and amortization_gap split it. Absent if q(z|x) is one code, whose
    log_likelihood is the ELBO. Of Hamiltonian posteriors it is the KL of position and momentum together.
    Reference: Cremer, Li & Duvenaud 2018, Inference Suboptimality in Variational Autoencoders.
    """
    return log_likelihood(e) - elbo(e)


@metric(needs=(LatentVariable,), unit="draws", better="none", applies=is_bounded)
def bound_samples(e: Evaluation) -> float:
    """K, the samples of z per image in log_likelihood

    Formula: K.
    Estimator: a setting of the preset.
    Sample size: none.
    Fails: bounds with different K cannot be compared.
    Reference: Burda, Grosse & Salakhutdinov 2016.
    """
    return e.bound.k


@metric(needs=(LatentVariable,), unit="draws", better="higher", kind="estimate", applies=is_bounded)
def ess(e: Evaluation) -> float:
    """effective sample size of the K importance weights, mean over images; near 1 the bound is loose

    Formula: (sum_k w_k)^2 / sum_k w_k^2.
    Estimator: from the weights of log_likelihood, in logarithms.
    Sample size: `bound_images` (1000), `bound_samples` samples.
    Fails: too high if no sample reached some part of the posterior.
    Reference: Kong 1992, A Note on Importance Sampling using Standardized Weights.
    """
    return e.bound.ess.mean().item()


def bound_of(k: int) -> Callable[[Evaluation], float]:
    def bound(e: Evaluation) -> float:
        return over_all(e, e.bound.levels[k])

    bound.__doc__ = f"""the importance-weighted bound L_{k}, from the samples of log_likelihood

    Formula: L_{k} = log (1/{k}) sum_k w_k{", the ELBO with a sampled KL" if k == 1 else ""}.
    Estimator: mean over disjoint blocks of {k} of the K samples, carried over to all test images as log_likelihood is.
    Sample size: `bound_images` (1000), `bound_samples` samples in blocks.
    Fails: a lower bound; the gain of the next power of ten shows how much is missing.
    Reference: Burda, Grosse & Salakhutdinov 2016.
    """
    return bound


for _k in LEVELS:
    metric(
        needs=(LatentVariable,),
        unit="nats",
        better="higher",
        kind="lower-bound",
        applies=lambda e, k=_k: varied(e) and k < e.fidelity.bound_samples,  # type: ignore[misc]
        name=f"bound_{_k}",
    )(bound_of(_k))


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="estimate", applies=is_bounded)
def jackknife(e: Evaluation) -> float:
    """log_likelihood with its bias of order 1/K removed by the jackknife; not a bound

    Formula: K L_K - (K - 1) mean_i L_{K-1}^(-i), with L^(-i) from all samples but the i-th.
    Estimator: exact over the K leave-one-out sets.
    Sample size: `bound_images` (1000), `bound_samples` samples.
    Fails: if the weights have a heavy tail, the bias is not of order 1/K and most of it remains.
    Reference: Nowozin 2018, Debiasing Evidence Approximations.
    """
    return over_all(e, e.bound.jackknife)


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate", applies=is_bounded)
def monte_carlo_error(e: Evaluation) -> float:
    """standard error of log_likelihood due to the finite number of samples, by the delta method

    Formula: sqrt(sum_i v_i / M^2 + sum_i u_i / M^2 + sum_n d_n / N^2), over the M images of the bound and all N: v_i =
    Var(w) / (K mean(w)^2) of L_K, u_i = Var(log w) / K of L_1, d_n = Var(log p(x|z)) / `elbo_samples` of the ELBO, Var(log w) if
    its KL is sampled; if M = N the first term alone.
    Estimator: from the same samples. L_K and L_1 of an image are positively correlated, so the error is rather too large.
    Sample size: `bound_images` (M = 1000), `bound_samples` samples.
    Fails: too small if the weights have a heavy tail. Excludes the bias of L_K and the variation over seeds and images.
    Reference: none
    """
    m, n = len(e.bound.index), len(e.test)
    variance = e.bound.variance.sum().item() / m**2
    if m < n:
        variance += e.bound.variance_1.sum().item() / m**2 + e.elbo.variance.sum().item() / n**2
    return math.sqrt(variance)


@metric(needs=(LatentVariable,), unit="fraction", better="lower", kind="estimate", applies=is_bounded)
def pareto_bad(e: Evaluation) -> float:
    """share of images with Pareto k > 0.7, for which no feasible number of samples suffices

    Formula: mean_i 1[k_i > 0.7], k_i the shape of a generalised Pareto distribution fitted to the largest min(K / 5, 3 sqrt(K)) weights.
    Estimator: posterior mean of the shape over a profile, with a weak prior at 0.5.
    Sample size: `bound_images` (1000), `bound_samples` samples.
    Fails: needs at least 25 samples. Sees the tail only as far as the samples reach.
    Reference: Vehtari et al. 2024, Pareto Smoothed Importance Sampling.
    """
    if e.bound.shape.isnan().any():
        raise Skip("too few samples to fit the tail of the weights")
    return (e.bound.shape > 0.7).double().mean().item()


def discrete(e: Evaluation) -> bool:
    return bounded(e) and e.model.support.discrete


@metric(needs=(Density,), unit="bits", better="lower", kind=kind("exact", "estimate"), applies=discrete)
def bits_per_dim(e: Evaluation) -> float:
    """-log_likelihood / (D log 2), for discrete pixels only; an upper bound if log_likelihood is a lower bound

    Formula: -log_likelihood / (D log 2), D the pixel values of an image, channels included.
    Estimator: that of log_likelihood.
    Sample size: that of log_likelihood.
    Fails: bits of binary pixels and of grey levels cannot be compared.
    Reference: none
    """
    return -log_likelihood(e) / (e.dataset.dim * math.log(2))
