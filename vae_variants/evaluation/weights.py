"""Functions of K log importance weights per image: log w (K, B) -> (B,)."""

import math

import torch
from torch import Tensor


def log_mean_exp(log_w: Tensor) -> Tensor:
    """log (1/K) sum_k w_k, in float64."""
    return log_w.double().logsumexp(0) - math.log(log_w.shape[0])


def bound(log_w: Tensor, k: int) -> Tensor:
    """L_k, the importance-weighted bound of k samples (Burda et al. 2016): its mean over the floor(K / k) disjoint blocks of k samples.

    Raises ValueError for k above K.
    """
    blocks = log_w.shape[0] // k
    if blocks < 1:
        raise ValueError(f"a bound of {k} draws cannot be had from {log_w.shape[0]}")
    return (log_w[: blocks * k].double().unflatten(0, (blocks, k)).logsumexp(1) - math.log(k)).mean(0)


def effective_draws(log_w: Tensor) -> Tensor:
    """Effective sample size (sum w)^2 / sum w^2, from 1 (one sample has all the weight) to K."""
    log_w = log_w.double()
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


def variance(log_w: Tensor) -> Tensor:
    """Variance of log_mean_exp to first order: s^2 / (K mean(w)^2) = (1 / ESS - 1 / K) K / (K - 1) (delta method).

    L_K is expected to be half of it below log p(x) (Nowozin 2018).
    """
    k = log_w.shape[0]
    return (1 / effective_draws(log_w) - 1 / k).clamp(min=0) * k / (k - 1)


def jackknife(log_w: Tensor) -> Tensor:
    """K L_K - (K - 1) mean_i L_{K-1}^{(-i)}, with L^{(-i)} from all samples but the i-th: bias O(1/K^2), not a bound (Nowozin 2018)."""
    log_w, k = log_w.double(), log_w.shape[0]
    total = log_w.logsumexp(0)
    share = (log_w - total).exp()
    # log of the sum without draw i; where one draw is nearly all of it, the others are summed afresh, as 1 - share is rounded away
    rest = total + torch.log1p(-share.clamp(max=1 - 1e-9))
    largest = log_w.argmax(0, keepdim=True)
    others = log_w.scatter(0, largest, -torch.inf).logsumexp(0, keepdim=True)
    rest = rest.scatter(0, largest, others) - math.log(k - 1)
    return k * log_mean_exp(log_w) - (k - 1) * rest.mean(0)


def pareto_shape(log_w: Tensor) -> Tensor:
    """Shape k of a generalised Pareto distribution fitted to the upper tail of the weights (Vehtari et al. 2024, PSIS).

    Tail of min(K / 5, 3 sqrt(K)) weights, the profile posterior mean of Zhang & Stephens (2009), and a weak prior at 0.5. Estimates are
    reliable below 0.7. NaN for fewer than 25 samples.
    """
    k = log_w.shape[0]
    m = int(min(0.2 * k, 3 * math.sqrt(k)))
    if m < 5:
        return log_w.new_full(log_w.shape[1:], torch.nan, dtype=torch.float64)
    top = log_w.double().topk(m + 1, dim=0).values
    tail = (top - top[0]).exp()
    x = (tail[:-1] - tail[-1]).flip(0).clamp(min=1e-300)  # (m, B) exceedances, ascending
    count = 30 + int(math.sqrt(m))
    j = torch.arange(1, count + 1, dtype=torch.float64, device=x.device)[:, None]
    quartile = x[int(m / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - (count / (j - 0.5)).sqrt()) / (3 * quartile)  # (count, B)
    shape = torch.log1p(-theta[:, None] * x).mean(1)  # (count, B)
    profile = m * ((-theta / shape).log() - shape - 1)
    weight = profile.softmax(0)
    best = (theta * weight).sum(0)
    found = torch.log1p(-best * x).mean(0)
    return (m * found + 5) / (m + 10)
