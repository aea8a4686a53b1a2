"""Annealed importance sampling of log p(x) with Hamiltonian transitions, forward and in reverse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SCHEDULES", "Annealed", "adapt", "anneal", "anneal_back", "log_normal", "schedule"]

LogDensity = Callable[[Tensor], Tensor]  # z (C, B, Z) -> (C, B) nats
ACCEPTANCE = 0.65  # aimed at by the pilot run; the optimum of HMC in many dimensions


class Annealed(NamedTuple):
    """What `anneal` gives: log weights (C, B), mean acceptance of its transitions (B,)."""

    log_w: Tensor
    acceptance: Tensor


def log_normal(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log N(z; mean, diag scale^2), summed over the last axis."""
    return (-0.5 * ((z - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def sigmoid(t: Tensor) -> Tensor:
    """Closer at both ends: the logistic curve over [-4, 4], stretched to [0, 1]."""
    ends = torch.sigmoid(torch.tensor([-4.0, 4.0], dtype=t.dtype))
    return (torch.sigmoid(8 * t - 4) - ends[0]) / (ends[1] - ends[0])


SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": sigmoid, "linear": lambda t: t}


def schedule(temperatures: int, kind: str = "sigmoid") -> Tensor:
    """Inverse temperatures 0 = b_0 < ... < b_T = 1, spaced as `kind` of `SCHEDULES` says."""
    return SCHEDULES[kind](torch.linspace(0, 1, temperatures + 1, dtype=torch.float64))


def hmc(z: Tensor, log_f: LogDensity, step: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """One Metropolis-adjusted Hamiltonian transition that leaves exp(log_f) as it is -> z (C, B, Z), accepted (C, B).

    `steps` leapfrog steps of size `step` (B,), unit mass.
    """

    def value_and_gradient(at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            value = log_f(at)
            return value.detach(), torch.autograd.grad(value.sum(), at)[0]

    size = step.unsqueeze(-1)
    end, p0 = z, torch.randn_like(z)
    before, gradient = value_and_gradient(z)
    p = p0 + 0.5 * size * gradient
    for i in range(steps):
        end = end + size * p
        after, gradient = value_and_gradient(end)
        p = p + (size if i < steps - 1 else 0.5 * size) * gradient
    gain = after - before + 0.5 * (p0.square() - p.square()).sum(-1)
    accepted = torch.rand_like(gain).log() < gain  # never for a trajectory that ran off to NaN
    return torch.where(accepted.unsqueeze(-1), end, z), accepted


def walk(
    z: Tensor, log_start: LogDensity, log_joint: LogDensity, betas: Tensor, steps: int, sizes: Tensor | None
) -> tuple[Annealed, Tensor]:
    """One pass over the temperatures; step sizes (T, B) of None are adapted on the way -> (result, step sizes)."""
    step, used = z.new_full((z.shape[1],), 0.1), []
    log_w, rates = z.new_zeros(z.shape[:2], dtype=torch.float64), []
    for t, (before, after) in enumerate(zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True)):
        with torch.no_grad():
            log_w += (after - before) * (log_joint(z) - log_start(z)).double()

        def log_f(at: Tensor, b: float = after) -> Tensor:
            return (1 - b) * log_start(at) + b * log_joint(at)

        used.append(step if sizes is None else sizes[t])
        z, accepted = hmc(z, log_f, used[-1], steps)
        rates.append(accepted.double().mean(0))
        step = step * torch.where(rates[-1] > ACCEPTANCE, 1.05, 0.95).to(step)
    return Annealed(log_w, torch.stack(rates).mean(0)), torch.stack(used)


def adapt(z: Tensor, log_start: LogDensity, log_joint: LogDensity, betas: Tensor, steps: int = 10) -> Tensor:
    """Step sizes (T, B) of an acceptance near 0.65, one for each temperature and image, from chains that count for nothing else."""
    return walk(z, log_start, log_joint, betas, steps, None)[1]


def anneal(z: Tensor, log_start: LogDensity, log_joint: LogDensity, betas: Tensor, sizes: Tensor, steps: int = 10) -> Annealed:
    """Annealed importance sampling of p(x) from a normalised start, along f_b = (1 - b) log_start + b log_joint, b from 0 to 1.

    log w = sum_t (b_{t+1} - b_t) (log_joint(z_t) - log_start(z_t)), with z_{t+1} from z_t by an HMC transition of `steps`
    leapfrog steps that leaves f at b_{t+1} as it is (Neal 2001). z (C, B, Z) are draws from the start, in C chains for each of B
    images. E w = p(x), so that E log mean w <= log p(x). The step sizes are those of `adapt`, from other chains: adapted in the
    same run they would bias the weights.
    """
    return walk(z, log_start, log_joint, betas, steps, sizes)[0]


def anneal_back(z: Tensor, log_start: LogDensity, log_joint: LogDensity, betas: Tensor, sizes: Tensor, steps: int = 10) -> Annealed:
    """The same in reverse, b from 1 to 0, from draws z (C, B, Z) of the posterior: E w = 1 / p(x).

    -log mean w is a bound from above in expectation. The posterior can be drawn from where z came first: for x simulated from
    the model (bidirectional Monte Carlo: Grosse, Ancha & Roy 2016). Takes `betas` and `sizes` of the forward run.
    """
    back = torch.cat([sizes[:-1].flip(0), sizes[:1]])
    return walk(z, log_start, log_joint, betas.flip(0), steps, back)[0]
