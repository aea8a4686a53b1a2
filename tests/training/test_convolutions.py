"""Convolutions of stacked members one after another are the grouped ones, by themselves and in each network."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from tests.training.test_traced import plainly
from vae_variants.datasets import split
from vae_variants.models.networks import NETWORKS
from vae_variants.registry import UserError
from vae_variants.training.convolutions import aten, convolved, gradients, laid_out, separate
from vae_variants.training.population import Population
from vae_variants.training.traced import Gradient
from vae_variants.variants import build, configure

LAYERS = {
    "convolution": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
    "without bias": lambda: nn.Conv2d(4, 6, (3, 1), bias=False),
    "groups of its own": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed in groups": lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2),
    "one axis": lambda: nn.Conv1d(4, 6, 3, padding=1),
}


def graph_of(members: int, layer: str, low: bool) -> tuple[torch.fx.GraphModule, tuple[dict[str, Tensor], Tensor]]:
    """The traced gradient of a nonlinear sum of a layer's outputs for all members, by parameters and input, and its arguments."""
    torch.manual_seed(0)
    modules = [LAYERS[layer]().double() for _ in range(members)]
    state, x = stack_module_state(modules)[0], torch.randn(members, 5, 4, *[9] * (1 if layer == "one axis" else 2), dtype=torch.float64)
    if low:
        state, x = {name: t.float() for name, t in state.items()}, x.float()

    def total(state: dict[str, Tensor], x: Tensor) -> Tensor:
        return vmap(lambda p, a: functional_call(modules[0], p, a).sin().sum(), randomness="different")(state, x).sum()

    state = {name: t.detach() for name, t in state.items()}
    return make_fx(grad(total, argnums=(0, 1)))(state, x), (state, x)


class Layouts(torch.fx.Interpreter):
    """Shapes and strides of what nodes return when they are run."""

    def of(self, arguments, nodes) -> dict[torch.fx.Node, object]:
        self.wanted, self.found = nodes, {}
        self.run(*arguments)
        return self.found

    def run_node(self, n: torch.fx.Node) -> object:
        result = super().run_node(n)
        if n in self.wanted:
            self.found[n] = laid_out(result)
        return result


def flat(found: tuple[dict[str, Tensor], Tensor]) -> list[Tensor]:
    return [*found[0].values(), found[1]]


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("layer", LAYERS)
def test_one_after_another_is_the_same(layer: str, members: int) -> None:
    graph, arguments = graph_of(members, layer, low=False)
    expected = flat(graph(*arguments))
    layouts = {node: laid_out(node.meta["val"]) for node in graph.graph.nodes if "conv" in str(node.target)}
    separate(graph, members, low=False)
    targets = {node.target for node in graph.graph.nodes}
    assert ({convolved, gradients} <= targets) == (members > 1) and (aten.convolution.default in targets) == (members == 1)
    for a, b in zip(flat(graph(*arguments)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert Layouts(graph).of(arguments, layouts) == layouts, "a later view may fail"


@pytest.mark.parametrize("layer", ["convolution", "transposed"])
def test_low_factors_are_rounded_and_sums_are_not(layer: str) -> None:
    graph, arguments = graph_of(3, layer, low=True)
    expected = flat(graph(*arguments))
    separate(graph, 3, low=True)
    for a, b in zip(flat(graph(*arguments)), expected, strict=True):
        assert a.dtype == torch.float32
        error = (a - b).norm() / b.norm()
        assert error < 1e-2, "more than the rounding of factors"
    assert not torch.equal(flat(graph(*arguments))[-1], expected[-1])


GRIDS = ["deep-conv[grid=true]", "resnet[grid=true,attention=true,width=8]"]


@pytest.mark.parametrize("network", [*NETWORKS, *GRIDS])
@pytest.mark.parametrize("name", ["vae-gaussian-learnt[latent=16]", "vq-vae-ema[positions=0]"])
def test_a_traced_gradient_through_each_network_is_the_plain_one(name: str, network: str) -> None:
    colour = split("colour", torch.randint(0, 256, (30, 3, 16, 16), dtype=torch.uint8), None, levels=256, validation=5, test=5)
    try:
        (chosen,) = configure(name, {"network": network, "hidden": "16"})
        population = Population(lambda: build(chosen, colour).double(), (0, 1))
    except UserError as refused:
        pytest.skip(str(refused))
    data = colour.as_(chosen.support).train.double()
    population.initialise(data)
    (player,) = population.template.players
    x, t, gradient = torch.stack([data[:6], data[6:12]]), torch.ones((), dtype=torch.float64), Gradient(population, player)
    with population.trial():
        population.reseed(1)
        expected, slopes = plainly(population, player, x, t)
    population.reseed(1)
    found, gradients = gradient(x, t)
    assert gradient.how == "traced"
    for a, b in zip((found, *gradients), (expected, *slopes), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
