"""NADE and EoNADE against their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from vae_variants.checks.model import all_binary, roughened
from vae_variants.models import nade
from vae_variants.models.nade import NADE, EoNADE

F64 = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(nade, "BLOCK", 3)  # so that a block goes on where another ended


def built(cls: type[NADE], pixels: int, hidden: tuple[int, ...] = (6,), **options: int) -> NADE:
    model = roughened(cls((1, 1, pixels), hidden=hidden, **options))
    model.centre.copy_(torch.rand(pixels, **F64))
    return model


def directly(model: NADE, x: Tensor, order: list[int]) -> Tensor:
    """Logits (B, D), each with a sum over the pixels before it."""
    logits = torch.zeros_like(x)
    for place, i in enumerate(order):
        sums = model.input_bias.expand(len(x), -1)
        for j in order[:place]:
            sums = sums + (x[:, j, None] - model.centre[j]) * model.input_weight[j]
            sums = sums + model.seen_weight[j] if isinstance(model, EoNADE) else sums
        h = 1 / (1 + (-sums).exp())
        for layer in model.inner:
            h = 1 / (1 + (-layer(h)).exp())
        logits[:, i] = h @ model.output_weight[i] + model.output_bias[i]
    return logits


@pytest.mark.parametrize("hidden", [(6,), (6, 5, 4)])
def test_the_recurrence_gives_the_sums_of_the_definition(hidden) -> None:
    x = all_binary(7)[::5]
    with torch.no_grad():
        model = built(NADE, 7, hidden)
        torch.testing.assert_close(model.chain(x), directly(model, x, list(range(7))))
        model = built(EoNADE, 7, hidden, orders=3)
        for r in range(3):
            order = model.ranks[r].argsort().tolist()
            torch.testing.assert_close(model.chain(x, r), directly(model, x, order))


@pytest.mark.parametrize("model", [(NADE, (9,), {}), (NADE, (6, 5), {}), (EoNADE, (9,), {"orders": 1}), (EoNADE, (6, 5), {"orders": 4})])
def test_the_density_sums_to_one(model) -> None:
    cls, hidden, options = model
    with torch.no_grad():
        assert built(cls, 10, hidden, **options).log_prob(all_binary(10)).logsumexp(0).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("cls", [NADE, EoNADE])
def test_a_pixel_depends_on_all_those_before_it_and_on_no_other(cls) -> None:
    model = built(cls, 7)
    with torch.no_grad():
        model.input_weight.mul_(0.3)  # no saturated unit
    for r in range(getattr(model, "orders", 1)):
        jacobian = torch.autograd.functional.jacobian(lambda x, r=r: model.chain(x[None], r)[0], torch.rand(7, **F64))
        rank = model.order(r).argsort()
        assert torch.equal(jacobian != 0, rank[None, :] < rank[:, None])


def test_eonade_trains_the_chains_that_it_is_scored_by() -> None:
    model, x = built(EoNADE, 7, (6, 5), orders=3), all_binary(7)
    for r in range(3):
        logits = model.chain(x, r)
        for i in range(7):
            seen = (model.ranks[r] < model.ranks[r, i]).double().expand_as(x)
            torch.testing.assert_close(model.given(x, seen)[:, i], logits[:, i])


def test_eonades_loss_is_minus_log_p_averaged_over_all_orders() -> None:
    model = built(EoNADE, 3)
    with torch.no_grad():
        model.output_bias.mul_(3)  # so that the pixels weigh differently
        x = torch.tensor([[1.0, 0, 1]], **F64)
        model.ranks = torch.tensor(list(itertools.permutations(range(3))))
        exact = -torch.stack([model.joint(x, r) for r in range(6)]).mean()
        losses = torch.stack([model.loss(x.expand(400, -1), torch.ones(())) for _ in range(100)])
    error = losses.std().item() / 10
    assert abs(losses.mean().item() - exact.item()) < 5 * error
    assert error < 0.03 * exact.item()


def test_more_orders_are_a_mixture_of_joints() -> None:
    model, x = built(EoNADE, 5, orders=3), all_binary(5)
    with torch.no_grad():
        mixed = torch.stack([model.joint(x, r).exp() for r in range(3)]).mean(0)
        torch.testing.assert_close(model.log_prob(x), mixed.log())
    assert torch.equal(model.ranks[0], torch.arange(5))
    assert model.ranks.sort(-1).values.tolist() == [list(range(5))] * 3
    assert math.isfinite(model.loss(x, torch.ones(())).item())
