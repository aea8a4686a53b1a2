"""Distances between samples and real images in the features of the data set's own classifier. Not comparable with FID."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.datasets.levels import Images
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.feature_sets import NEIGHBOURS, Coverage, Features, frechet_distance, kernel_distance, prdc, real_features
from vae_variants.evaluation.features import classifier
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.pieces import by_pieces, rows, stored
from vae_variants.models.base import MeanSampler

TRAIN = 5000  # training images at a time, at most


@lru_cache(maxsize=1)
def embedded(e: Evaluation) -> tuple[Features, Features]:
    """Features of test images and of as many samples."""
    if e.dataset.labels is None:
        raise Skip("the data set has no labels, so there is no classifier")
    if len(e.dataset.labels["train"].unique()) < 2:
        raise Skip("the data set has one class, so there is no classifier")
    real = real_features(e.dataset, len(e.sample_means), e.fidelity.classifier_steps)
    if len(real) < 4 * NEIGHBOURS:
        raise Skip(f"fewer than {4 * NEIGHBOURS} test images")
    model, _ = classifier(e.dataset, e.fidelity.classifier_steps)
    return real, Features(model.embed(e.sample_means[: len(real)]))


@lru_cache(maxsize=1)
def overlap(e: Evaluation) -> Coverage:
    return prdc(*embedded(e))


@metric(needs=(MeanSampler,), unit="squared features", better="lower", kind="estimate", published="fd-{data}cnn")
def fd_cnn(e: Evaluation) -> float:
    """Frechet distance between noise-free samples and test images in the features of the data set's own classifier

    Formula: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with mean and covariance of the 64 features of real and of generated images.
    Estimator: sample moments in float64. The features are the last hidden layer of a small convolutional network, trained on the training
    images from a fixed seed and scaled to mean square 1. Its digest identifies it. If images are light on average, it sees negatives.
    Sample size: the same n for every model: 1000 generated and 1000 test images, or fewer if the data set is smaller.
    Fails: biased upward by O(1/n), equally for all models; the baseline of real training images is the floor. Ignores what the classifier
    ignores. Not comparable with FID, nor across data sets or classifiers.
    Reference: Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule (the distance, in other features).
    """
    return frechet_distance(*embedded(e))


@metric(needs=(MeanSampler,), unit="squared features", better="lower", kind="estimate", published="kid-{data}cnn")
def kid_cnn(e: Evaluation) -> float:
    """unbiased kernel distance between noise-free samples and test images in the same features; 0 for equal distributions

    Formula: mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j), k(a, b) = (a . b / 64 + 1)^3.
    Estimator: the U-statistic over all pairs, in float64. KID usually averages over subsets: the same expectation, more variance.
    Sample size: the same n for every model: 1000 generated and 1000 test images, or fewer if the data set is smaller.
    Fails: can be negative. Ignores what the classifier ignores. Not comparable with KID in other features, nor across data sets.
    Reference: Binkowski et al. 2018, Demystifying MMD GANs (the distance, in other features).
    """
    return kernel_distance(*embedded(e))


def part_of_overlap(name: str) -> Callable[[Evaluation], float]:
    description, formula, fails, reference = OVERLAP[name]

    def value(e: Evaluation) -> float:
        return getattr(overlap(e), name)

    value.__doc__ = f"""{description}

    Formula: {formula}.
    Estimator: Euclidean distances in float64, in the features of fd-...cnn.
    Sample size: k = 5; the same N for every model: 1000 generated and 1000 test images, or fewer if the data set is smaller.
    Fails: {fails}.
    Reference: {reference}.
    """
    return value


KYNKAANNIEMI = "Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models"
NAEEM = "Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models"
OVERLAP = {  # field of Coverage -> description, formula, how it fails, reference; x are the test images, y the samples
    "precision": (
        "share of samples inside the 5-nearest-neighbour ball of some test image, in the same features",
        "(1/N) sum_j 1[y_j in B(x_i, NND_5(x_i)) for some real x_i], y_j the samples",
        "one real outlier has a large ball that admits everything. Equal distributions do not give 1. Copies of one good image give 1, so "
        "read recall and coverage too",
        KYNKAANNIEMI,
    ),
    "recall": (
        "share of test images inside the 5-nearest-neighbour ball of some sample, in the same features",
        "(1/N) sum_i 1[x_i in B(y_j, NND_5(y_j)) for some sample y_j], x_i the test images",
        "scattered samples have large balls, so bad samples can have a high recall. Equal distributions do not give 1",
        KYNKAANNIEMI,
    ),
    "density": (
        "number of 5-nearest-neighbour balls of test images around a sample, over 5: about 1 for equal distributions",
        "(1/(5 N)) sum_j sum_i 1[y_j in B(x_i, NND_5(x_i))]",
        "exceeds 1 if samples concentrate where real images are dense; more is not better there",
        NAEEM,
    ),
    "coverage": (
        "share of test images whose 5-nearest-neighbour ball holds a sample: about 0.97 for equal distributions and sample sizes",
        "(1/N) sum_i 1[min_j |x_i - y_j| <= NND_5(x_i)]; 1 - 2^-5 for equal distributions",
        "grows with the number of samples. One sample per mode can suffice, whatever the frequencies of the modes",
        NAEEM,
    ),
}
for _name in OVERLAP:
    unit = "ratio" if _name == "density" else "fraction"
    metric(needs=(MeanSampler,), unit=unit, better="higher", kind="estimate", name=_name)(part_of_overlap(_name))


@lru_cache(maxsize=2)
def typical_distance(dataset: Dataset, n: int) -> float:
    """Median distance of test images to their nearest training image."""
    return nearest(stored(dataset, most=n), dataset).median().item()


def nearest(x: Images, dataset: Dataset) -> Tensor:
    """Euclidean distance of each of x (N, D) to the nearest training image, (N,) in float64; 0 for a copy."""
    train, each = stored(dataset, "train"), 8 * dataset.dim

    def to_nearest(some: Tensor) -> Tensor:
        some, found = some.double(), torch.full((len(some),), math.inf, dtype=torch.float64)
        for part in map(Tensor.double, train.split(rows(each, TRAIN))):
            one = part[torch.cdist(some, part).argmin(1)]  # which is nearest; its distance is exact only as a difference
            found = found.minimum((some - one).norm(dim=1))
        return found

    return by_pieces(to_nearest, x, each)


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def memorisation_ratio(e: Evaluation) -> float:
    """median distance of samples to the nearest training image, divided by that of test images; near 0 the samples are copies

    Formula: median_j min_t |y_j - t| / median_i min_t |x_i - t| over samples y, test images x and training images t, in pixels.
    Estimator: exact nearest neighbours, in float64. Skipped if at least half of the test images are exact copies of training images.
    Sample size: the preset's number of generated images (1000), as many test images, all training images.
    Fails: blurred samples are near everything, so below 1 proves no copying. A shifted copy is far away; a few copies move no median.
    Reference: none
    """
    typical = typical_distance(e.dataset, len(e.sample_means))
    if typical == 0:
        raise Skip("at least half of the test images are exact copies of training images")
    return nearest(e.sample_means, e.dataset).median().item() / typical
