"""A traced step is the plain one: same losses, same gradients, same random numbers, for whatever is registered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.trying import Asked, kind_of
from vae_variants.checks.fixtures import configuration
from vae_variants.datasets import Dataset
from vae_variants.models.base import MODELS, Model, Player
from vae_variants.models.likelihoods import Support
from vae_variants.training.batches import batches
from vae_variants.training.graphs import products, simplify
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.traced import Gradient
from vae_variants.variants import VARIANTS, build, configure
from vae_variants.variants.recipe import Recipe

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
            with Asked() as asked:
                found, gradients = gradient(x, t)
            assert not asked.of or not step, "it waits for the value of a tensor, which a GPU does not know yet"
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
