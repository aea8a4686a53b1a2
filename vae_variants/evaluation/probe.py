"""Linear probe: can a logistic regression on frozen codes tell the classes apart?"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.latent import active
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.model import Encoder, LatentVariable
from vae_variants.training import derive_seed

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["PENALTIES", "logistic", "probe_accuracy", "probe_accuracy_few", "probe_codes"]

PENALTIES = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C, chosen on validation images
FEW = 10  # labelled images of each class
SEARCH = 10_000  # training images for that choice


def logistic(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    """Multinomial logistic regression fitted to convergence; raises `Skip` where that is out of reach."""
    from sklearn.exceptions import ConvergenceWarning  # scikit-learn takes seconds to import
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(), threadpool_limits(1):  # on products this small, threads cost more than they do
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return LogisticRegression(C=c, max_iter=5000).fit(x, y)
        except ConvergenceWarning as warning:
            raise Skip(f"the logistic regression did not converge at C = {c}") from warning


def usable(e: Evaluation) -> np.ndarray:
    """Units worth standardising: a VAE's active ones, else those that are not constant."""
    codes = e.codes["train"]
    keep = active(codes) if isinstance(e.model, LatentVariable) else codes.var(0) > 1e-8
    return keep.numpy()


def probe(e: Evaluation, rows: np.ndarray | None = None) -> float:
    """Test accuracy of the probe fitted to those `rows` of the training images; None is all of them."""
    if e.dataset.labels is None:
        raise Skip("the data set has no labels")
    labels = {name: y.numpy() for name, y in e.dataset.labels.items()}
    keep = usable(e)
    if len(np.unique(labels["train"])) < 2:
        raise Skip("only one class")
    if not keep.any():
        return float((labels["test"] == np.bincount(labels["train"]).argmax()).mean())
    train = e.codes["train"].numpy()[:, keep]
    mean, std = train.mean(0), train.std(0)
    x = {name: (codes.numpy()[:, keep] - mean) / std for name, codes in e.codes.items()}
    x["train"], labels["train"] = (x["train"], labels["train"]) if rows is None else (x["train"][rows], labels["train"][rows])
    search = spread(len(x["train"]), SEARCH).numpy()

    def validated(c: float) -> float:
        return logistic(x["train"][search], labels["train"][search], c).score(x["validation"], labels["validation"])

    best = max(PENALTIES, key=validated)  # the first, and so the strongest penalty, where several are equal
    return logistic(x["train"], labels["train"], best).score(x["test"], labels["test"])


@metric(needs=(Encoder,), unit="fraction", better="higher")
def probe_accuracy(e: Evaluation) -> float:
    """test accuracy of a logistic regression on the standardised codes, its penalty chosen on validation images

    Without a unit to look at, that is the share of the class that is most frequent in training.
    """
    return probe(e)


@metric(needs=(Encoder,), unit="fraction", better="higher")
def probe_accuracy_few(e: Evaluation) -> float:
    """the same from 10 labelled training images of each class, drawn by the run's seed"""
    if e.dataset.labels is None:
        raise Skip("the data set has no labels")
    y = e.dataset.labels["train"]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive_seed("few labels", e.dataset.digest, e.seed)))
    rows = torch.cat([order[y[order] == c][:FEW] for c in y.unique()])
    return probe(e, rows.numpy())


@metric(needs=(Encoder,), unit="units", better="none")
def probe_codes(e: Evaluation) -> float:
    """units that the probe sees: a VAE's that are active on grey training images, else those that are not constant"""
    return usable(e).sum().item()
