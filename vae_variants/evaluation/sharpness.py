"""Sharpness of noise-free images, compared with real and with blurred real images, and a noise control."""

import math
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate1d, uniform_filter1d
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.pieces import by_pieces, stored
from vae_variants.models.base import Coder, MeanSampler

KERNEL = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
SIGMAS = [0.1 * i for i in range(31)]
RESOLVED = 0.4  # pixels of blur
REAL = 1000  # test images that samples are compared with
NOISE, SHARPEST = 0.81, 1.5  # noise_ratio under which, and sharpness_ratio over which, sharpness is called noise


def planes(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, D) -> (N, 1, H, W) float64, the mean over channels."""
    return images.double().unflatten(-1, shape).mean(1, keepdim=True)


def windows(shape: tuple[int, int, int], pixels: int) -> int:
    """Bytes of the windows, of so many pixels in float64, around the places of an image in one channel."""
    return 8 * pixels * math.prod(shape[1:])


def laplacian_variance(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Variance of the 3x3 Laplacian over the inner pixels of each image in [0, 1]: (N, D) -> (N,)."""
    kernel = torch.tensor(KERNEL, dtype=torch.float64)[None, None]

    def variance(part: Tensor) -> Tensor:
        return F.conv2d(planes(part, shape), kernel).flatten(1).var(-1, correction=0)

    return by_pieces(variance, images, windows(shape, 9))


def blurred(images: Tensor, shape: tuple[int, int, int], sigma: float) -> Tensor:
    """(N, D) convolved with a Gaussian of `sigma` pixels, with zero padding."""
    if sigma == 0:
        return images.double()
    radius = max(1, math.ceil(4 * sigma))
    g = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    g = g / g.sum()

    def of(part: Tensor) -> Tensor:
        x = part.double().unflatten(-1, shape).flatten(0, 1).unsqueeze(1)
        x = F.conv2d(x, g[None, None, None], padding=(0, radius))
        return F.conv2d(x, g[None, None, :, None], padding=(radius, 0)).reshape(len(part), -1)

    return by_pieces(of, images, shape[0] * windows(shape, len(g)))


def median_filtered(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, D) -> (N, H * W), each pixel the median of its 3x3 neighbourhood."""

    def medians(part: Tensor) -> Tensor:
        padded = F.pad(planes(part, shape), (1, 1, 1, 1), mode="replicate")
        return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values.flatten(1)

    return by_pieces(medians, images, windows(shape, 9))


def typical(images: Tensor, shape: tuple[int, int, int]) -> float:
    return laplacian_variance(images, shape).median().item()


def is_noise(noise_ratio: float, sharpness_ratio: float) -> bool:
    """Whether such a sharpness comes from noise or from binarised pixels instead of detail.

    `NOISE` separates clean from noisy images on digits and MNIST: real images, blurred by up to 2 pixels or not, have a noise_ratio of at
    least 0.97, VAE samples at least 0.81, and real images with noise of 0.1 at most 0.80. `SHARPEST` separates real images with that noise
    (at most 1.4) from binarised ones (at least 2.4).
    """
    return noise_ratio < NOISE or sharpness_ratio > SHARPEST


def real_images(dataset: Dataset) -> Tensor:
    return stored(dataset, most=REAL)[:]


def filtered(images: Tensor, shape: tuple[int, int, int]) -> float:
    """Median sharpness after a 3x3 median filter."""
    return typical(median_filtered(images, shape), (1, *shape[1:]))


@lru_cache(maxsize=4)
def calibration(dataset: Dataset, median: bool = False) -> tuple[float, ...]:
    """Median sharpness of the real test images after each blur of `SIGMAS` pixels, then a median filter if `median`.

    Images that are light on average are blurred as negatives: zeros around them would be a sharp frame.
    """
    shape, measure = (1, *dataset.shape[1:]), filtered if median else typical
    real = planes(real_images(dataset.on_dark), dataset.shape).flatten(1)  # the blur of the mean over channels is that of the blurs
    return tuple(accumulate((measure(blurred(real, shape, sigma), shape) for sigma in SIGMAS), min))


def both(images: Tensor, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Median sharpness before and after a 3x3 median filter."""
    return typical(images, shape), filtered(images, shape)


@lru_cache(maxsize=1)
def of_samples(e: Evaluation) -> tuple[float, float]:
    return both(e.sample_means, e.dataset.shape)


@lru_cache(maxsize=4)
def of_real(dataset: Dataset) -> tuple[float, float]:
    return both(real_images(dataset), dataset.shape)


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


@metric(needs=(MeanSampler,), unit="grey^2", better="none")
def sharpness(e: Evaluation) -> float:
    """variance of the Laplacian of noise-free samples (decoder means), median over images

    Formula: variance over the inner pixels of an image of 4 x_{ij} minus its four neighbours, x in [0, 1], the mean over channels.
    Estimator: median over images.
    Sample size: the preset's number of generated images (1000).
    Fails: noise and binarisation raise it as detail does (uniform noise 1.67, MNIST 0.18), so read it with noise_ratio. Scales with the
    squared contrast.
    Reference: Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy; for samples: Tolstikhin et al. 2018, WAE.
    """
    check(e)
    return of_samples(e)[0]


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def sharpness_ratio(e: Evaluation) -> float:
    """sharpness divided by that of the real test images: 1 is as sharp as real; far above 1 suggests noise

    Formula: median sharpness of samples / median sharpness of real images.
    Estimator: both medians over images.
    Sample size: the preset's number of generated images (1000), and at most {REAL} test images.
    Fails: as sharpness. Above {SHARPEST} the report calls it noise: no real image is that much sharper, but binarised ones are.
    Reference: none
    """
    return sharpness(e) / calibration(e.dataset)[0]


@metric(needs=(MeanSampler,), unit="pixels", better="lower")
def blur_sigma(e: Evaluation) -> float:
    """the Gaussian blur that makes real test images as unsharp as the samples; 3 means 3 or more

    Formula: max(s1, s2): real images blurred by s1 are as sharp as the samples, and by s2 if a 3x3 median filter is applied to both.
    Estimator: sharpness of real images, in zeros, blurred by 0, 0.1, ..., 3 pixels, interpolated linearly in its logarithm. If real images
    are light on average, their negatives are blurred.
    Sample size: the preset's number of generated images (1000), and at most {REAL} test images. Values under {RESOLVED} become 0 as
    unresolved.
    Fails: noise on blurred images lowers s1 but hardly s2; 1 pixel with noise of 0.1 still gives 0.8 to 0.9. Binarised samples look sharp
    by both; only sharpness_ratio reveals them. Low contrast counts as blur.
    Reference: none
    """
    before = equivalent_blur(sharpness(e), calibration(e.dataset))
    found = max(before, equivalent_blur(of_samples(e)[1], calibration(e.dataset, True)))
    return found if found >= RESOLVED else 0.0


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def noise_ratio(e: Evaluation) -> float:
    """noise control: the share of sharpness that survives a 3x3 median filter, relative to real images; below 1 suggests noise

    Formula: (sharpness after / before the filter, samples) / (the same of real images).
    Estimator: medians over images of each sharpness.
    Sample size: the preset's number of generated images (1000), and at most {REAL} test images.
    Fails: blur raises it and can hide weak noise. Noise in blocks of 2x2 or larger passes, and so do small binarised images. Below {NOISE}
    the report calls the sharpness noise.
    Reference: none
    """
    check(e)
    kept = [after / max(before, 1e-12) for before, after in (of_samples(e), of_real(e.dataset))]
    return kept[0] / max(kept[1], 1e-12)


def reblurred(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """`skimage.measure.blur_effect` of each image (N, D), all at once: (N,), 0 sharp to 1 blurred; a constant image has 1."""
    width = max(3, min(11, (min(shape[1:]) // 2 - 1) | 1))

    def edges(y: np.ndarray, along: int) -> np.ndarray:
        """Sobel derivatives inside the image, at least the machine precision."""
        sobel = correlate1d(correlate1d(y, (0.25, 0.5, 0.25), 3 - along), (1.0, 0.0, -1.0), along)
        return np.abs(sobel[:, 2:-1, 2:-1]).clip(min=np.finfo(float).eps)

    def effect(part: Tensor) -> Tensor:
        x, found = planes(part, shape).squeeze(1).numpy(), []
        for along in (1, 2):
            sharp = edges(x, along)
            lost = (sharp - edges(uniform_filter1d(x, width, along), along)).clip(min=0)
            found.append(1 - lost.sum((1, 2)) / sharp.sum((1, 2)))
        return torch.from_numpy(np.maximum(*found))

    return by_pieces(effect, images, windows(shape, shape[0]))


@metric(needs=(MeanSampler,), unit="fraction", better="lower")
def reblur(e: Evaluation) -> float:
    """how little a second blur changes noise-free samples, from 0 (sharp) to 1 (blurred), median over images

    Formula: 1 - sum max(0, |g(x)| - |g(b(x))|) / sum |g(x)|, g the Sobel derivative and b a box filter along the worse of both axes.
    Estimator: scikit-image's blur_effect; the box has 11 pixels, or the largest odd number up to half the shorter side; median over images.
    Sample size: the preset's number of generated images (1000).
    Fails: compares images of one size only. Noise lowers it, less than it raises sharpness. Ignores contrast. Compare with real images.
    Reference: Crete et al. 2007, The blur effect: perception and estimation with a new no-reference perceptual blur metric.
    """
    check(e)
    return reblurred(e.sample_means, e.dataset.shape).median().item()


@metric(needs=(Coder,), unit="ratio", better="none")
def reconstruction_sharpness_ratio(e: Evaluation) -> float:
    """sharpness of the reconstructed test images divided by that of the originals

    Formula: median sharpness of decoder means at the latents of grey test images / median sharpness of those images.
    Estimator: medians over images; reconstructions are clamped to [0, 1].
    Sample size: all test images, against at most {REAL} of them.
    Fails: as sharpness; a model that reconstructs with noise can reach 1.
    Reference: none
    """
    check(e)
    return typical(e.reconstructions.clamp(0, 1), e.dataset.shape) / calibration(e.dataset)[0]
