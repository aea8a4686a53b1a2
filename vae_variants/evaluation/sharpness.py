"""Blurriness of noise-free images: variance of the Laplacian, calibrated against blurred real images."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import Evaluation, spread
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.model import Coder, MeanSampler

__all__ = [
    "blur_sigma",
    "blurred",
    "equivalent_blur",
    "high_frequencies",
    "laplacian_variance",
    "noise_ratio",
    "sharpness",
    "sharpness_ratio",
]

KERNEL = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
SIGMAS = [0.1 * i for i in range(31)]
REAL = 1000  # test images that samples are compared with


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


@lru_cache(maxsize=4)
def calibration(dataset: Dataset) -> tuple[float, ...]:
    """Median sharpness of the real test images after a blur of each of `SIGMAS` pixels."""
    real = dataset.grey()[spread(len(dataset.test), REAL)]
    return tuple(typical(blurred(real, dataset.shape, sigma), dataset.shape) for sigma in SIGMAS)


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
    """variance of the Laplacian of noise-free samples (decoder means), median over images"""
    return measured(e)


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def sharpness_ratio(e: Evaluation) -> float:
    """sharpness over that of the real test images: 1 is as sharp as real, above 1 suspect noise"""
    return measured(e) / calibration(e.dataset)[0]


@metric(needs=(MeanSampler,), unit="pixels", better="lower")
def blur_sigma(e: Evaluation) -> float:
    """the Gaussian blur that would make real test images as unsharp as the samples; 3 is 3 or more"""
    return equivalent_blur(measured(e), calibration(e.dataset))


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def noise_ratio(e: Evaluation) -> float:
    """noise control: sharpness left after a 3x3 median filter, over what is left of real images; under 1 it was noise"""
    check(e)
    shape = e.dataset.shape
    flat = (1, *shape[1:])
    real, fake = e.dataset.grey()[spread(len(e.dataset.test), REAL)], e.sample_means
    kept = [typical(median_filtered(x, shape), flat) / max(typical(x, shape), 1e-12) for x in (fake, real)]
    return kept[0] / max(kept[1], 1e-12)


def high_frequencies(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Share of the energy of grey images (N, D) above 0.25 cycles per pixel, mean removed, under a Hann window: (N,)."""
    x = planes(images, shape).squeeze(1)
    h, w = x.shape[-2:]
    window = torch.hann_window(h + 2, periodic=False)[1:-1, None] * torch.hann_window(w + 2, periodic=False)[1:-1]
    centred = (x - x.mean((-2, -1), keepdim=True)) * window.to(x)
    energy = torch.fft.fft2(centred).abs().square()
    frequency = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)).to(x)
    return (energy * (frequency > 0.25)).sum((-2, -1)) / energy.sum((-2, -1)).clamp(min=1e-12)


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def high_frequency_ratio(e: Evaluation) -> float:
    """share of energy above 0.25 cycles per pixel in noise-free samples, over that in real test images, means over images"""
    check(e)
    real = e.dataset.grey()[spread(len(e.dataset.test), REAL)]
    fake, true = (high_frequencies(x, e.dataset.shape).mean().item() for x in (e.sample_means, real))
    return fake / max(true, 1e-12)


@metric(needs=(Coder,), unit="ratio", better="none")
def reconstruction_sharpness_ratio(e: Evaluation) -> float:
    """sharpness of the reconstructed test images over that of the originals"""
    check(e)
    return typical(e.reconstructions.clamp(0, 1), e.dataset.shape) / calibration(e.dataset)[0]
