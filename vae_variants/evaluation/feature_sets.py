"""Distances between two sets of feature vectors, of real images and of others."""

from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.features import classifier
from vae_variants.evaluation.metrics import Skip
from vae_variants.evaluation.pieces import stored

NEIGHBOURS = 5


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """(a . b / F + 1)^3 of features (N, F) and (M, F): (N, M)."""
    return (a @ b.mT / a.shape[1] + 1) ** 3


def neighbours(x: Tensor, k: int) -> Tensor:
    """Distance of each row of x (N, F) to its k-th nearest other row, (N,)."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(k + 1, dim=1).values


class Features:
    """Features (N, F) of a set of images in float64, with what depends on them alone, computed once for all sets they are compared with."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.double()
        self.radii: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (F,) and covariance (F, F)."""
        return self.x.mean(0), torch.cov(self.x.mT)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric root of the covariance, (F, F)."""
        values, vectors = torch.linalg.eigh(self.moments[1])
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT

    @cached_property
    def within(self) -> Tensor:
        """Mean of the kernel over all pairs of different rows."""
        found, n = kernel(self.x, self.x), len(self)
        return (found.sum() - found.trace()) / (n * (n - 1))

    def radius(self, k: int) -> Tensor:
        """`neighbours` of these."""
        if k not in self.radii:
            self.radii[k] = neighbours(self.x, k)
        return self.radii[k]


def as_features(x: Tensor | Features) -> Features:
    return x if isinstance(x, Features) else Features(x)


def frechet_distance(x: Tensor | Features, y: Tensor | Features) -> float:
    """Frechet distance of two normal distributions with the moments of x (N, F) and y (M, F), in float64.

    tr (C1 C2)^(1/2) is the sum of the square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which are real and not negative.
    """
    x, y = as_features(x), as_features(y)
    (m1, c1), (m2, c2) = x.moments, y.moments
    cross = torch.linalg.eigvalsh(x.root @ c2 @ x.root).clamp(min=0).sqrt().sum()
    return ((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross).item()


def kernel_distance(x: Tensor | Features, y: Tensor | Features, paired: bool = False) -> float:
    """KID of x (N, F) and y (M, F): the unbiased squared MMD with the kernel (a . b / F + 1)^3 (Binkowski et al. 2018); can be negative.

    If x_i and y_i belong together, `paired` leaves these pairs out, which are no independent draws (Gretton et al. 2012, eq. 4).
    """
    x, y = as_features(x), as_features(y)
    xy, n = kernel(x.x, y.x), len(x)
    between = (xy.sum() - xy.trace()) / (n * (n - 1)) if paired else xy.mean()
    return (x.within + y.within - 2 * between).item()


@lru_cache(maxsize=2)
def real_features(dataset: Dataset, n: int, most: int) -> Features:
    """Features of at most n test images at equal distances, from the classifier of the data set."""
    return Features(classifier(dataset, most)[0].embed(stored(dataset, most=n)))


class Coverage(NamedTuple):
    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor | Features, fake: Tensor | Features, k: int = NEIGHBOURS) -> Coverage:
    """The values of `OVERLAP` for features (N, F) and (M, F); the ball of an image ends at its k-th nearest neighbour of its own kind.

    Balls are closed, so that the ball of an image with k copies holds these. Raises `Skip` if most balls are of radius 0.
    """
    real, fake = as_features(real), as_features(fake)
    real_radius = real.radius(k)
    if real_radius.median() == 0:  # then most test images have copies
        raise Skip(f"most test images have {k} copies or more in these features")
    distance = torch.cdist(real.x, fake.x, compute_mode="donot_use_mm_for_euclid_dist")  # (N, M)
    inside = distance <= real_radius[:, None]
    return Coverage(
        precision=inside.any(0).double().mean().item(),
        recall=(distance <= fake.radius(k)).any(1).double().mean().item(),
        density=inside.double().sum(0).mean().item() / k,
        coverage=(distance.min(1).values <= real_radius).double().mean().item(),
    )
