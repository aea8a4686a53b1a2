"""Annealed importance sampling of log p(x) with Hamiltonian transitions, forward and in reverse."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]  # z (C, B, Z) -> (C, B) nats
ACCEPTANCE = 0.65  # aimed at by the pilot run; the optimum of HMC in many dimensions


class Annealed(NamedTuple):
    """Log weights (C, B) in nats, and the mean acceptance rate of the transitions (B,)."""

    log_w: Tensor
    acceptance: Tensor


def log_normal(z: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log N(z; mean, diag scale^2), summed over the last axis."""
    return (-0.5 * ((z - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def sigmoid(t: Tensor) -> Tensor:
    """The logistic curve over [-4, 4], stretched to [0, 1]: denser at both ends."""
    ends = torch.sigmoid(torch.tensor([-4.0, 4.0], dtype=t.dtype))
    return (torch.sigmoid(8 * t - 4) - ends[0]) / (ends[1] - ends[0])


SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": sigmoid, "linear": lambda t: t}


def schedule(temperatures: int, kind: str = "sigmoid") -> Tensor:
    """Inverse temperatures 0 = b_0 < ... < b_T = 1, with the spacing `kind` of `SCHEDULES`."""
    return SCHEDULES[kind](torch.linspace(0, 1, temperatures + 1, dtype=torch.float64))


def hmc(z: Tensor, log_f: LogDensity, step: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """One Metropolis-adjusted Hamiltonian transition of C chains z (C, B, Z) that leaves exp(log_f) invariant, with unit mass.

    Takes `steps` leapfrog steps of size `step` (B,). Returns z, and whether each proposal was accepted (C, B).
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
    """One pass over the temperatures; adapts the step sizes (T, B) if `sizes` is None -> (result, step sizes)."""
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
    """Step sizes (T, B) with an acceptance near 0.65, one per temperature and image, from pilot chains that are then discarded."""
    return walk(z, log_start, log_joint, betas, steps, None)[1]


def anneal(z: Tensor, log_start: LogDensity, log_joint: LogDensity, betas: Tensor, sizes: Tensor, steps: int = 10) -> Annealed:
    """Annealed importance sampling of p(x) along f_b = (1 - b) log_start + b log_joint, for b from 0 to 1 (Neal 2001).

    log w = sum_t (b_{t+1} - b_t) (log_joint(z_t) - log_start(z_t)); an HMC transition that leaves f at b_{t+1} invariant takes z_t to
    z_{t+1}. E w = p(x), so E log mean w <= log p(x).

    Args:
        z: (C, B, Z) samples of the start, in C chains for each of B images.
        log_start, log_joint: Normalised log density of the start, and log p(x, z).
        betas: (T + 1,) inverse temperatures.
        sizes: (T, B) step sizes from `adapt`; adapting them in the same run would bias the weights.
        steps: Leapfrog steps of each transition.
    """
    return walk(z, log_start, log_joint, betas, steps, sizes)[0]


def anneal_back(z: Tensor, log_start: LogDensity, log_joint: LogDensity, betas: Tensor, sizes: Tensor, steps: int = 10) -> Annealed:
    """`anneal` in reverse, from samples z (C, B, Z) of the posterior: E w = 1 / p(x).

    -log mean w is an upper bound in expectation. The z that generated a simulated x is an exact posterior sample (bidirectional Monte
    Carlo: Grosse, Ancha & Roy 2016). Takes `betas` and `sizes` of the forward run.
    """
    back = torch.cat([sizes[:-1].flip(0), sizes[:1]])
    return walk(z, log_start, log_joint, betas.flip(0), steps, back)[0]
