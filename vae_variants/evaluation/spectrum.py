"""Power spectra of noise-free samples and of real images."""

from functools import lru_cache

import torch
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.evaluation.pieces import by_pieces
from vae_variants.evaluation.sharpness import check, planes, real_images, windows
from vae_variants.models.base import MeanSampler

FLOOR = 1e-6  # of the strongest ring of real images: 60 dB under it nothing is told apart


def windowed(images: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Energy of images (N, D) by frequency, without their mean, under a Hann window: (N, H, W), frequencies in cycles per pixel (H, W)."""
    _, h, w = shape
    window = torch.hann_window(h + 2, periodic=False)[1:-1, None] * torch.hann_window(w + 2, periodic=False)[1:-1]
    frequency = torch.hypot(torch.fft.fftfreq(h, dtype=torch.float64)[:, None], torch.fft.fftfreq(w, dtype=torch.float64))

    def energy(part: Tensor) -> Tensor:
        x = planes(part, shape).squeeze(1)
        return torch.fft.fft2((x - x.mean((-2, -1), keepdim=True)) * window.to(x)).abs().square()

    return by_pieces(energy, images, windows(shape, 2)), frequency


def high_frequencies(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Share of the energy of grey images (N, D) above 0.25 cycles per pixel: (N,)."""
    energy, frequency = windowed(images, shape)
    return (energy * (frequency > 0.25)).sum((-2, -1)) / energy.sum((-2, -1)).clamp(min=1e-12)


@metric(needs=(MeanSampler,), unit="ratio", better="none")
def high_frequency_ratio(e: Evaluation) -> float:
    """share of energy above 0.25 cycles per pixel in noise-free samples, divided by that in real test images, means over images

    Formula: mean of E(f > 0.25) / E over samples, over the same of real images, E the energy of the Fourier transform.
    Estimator: each image without its mean, under a Hann window that suppresses wrap-around.
    Sample size: the preset's number of generated images (1000), and at most 1000 test images.
    Fails: noise counts as high frequency. Independent of contrast.
    Reference: none
    """
    check(e)
    return high_frequencies(e.sample_means, e.dataset.shape).mean().item() / max(of_real(e.dataset)[0], 1e-12)


def radial_power(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Mean energy of images (N, D) in rings of frequency, one cycle per image wide (of the shorter side), without the innermost: (R,)."""
    energy, frequency = windowed(images, shape)
    ring = (frequency * min(shape[1:])).round().long().flatten()
    total = torch.zeros(int(ring.max()) + 1, dtype=torch.float64).index_add_(0, ring, energy.mean(0).flatten())
    return (total / ring.bincount())[1:]


def log_spectral_distance(fake: Tensor, real: Tensor) -> float:
    """Root mean square over rings of 10 log10 of the ratio of two radial powers (R,), in dB; `FLOOR` is added to both."""
    floor = FLOOR * real.max()
    return (10 * ((fake + floor) / (real + floor)).log10()).square().mean().sqrt().item()


@lru_cache(maxsize=4)
def of_real(dataset: Dataset) -> tuple[float, Tensor]:
    """Mean of `high_frequencies`, and `radial_power`, of the real test images."""
    real = real_images(dataset)
    return high_frequencies(real, dataset.shape).mean().item(), radial_power(real, dataset.shape)


@metric(needs=(MeanSampler,), unit="dB", better="lower")
def spectral_distance(e: Evaluation) -> float:
    """log-spectral distance between noise-free samples and real test images, over rings of frequency

    Formula: sqrt(mean_r (10 log10 P_r / Q_r)^2), P_r and Q_r the mean energy of samples and of real images in the ring of frequencies
    that round to r cycles per image, r = 1, 2, ...; 10^-6 of the largest Q_r is added to both.
    Estimator: Fourier transform of each image without its mean, under a Hann window; energies averaged over ring and images.
    Sample size: the preset's number of generated images (1000), and at most 1000 test images.
    Fails: weighs every ring equally. Noise and blur can cancel within a ring. Ignores phase. A few outliers can dominate a mean energy.
    Reference: Gray & Markel 1976, Distance measures for speech processing.
    """
    check(e)
    return log_spectral_distance(radial_power(e.sample_means, e.dataset.shape), of_real(e.dataset)[1])
