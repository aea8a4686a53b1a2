"""Columns of reconstruction: equal to those of other libraries, and right at their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.functional.image.ssim import _ssim_update

from vae_variants.datasets import Dataset, split
from vae_variants.evaluation.feature_sets import kernel_distance
from vae_variants.evaluation.fidelities import Fidelity, fidelity
from vae_variants.evaluation.reconstruction import (
    ms_ssim,
    psnr,
    reconstruction_fd_cnn,
    reconstruction_kid_cnn,
    reconstruction_mse,
    ssim,
    unexplained_variance,
)
from vae_variants.models.perceptual import WEIGHTS

COLUMNS = (psnr, ssim, ms_ssim, reconstruction_fd_cnn, reconstruction_kid_cnn)


def images(shape: tuple[int, int, int], n: int = 40) -> Dataset:
    """Smooth random images of two classes."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, shape[0], *(max(1, s // 4) for s in shape[1:]), generator=g)
    fine = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bilinear")
    y = torch.arange(n) % 2
    return split("smooth", (255 * (fine * (0.5 + 0.5 * y[:, None, None, None]))).byte(), y, validation=4, test=20)


@dataclass(eq=False)
class Evaluated:
    """What the columns see of an evaluation."""

    dataset: Dataset
    reconstructions: torch.Tensor
    fidelity: Fidelity


@pytest.mark.parametrize("size", [1, 4000, 2**24])
def test_errors_are_those_of_all_images_whatever_fits_into_a_piece(size, monkeypatch):
    monkeypatch.setattr("vae_variants.evaluation.pieces.LARGEST", size)
    data = images((3, 8, 8))
    x, found = data.grey().double(), torch.rand(20, 192, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1
    e = evaluated(data, found)
    whole = (x - found.double()).square().mean()
    assert reconstruction_mse(e) == pytest.approx(whole.item(), rel=1e-12)
    assert unexplained_variance(e) == pytest.approx((whole / (x - data.grey("train").double().mean(0)).square().mean()).item(), rel=1e-6)
    assert psnr(e) == pytest.approx(-10 * (x - found.double().clamp(0, 1)).square().mean(1).log10().mean().item(), rel=1e-12)


def evaluated(data: Dataset, reconstructions: torch.Tensor) -> Any:
    return Evaluated(data, reconstructions, fidelity("smoke"))


def disturbed(data: Dataset, by: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return data.grey() + by * torch.randn(data.grey().shape, generator=g)


def of_scikit_image(x: torch.Tensor, r: torch.Tensor) -> float:
    """SSIM with the windows of the paper. torchmetrics mirrors the image at its border instead of keeping windows inside."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    return fmean(structural_similarity(a.numpy(), b.numpy(), **options) for a, b in zip(x, r, strict=True))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 13, 40)], ids=str)
def test_ssim_is_that_of_scikit_image(shape: tuple[int, int, int]) -> None:
    data = images(shape)
    e = evaluated(data, disturbed(data, 0.1))
    x, r = (a.double().unflatten(-1, shape) for a in (data.grey(), e.reconstructions.clamp(0, 1)))
    assert ssim(e) == pytest.approx(of_scikit_image(x, r), abs=1e-6)


def test_ms_ssim_is_that_of_torchmetrics_but_for_the_border_of_the_coarsest_scale() -> None:
    shape = (1, 176, 176)
    data = images(shape, 26)
    e = evaluated(data, disturbed(data, 0.2))
    x, r = (a.double().unflatten(-1, shape) for a in (data.grey(), e.reconstructions.clamp(0, 1)))
    found = torch.ones(len(x), dtype=torch.float64)
    *fine, last = (weight / sum(WEIGHTS) for weight in WEIGHTS)  # which sum to 1.0001
    for weight in fine:
        _, contrast = _ssim_update(r, x, data_range=1.0, return_contrast_sensitivity=True)
        found *= contrast**weight
        x, r = (torch.nn.functional.avg_pool2d(a, 2) for a in (x, r))
    coarsest = torch.tensor([of_scikit_image(x[i : i + 1], r[i : i + 1]) for i in range(len(x))], dtype=torch.float64)
    assert ms_ssim(e) == pytest.approx((found * coarsest**last).mean().item(), abs=1e-6)


def test_psnr_is_torchmetrics_image_by_image() -> None:
    data = images((3, 16, 16))
    e = evaluated(data, disturbed(data, 0.1))
    x, r = data.grey().double(), e.reconstructions.double().clamp(0, 1)
    expected = peak_signal_noise_ratio(r, x, data_range=1.0, dim=1, reduction="elementwise_mean").item()
    assert psnr(e) == pytest.approx(expected, abs=1e-5)
    assert psnr(e) >= -10 * math.log10(reconstruction_mse(e)) - 1  # the mean of logarithms is near the logarithm of the mean


def test_reconstructions_that_are_the_images_are_perfect() -> None:
    data = images((1, 16, 16))
    e = evaluated(data, data.grey())
    assert [column(e) for column in COLUMNS[:3]] == pytest.approx([100.0, 1.0, 1.0])
    assert [column(e) for column in COLUMNS[3:]] == pytest.approx([0.0, 0.0], abs=1e-5)


def test_every_column_gets_worse_with_noise_and_none_leaves_the_range_of_images() -> None:
    data = images((1, 16, 16))
    found = [[column(evaluated(data, disturbed(data, by))) for by in (0.02, 0.1, 0.4)] for column in COLUMNS]
    for column, values in zip(COLUMNS, found, strict=True):
        better = -1 if column in (reconstruction_fd_cnn, reconstruction_kid_cnn) else 1
        assert better * values[0] > better * values[1] > better * values[2], column.__name__
    bright = [column(evaluated(data, data.grey() + 5)) for column in COLUMNS]
    assert bright == [column(evaluated(data, torch.ones_like(data.grey()))) for column in COLUMNS]


def test_the_kernel_distance_of_pairs_leaves_them_out() -> None:
    x = torch.randn(50, 3, dtype=torch.float64)
    assert kernel_distance(x, x, paired=True) == pytest.approx(0.0, abs=1e-12)
    assert kernel_distance(x, x) < -0.01
    k = (x @ (x + 1).mT / 3 + 1) ** 3
    off = (k.sum() - k.trace()) / (50 * 49)
    assert kernel_distance(x, x + 1) - kernel_distance(x, x + 1, paired=True) == pytest.approx(2 * (off - k.mean()).item(), abs=1e-9)
