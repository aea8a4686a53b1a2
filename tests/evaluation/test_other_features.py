"""Distances in random features and in networks that the user gives: validated, and measured only where they belong."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vae_variants.datasets import Dataset, split
from vae_variants.evaluation import METRICS
from vae_variants.evaluation.feature_sets import frechet_distance, kernel_distance
from vae_variants.evaluation.given_networks import DINOV2, INCEPTION, LPIPS, VARIABLES, check_given
from vae_variants.evaluation.random_features import WIDTHS, RandomFeatures, reconstruction_fd_random, reconstruction_kid_random
from vae_variants.registry import UserError

RANDOM = (reconstruction_fd_random, reconstruction_kid_random)


def pictures(shape: tuple[int, int, int] = (3, 20, 24), n: int = 90, labels: bool = False) -> Dataset:
    """Random coloured blocks on a dark ground, with edges that a blur takes away."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, shape[0], -(-shape[1] // 4), -(-shape[2] // 4), generator=g) ** 3
    fine = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., : shape[1], : shape[2]]
    return split("blocks", (255 * fine).byte(), torch.arange(n) % 2 if labels else None, validation=10, test=40)


@dataclass(eq=False)
class Evaluated:
    """What these metrics see of an evaluation."""

    dataset: Dataset
    reconstructions: Tensor
    sample_means: Tensor | None = None


def blurred(data: Dataset, by: int) -> Tensor:
    x = data.grey().unflatten(-1, data.shape)
    for _ in range(by):
        x = nn.functional.avg_pool2d(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x.flatten(1)


def noisy(data: Dataset, by: float) -> Tensor:
    return data.grey() + by * torch.randn(data.grey().shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("metric", RANDOM)
@pytest.mark.parametrize("shape", [(3, 20, 24), (1, 8, 8), (1, 5, 9)])
def test_random_features_see_noise_and_blur_and_nothing_where_there_is_none(metric, shape):
    data = pictures(shape)
    none = metric(Evaluated(data, data.grey()))
    assert none == pytest.approx(0, abs=1e-5)
    for disturbed, steps in ((noisy, (0.01, 0.03, 0.1, 0.3)), (blurred, (1, 2, 4, 8))):
        found = [metric(Evaluated(data, disturbed(data, by))) for by in steps]
        assert found == sorted(found) and found[0] > 2 * abs(none) and len({*found}) == len(found), (disturbed, found)


def test_random_features_are_those_of_the_images_alone():
    data = pictures()
    one, again, negative = (
        RandomFeatures(data),
        RandomFeatures(replace(data)),
        replace(data, **{part: 255 - getattr(data, part) for part in ("train", "validation", "test")}),
    )
    x = data.grey()
    assert torch.equal(one.scaled(x), again.scaled(x)) and one.scaled(x).shape == (len(x), sum(WIDTHS))
    torch.testing.assert_close(RandomFeatures(negative).scaled(1 - x), one.scaled(x), rtol=1e-5, atol=1e-5)
    train = [part.square().mean().item() for part in one.scaled(data.grey("train")).split(WIDTHS, -1)]
    assert train == pytest.approx([1.0] * len(WIDTHS))
    state = torch.get_rng_state()
    RandomFeatures(data)
    assert torch.equal(state, torch.get_rng_state())


def test_they_are_not_measured_where_a_classifier_is_nor_called_fid():
    for name in ("reconstruction_fd_random", "reconstruction_kid_random"):
        assert not METRICS[name].applies(Evaluated(pictures(labels=True), torch.empty(0)))
        assert METRICS[name].applies(Evaluated(pictures(), torch.empty(0)))
        assert "fid" not in METRICS[name].published and METRICS[name].published_for("blocks") == name


class Detector(nn.Module):
    """Stands for Inception: the mean of each channel in blocks, of 8-bit images."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        assert x.dtype == torch.uint8 and return_features
        return nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)


class Vision(nn.Module):
    """Stands for DINOv2: the mean of each channel, of normalised images of 224 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (3, 224, 224)
        return x.mean((2, 3))


class Perceptual(nn.Module):
    """Stands for VGG-16 with LPIPS: pixels, divided so that the squared distance is the mean squared error."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips and not resize_images
        return x.flatten(1) / 255 / (x.shape[1] * x.shape[2] * x.shape[3]) ** 0.5


NETWORKS = {INCEPTION: Detector, DINOV2: Vision, LPIPS: Perceptual}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in NETWORKS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(kind()), tmp_path / f"{name}.pt")  # type: ignore[no-untyped-call]
        monkeypatch.setenv(name, str(tmp_path / f"{name}.pt"))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("channels", [1, 3])
def test_given_networks_measure_what_their_features_say(channels):
    data = pictures((channels, 20, 24))
    e = Evaluated(data, noisy(data, 0.1), sample_means=data.grey("train")[:40])
    check_given()

    def seen(x: Tensor) -> Tensor:
        eight = (x * 255).round().to(torch.uint8).float() / 255
        return nn.functional.adaptive_avg_pool2d(eight.unflatten(-1, data.shape).expand(-1, 3, -1, -1), 2).flatten(1)

    clamped = e.reconstructions.clamp(0, 1)
    assert METRICS["reconstruction_fid"].fn(e) == pytest.approx(frechet_distance(seen(data.grey()), seen(clamped)), rel=1e-6)
    assert METRICS["fid"].fn(e) == pytest.approx(frechet_distance(seen(data.grey()), seen(data.grey("train")[:40])), rel=1e-6)
    assert METRICS["lpips"].fn(e) == pytest.approx((data.grey() - clamped).square().mean().item(), rel=1e-4)
    same = Evaluated(data, data.grey())
    for name in ("reconstruction_fid", "reconstruction_fd_dinov2", "lpips"):
        assert abs(METRICS[name].fn(same)) < 1e-6 < METRICS[name].fn(e)


def test_without_a_file_nothing_is_measured_and_a_wrong_one_is_one_line(tmp_path, monkeypatch):
    names = ("fid", "reconstruction_fid", "fd_dinov2", "reconstruction_fd_dinov2", "lpips")
    e = Evaluated(pictures(), torch.empty(0))
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert not any(METRICS[name].applies(e) for name in names)
    check_given()
    for variable in VARIABLES:
        (tmp_path / "wrong.pt").write_bytes(b"not a network")
        for path, words in ((tmp_path / "absent.pt", "no such file"), (tmp_path / "wrong.pt", "no TorchScript file")):
            monkeypatch.setenv(variable, str(path))
            with pytest.raises(UserError, match=words) as error:
                check_given()
            monkeypatch.delenv(variable)
            assert variable in str(error.value) and "\n" not in str(error.value)
    assert kernel_distance(torch.eye(4), torch.eye(4), paired=True) == pytest.approx(0)
