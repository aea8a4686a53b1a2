"""Distances between two sets of feature vectors, of real images and of others."""

from typing import NamedTuple

import torch
from torch import Tensor

from vae_variants.evaluation.metrics import Skip

NEIGHBOURS = 5


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), torch.cov(x.mT)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Frechet distance of two normal distributions with the moments of x (N, F) and y (M, F), in float64.

    tr (C1 C2)^(1/2) is the sum of the square roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which are real and not negative.
    """
    (m1, c1), (m2, c2) = moments(x.double()), moments(y.double())
    values, vectors = torch.linalg.eigh(c1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    return ((m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross).item()


def kernel_distance(x: Tensor, y: Tensor, paired: bool = False) -> float:
    """KID of x (N, F) and y (M, F): the unbiased squared MMD with the kernel (a . b / F + 1)^3 (Binkowski et al. 2018); can be negative.

    If x_i and y_i belong together, `paired` leaves these pairs out, which are no independent draws (Gretton et al. 2012, eq. 4).
    """
    x, y = x.double(), y.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / x.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    xy = kernel(x, y)
    between = (xy.sum() - xy.trace()) / (n * (n - 1)) if paired else xy.mean()
    return (within - 2 * between).item()


def neighbours(x: Tensor, k: int) -> Tensor:
    """Distance of each row of x (N, F) to its k-th nearest other row, (N,)."""
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(k + 1, dim=1).values


class Coverage(NamedTuple):
    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> Coverage:
    """The values of `OVERLAP` for features (N, F) and (M, F); the ball of an image ends at its k-th nearest neighbour of its own kind.

    Balls are closed, so that the ball of an image with k copies holds these. Raises `Skip` if most balls are of radius 0.
    """
    real, fake = real.double(), fake.double()
    distance = torch.cdist(real, fake, compute_mode="donot_use_mm_for_euclid_dist")  # (N, M)
    real_radius, fake_radius = neighbours(real, k), neighbours(fake, k)
    if real_radius.median() == 0:  # then most test images have copies
        raise Skip(f"most test images have {k} copies or more in these features")
    inside = distance <= real_radius[:, None]
    return Coverage(
        precision=inside.any(0).double().mean().item(),
        recall=(distance <= fake_radius).any(1).double().mean().item(),
        density=inside.double().sum(0).mean().item() / k,
        coverage=(distance.min(1).values <= real_radius).double().mean().item(),
    )
