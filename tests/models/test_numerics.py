"""Functions that PyTorch has, in a form of this project's: as exact, with the same slopes."""

from __future__ import annotations

import pytest
import torch

from vae_variants.models.numerics import SiLU, cross_entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [0.0, 1.0, 0.3])
def test_cross_entropy_and_its_slopes_are_exact(x: float, dtype: torch.dtype) -> None:
    h = torch.cat([torch.linspace(-40, 40, 4001, dtype=dtype), torch.tensor([0.0, -1e4, 1e4, 90.0, -90.0], dtype=dtype)])
    there = torch.full_like(h, x)
    exact = torch.nn.functional.softplus(h.double(), threshold=1e9).nan_to_num(posinf=1e4) - there.double() * h.double()
    least, eps = 1e-15 if dtype == torch.float64 else 2e-7, torch.finfo(dtype).eps
    assert ((cross_entropy(h, there).double() - exact).abs() <= least + 2 * eps * h.double().abs()).all()
    slope = torch.func.vmap(torch.func.grad(cross_entropy))(h, there)
    torch.testing.assert_close(slope, h.sigmoid() - there)


def test_cross_entropy_takes_shapes_that_broadcast_and_derivatives_of_both() -> None:
    h = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 1, 4).requires_grad_()
    x = torch.linspace(0.1, 0.9, 8, dtype=torch.float64).reshape(2, 4).requires_grad_()
    assert cross_entropy(h, x).shape == (3, 2, 4)
    assert torch.autograd.gradcheck(cross_entropy, (h, x))
    assert torch.autograd.gradgradcheck(cross_entropy, (h, x))


def test_silu_is_torchs_with_its_first_and_second_derivative() -> None:
    x, found = torch.linspace(-30, 30, 301, dtype=torch.float64, requires_grad=True), []
    for function in (SiLU(), torch.nn.functional.silu):
        (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), x)
        found.append((function(x).detach(), slope.detach(), second))
    torch.testing.assert_close(*found)
    assert torch.equal(SiLU()(x).detach(), SiLU()(x.detach()))
