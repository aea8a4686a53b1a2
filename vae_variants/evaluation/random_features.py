"""Features of untrained convolutions, in which reconstructions are compared where there are no classes to learn features from."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.datasets.levels import Images
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.feature_sets import Features, frechet_distance, kernel_distance
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.pieces import by_pieces, stored
from vae_variants.evaluation.reconstruction import both
from vae_variants.models.base import Coder
from vae_variants.training.batches import derive_seed

WIDTHS = (16, 32, 32)  # features of each scale: as many filters, each over all channels of the scale before
SCALED = 2000  # training images at equal distances, whose features have mean square 1
FEWEST = 4  # images for a distance
PIECE = 500  # images at a time, at most


class RandomFeatures:
    """Three scales of random 3x3 filters with ReLU, each of them averaged over the image, (B, D) -> (B, F) in float64.

    Filters have independent normal weights of mean 0 over each 3x3 window in the first scale, so that flat grounds give nothing, and of
    variance 2 / inputs; a fixed seed and the shape of the images decide them. Pixels of neighbouring scales differ by a mean of 2x2.
    Each scale has mean square 1 on the training images. Images that are light on average are seen as negatives.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.shape, self.light = dataset.shape, dataset is not dataset.on_dark
        generator = torch.Generator().manual_seed(derive_seed("random features", dataset.shape[0], WIDTHS))
        self.filters, inputs = list[Tensor](), dataset.shape[0]
        for width in WIDTHS:
            weight = torch.randn(width, inputs, 3, 3, generator=generator, dtype=torch.float64)
            if not self.filters:
                weight -= weight.mean((2, 3), keepdim=True)
            self.filters.append(weight * math.sqrt(2 / (9 * inputs)))
            inputs = width
        self.scales = [torch.ones((), dtype=torch.float64)] * len(WIDTHS)
        found = self.scaled(stored(dataset, "train", SCALED)).split(WIDTHS, -1)
        self.scales = [part.square().mean().sqrt().clamp(min=1e-12) for part in found]

    def scaled(self, x: Images) -> Tensor:
        """Images (N, D) in [0, 1] -> features (N, F)."""

        def features(part: Tensor) -> Tensor:
            h, found = (1 - part if self.light else part).double().unflatten(-1, self.shape), []
            for weight, scale in zip(self.filters, self.scales, strict=True):
                h = F.conv2d(F.pad(h, (1, 1, 1, 1), mode="replicate"), weight).relu()
                found.append(h.mean((-2, -1)) / scale)
                h = F.avg_pool2d(h, [min(2, side) for side in h.shape[-2:]])
            return torch.cat(found, -1)

        return by_pieces(features, x, 8 * WIDTHS[0] * math.prod(self.shape[1:]), PIECE)


@lru_cache(maxsize=2)
def random_features(dataset: Dataset) -> RandomFeatures:
    return RandomFeatures(dataset)


def unlabelled(e: Evaluation) -> bool:
    """Whether there are no classes, from which a classifier would learn its features."""
    return e.dataset.labels is None or len(e.dataset.labels["train"].unique()) < 2


@lru_cache(maxsize=1)
def compared(e: Evaluation) -> tuple[Features, Features]:
    """Features of test images and of their reconstructions."""
    features = random_features(e.dataset)
    real, found = map(features.scaled, both(e))
    if len(real) < FEWEST:
        raise Skip(f"fewer than {FEWEST} test images")
    return Features(real), Features(found)


@metric(needs=(Coder,), unit="squared features", better="lower", kind="estimate", applies=unlabelled)
def reconstruction_fd_random(e: Evaluation) -> float:
    """Frechet distance between reconstructions and test images in the features of untrained convolutions, for data without classes

    Formula: as fd_cnn, of reconstructions in place of samples, in 80 features: responses of random 3x3 filters at three scales, averaged
    over the image.
    Estimator: sample moments in float64. The shape of the images and a fixed seed decide the filters. Each scale has mean square 1 on
    training images. If images are light on average, it sees negatives.
    Sample size: as ssim.
    Fails: sees texture, contrast and blur, and nothing of what an image shows: it grows with noise and with blur. It is no FID, and
    cannot be compared with one, with fd_cnn, or across data sets. Both sets are of the same images, so that its floor is 0.
    Reference: none
    """
    return frechet_distance(*compared(e))


@metric(needs=(Coder,), unit="squared features", better="lower", kind="estimate", applies=unlabelled)
def reconstruction_kid_random(e: Evaluation) -> float:
    """unbiased kernel distance between reconstructions and test images in the same features of untrained convolutions

    Formula: as kid_cnn, of reconstructions in place of samples.
    Estimator: as reconstruction_kid_cnn.
    Sample size: as ssim.
    Fails: as reconstruction_fd_random. Can be negative.
    Reference: Binkowski et al. 2018, Demystifying MMD GANs (the distance, in other features).
    """
    return kernel_distance(*compared(e), paired=True)
