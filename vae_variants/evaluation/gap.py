"""The gap between the ELBO and log p(x): annealed importance sampling, and a posterior optimised for each image."""

from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.evaluation.ais import LogDensity, adapt, anneal, anneal_back, log_normal, schedule
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.likelihood import over_all
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.pieces import spread
from vae_variants.evaluation.units import prior_scale
from vae_variants.evaluation.weights import log_mean_exp
from vae_variants.models.base import Decoder, Euclidean, GaussianPosterior, Model, ScoredPosterior
from vae_variants.models.posteriors import Scored

PILOTS, LEAPFROG = 4, 10
DRAWS, FINAL_DRAWS, LEARNING_RATE = 16, 1000, 0.02  # of the optimisation of q for each image


class Annealing(NamedTuple):
    """Results for M test images and S simulated images."""

    rows: Tensor  # (M,) which of the bound's images
    images: Tensor  # (M,) which test images they are
    log_p: Tensor  # (M,) forward estimates of log p(x): from below
    gap: Tensor  # (S,) reverse less forward estimates on images simulated by the model


def densities(model: Model, x: Tensor, start: str) -> tuple[LogDensity, LogDensity]:
    """log start(z) and log p(x, z) as functions of z (C, B, Z)."""
    assert isinstance(model, Euclidean) and isinstance(model, Decoder)
    first: LogDensity = model.log_prior
    if start == "encoder" and isinstance(model, GaussianPosterior):
        first = partial(log_normal, **dict(zip(("mean", "scale"), model.moments(x), strict=True)))
    elif start == "encoder" and isinstance(model, ScoredPosterior):
        q = model.conditional(x)
        assert isinstance(q, Scored)
        first = q.log_prob
    return first, lambda z: model.log_prior(z) + model.log_px(x, z)


def draw(model: Model, x: Tensor, start: str, chains: int) -> Tensor:
    """Samples (chains, B, Z) of the start: q(z | x) if it has a density at any z and is asked for, else the prior."""
    assert isinstance(model, Euclidean)
    if start == "encoder" and isinstance(model, ScoredPosterior):
        return model.conditional(x).draw(chains).z
    return model.draw_prior(chains * len(x)).unflatten(0, (chains, len(x)))


def in_units(f: LogDensity, unit: Tensor | None) -> LogDensity:
    """`f` of latents that are measured in units (Z,): Hamiltonian transitions then have the same step sizes whatever the scale of z."""
    return f if unit is None else lambda u: f(unit * u)


def rescaled(z: Tensor, unit: Tensor | None) -> Tensor:
    return z if unit is None else z / unit


def forward(model: Model, x: Tensor, start: str, chains: int, betas: Tensor, unit: Tensor | None) -> tuple[Tensor, Tensor]:
    """-> estimates of log p(x) (B,), step sizes."""
    first, joint = (in_units(f, unit) for f in densities(model, x, start))
    sizes = adapt(rescaled(draw(model, x, start, PILOTS), unit), first, joint, betas, LEAPFROG)
    z = rescaled(draw(model, x, start, chains), unit)
    return log_mean_exp(anneal(z, first, joint, betas, sizes, LEAPFROG).log_w), sizes


@lru_cache(maxsize=1)
def annealed(e: Evaluation) -> Annealing:
    """Anneals `annealed_images` test images forward, and as many simulated images forward and backward."""
    assert isinstance(e.model, Euclidean)
    level = e.fidelity
    n, betas = level.annealed_images, schedule(level.temperatures, level.schedule)
    rows = spread(len(e.bound.index), n)
    index = e.bound.index[rows]
    with e.noise("annealing"):
        unit = prior_scale(e.model)
        log_p, _ = forward(e.model, e.test[index.to(e.device)], level.start, level.chains, betas, unit)
        x, z = e.model.simulate(n)
        below, sizes = forward(e.model, x, level.start, level.chains, betas, unit)
        first, joint = (in_units(f, unit) for f in densities(e.model, x, level.start))
        back = anneal_back(rescaled(z.expand(level.chains, *z.shape), unit), first, joint, betas, sizes, LEAPFROG)
    return Annealing(rows, index, log_p.cpu(), (-log_mean_exp(back.log_w) - below).cpu())


class Local(NamedTuple):
    """ELBO of M test images with the best diagonal Gaussian q, and with the encoder's q, (M,) nats each."""

    optimised: Tensor
    encoded: Tensor


def local_posterior(model: Model, x: Tensor, steps: int = 300) -> Local:
    """Optimises mean and log scale of a diagonal Gaussian q for each of x (M, D) by `steps` steps of Adam, from the encoder's values.

    The mean is in units of the prior's standard deviation, so that a step of Adam does not depend on the scale of z. Both ELBOs are
    estimated from the same new noise.
    """
    assert isinstance(model, GaussianPosterior) and isinstance(model, Decoder)
    with torch.no_grad():
        mean, width = model.moments(x)
        unit = prior_scale(model)

    def bound(mu: Tensor, log_s: Tensor, draws: int) -> Tensor:
        mu = mu if unit is None else unit * mu
        z = mu + log_s.exp() * torch.randn(draws, *mu.shape, dtype=mu.dtype, device=mu.device)
        return (model.log_prior(z) + model.log_px(x, z) - log_normal(z, mu, log_s.exp())).mean(0)

    def scored(mu: Tensor, log_s: Tensor) -> Tensor:
        state = torch.get_rng_state()
        parts = [bound(mu, log_s, FINAL_DRAWS // 10).double() for _ in range(10)]
        torch.set_rng_state(state)
        return torch.stack(parts).mean(0)

    with torch.enable_grad():
        mu, log_s = rescaled(mean, unit).clone().requires_grad_(), width.log().requires_grad_()
        optimizer = torch.optim.Adam([mu, log_s], lr=LEARNING_RATE)
        rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            (-bound(mu, log_s, DRAWS).sum()).backward(inputs=[mu, log_s])
            optimizer.step()
            rate.step()
    with torch.no_grad():
        return Local(scored(mu.detach(), log_s.detach()).cpu(), scored(rescaled(mean, unit), width.log()).cpu())


@lru_cache(maxsize=1)
def local(e: Evaluation) -> Local:
    with e.noise("local posterior"):
        return local_posterior(e.model, e.test[annealed(e).images.to(e.device)], e.fidelity.local_steps)


def wanted(e: Evaluation) -> bool:
    return isinstance(e.model, Decoder) and e.fidelity.annealed_images > 0


@metric(needs=(Euclidean,), unit="nats", better="higher", kind="lower-bound", applies=wanted)
def annealed_log_likelihood(e: Evaluation) -> float:
    """log p(x) by annealed importance sampling with Hamiltonian transitions; tighter than log_likelihood's bound

    Formula: log (1/C) sum_c w_c, log w = sum_t (b_{t+1} - b_t) (log p(x, z_t) - log s(z_t)), with s the start, q(z|x) or p(z), and
    z_{t+1} from z_t by a transition that leaves s^(1 - b) p(x, .)^b at b_{t+1} invariant.
    Estimator: a lower bound, since E w = p(x). One trajectory of {LEAPFROG} leapfrog steps per temperature; pilot chains set the step
    sizes. Latents are in units of the prior's standard deviation. The start is p(z) if q has no density at a given z. Over all test images:
    log_likelihood plus the mean difference to L_K over the annealed images.
    Sample size: `annealed_images` (100), `chains` (16), `temperatures` (1000); options `start` and `schedule`.
    Fails: too low if the chains move too fast for the posterior, which annealing_gap shows. Absent unless latents fill R^Z: on spheres and
    simplices there are no such transitions.
    Reference: Neal 2001, Annealed Importance Sampling; Wu et al. 2017, On the Quantitative Analysis of Decoder-Based Models.
    """
    found = annealed(e)
    return over_all(e, e.bound.value) + (found.log_p - e.bound.value[found.rows]).mean().item()


@metric(needs=(Euclidean,), unit="nats", better="lower", kind="estimate", applies=wanted)
def annealing_error(e: Evaluation) -> float:
    """standard error of annealed_log_likelihood - log_likelihood due to the choice of the annealed images

    Formula: s / sqrt(M), s the standard deviation of log p(x) by annealing minus L_K over the M images.
    Estimator: sample standard deviation; it includes the noise of both estimates.
    Sample size: `annealed_images` (100).
    Fails: seeds share their test images, so an interval over seeds excludes this error.
    Reference: none
    """
    found = annealed(e)
    if len(found.rows) < 2:
        raise Skip("one image has no spread")
    return (found.log_p - e.bound.value[found.rows]).std().item() / len(found.rows) ** 0.5


@metric(needs=(Euclidean,), unit="nats", better="lower", kind="estimate", applies=wanted)
def annealing_gap(e: Evaluation) -> float:
    """upper minus lower estimate of log p(x) by annealing simulated images in both directions

    Formula: mean over simulated x of U - L, with L the forward estimate and U = -log (1/C) sum_c w'_c that of chains run backward
    from the z that generated x, an exact sample of its posterior: L <= log p(x) <= U in expectation.
    Estimator: the same temperatures, chains and step sizes in both directions.
    Sample size: as many simulated images as `annealed_images`.
    Fails: certifies simulated images only; test images unlike them may have harder posteriors.
    Reference: Grosse, Ancha & Roy 2016, Measuring the reliability of MCMC inference with bidirectional Monte Carlo.
    """
    return annealed(e).gap.mean().item()


@metric(needs=(GaussianPosterior,), unit="nats", better="lower", kind="estimate", applies=wanted)
def approximation_gap(e: Evaluation) -> float:
    """log p(x) by annealing, minus the ELBO with the best diagonal Gaussian q for each image

    Formula: log p(x) - ELBO[q*], q* the diagonal Gaussian of highest ELBO for that image.
    Estimator: `local_steps` (300) Adam steps of {DRAWS} samples on mean and log scale of q from the encoder's; evaluated on {FINAL_DRAWS}
    new samples.
    Sample size: `annealed_images` (100).
    Fails: too low by what annealing misses; too high if the optimisation has not converged. Absent unless q is a diagonal Gaussian, the
    family over which it optimises.
    Reference: Cremer, Li & Duvenaud 2018, Inference Suboptimality in Variational Autoencoders.
    """
    return (annealed(e).log_p - local(e).optimised).mean().item()


@metric(needs=(GaussianPosterior,), unit="nats", better="lower", kind="estimate", applies=wanted)
def amortization_gap(e: Evaluation) -> float:
    """the ELBO with the best diagonal Gaussian q for each image, minus the ELBO with the encoder's q

    Formula: ELBO[q*] - ELBO[q].
    Estimator: as for approximation_gap; both from the same {FINAL_DRAWS} samples (on a CPU).
    Sample size: `annealed_images` (100).
    Fails: too low if the optimisation of q* has not converged. Absent unless q is a diagonal Gaussian.
    Reference: Cremer, Li & Duvenaud 2018.
    """
    found = local(e)
    return (found.optimised - found.encoded).mean().item()
