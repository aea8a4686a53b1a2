"""Linear probe: can a logistic regression on frozen codes tell the classes apart, and from how many labels?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.latent import active
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import Encoder, GaussianPosterior
from vae_variants.training.batches import derive_seed

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["BUDGETS", "PENALTIES", "few", "logistic", "probe", "probe_accuracy", "probe_codes", "searched", "usable"]

PENALTIES = tuple(10.0**k for k in range(-4, 5))  # scikit-learn's C, from the strongest penalty to the weakest
PATIENCE, WEAK = 2, 0.1  # so many of them in a row, of this C or more, that are no better end the search
BUDGETS = (10, 100, 1000)  # labelled images of each class
SEARCH = 10_000  # training images for the choice of C, where all labels are used
LEAST = 1e-100  # probability in a mean of logarithms
STEPS, TOLERANCE = 2000, 1e-5  # of L-BFGS: the largest partial derivative of the mean loss where it may stop


def logistic(x: np.ndarray, y: np.ndarray, c: float, start: LogisticRegression | None = None) -> LogisticRegression:
    """Multinomial logistic regression fitted to convergence, from the solution `start`; raises `Skip` where that is out of reach."""
    from sklearn.exceptions import ConvergenceWarning  # scikit-learn takes seconds to import
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=STEPS, tol=TOLERANCE, warm_start=True)
    if start is not None and np.array_equal(start.classes_, np.unique(y)):
        model.coef_, model.intercept_, model.classes_ = start.coef_, start.intercept_, start.classes_
    with warnings.catch_warnings(), threadpool_limits(1):  # on products this small, threads cost more than they do
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return model.fit(x, y)
        except ConvergenceWarning as warning:
            raise Skip(f"the logistic regression did not converge at C = {c:g}") from warning


def quality(model: LogisticRegression, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy, and the mean log-probability of the class, which says which is the better of two that are equally accurate."""
    p, column = model.predict_proba(x), np.searchsorted(model.classes_, y).clip(max=len(model.classes_) - 1)
    told = np.where(model.classes_[column] == y, p[np.arange(len(y)), column], 0.0)
    return float((model.classes_[p.argmax(1)] == y).mean()), float(np.log(told.clip(min=LEAST)).mean())


def searched(x: np.ndarray, y: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]) -> LogisticRegression:
    """The fit to (x, y) with that of `PENALTIES` which is most accurate on `held_out`; of several such, that of the best `quality`.

    Each fit begins at the last one's solution; the search ends once `PATIENCE` penalties in a row were no better, or where a fit does
    not converge. Those stronger than `WEAK` do not count: from few labels they all give the same direction, and they cost next to nothing.
    """
    model = best = logistic(x, y, PENALTIES[0])
    top, worse = quality(best, *held_out), 0
    for c in PENALTIES[1:]:
        try:
            model = logistic(x, y, c, model)
        except Skip:  # weaker penalties converge still less
            break
        found = quality(model, *held_out)
        top, best, worse = (found, model, 0) if found > top else (top, best, worse + (c >= WEAK))
        if worse == PATIENCE:
            break
    return best


def usable(e: Evaluation) -> np.ndarray:
    """Units worth standardising: the active ones of a Gaussian posterior, else those that are not constant."""
    codes = e.codes["train"]
    keep = active(codes) if isinstance(e.model, GaussianPosterior) else codes.var(0) > 1e-8
    return keep.numpy()


def few(e: Evaluation, k: int) -> np.ndarray:
    """k training images of each class: the first ones of a class in an order that the run's seed decides, so that budgets are nested."""
    assert e.dataset.labels is not None
    y = e.dataset.labels["train"]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive_seed("few labels", e.dataset.digest, e.seed)))
    return torch.cat([order[y[order] == c][:k] for c in y.unique()]).numpy()


def probe(e: Evaluation, budget: int | None = None) -> float:
    """Test accuracy of the probe fitted to `budget` training images of each class; None is all of them, and the validation images."""
    if e.dataset.labels is None:
        raise Skip("the data set has no labels")
    y = {name: labels.numpy() for name, labels in e.dataset.labels.items()}
    keep = usable(e)
    if len(np.unique(y["train"])) < 2:
        raise Skip("only one class")
    if not keep.any():
        return float((y["test"] == np.bincount(y["train"]).argmax()).mean())
    train = e.codes["train"].numpy()[:, keep]
    mean, std = train.mean(0), train.std(0)
    x = {name: (codes.numpy()[:, keep] - mean) / std for name, codes in e.codes.items()}
    rows = spread(len(train), SEARCH).numpy() if budget is None else few(e, budget)
    model = searched(x["train"][rows], y["train"][rows], (x["validation"], y["validation"]))
    if budget is None:
        both = [np.concatenate([part["train"], part["validation"]]) for part in (x, y)]
        model = logistic(both[0], both[1], model.C, model)
    return model.score(x["test"], y["test"])


@metric(needs=(Encoder,), unit="fraction", better="higher")
def probe_accuracy(e: Evaluation) -> float:
    """test accuracy of a logistic regression on the standardised codes, its penalty chosen on validation images

    Formula: share of test images whose class is argmax_c (w_c . s(z) + b_c), with s(z) = (z - mean) / std over the training images;
    w and b minimise C sum_i -log softmax(w s(z_i) + b)_{y_i} + |w|^2 / 2.
    Estimator: codes of grey images (a VAE's posterior mean); units that do not move are left out before standardising. L-BFGS to a
    largest derivative of 1e-5. C goes from 10^-4 to 10^4 in powers of 10, each fit from the last one's solution, until two in a row
    (from 0.1 on) are no more accurate on the validation images, or one does not converge; of equally accurate ones that with the
    higher log-probability of the classes.
    Then one fit to training and validation images with that C, and one look at the test images.
    Sample size: C is chosen on at most 10 000 training images at even distances, against all validation images; the last fit has all
    images of both. Of 10 000 test images at an accuracy of 0.9 the standard error is 0.003.
    Fails: a high accuracy says little by itself: compare it with raw pixels, PCA and a random encoder of as many units. Codes of
    different size do not compare. A C found on fewer images may be a little too small for all. Without a unit that moves it is the
    share of the class that is most frequent in training.
    Reference: Alain & Bengio 2016, Understanding intermediate layers using linear classifier probes.
    """
    return probe(e)


def enough(k: int) -> Callable[[Evaluation], bool]:
    def applies(e: Evaluation) -> bool:
        return e.dataset.labels is not None and int(e.dataset.labels["train"].unique(return_counts=True)[1].min()) >= k

    return applies


def probe_from(k: int) -> Callable[[Evaluation], float]:
    def accuracy(e: Evaluation) -> float:
        return probe(e, k)

    accuracy.__doc__ = f"""the same from {k} labelled training images of each class, drawn by the run's seed

    Formula: that of probe_accuracy.
    Estimator: as probe_accuracy, but the fits are to {k} labelled images of each class, and there is no last one with more. Images of a
    smaller budget are among those of a larger one. Codes are standardised with all training images, which takes no label.
    Sample size: {k} training images of each class; not asked where a class has fewer. C is chosen on all validation images.
    Fails: validation labels are used for one number, C, and so are not counted in the budget: with as few labels as these, C could not
    be chosen as well. Which images were drawn matters: the interval over seeds has that in it, a single seed has not.
    Reference: none
    """
    return accuracy


for _k in BUDGETS:
    metric(needs=(Encoder,), unit="fraction", better="higher", applies=enough(_k), name=f"probe_accuracy_{_k}")(probe_from(_k))


@metric(needs=(Encoder,), unit="units", better="none")
def probe_codes(e: Evaluation) -> float:
    """units that the probe sees: a VAE's that are active on grey training images, else those that are not constant

    Formula: number of units j with Var_x(z_j) > 0.01 for a model with a Gaussian posterior, 10^-8 for any other.
    Estimator: variance of the codes of grey training images.
    Sample size: all training images.
    Fails: the grey images are not what a model of binary pixels was trained on, so that it may differ from active_units. The
    threshold is a convention: without it, standardising would make the noise of a dead unit as large as any signal.
    Reference: Burda et al. 2016, Importance Weighted Autoencoders (the threshold).
    """
    return usable(e).sum().item()
