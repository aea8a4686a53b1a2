"""Linear probe: accuracy of a logistic regression from frozen latents to classes, by number of labels."""

from collections.abc import Callable

import numpy as np
import torch

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.logistic import Logistic, logistic
from vae_variants.evaluation.metrics import TOLD, Skip, metric
from vae_variants.evaluation.pieces import spread
from vae_variants.models.base import Classifier, Encoder
from vae_variants.training.batches import derive_seed

PENALTIES = tuple(10.0**k for k in range(-4, 5))  # scikit-learn's C, strongest penalty first
PATIENCE, WEAK = 2, 0.1  # the search ends after so many without improvement, counted from this C
BUDGETS = (10, 100, 1000)  # labelled images per class
SEARCH = 10_000  # training images to choose C with all labels
LEAST = 1e-100  # smallest probability in a mean of logarithms


def quality(model: Logistic, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy, and the mean log-probability of the true class to break ties."""
    p, column = model.probabilities(x), np.searchsorted(model.classes, y).clip(max=len(model.classes) - 1)
    told = np.where(model.classes[column] == y, p[np.arange(len(y)), column], 0.0)
    return float((model.classes[p.argmax(1)] == y).mean()), float(np.log(told.clip(min=LEAST)).mean())


def searched(x: np.ndarray, y: np.ndarray, held_out: tuple[np.ndarray, np.ndarray]) -> Logistic:
    """The fit with the penalty from `PENALTIES` that has the best `quality` on `held_out`.

    Each fit starts from the last one. The search ends after `PATIENCE` penalties of at least `WEAK` without improvement, or if a fit does
    not converge.
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
    """Units to standardise: the active ones of a model with q(z | x), else those that are not constant."""
    return e.varying("train").numpy()


def few(e: Evaluation, k: int) -> np.ndarray:
    """Indices of k training images per class, in an order set by the run's seed, so that smaller budgets are nested."""
    assert e.dataset.labels is not None
    y = e.dataset.labels["train"]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive_seed("few labels", e.dataset.digest, e.seed)))
    return torch.cat([order[y[order] == c][:k] for c in y.unique()]).numpy()


def probe(e: Evaluation, budget: int | None = None) -> float:
    """Test accuracy of the probe with `budget` training images per class; None takes all training and validation images."""
    if e.dataset.labels is None:
        raise Skip("the data set has no labels")
    if isinstance(e.model, Classifier):
        raise Skip(TOLD)
    y = {name: labels.numpy() for name, labels in e.dataset.labels.items()}
    keep = usable(e)
    for part in ("train", "test"):
        if len(np.unique(y[part])) < 2:
            raise Skip(f"the {part} images have one class")
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
    return model.accuracy(x["test"], y["test"])


@metric(needs=(Encoder,), unit="fraction", better="higher")
def probe_accuracy(e: Evaluation) -> float:
    """test accuracy of a logistic regression on standardised latents, with the penalty chosen on validation images

    Formula: share of test images whose class is argmax_c (w_c . s(z) + b_c), with s(z) = (z - mean) / std over the training images;
    w and b minimise C sum_i -log softmax(w s(z_i) + b)_{y_i} + |w|^2 / 2.
    Estimator: latents of grey images (a VAE's posterior mean) without inactive units. L-BFGS to a largest derivative of 1e-5. C runs from
    10^-4 to 10^4 in powers of 10, warm-started, until two in a row (from {WEAK} on) do not improve the validation accuracy, or a fit does
    not converge; ties go to the higher log-probability. One last fit uses training and validation images with that C.
    Sample size: at most {SEARCH} training images and all validation images to choose C; all of both for the last fit. With 10 000 test
    images and an accuracy of 0.9, the standard error is 0.003.
    Fails: meaningless alone: compare it with raw pixels, PCA and a random encoder of as many units. Latents of different size cannot be
    compared. C may be slightly too small for all images. Without an active unit it is the share of the most frequent training class.
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

    accuracy.__doc__ = f"""probe accuracy from {k} labelled training images per class, chosen by the run's seed

    Formula: that of probe_accuracy.
    Estimator: as probe_accuracy, without the last fit; all training images standardise the latents. Smaller budgets are nested.
    Sample size: {k} training images per class; not measured if a class has fewer. All validation images choose C.
    Fails: validation labels choose C and are not counted in the budget. Only an interval over seeds includes the choice of images.
    Reference: none
    """
    return accuracy


for _k in BUDGETS:
    metric(needs=(Encoder,), unit="fraction", better="higher", applies=enough(_k), name=f"probe_accuracy_{_k}")(probe_from(_k))


@metric(needs=(Encoder,), unit="units", better="none")
def probe_codes(e: Evaluation) -> float:
    """units that the probe uses: active ones of a VAE on grey training images, else those that are not constant

    Formula: number of units j with Var_x(E_q[z_j | x]) > 0.01 Var(z_j) for a model with q(z|x) on R^Z; for any other Var_x(z_j) > 10^-7 of
    the largest variance of a unit.
    Estimator: as of active_units, on grey training images. No scale of the latents is assumed.
    Sample size: at most 10 000 training images; all of them without q(z|x).
    Fails: may differ from active_units, since a model of binary pixels was not trained on grey images. The threshold is a convention.
    Reference: Burda et al. 2016, Importance Weighted Autoencoders (the threshold).
    """
    return usable(e).sum().item()
