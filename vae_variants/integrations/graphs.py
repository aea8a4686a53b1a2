"""The graph of a module in operations that ONNX has: gradients and functions of matrices are written out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


def inverse(a: Tensor, **_: bool) -> tuple[Tensor, Tensor]:
    """The inverse of positive definite matrices (..., Z, Z) by Gauss-Jordan elimination, and 0 for success."""
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    both = torch.cat([a, one.expand_as(a)], -1)
    for i in range(a.shape[-1]):
        row = both[..., i : i + 1, :] / both[..., i : i + 1, i : i + 1]
        both = both - (both[..., i : i + 1] - one[:, i : i + 1]) * row
    return both[..., a.shape[-1] :], torch.zeros(a.shape[:-2], dtype=torch.int32, device=a.device)


def cholesky(a: Tensor, **_: bool) -> tuple[Tensor, Tensor]:
    """The lower root L of positive definite matrices L L^T (..., Z, Z), column by column, and 0 for success."""
    columns, rest = [], a
    for i in range(a.shape[-1]):
        columns.append(rest[..., i : i + 1] / rest[..., i : i + 1, i : i + 1].sqrt())
        rest = rest - columns[-1] * columns[-1].mT
    return torch.cat(columns, -1).tril(), torch.zeros(a.shape[:-2], dtype=torch.int32, device=a.device)


def solved(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with A X = B for triangular A (..., Z, Z), row by row; with X A = B if not `left`."""
    if not left:
        return solved(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    rows: dict[int, Tensor] = {}
    for i in reversed(range(a.shape[-1])) if upper else range(a.shape[-1]):
        rows[i] = b[..., i : i + 1, :] / (1.0 if unitriangular else a[..., i : i + 1, i : i + 1])
        b = b - a[..., i : i + 1] * rows[i]
    return torch.cat([rows[i] for i in range(a.shape[-1])], -2)


def unchecked(*_: Any, **__: Any) -> None:
    """Takes every result as a success: the functions above give numbers that are not finite instead."""


MATRICES: dict[Any, Callable[..., Any]] = {
    aten.linalg_inv_ex.default: inverse,
    aten.linalg_cholesky_ex.default: cholesky,
    aten.linalg_solve_triangular.default: solved,
    aten._linalg_check_errors.default: unchecked,
}


def written_out(module: nn.Module, x: Tensor) -> GraphModule:
    """The graph of a module for inputs like x, with any number of rows. It may take gradients, which `torch.export` does not follow.

    Matrices that are inverted must be positive definite, as those of a metric are.
    """
    table = {**core_aten_decompositions(), **MATRICES}
    found = make_fx(module, table, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x)
    found.graph.eliminate_dead_code()
    found.recompile()
    return found
