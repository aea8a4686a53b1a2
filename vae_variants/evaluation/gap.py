"""How far the ELBO is under log p(x), and why: annealed importance sampling, and a posterior optimised for each image."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.evaluation.ais import LogDensity, adapt, anneal, anneal_back, log_normal, schedule
from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.metrics import metric
from vae_variants.evaluation.weights import log_mean_exp
from vae_variants.model import Decoder, LatentVariable, Model

__all__ = ["Annealing", "Local", "annealed", "local_posterior"]

CHAINS, PILOTS, LEAPFROG = 16, 4, 10
STEPS, DRAWS, FINAL_DRAWS, LEARNING_RATE = 300, 16, 1000, 0.02  # of the optimisation of q for each image


class Annealing(NamedTuple):
    """Of M test images and S simulated ones."""

    images: Tensor  # (M,) which test images
    log_p: Tensor  # (M,) forward estimates of log p(x): from below
    gap: Tensor  # (S,) reverse less forward estimates on images simulated by the model


def densities(model: Model, x: Tensor, start: str) -> tuple[LogDensity, LogDensity]:
    """log start(z) and log p(x, z) as functions of z (C, B, Z)."""
    assert isinstance(model, LatentVariable)
    assert isinstance(model, Decoder)
    mean, scale = model.posterior(x)

    def joint(z: Tensor) -> Tensor:
        return model.log_prior(z) + model.log_px(x, z)

    def encoder(z: Tensor) -> Tensor:
        return log_normal(z, mean, scale)

    return (encoder if start == "encoder" else model.log_prior), joint


def draw(model: Model, x: Tensor, start: str, chains: int) -> Tensor:
    assert isinstance(model, LatentVariable)
    if start == "encoder":
        mean, scale = model.posterior(x)
        return mean + scale * torch.randn(chains, *mean.shape, dtype=mean.dtype, device=mean.device)
    return model.prior(chains * len(x)).unflatten(0, (chains, len(x)))


def forward(model: Model, x: Tensor, start: str, betas: Tensor) -> tuple[Tensor, Tensor]:
    """-> estimates of log p(x) (B,), step sizes."""
    first, joint = densities(model, x, start)
    sizes = adapt(draw(model, x, start, PILOTS), first, joint, betas, LEAPFROG)
    return log_mean_exp(anneal(draw(model, x, start, CHAINS), first, joint, betas, sizes, LEAPFROG).log_w), sizes


@lru_cache(maxsize=1)
def annealed(e: Evaluation, start: str = "encoder") -> Annealing:
    """16 chains from `start`, encoder or prior, for `annealed_images` test images, and as many simulated ones there and back."""
    assert isinstance(e.model, LatentVariable)
    n, betas = e.fidelity.annealed_images, schedule(e.fidelity.temperatures)
    index = spread(len(e.test), n)
    with e.noise("annealing"):
        log_p, _ = forward(e.model, e.test[index.to(e.device)], start, betas)
        x, z = e.model.simulate(n)
        below, sizes = forward(e.model, x, start, betas)
        first, joint = densities(e.model, x, start)
        back = anneal_back(z.expand(CHAINS, *z.shape), first, joint, betas, sizes, LEAPFROG)
    return Annealing(index, log_p.cpu(), (-log_mean_exp(back.log_w) - below).cpu())


class Local(NamedTuple):
    """The best diagonal Gaussian q for each of M test images: ELBO with it, and with what the encoder says, (M,) nats."""

    optimised: Tensor
    encoded: Tensor


def local_posterior(model: Model, x: Tensor) -> Local:
    """Adam on mean and log scale of q from where the encoder puts them; both ELBOs from the same fresh noise."""
    assert isinstance(model, LatentVariable)
    assert isinstance(model, Decoder)
    with torch.no_grad():
        mean, scale = model.posterior(x)

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
        rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, STEPS)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (-bound(mu, log_s, DRAWS).sum()).backward(inputs=[mu, log_s])
            optimizer.step()
            rate.step()
    with torch.no_grad():
        return Local(scored(mu.detach(), log_s.detach()).cpu(), scored(mean, scale.log()).cpu())


@lru_cache(maxsize=1)
def local(e: Evaluation) -> Local:
    with e.noise("local posterior"):
        return local_posterior(e.model, e.test[annealed(e).images.to(e.device)])


def wanted(e: Evaluation) -> bool:
    return isinstance(e.model, Decoder) and e.fidelity.annealed_images > 0


@metric(needs=(LatentVariable,), unit="nats", better="higher", kind="lower-bound", applies=wanted)
def annealed_log_likelihood(e: Evaluation) -> float:
    """log p(x) by annealed importance sampling, 16 chains with Hamiltonian transitions; in place of log_likelihood's bound"""
    found = annealed(e)
    return (e.elbo.value.mean() + (found.log_p - e.elbo.value[found.images]).mean()).item()


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate", applies=wanted)
def annealing_gap(e: Evaluation) -> float:
    """how far annealed_log_likelihood may be too low: reverse less forward annealing on images simulated by the model"""
    return annealed(e).gap.mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate", applies=wanted)
def approximation_gap(e: Evaluation) -> float:
    """log p(x) by annealing, less the ELBO with the best diagonal Gaussian q for each image"""
    return (annealed(e).log_p - local(e).optimised).mean().item()


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate", applies=wanted)
def amortization_gap(e: Evaluation) -> float:
    """the ELBO with the best diagonal Gaussian q for each image, less the ELBO with the encoder's"""
    found = local(e)
    return (found.optimised - found.encoded).mean().item()
