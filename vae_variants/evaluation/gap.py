"""The gap between the ELBO and log p(x): annealed importance sampling, and a posterior optimised for each image."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.evaluation.ais import LogDensity, adapt, anneal, anneal_back, log_normal, schedule
from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.likelihood import over_all
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.weights import log_mean_exp
from vae_variants.models.base import Decoder, GaussianPosterior, Model

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
    assert isinstance(model, GaussianPosterior) and isinstance(model, Decoder)
    mean, scale = model.moments(x)
    first: LogDensity = (lambda z: log_normal(z, mean, scale)) if start == "encoder" else model.log_prior
    return first, lambda z: model.log_prior(z) + model.log_px(x, z)


def draw(model: Model, x: Tensor, start: str, chains: int) -> Tensor:
    assert isinstance(model, GaussianPosterior)
    if start == "encoder":
        mean, scale = model.moments(x)
        return mean + scale * torch.randn(chains, *mean.shape, dtype=mean.dtype, device=mean.device)
    return model.draw_prior(chains * len(x)).unflatten(0, (chains, len(x)))


def forward(model: Model, x: Tensor, start: str, chains: int, betas: Tensor) -> tuple[Tensor, Tensor]:
    """-> estimates of log p(x) (B,), step sizes."""
    first, joint = densities(model, x, start)
    sizes = adapt(draw(model, x, start, PILOTS), first, joint, betas, LEAPFROG)
    return log_mean_exp(anneal(draw(model, x, start, chains), first, joint, betas, sizes, LEAPFROG).log_w), sizes


@lru_cache(maxsize=1)
def annealed(e: Evaluation) -> Annealing:
    """Anneals `annealed_images` test images forward, and as many simulated images forward and backward."""
    assert isinstance(e.model, GaussianPosterior)
    level = e.fidelity
    n, betas = level.annealed_images, schedule(level.temperatures, level.schedule)
    rows = spread(len(e.bound.index), n)
    index = e.bound.index[rows]
    with e.noise("annealing"):
        log_p, _ = forward(e.model, e.test[index.to(e.device)], level.start, level.chains, betas)
        x, z = e.model.simulate(n)
        below, sizes = forward(e.model, x, level.start, level.chains, betas)
        first, joint = densities(e.model, x, level.start)
        back = anneal_back(z.expand(level.chains, *z.shape), first, joint, betas, sizes, LEAPFROG)
    return Annealing(rows, index, log_p.cpu(), (-log_mean_exp(back.log_w) - below).cpu())


class Local(NamedTuple):
    """ELBO of M test images with the best diagonal Gaussian q, and with the encoder's q, (M,) nats each."""

    optimised: Tensor
    encoded: Tensor


def local_posterior(model: Model, x: Tensor, steps: int = 300) -> Local:
    """Optimises mean and log scale of a diagonal Gaussian q for each of x (M, D) by `steps` steps of Adam, from the encoder's values.

    Both ELBOs are estimated from the same new noise.
    """
    assert isinstance(model, GaussianPosterior) and isinstance(model, Decoder)
    with torch.no_grad():
        mean, scale = model.moments(x)

    def bound(mu: Tensor, log_s: Tensor, draws: int) -> Tensor:
        z = mu + log_s.exp() * torch.randn(draws, *mu.shape, dtype=mu.dtype, device=mu.device)
        return (model.log_prior(z) + model.log_px(x, z) - log_normal(z, mu, log_s.exp())).mean(0)

    def scored(mu: Tensor, log_s: Tensor) -> Tensor:
        state = torch.get_rng_state()
        parts = [bound(mu, log_s, FINAL_DRAWS // 10).double() for _ in range(10)]
        torch.set_rng_state(state)
        return torch.stack(parts).mean(0)

    with torch.enable_grad():
        mu, log_s = mean.clone().requires_grad_(), scale.log().requires_grad_()
        optimizer = torch.optim.Adam([mu, log_s], lr=LEARNING_RATE)
        rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            (-bound(mu, log_s, DRAWS).sum()).backward(inputs=[mu, log_s])
            optimizer.step()
            rate.step()
    with torch.no_grad():
        return Local(scored(mu.detach(), log_s.detach()).cpu(), scored(mean, scale.log()).cpu())


@lru_cache(maxsize=1)
def local(e: Evaluation) -> Local:
    with e.noise("local posterior"):
        return local_posterior(e.model, e.test[annealed(e).images.to(e.device)], e.fidelity.local_steps)


def wanted(e: Evaluation) -> bool:
    return isinstance(e.model, Decoder) and e.fidelity.annealed_images > 0


@metric(needs=(GaussianPosterior,), unit="nats", better="higher", kind="lower-bound", applies=wanted)
def annealed_log_likelihood(e: Evaluation) -> float:
    """log p(x) by annealed importance sampling with Hamiltonian transitions; tighter than log_likelihood's bound

    Formula: log (1/C) sum_c w_c, log w = sum_t (b_{t+1} - b_t) (log p(x, z_t) - log s(z_t)), with s the start, q(z|x) or p(z), and
    z_{t+1} from z_t by a transition that leaves s^(1 - b) p(x, .)^b at b_{t+1} invariant.
    Estimator: a lower bound, since E w = p(x). One trajectory of {LEAPFROG} leapfrog steps per temperature; pilot chains set the step
    sizes. Over all test images: log_likelihood plus the mean difference to L_K over the annealed images.
    Sample size: `annealed_images` (100), `chains` (16), `temperatures` (1000); options `start` and `schedule`.
    Fails: too low if the chains move too fast for the posterior, which annealing_gap shows. Needs a posterior with a smooth density.
    Reference: Neal 2001, Annealed Importance Sampling; Wu et al. 2017, On the Quantitative Analysis of Decoder-Based Models.
    """
    found = annealed(e)
    return over_all(e, e.bound.value) + (found.log_p - e.bound.value[found.rows]).mean().item()


@metric(needs=(GaussianPosterior,), unit="nats", better="lower", kind="estimate", applies=wanted)
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


@metric(needs=(GaussianPosterior,), unit="nats", better="lower", kind="estimate", applies=wanted)
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
    Fails: too low by what annealing misses; too high if the optimisation has not converged.
    Reference: Cremer, Li & Duvenaud 2018, Inference Suboptimality in Variational Autoencoders.
    """
    return (annealed(e).log_p - local(e).optimised).mean().item()


@metric(needs=(GaussianPosterior,), unit="nats", better="lower", kind="estimate", applies=wanted)
def amortization_gap(e: Evaluation) -> float:
    """the ELBO with the best diagonal Gaussian q for each image, minus the ELBO with the encoder's q

    Formula: ELBO[q*] - ELBO[q].
    Estimator: as for approximation_gap; both from the same {FINAL_DRAWS} samples (on a CPU).
    Sample size: `annealed_images` (100).
    Fails: too low if the optimisation of q* has not converged.
    Reference: Cremer, Li & Duvenaud 2018.
    """
    found = local(e)
    return (found.optimised - found.encoded).mean().item()
