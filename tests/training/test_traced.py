"""A traced step is the plain one: same losses, same gradients, same random numbers, for whatever is registered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.trying import kind_of
from vae_variants.checks.fixtures import configuration
from vae_variants.datasets import Dataset
from vae_variants.harness import RunSpec
from vae_variants.models.base import MODELS, Model, Player
from vae_variants.models.likelihoods import Support
from vae_variants.registry import UserError
from vae_variants.training.batches import batches
from vae_variants.training.graphs import products, round_factors, simplify
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.precision import autocast, casts, has_effect, onednn, precision
from vae_variants.training.traced import Gradient
from vae_variants.variants import VARIANTS, build, configure
from vae_variants.variants.recipe import PRECISIONS, Recipe

CPU = torch.device("cpu")
PLAYED = [name for name, variant in VARIANTS.items() if MODELS[variant.config["model"]].players]
TRAINED = list({kind_of(name): name for name in reversed(PLAYED)}.values())  # the first of each kind


def state_of(population: Population) -> dict[str, Tensor]:
    return {key: tensor.detach().clone() for key, tensor in (population.params | population.buffers).items()}


def plainly(population: Population, player: Player, x: Tensor, t: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """By vmap and autograd, as it is written."""
    values = population.call(player.loss, (0, None))(x, t)
    return values.detach(), torch.autograd.grad(values.sum(), population.owned(player))


@pytest.mark.parametrize("name", TRAINED)
def test_a_traced_gradient_is_the_plain_one(name: str, digits: Dataset) -> None:
    small = digits.subset(60, 20)
    chosen = configuration(name)
    population = Population(lambda: build(chosen, small).double(), (0, 1, 2))
    data = small.as_(chosen.support)
    population.initialise(data.train)
    for player in population.template.players:
        gradient = Gradient(population, player)
        for step, x in zip(range(2), batches(data.train, data.dynamic, (0, 1, 2), 10, "key", 0), strict=False):
            x, t = x.double(), torch.tensor(0.1 + 0.4 * step, dtype=torch.float64)
            x_before = x.clone()
            with population.trial():
                population.reseed(step)
                expected, slopes = plainly(population, player, x, t)
                after, left = population.noise, state_of(population)
            population.reseed(step)
            found, gradients = gradient(x, t)
            assert torch.equal(population.noise, after), "it draws other random numbers"
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
            for a, b in zip(gradients, slopes, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
                assert a.is_contiguous()
            assert torch.equal(x, x_before), "it writes over the images"
            for key, tensor in state_of(population).items():  # buffers may change in training, as the plain loss changes them
                torch.testing.assert_close(tensor, left[key], rtol=1e-10, atol=0, msg=lambda _, key=key: f"it writes over {key}")
            with torch.no_grad():
                for parameter, slope in zip(population.owned(player), gradients, strict=True):
                    parameter.sub_(1e-3 * slope.sign())
        assert gradient.how == ("member by member" if population.models else "traced")


def kept(a: Tensor, b: Tensor) -> Tensor:
    double = a * 2
    return double.exp() + double + b


def seen_through_a_view(a: Tensor, b: Tensor) -> Tensor:
    double = a * 2
    row = double[0]
    return (double + 1).sum(0) + row


def split_and_changed(a: Tensor, b: Tensor) -> Tensor:
    left, right = (a + b).chunk(2, -1)
    return left.exp() * right + left.neg()


def squared(a: Tensor, b: Tensor) -> Tensor:
    double = a + b
    return double * double


def handed_out(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    total = a + b
    return total, total.relu()


def broadcast(a: Tensor, b: Tensor) -> Tensor:
    row = a.sum(0, keepdim=True)
    return row.expand_as(a).exp() + row


def turned(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a[None], b.mT[None]).mT.clone()


def unchanged(a: Tensor, b: Tensor) -> Tensor:
    return a.view(a.shape).mul_(1) + b


def argument(a: Tensor, b: Tensor) -> Tensor:
    return a.view(-1).exp().view_as(a) + a.neg() + b.sigmoid()


def backwards(a: Tensor, b: Tensor) -> Tensor:
    x = a.clone().requires_grad_()
    with torch.enable_grad():
        y = torch.nn.functional.softplus((x * b).tanh().sigmoid()).relu()
    return torch.autograd.grad(y.sum(), x)[0]


CASES = [kept, seen_through_a_view, split_and_changed, squared, handed_out, broadcast, turned, unchanged, argument, backwards]


@pytest.mark.parametrize("f", CASES, ids=lambda f: f.__name__)
def test_a_simplified_graph_gives_the_same_twice_over(f: Callable[..., Tensor]) -> None:
    a, b = torch.randn(4, 6), torch.randn(4, 6)
    kept_a, kept_b, expected = a.clone(), b.clone(), f(a.clone(), b.clone())
    graph = make_fx(f)(a.clone(), b.clone())
    simplify(graph)
    for _ in range(2):
        torch.testing.assert_close(graph(a, b), expected)
    assert torch.equal(b, kept_b)
    if f is not unchanged:
        assert torch.equal(a, kept_a)


def test_a_graph_writes_over_what_nobody_reads() -> None:
    """The rules apply at all: a bias and an activation take no memory of their own."""
    graph = make_fx(lambda a, b, c: torch.relu(c[:, None] + torch.bmm(a, b)).sum())(
        torch.randn(2, 3, 4), torch.randn(2, 4, 5), torch.randn(2, 5)
    )
    simplify(graph)
    names = [str(node.target) for node in graph.graph.nodes]
    assert "aten.add_.Tensor" in names
    assert "aten.relu_.default" in names


def test_operations_in_place_that_harm_nothing_leave_a_graph_simplified() -> None:
    """The backward pass of `clamp` has one: no product of its variants would be rounded for bf16."""
    graph = make_fx(lambda a, b: torch.bmm(a, b) * (a.sum() > 0).logical_and_(b.sum() < 9))(torch.randn(2, 3, 4), torch.randn(2, 4, 5))
    simplify(graph)
    assert products in [node.target for node in graph.graph.nodes]


class Choosy(Model):
    """Its loss takes a way that depends on a value."""

    support = Support.UNIT

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, self.scale = shape, torch.nn.Parameter(torch.ones(()))

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return (self.scale * x).mean() if float(t) > 0.5 else (self.scale * x).square().mean()


def test_what_cannot_be_traced_is_trained_all_the_same(digits: Dataset) -> None:
    population = Population(lambda: Choosy(digits.shape), (0, 1))
    (player,) = population.template.players
    gradient = Gradient(population, player)
    x = torch.rand(2, 3, 64)
    for t in (torch.tensor(0.2), torch.tensor(0.9)):
        expected, slopes = plainly(population, player, x, t)
        found, gradients = gradient(x, t)
        assert torch.equal(found, expected)
        assert torch.equal(gradients[0], slopes[0])
    assert gradient.how.startswith("stacked (")


def test_short_trainings_are_not_traced(digits: Dataset) -> None:
    small = digits.subset(60, 20)
    (chosen,) = configure("vae[hidden=8,latent=2]")

    def trained(epochs: int) -> Training:
        training = Training(Population(lambda: build(chosen, small), (0,)), small.as_(chosen.support), Recipe(epochs, 20), "key")
        training.run_epoch()
        return training

    assert trained(1).how == "stacked; fp32"
    assert trained(1000).how == "traced; fp32"


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("pixels", [10, 3000], ids=["few", "many"])
def test_batches_of_a_seed_do_not_depend_on_the_others(dynamic: bool, pixels: int) -> None:
    images = torch.rand(60, pixels)
    together = list(batches(images, dynamic, (3, 5), 25, "key", 2))
    alone = list(batches(images, dynamic, (5,), 25, "key", 2))
    assert len(together) == len(alone) == 2
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[1:], b)
        assert not torch.equal(a[0], a[1])
    if dynamic:
        ones = torch.stack([torch.cat(list(batches(images, True, (seed,), 60, "key", 0)), 1)[0] for seed in range(200)])
        assert set(ones.unique().tolist()) == {0.0, 1.0}
        assert abs(ones.mean().item() - images.mean().item()) < 5 * 0.5 / ones.numel() ** 0.5
    else:
        rows = {tuple(row) for batch in together for row in batch[0, :, :10].tolist()}
        assert len(rows) == 50, "no image comes twice"
        assert rows <= {tuple(row) for row in images[:, :10].tolist()}


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", TRAINED)
def test_a_cuda_graph_is_the_plain_step(name: str, digits: Dataset) -> None:
    small, device = digits.subset(60, 20), torch.device("cuda")
    (chosen,) = configure(name)
    population = Population(lambda: build(chosen, small), (0, 1, 2), device)
    data = small.as_(chosen.support)
    population.initialise(data.train.to(device))
    for player in population.template.players:
        gradient = Gradient(population, player)
        for step, x in enumerate(batches(data.train.to(device), data.dynamic, (0, 1, 2), 10, "key", 0)):
            t = torch.tensor(0.2 * step, device=device)
            population.reseed(step)
            expected, slopes = plainly(population, player, x, t)
            population.reseed(step)
            found, gradients = gradient(x, t)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
            for a, b in zip(gradients, slopes, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4)
        assert gradient.how == ("member by member" if population.models else "CUDA graph")


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
