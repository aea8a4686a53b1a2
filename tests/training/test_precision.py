"""Low precision rounds factors and nothing else, and ends with its block."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.training.test_traced import plainly
from vae_variants.datasets import Dataset
from vae_variants.harness import RunSpec
from vae_variants.registry import UserError
from vae_variants.training.graphs import round_factors, simplify
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.precision import autocast, casts, has_effect, onednn, precision
from vae_variants.training.traced import Gradient
from vae_variants.variants import build, configure
from vae_variants.variants.recipe import PRECISIONS, Recipe

CPU = torch.device("cpu")


def test_a_precision_ends_with_its_block() -> None:
    before = onednn.matmul.fp32_precision
    with pytest.raises(RuntimeError, match="shapes"), precision("bf16"):  # noqa: PT012
        assert onednn.matmul.fp32_precision == "bf16"
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert onednn.matmul.fp32_precision == before
    assert not has_effect("fp32", CPU)


def test_a_precision_is_part_of_what_a_run_is() -> None:
    plain, spelt, low = (configure(f"vae{text}")[0] for text in ("", "[precision=fp32]", "[precision=bf16]"))
    keys = [RunSpec(c, "digits", (0,), "smoke").key() for c in (plain, spelt, low)]
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(UserError, match=r"bf16"):
        configure("vae[precision=fp8]")
    assert set(PRECISIONS) == {"fp32", "tf32", "bf16"}


@pytest.mark.skipif(not has_effect("bf16", CPU), reason="this CPU multiplies no bfloat16")
def test_low_precision_trains_nearly_the_same(digits: Dataset) -> None:
    (chosen,) = configure("vae[latent=5]")
    data = digits.as_(chosen.support)

    def trained(name: str) -> tuple[list[float], Tensor]:
        training = Training(Population(lambda: build(chosen, digits), (0, 1)), data, Recipe(10, 100, precision=name), "key")
        losses = [training.run_epoch()["train_loss"][0] for _ in range(10)]
        assert training.how == f"traced; {name}"
        return losses, training.population.owned(training.players[0])[0].detach()

    (plain, weights), (low, rough) = trained("fp32"), trained("bf16")
    assert low[-1] == pytest.approx(plain[-1], abs=0.3)
    assert plain[0] - plain[-1] > 2
    assert not torch.equal(weights, rough)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, rough.bfloat16().float()), "parameters are not rounded"


@pytest.mark.parametrize("trace", [True, False], ids=["casts in the list", "autocast"])
def test_a_cast_loss_keeps_parameters_gradients_and_sums_in_float32(trace: bool, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this CPU does for bf16 by itself: casts in the traced list as CPUs get them, and autocast as a GPU does."""
    from vae_variants.training import traced as steps

    monkeypatch.setattr(steps, "casts", lambda name, device: True)
    monkeypatch.setattr(steps, "autocast", lambda name, device: torch.autocast("cpu", torch.bfloat16, cache_enabled=False))
    (chosen,) = configure("vae[latent=5]")
    population = Population(lambda: build(chosen, digits), (0, 1))
    (player,) = population.template.players
    x = (torch.rand(2, 100, 64) < 0.5).float()
    population.reseed(1)
    expected, slopes = plainly(population, player, x, torch.ones(()))
    population.reseed(1)
    gradient = Gradient(population, player, "bf16", trace)
    found, gradients = gradient(x, torch.ones(()))
    assert gradient.how == ("traced" if trace else "stacked")
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)
    for a, b in zip(gradients, slopes, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.05 * b.norm()


def test_factors_are_cast_once_and_every_product_is_rounded() -> None:
    def f(w: Tensor, x: Tensor) -> Tensor:
        h = torch.bmm(x, w.mT).relu()
        return torch.bmm(torch.bmm(h, w), w.mT)

    w, x = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    graph = make_fx(f)(w, x)
    simplify(graph)
    round_factors(graph)
    casts_made = [node for node in graph.graph.nodes if node.target is Tensor.bfloat16]
    assert len(casts_made) == 4, "of w, x, h and the product in the middle"
    low = [t.bfloat16() for t in (x, w)]
    h = torch.bmm(low[0], low[1].mT).float().relu().bfloat16()
    expected = torch.bmm(torch.bmm(h, low[1]).float().bfloat16(), low[1].mT).float()
    found = graph(w, x)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert not torch.allclose(found, f(w, x), rtol=1e-5)


def test_products_are_cast_for_bf16_alone() -> None:
    for name in PRECISIONS:
        with autocast(name, CPU):
            assert torch.is_autocast_enabled("cpu") == casts(name, CPU)
        assert not casts(name, CPU) or name == "bf16"


def test_float32_is_float32_whatever_multiplies_it() -> None:
    a, b = torch.randn(200, 300), torch.randn(300, 100)
    with precision("fp32"):
        error = (a @ b - (a.double() @ b.double())).abs().max()
    assert error < 1e-4


def test_a_prepared_process_has_no_numbers_too_small_to_be_normal() -> None:
    """In every thread: a process of its own, because threads that are there already stay as they are."""
    code = """
import torch
from vae_variants.harness.process import prepare
prepare()
torch.set_num_threads(2)
small = torch.full((1_000_000,), 1e-30)
assert not (small * 1e-10).any(), "some are left"
assert (small * 1e-5).all()
assert (small.double() * 1e-10).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
