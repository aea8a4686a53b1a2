"""Scores of latents against the factors that the images were made from: pure functions in float64 of codes (N, Z) and factors (N, F)."""

import numpy as np
from scipy.optimize import linear_sum_assignment

BINS = 20  # of equal width, of a latent unit
QUANTILE = 0.99  # of deviations, in the place of their largest one
TINY = 1e-11  # is added to importances, as others do it, so that each has a logarithm
CONSTANT = 1e-12  # variance of a unit that does not vary

Array = np.ndarray


def binned(codes: Array) -> Array:
    """The bin of each latent, from 0 to `BINS` - 1, of bins of equal width from the least to the greatest value of each unit: (N, Z)."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum((BINS * ((codes - low) / width)).astype(np.int64), BINS - 1)


def entropy(counts: Array) -> float:
    """Of the distribution that a table of counts shows, in nats."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def information(codes: Array, factors: Array, corrected: bool = False) -> Array:
    """Mutual information of each unit, in bins, with each factor: (Z, F) nats.

    Args:
        codes: Latents (N, Z).
        factors: Integers from 0 (N, F).
        corrected: Whether to take off the first term of the bias, with the number of cells that occur (Miller & Madow), down to 0.
    """
    rows, found = binned(codes), np.zeros((codes.shape[1], factors.shape[1]))
    for j, k in np.ndindex(found.shape):
        size = int(factors[:, k].max()) + 1
        table = np.bincount(rows[:, j] * size + factors[:, k], minlength=BINS * size).reshape(BINS, size)
        one, other = table.sum(1), table.sum(0)
        bias = ((table > 0).sum() - (one > 0).sum() - (other > 0).sum() + 1) / (2 * len(codes)) if corrected else 0.0
        found[j, k] = max(0.0, entropy(one) + entropy(other) - entropy(table.ravel()) - bias)
    return found


def entropies(factors: Array, corrected: bool = False) -> Array:
    """Entropy of each factor: (F,) nats, `corrected` for the bias of the estimate."""
    counts = [np.bincount(column) for column in factors.T]
    bias = [((n > 0).sum() - 1) / (2 * len(factors)) if corrected else 0.0 for n in counts]
    return np.array([entropy(n) + more for n, more in zip(counts, bias, strict=True)])


def gap(scores: Array) -> Array:
    """For each column of (Z, F), the largest entry less the second largest; a single unit is compared with 0."""
    ordered = np.sort(np.concatenate([np.zeros((1, scores.shape[1])), scores]), axis=0)
    return ordered[-1] - ordered[-2]


def mig(codes: Array, factors: Array, corrected: bool = False) -> float:
    """Mutual information gap: see the metric `mig`."""
    return float((gap(information(codes, factors, corrected)) / entropies(factors, corrected)).mean())


def correlations(codes: Array, factors: Array) -> Array:
    """Pearson's correlation of each unit with the number of each factor, (Z, F); 0 of a unit that does not vary."""
    z, f = codes - codes.mean(0), factors - factors.mean(0)
    spread = np.sqrt(np.outer((z**2).sum(0), (f**2).sum(0)))
    varies = (codes.var(0) > CONSTANT)[:, None] & (factors.var(0) > CONSTANT)
    return np.where(varies, z.T @ f / np.where(varies, spread, 1.0), 0.0)


def sap(codes: Array, factors: Array) -> float:
    """Separated attribute predictability: see the metric `sap`."""
    return float(gap(correlations(codes, factors) ** 2).mean())


def mcc(codes: Array, factors: Array) -> float:
    """Mean correlation coefficient: see the metric `mcc`."""
    found = np.abs(correlations(codes, factors))
    units, columns = linear_sum_assignment(found, maximize=True)
    return float(found[units, columns].sum() / factors.shape[1])


def modularity(information: Array) -> float:
    """Mean over units of the mutual information (Z, F): see the metric `modularity`."""
    squares = information**2
    top = squares.max(1)
    others = (squares.sum(1) - top) / (np.where(top > 0, top, 1.0) * (squares.shape[1] - 1))
    return float(np.where(top > 0, 1 - others, 0.0).mean())


def concentration(weights: Array) -> float:
    """1 - the entropy of each row, in units of its largest possible one, mean over rows weighted by their sums; 0 of zeros."""
    if weights.shape[1] < 2:
        return float(weights.sum() > 0)
    p = (weights + TINY) / (weights + TINY).sum(1, keepdims=True)
    each = 1 + (p * np.log(p)).sum(1) / np.log(weights.shape[1])
    return float((each * weights.sum(1)).sum() / total) if (total := weights.sum()) > 0 else 0.0


def irs(codes: Array, factors: Array) -> float:
    """Interventional robustness: see the metric `irs`."""
    varies = codes[:, codes.var(0) > 0]
    if not varies.shape[1]:
        return 0.0
    largest = np.abs(varies - varies.mean(0)).max(0)
    found = np.zeros((varies.shape[1], factors.shape[1]))
    for k, column in enumerate(factors.T):
        groups = [varies[column == value] for value in np.unique(column)]
        found[:, k] = np.mean([np.quantile(np.abs(group - group.mean(0)), QUANTILE, axis=0) for group in groups], axis=0)
    return float(np.average((1 - found / largest[:, None]).max(1), weights=largest))


def gaussian_total_correlation(codes: Array) -> float:
    """Of a Gaussian with the covariance of the latents, nats; infinite if a unit is a linear function of the others."""
    covariance = np.atleast_2d(np.cov(codes.T))
    sign, determinant = np.linalg.slogdet(covariance / np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal())))
    return float(-0.5 * determinant) if sign > 0 else float("inf")
