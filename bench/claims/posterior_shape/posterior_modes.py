"""Modes of a density on a grid, moments from weighted draws, and Markov chains from dispersed starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from vae_variants.evaluation.ais import ACCEPTANCE, hmc
from vae_variants.evaluation.gap import LEAPFROG, densities, draw
from vae_variants.evaluation.weights import effective_draws
from vae_variants.models.base import GaussianPosterior, Model

__all__ = ["DEPTH", "Chains", "Shape", "chains", "ends", "modes", "r_hat", "weighted_shape"]

PROMINENCE, DEPTH = 1.0, 10.0  # nats: of a mode over the way to a higher one, and under the highest, where modes end to count
APART = 3.0  # standard deviations of the posterior, root of the mean square over units: from there on another place


def modes(log_density: np.ndarray, prominence: float = PROMINENCE, depth: float = DEPTH) -> np.ndarray:
    """Share of the mass that each mode of a density on a grid (n, m) has, largest first.

    A mode is a local maximum of at least that prominence that is no more than `depth` nats under the highest: bumps far out in the tails
    are none.

    The prominence of a maximum is how far one has to go down, in nats, on the way to any point that is higher; that of the highest is
    infinite. A lesser maximum belongs to the mode that it leads up to, and a point to the maximum at the end of its steepest ascent.
    """
    f = np.asarray(log_density, dtype=np.float64)
    n, m = f.shape
    padded = np.pad(f, 1, constant_values=-np.inf)
    offsets = [(i, j) for i in range(3) for j in range(3)]
    around = np.stack([padded[i : i + n, j : j + m] for i, j in offsets])  # (9, n, m)
    best = around.argmax(0)
    best[around.max(0) <= f] = 4  # itself, where nothing around is higher
    row, column = np.indices((n, m))
    up = ((row + best // 3 - 1) * m + column + best % 3 - 1).ravel()
    while not np.array_equal(up, further := up[up]):
        up = further
    peaks, mass = np.unique(up), np.exp(f - f.max()).ravel()
    owner = {int(p): int(p) for p in peaks}
    for peak in sorted(owner, key=lambda p: f.flat[p]):
        region, _ = ndimage.label(f >= f.flat[peak] - prominence, structure=np.ones((3, 3)))
        there = region.ravel() == region.flat[peak]
        top = int(np.where(there, f.ravel(), -np.inf).argmax())
        owner[peak] = top  # itself, if there is nothing higher; of equals, the first
    masses: dict[int, float] = {}
    for peak in owner:
        root = peak
        while owner[root] != root:
            root = owner[root]
        masses[root] = masses.get(root, 0.0) + float(mass[up == peak].sum())
    counted = [share for root, share in masses.items() if f.flat[root] >= f.max() - depth]
    return np.sort(np.array(counted))[::-1] / sum(masses.values())


class Shape(NamedTuple):
    """Of the posterior by unit, (B, Z) each, and the effective number of draws behind it, (B,)."""

    mean: Tensor
    scale: Tensor
    skewness: Tensor
    kurtosis: Tensor  # excess
    draws: Tensor


def weighted_shape(z: Tensor, log_w: Tensor) -> Shape:
    """Moments by unit from draws z (K, B, Z) with log weights (K, B): E z, sd, E((z - E z) / sd)^3, E(...)^4 - 3."""
    w = log_w.double().softmax(0).unsqueeze(-1)
    mean = (w * z).sum(0)
    d = z - mean
    scale = (w * d.square()).sum(0).sqrt()
    third, fourth = ((w * (d / scale) ** k).sum(0) for k in (3, 4))
    return Shape(mean, scale, third, fourth - 3, effective_draws(log_w))


class Chains(NamedTuple):
    """T states of C chains for each of B images; the first half of the chains starts from q, the other from codes of other images."""

    z: Tensor  # (T, C, B, Z)
    log_joint: Tensor  # (T, C, B) nats
    acceptance: Tensor  # (B,)


@torch.no_grad()
def chains(model: Model, x: Tensor, count: int, states: int) -> Chains:
    """Hamiltonian chains of the posterior of x (B, D): `states` transitions in which step sizes are adapted, and as many that are kept.

    Of `count` chains for each image half start from its own q, half from the means of q of other images among x, or, of a single image,
    from draws of the prior.
    """
    assert isinstance(model, GaussianPosterior)
    _, joint = densities(model, x, "encoder")
    mean, _ = model.posterior(x)
    own = draw(model, x, "encoder", count // 2)
    if len(x) > 1:
        others = torch.stack([mean.roll(1 + k % (len(x) - 1), 0) for k in range(count - count // 2)])
    else:
        others = draw(model, x, "prior", count - count // 2)
    z, step = torch.cat([own, others]), mean.new_full((len(x),), 0.1)
    kept, rates = [], []
    for i in range(2 * states):
        jitter = 0.5 + torch.rand_like(step)  # of one length only, a trajectory may come back to where it began in some unit
        z, accepted = hmc(z, joint, step * jitter, LEAPFROG)
        rate = accepted.double().mean(0)
        if i < states:
            step = step * torch.where(rate > ACCEPTANCE, 1.05, 0.95).to(step)
        else:
            kept.append(z)
            rates.append(rate)
    states_kept = torch.stack(kept)
    return Chains(states_kept, torch.stack([joint(each) for each in kept]), torch.stack(rates).mean(0))


def r_hat(z: Tensor) -> Tensor:
    """Potential scale reduction sqrt(((T - 1) W / T + V) / W) of chains (T, C, ...): W the variance within, V that of their means.

    Near 1 where the chains cannot be told apart (Gelman & Rubin 1992).
    """
    t = len(z)
    within, between = z.var(0).mean(0), z.mean(0).var(0)
    return (((t - 1) / t * within + between) / within).sqrt()


def ends(found: Chains, on: Tensor) -> tuple[Tensor, Tensor]:
    """Where the chains from other images' codes got to -> stuck (C', B), elsewhere (C', B), both bool; the rest joined the own ones.

    Stuck: in the second half of its states more than 10 nats under the own chains' mean log p(x, z). Elsewhere: not stuck, and more
    than 3 of the own chains' standard deviations from their mean, as a root mean square over the units `on` (Z,) bool.
    """
    half, own = found.z.shape[1] // 2, found.z[:, : found.z.shape[1] // 2]
    height = found.log_joint[len(found.log_joint) // 2 :, half:].mean(0)
    stuck = height < found.log_joint[:, :half].mean((0, 1)) - DEPTH
    centre, spread = own.mean((0, 1)), own.flatten(0, 1).std(0)
    away = ((found.z[len(found.z) // 2 :, half:].mean(0) - centre) / spread)[..., on].square().mean(-1).sqrt()
    return stuck, (away > APART) & ~stuck
