"""Objectives whose reconstruction error is no log density, so that a model trained by them has no nats."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.models.draws import Draws
from vae_variants.models.networks import Shape
from vae_variants.models.objectives import OBJECTIVES

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from fine to coarse (Wang, Simoncelli & Bovik 2003)
WINDOW, SIGMA, SMALLEST = 11, 1.5, 4  # pixels of the window and its standard deviation; the coarsest side


def images_of(d: Draws) -> Tensor:
    """x, as large as the decoder's mean: (K, B, D)."""
    assert d.x is not None
    return d.x.expand_as(d.mean)


@OBJECTIVES.add(name="log-cosh")
def log_cosh(d: Draws, sharpness: float = 10.0) -> Tensor:
    """KL + (1 / a) sum over pixels of log cosh(a (x - mean)), the mean over K, a = `sharpness` (Chen et al. 2019): no density."""
    error = sharpness * (images_of(d) - d.mean)
    each = error.abs() + F.softplus(-2 * error.abs()) - F.softplus(error.new_zeros(()))
    return d.kl + each.sum(-1).mean(0) / sharpness


log_cosh.bound = log_cosh.density = False  # type: ignore[attr-defined]


def blurred(x: Tensor, window: int) -> Tensor:
    """x (N, C, H, W) under a Gaussian window of that size, within the image."""
    place = torch.arange(window, dtype=x.dtype, device=x.device) - (window - 1) / 2
    kernel = (-0.5 * (place / SIGMA).square()).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, window)
    x = F.conv2d(x, kernel.unsqueeze(-1), groups=x.shape[1])
    return F.conv2d(x, kernel.unsqueeze(-2), groups=x.shape[1])


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of images in [0, 1] (N, C, H, W) -> (N,) (Wang, Simoncelli & Bovik 2003).

    It has up to five scales, each half of the one before, with sides of at least 4 pixels: two for 8x8. The weights of those used are
    scaled to sum to 1, and the window of 11 pixels is the largest odd one that fits.
    """
    scales = max(1, min(len(WEIGHTS), min(x.shape[-2:]).bit_length() - SMALLEST.bit_length() + 1))
    total, found = sum(WEIGHTS[:scales]), x.new_ones(len(x))
    for scale, weight in enumerate(WEIGHTS[:scales]):
        window = min(WINDOW, (min(x.shape[-2:]) - 1) // 2 * 2 + 1)
        mean_x, mean_y = blurred(x, window), blurred(y, window)
        var_x, var_y = blurred(x.square(), window) - mean_x.square(), blurred(y.square(), window) - mean_y.square()
        contrast = (2 * (blurred(x * y, window) - mean_x * mean_y) + 9e-4) / (var_x + var_y + 9e-4)
        if scale == scales - 1:
            contrast = contrast * (2 * mean_x * mean_y + 1e-4) / (mean_x.square() + mean_y.square() + 1e-4)
        found = found * contrast.mean((-3, -2, -1)).clamp(min=1e-3) ** (weight / total)
        x, y = F.avg_pool2d(x, 2) if scale < scales - 1 else x, F.avg_pool2d(y, 2) if scale < scales - 1 else y
    return found


@OBJECTIVES.add(name="ms-ssim")
def ms_ssim(d: Draws, shape: Shape, strength: float = 1.0) -> Tensor:
    """KL + strength D (1 - MS-SSIM(x, mean)), the mean over K, D the number of pixels (Snell et al. 2017): no density."""
    k, b, pixels = d.mean.shape
    both = [images.reshape(k * b, *shape) for images in (images_of(d), d.mean)]
    return d.kl + strength * pixels * (1 - similarity(*both)).unflatten(0, (k, b)).mean(0)


ms_ssim.bound = ms_ssim.density = False  # type: ignore[attr-defined]
