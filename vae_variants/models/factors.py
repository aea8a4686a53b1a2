"""Cholesky factors of stacked matrices, some of which may have none."""

import math

import torch
from torch import Tensor


def cholesky(a: Tensor) -> Tensor:
    """The lower triangular L (..., Z, Z) with a = L L^T; NaN if a matrix has none, so that a seed that diverges stops no other."""
    root, info = torch.linalg.cholesky_ex(a)
    return torch.where((info == 0)[..., None, None], root, math.nan)
