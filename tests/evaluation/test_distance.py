"""Distances of samples against closed forms and against other people's implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_variants.datasets import Dataset
from vae_variants.evaluation.feature_sets import frechet_distance, kernel_distance, neighbours, prdc
from vae_variants.evaluation.features import WIDTH, Classifier, classifier


def normal(n: int, f: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def whitened(x: torch.Tensor) -> torch.Tensor:
    """With sample mean 0 and covariance I exactly."""
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.mT))).mT


def test_the_frechet_distance_of_normal_laws():
    x, y = whitened(normal(500, 6, 0)), whitened(normal(400, 6, 1))
    m = torch.tensor([3.0, 0, 0, -1, 0, 0.5], dtype=torch.float64)
    assert frechet_distance(x, y) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y + m) == pytest.approx(m.square().sum().item(), rel=1e-10)
    scale = torch.tensor([1.0, 2, 3, 0.5, 0, 1], dtype=torch.float64)  # one direction is flat
    assert frechet_distance(x, y * scale) == pytest.approx(((scale - 1) ** 2).sum().item(), rel=1e-7)


def test_the_frechet_distance_is_that_of_scipys_matrix_root():
    from scipy.linalg import sqrtm

    x, y = normal(300, 5, 2) @ normal(5, 5, 3), normal(200, 5, 4) @ normal(5, 5, 5) + 1
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)


def test_frechet_and_kernel_distance_are_those_of_torchmetrics():
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(300, 8, 6), normal(300, 8, 7, shift=0.3)
    theirs = _compute_fid(x.mean(0), torch.cov(x.mT), y.mean(0), torch.cov(y.mT)).item()
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-4)
    assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), rel=1e-6)


def test_the_kernel_distance_is_unbiased():
    found = torch.tensor([kernel_distance(normal(60, 4, 10 + i), normal(50, 4, 1000 + i)) for i in range(400)])
    assert abs(found.mean().item()) < 4 * found.std().item() / 20
    assert found.min() < 0 < found.max()


def test_prdc_is_that_of_its_authors():
    from prdc import compute_prdc

    real, fake = normal(400, 10, 8), normal(300, 10, 9, shift=0.2) * 0.8
    theirs = compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    assert prdc(real, fake, 5)._asdict() == pytest.approx(theirs, rel=1e-9)


def test_prdc_at_its_ends():
    real = normal(300, 4, 11)
    same = prdc(real, normal(300, 4, 12))
    assert same.coverage == pytest.approx(0.97, abs=0.03)
    assert same.density == pytest.approx(1, abs=0.1)
    assert prdc(real, real + 1000) == (0, 0, 0, 0)
    one_mode = prdc(real, real[:1] + 1e-3 * normal(300, 4, 13))
    assert one_mode.precision == 1
    assert one_mode.coverage < 0.1


def test_the_nearest_neighbour_of_a_point_is_not_itself():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert neighbours(x, 1).tolist() == [1, 1, 2, 4]
    assert neighbours(x, 3).tolist() == [7, 6, 4, 7]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (1, 2, 5), (1, 1, 1)])
def test_a_classifier_takes_any_shape(shape):
    model = Classifier(shape, 4)
    x = torch.rand(7, int(np.prod(shape)))
    assert model.embed(x).shape == (7, WIDTH)
    assert model(x).shape == (7, 4)
    torch.testing.assert_close(model.embed(x)[:2], model.embed(x[:2]))
    before = model(x)
    model.rescale(x)
    assert model.embed(x).square().mean().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-4)


def test_the_classifier_of_the_digits_can_read(digits: Dataset):
    model, accuracy = classifier(digits)
    assert accuracy > 0.95
    assert len(model.digest) == 64
    classifier.cache_clear()
    assert classifier(digits)[0].digest == model.digest
    train = model.embed(digits.grey("train"))[:300]
    test = model.embed(digits.grey())
    floor = frechet_distance(train, test)
    assert frechet_distance(model.embed(torch.rand(300, 64)), test) > 10 * floor
    assert frechet_distance(train[:150].repeat(2, 1), test) > floor
