"""Distances between samples and real images in the features of the data set's own classifier. Never comparable with FID."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.features import classifier
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import MeanSampler

__all__ = ["Coverage", "frechet_distance", "kernel_distance", "neighbours", "prdc"]

NEIGHBOURS = 5


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), torch.cov(x.mT)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the normal laws with the moments of x (N, F) and y (M, F), in float64.

    The trace of the root is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which are real and not negative.
    """
    (m1, c1), (m2, c2) = moments(x.double()), moments(y.double())
    values, vectors = torch.linalg.eigh(c1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    return ((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross).item()


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """KID: the unbiased squared maximum mean discrepancy under k(a, b) = (a . b / F + 1)^3 (Binkowski et al. 2018).

    May fall under 0 where the two laws are alike.
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / x.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return (within - 2 * kernel(x, y).mean()).item()


def neighbours(x: Tensor, k: int) -> Tensor:
    """Distance of each row of x (N, F) to its k-th nearest other row, (N,)."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(k + 1, dim=1).values


class Coverage(NamedTuple):
    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> Coverage:
    """Improved precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), from k-th neighbours.

    precision: share of fakes inside the ball of some real image; recall: the other way round; density: real balls around a
    fake, over k; coverage: share of real images with a fake inside their ball.
    """
    real, fake = real.double(), fake.double()
    distance = torch.cdist(real, fake, compute_mode="donot_use_mm_for_euclid_dist")  # (N, M)
    real_radius, fake_radius = neighbours(real, k), neighbours(fake, k)
    inside = distance < real_radius[:, None]
    return Coverage(
        precision=inside.any(0).double().mean().item(),
        recall=(distance < fake_radius).any(1).double().mean().item(),
        density=inside.double().sum(0).mean().item() / k,
        coverage=(distance.min(1).values < real_radius).double().mean().item(),
    )


@lru_cache(maxsize=2)
def real_features(dataset: Dataset, n: int) -> Tensor:
    return classifier(dataset)[0].embed(dataset.grey()[spread(len(dataset.test), n)])


def embedded(e: Evaluation) -> tuple[Tensor, Tensor]:
    """Features of test images and of as many samples."""
    if e.dataset.labels is None:
        raise Skip("the data set has no labels, so there is no classifier")
    if len(e.dataset.labels["train"].unique()) < 2:
        raise Skip("only one class, so there is no classifier")
    real = real_features(e.dataset, len(e.sample_means))
    if len(real) < 4 * NEIGHBOURS:
        raise Skip(f"fewer than {4 * NEIGHBOURS} test images")
    return real, e.sample_features[: len(real)]


@lru_cache(maxsize=1)
def overlap(e: Evaluation) -> Coverage:
    return prdc(*embedded(e))


@metric(needs=(MeanSampler,), unit="squared features", better="lower", kind="estimate", published="fd-{data}cnn")
def fd_cnn(e: Evaluation) -> float:
    """Frechet distance of noise-free samples to test images in the features of the data set's own classifier

    Formula: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with mean and covariance of the 64 features of real and of generated images.
    Estimator: sample moments in float64; the features are the last hidden layer of a small convolutional network, trained on the
    training images from a fixed seed and scaled to mean square 1 on them. Its digest names it.
    Sample size: the same n for every model: 1000 generated and 1000 test images, or as many as there are.
    Fails: biased up by an amount of order 1/n, the same for all models only because n is; the row of real training images is the
    floor. Blind to whatever the classifier ignores. Never comparable with an FID, nor with another data set or classifier.
    Reference: Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule (the distance, in other features).
    """
    return frechet_distance(*embedded(e))


@metric(needs=(MeanSampler,), unit="squared features", better="lower", kind="estimate", published="kid-{data}cnn")
def kid_cnn(e: Evaluation) -> float:
    """unbiased kernel distance of noise-free samples to test images in the same features; 0 for the same law

    Formula: mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j), k(a, b) = (a . b / 64 + 1)^3.
    Estimator: the full U-statistic over all pairs, in float64: the same expectation as the mean over subsets that is usual for KID, with
    less variance, and so without a standard error of subsets. The interval over seeds has its noise in it.
    Sample size: the same n for every model: 1000 generated and 1000 test images, or as many as there are.
    Fails: may fall under 0 where the laws are alike. Blind to whatever the classifier ignores. Never comparable with a KID in other
    features, nor with another data set or classifier.
    Reference: Binkowski et al. 2018, Demystifying MMD GANs (the distance, in other features).
    """
    return kernel_distance(*embedded(e))


@metric(needs=(MeanSampler,), unit="fraction", better="higher", kind="estimate")
def precision(e: Evaluation) -> float:
    """share of samples inside the 5-nearest-neighbour ball of some test image, in the same features

    Formula: (1/N) sum_j 1[y_j in B(x_i, NND_5(x_i)) for some real x_i], y_j the samples.
    Estimator: in the features of fd-...cnn, Euclidean distances in float64; the ball of an image ends at its 5th nearest of its own kind.
    Sample size: k = 5; the same N for every model: 1000 generated and 1000 test images, or as many as there are.
    Fails: a single real outlier has a large ball that lets everything in. Identical laws do not give 1. Copies of one good image give 1:
    look at recall and coverage too.
    Reference: Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models.
    """
    return overlap(e).precision


@metric(needs=(MeanSampler,), unit="fraction", better="higher", kind="estimate")
def recall(e: Evaluation) -> float:
    """share of test images inside the 5-nearest-neighbour ball of some sample, in the same features

    Formula: (1/N) sum_i 1[x_i in B(y_j, NND_5(y_j)) for some sample y_j], x_i the test images.
    Estimator: in the features of fd-...cnn, Euclidean distances in float64; the ball of an image ends at its 5th nearest of its own kind.
    Sample size: k = 5; the same N for every model: 1000 generated and 1000 test images, or as many as there are.
    Fails: samples that lie far apart have large balls: bad samples can have a high recall. Identical laws do not give 1.
    Reference: Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models.
    """
    return overlap(e).recall


@metric(needs=(MeanSampler,), unit="ratio", better="higher", kind="estimate")
def density(e: Evaluation) -> float:
    """how many 5-nearest-neighbour balls of test images a sample lies in, over 5: about 1 for the same law

    Formula: (1/(5 N)) sum_j sum_i 1[y_j in B(x_i, NND_5(x_i))].
    Estimator: in the features of fd-...cnn, Euclidean distances in float64; the ball of an image ends at its 5th nearest of its own kind.
    Sample size: k = 5; the same N for every model: 1000 generated and 1000 test images, or as many as there are.
    Fails: goes above 1 where samples crowd where real images are dense: more is not better from there on.
    Reference: Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models.
    """
    return overlap(e).density


@metric(needs=(MeanSampler,), unit="fraction", better="higher", kind="estimate")
def coverage(e: Evaluation) -> float:
    """share of test images whose 5-nearest-neighbour ball has a sample in it: about 0.97 for the same law and as many of both

    Formula: (1/N) sum_i 1[min_j |x_i - y_j| < NND_5(x_i)]; 1 - 2^-5 for the same law.
    Estimator: in the features of fd-...cnn, Euclidean distances in float64; the ball of an image ends at its 5th nearest of its own kind.
    Sample size: k = 5; the same N for every model: 1000 generated and 1000 test images, or as many as there are.
    Fails: grows with the number of samples. One sample for each mode can be enough: it says nothing of how often a mode is drawn.
    Reference: Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models.
    """
    return overlap(e).coverage


@lru_cache(maxsize=2)
def typical_distance(dataset: Dataset, n: int) -> float:
    """Median distance of test images to their nearest training image."""
    test = dataset.grey()[spread(len(dataset.test), n)]
    return nearest(test, dataset).median().item()


def nearest(x: Tensor, dataset: Dataset) -> Tensor:
    """Euclidean distance in pixels of each of x (N, D) to the nearest training image, (N,)."""
    train = dataset.grey("train")
    return torch.stack([torch.cdist(x, part).min(1).values for part in train.split(5000)]).min(0).values


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def memorisation_ratio(e: Evaluation) -> float:
    """median distance of samples to the nearest training image, over that of test images: near 0 they are copies

    Formula: median_j min_t |y_j - t| / median_i min_t |x_i - t| over samples y, test images x and training images t, in pixels.
    Estimator: exact nearest neighbours.
    Sample size: generated images as the fidelity says (1000), as many test images, all training images.
    Fails: blurred samples lie near everything: under 1 is no proof of copying. A copy that is shifted by a pixel is far. Some copies
    among many other samples do not move the median.
    Reference: none
    """
    return nearest(e.sample_means, e.dataset).median().item() / typical_distance(e.dataset, len(e.sample_means))
