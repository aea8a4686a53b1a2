"""Blurriness of noise-free images, beside real ones and blurred real ones, with a control for noise that poses as sharpness."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import Coder, MeanSampler

__all__ = [
    "NOISE",
    "SHARPEST",
    "blur_sigma",
    "blurred",
    "equivalent_blur",
    "is_noise",
    "laplacian_variance",
    "noise_ratio",
    "reblurred",
    "sharpness",
    "sharpness_ratio",
]

KERNEL = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
SIGMAS = [0.1 * i for i in range(31)]
RESOLVED = 0.4  # pixels of blur
REAL = 1000  # test images that samples are compared with
NOISE, SHARPEST = 0.81, 1.5  # noise_ratio under which, and sharpness_ratio over which, sharpness is called noise


def planes(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, D) -> (N, 1, H, W) float64, the mean of the channels."""
    return images.double().unflatten(-1, shape).mean(1, keepdim=True)


def laplacian_variance(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Variance over the inner pixels of each image's 3x3 Laplacian, images (N, D) in [0, 1] -> (N,).

    0 for a constant image; scales with the square of the contrast. Noise raises it as detail does.
    """
    kernel = torch.tensor(KERNEL, dtype=torch.float64)[None, None]
    return F.conv2d(planes(images, shape), kernel).flatten(1).var(-1, correction=0)


def blurred(images: Tensor, shape: tuple[int, int, int], sigma: float) -> Tensor:
    """(N, D) convolved with a Gaussian of `sigma` pixels, zero beyond the edge."""
    if sigma == 0:
        return images.double()
    x, radius = images.double().unflatten(-1, shape), max(1, math.ceil(4 * sigma))
    g = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    g = g / g.sum()
    x = F.conv2d(x.flatten(0, 1).unsqueeze(1), g[None, None, None], padding=(0, radius))
    return F.conv2d(x, g[None, None, :, None], padding=(radius, 0)).reshape(len(images), -1)


def median_filtered(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, D) -> (N, H * W), each pixel the median of its 3x3 neighbourhood."""
    padded = F.pad(planes(images, shape), (1, 1, 1, 1), mode="replicate")
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values.flatten(1)


def typical(images: Tensor, shape: tuple[int, int, int]) -> float:
    return laplacian_variance(images, shape).median().item()


def is_noise(noise_ratio: float, sharpness_ratio: float) -> bool:
    """Whether sharpness like that comes from noise, or from pixels that were binarised, and not from detail.

    The first limit lies in a narrow gap: real images, blurred by up to 2 pixels or not, have 0.97 or more on digits and MNIST, samples
    of VAEs 0.81 or more, and real images with noise of 0.1, as they are or blurred by 1 or 2 pixels, 0.80 or less. The second lies
    between real images with that noise (1.4 or less) and what was binarised, at random or not (2.4 or more).
    """
    return noise_ratio < NOISE or sharpness_ratio > SHARPEST


def real_images(dataset: Dataset) -> Tensor:
    return dataset.grey()[spread(len(dataset.test), REAL)]


def filtered(images: Tensor, shape: tuple[int, int, int]) -> float:
    """Median sharpness after a 3x3 median filter."""
    return typical(median_filtered(images, shape), (1, *shape[1:]))


@lru_cache(maxsize=4)
def calibration(dataset: Dataset, median: bool = False) -> tuple[float, ...]:
    """Median sharpness of the real test images after a blur of each of `SIGMAS` pixels, and then a median filter if `median`."""
    real, measure = real_images(dataset), filtered if median else typical
    return tuple(accumulate((measure(blurred(real, dataset.shape, sigma), dataset.shape) for sigma in SIGMAS), min))


def equivalent_blur(value: float, curve: tuple[float, ...]) -> float:
    """The blur in pixels at which real images are as sharp as `value`: 0 if sharper than real, at most `SIGMAS[-1]`."""
    for (s0, s1), (v0, v1) in zip(pairwise(SIGMAS), pairwise(curve), strict=False):
        if value >= v0:
            return s0
        if value > v1:
            return s0 + (s1 - s0) * math.log(v0 / value) / math.log(v0 / v1)
    return SIGMAS[-1]


def check(e: Evaluation) -> None:
    if min(e.dataset.shape[1:]) < 4:
        raise Skip("images of fewer than 4 pixels a side")
    if not calibration(e.dataset)[0] > 0:
        raise Skip("the real images are flat")


def measured(e: Evaluation) -> float:
    check(e)
    return typical(e.sample_means, e.dataset.shape)


@metric(needs=(MeanSampler,), unit="grey^2", better="none")
def sharpness(e: Evaluation) -> float:
    """variance of the Laplacian of noise-free samples (decoder means), median over images

    Formula: Var over the inner pixels of an image of 4 x_{ij} less its four neighbours, x in [0, 1], the mean of the channels.
    Estimator: median over images.
    Sample size: generated images as the fidelity says (1000).
    Fails: noise raises it as detail does, and binarisation more than either: uniform noise has 1.67, MNIST 0.18. Scales with the square
    of the contrast. Never without noise_ratio.
    Reference: Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy; for samples: Tolstikhin et al. 2018, WAE.
    """
    return measured(e)


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def sharpness_ratio(e: Evaluation) -> float:
    """sharpness over that of the real test images: 1 is as sharp as real, above 1 suspect noise

    Formula: median sharpness of samples / median sharpness of real images.
    Estimator: both medians over images.
    Sample size: generated images as the fidelity says (1000), and at most 1000 test images.
    Fails: as sharpness. Over 1.5 the report calls it noise: no real image is that much sharper, but binarised ones are.
    Reference: none
    """
    return measured(e) / calibration(e.dataset)[0]


@metric(needs=(MeanSampler,), unit="pixels", better="lower")
def blur_sigma(e: Evaluation) -> float:
    """the Gaussian blur that would make real test images as unsharp as the samples; 3 is 3 or more

    Formula: max(s1, s2): real images blurred by s1 are as sharp as the samples, and by s2 as sharp once both went through a 3x3 median.
    Estimator: sharpness of real images blurred by 0, 0.1, ..., 3 pixels, interpolated linearly in its logarithm.
    Sample size: generated images as the fidelity says (1000), and at most 1000 test images.
    Under 0.3 it is given as 0: so little changes the sharpness by less than another draw of real images does.
    Fails: noise on blurred images lowers s1 but hardly s2; 1 pixel with noise of 0.1 still has 0.8 to 0.9. Binarised samples are sharp
    by both, and only sharpness_ratio tells. Low contrast counts as blur.
    Reference: none
    """
    before = equivalent_blur(measured(e), calibration(e.dataset))
    found = max(before, equivalent_blur(filtered(e.sample_means, e.dataset.shape), calibration(e.dataset, True)))
    return found if found >= RESOLVED else 0.0


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def noise_ratio(e: Evaluation) -> float:
    """noise control: sharpness left after a 3x3 median filter, over what is left of real images; under 1 it was noise

    Formula: (sharpness after / before the filter, samples) / (the same of real images).
    Estimator: medians over images of each sharpness.
    Sample size: generated images as the fidelity says (1000), and at most 1000 test images.
    Fails: blur raises it, and so can hide noise, which then is too weak to make the images look sharp. Noise in blocks of 2x2 or larger
    passes, and so do binarised images of few pixels. Under 0.81 the report calls the sharpness noise.
    Reference: none
    """
    check(e)
    kept = [filtered(x, e.dataset.shape) / max(typical(x, e.dataset.shape), 1e-12) for x in (e.sample_means, real_images(e.dataset))]
    return kept[0] / max(kept[1], 1e-12)


def reblurred(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """How little each image changes in the eyes of `skimage.measure.blur_effect` when it is blurred again: (N,), 0 sharp to 1 blurred.

    The box is 11 pixels wide, or the largest odd width of at most half the shorter side, but at least 3; it is along the rows or the
    columns, whichever changes less. A constant image has 1.
    """
    from skimage.measure import blur_effect  # scikit-image takes long to import

    width = max(3, min(11, (min(shape[1:]) // 2 - 1) | 1))
    return torch.tensor([blur_effect(x, h_size=width) for x in planes(images, shape).squeeze(1).numpy()], dtype=torch.float64)


@metric(needs=(MeanSampler,), unit="fraction", better="lower")
def reblur(e: Evaluation) -> float:
    """how little noise-free samples change when they are blurred again, from 0 (sharp) to 1 (blurred), median over images

    Formula: 1 - sum max(0, |g(x)| - |g(b(x))|) / sum |g(x)|, g the Sobel derivative along an axis, b a box filter along it; the larger
    of both axes.
    Estimator: scikit-image's blur_effect on the mean of the channels, with a box of 11 pixels, or the largest odd number up to half the
    shorter side (3 for digits); median over images.
    Sample size: generated images as the fidelity says (1000).
    Fails: compares within one size of image only, since the box follows it; noise lowers it, though less than it raises sharpness. Does
    not depend on contrast. Beside the row of real training images only.
    Reference: Crete et al. 2007, The blur effect: perception and estimation with a new no-reference perceptual blur metric.
    """
    check(e)
    return reblurred(e.sample_means, e.dataset.shape).median().item()


@metric(needs=(Coder,), unit="ratio", better="none")
def reconstruction_sharpness_ratio(e: Evaluation) -> float:
    """sharpness of the reconstructed test images over that of the originals

    Formula: median sharpness of the decoder's means at the codes of grey test images / median sharpness of those images.
    Estimator: medians over images; reconstructions are clamped to [0, 1].
    Sample size: all test images, against at most 1000 of them.
    Fails: as sharpness; of a model that reconstructs with noise it may be 1.
    Reference: none
    """
    check(e)
    return typical(e.reconstructions.clamp(0, 1), e.dataset.shape) / calibration(e.dataset)[0]
