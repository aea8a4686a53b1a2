"""Multinomial logistic regression: scikit-learn's loss, optimiser and stopping rule, without its checks of each evaluation.

On a thousand points those checks take most of the time of a fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

from vae_variants.evaluation.metrics import Skip

STEPS, TOLERANCE = 2000, 1e-5  # of L-BFGS: steps, and the largest derivative of the mean loss
LEAST_GAIN, SEARCHES = 64 * float(np.finfo(float).eps), 50  # it also ends at a step that gains less; evaluations of a line search
Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


@lru_cache(maxsize=1)
def libraries() -> ThreadpoolController:
    """Those of numpy and scipy that have threads. To find them takes milliseconds."""
    return ThreadpoolController()


@dataclass(frozen=True)
class Logistic:
    """A fit: `classes` (K,), the penalty's `C`, and `weights` (D + 1, K), the last row the intercepts; (D + 1, 1) for two classes."""

    classes: np.ndarray
    C: float
    weights: np.ndarray

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (K, N); those of the first of two classes are 0."""
        found = self.weights[:-1].T @ x.T + self.weights[-1:].T
        return np.concatenate([np.zeros_like(found), found]) if len(self.classes) == 2 else found

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K)."""
        found = self.logits(x)
        found = np.exp(found - found.max(0))
        return (found / found.sum(0)).T

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.classes[self.logits(x).argmax(0)] == y).mean())


def penalised(x: np.ndarray, column: np.ndarray, classes: int, c: float) -> Loss:
    """The mean of -log softmax(w x_i + b)_{y_i}, plus |w|^2 / (2 C N), and its derivative, as a function of the flat weights."""
    n, d = x.shape
    columns = np.concatenate([x.T, np.ones((1, n))])
    decay = np.full((d + 1, 1), 1 / (c * n))
    decay[-1] = 0
    own = column * n + np.arange(n)  # where the class of each point is in a flat (K, N)
    free = slice(classes == 2, None)  # of two classes, the second alone has weights
    sums = np.stack([columns[:, column == k].sum(1) for k in range(classes)], 1)[:, free]
    logits = np.zeros((classes, n))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, p = flat.reshape(d + 1, -1), logits
        p[0] = 0
        np.matmul(weights.T, columns, out=p[free])
        top, right = p.max(0), p.take(own)
        p -= top
        np.exp(p, out=p)
        total = p.sum(0)
        p *= 1 / total
        decayed = decay * weights
        value = (np.log(total) + top - right).sum() / n + 0.5 * np.vdot(decayed, weights)
        return float(value), (((p[free] @ columns.T).T - sums) / n + decayed).ravel()

    return loss


def logistic(x: np.ndarray, y: np.ndarray, c: float, start: Logistic | None = None) -> Logistic:
    """Multinomial logistic regression, as `sklearn.linear_model.LogisticRegression(C=c)` fits it.

    Args:
        x, y: Points (N, D) and their classes (N,).
        c: The inverse of the penalty.
        start: A fit of the same classes to start from.

    Raises:
        Skip: If the fit does not converge.
        ValueError: If there is one class only.
    """
    classes, column = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("a logistic regression needs two classes")
    first = np.zeros((x.shape[1] + 1) * (len(classes) - (len(classes) == 2)))
    if start is not None and np.array_equal(start.classes, classes):
        first = start.weights.ravel()
    with libraries().limit(limits=1):  # on products this small, threads cost more than they do
        found = minimize(
            penalised(x, column, len(classes), c),
            first,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": STEPS, "maxls": SEARCHES, "gtol": TOLERANCE, "ftol": LEAST_GAIN},
        )
    if not found.success:
        raise Skip(f"the logistic regression did not converge at C = {c:g}")
    return Logistic(classes, c, found.x.reshape(x.shape[1] + 1, -1))
