"""What checks of several kinds share: small images and models, stacking, gradients."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from vae_variants.checks.base import Failed
from vae_variants.components import bind, takes
from vae_variants.datasets import Dataset, load_dataset, split
from vae_variants.datasets.dataset import handed_out
from vae_variants.models.base import Model, owned
from vae_variants.models.likelihoods import Support
from vae_variants.training.population import Population
from vae_variants.variants import Configuration, build, configure

SMALL = {
    "hidden": [7],
    "latent": 3,
    "latents": [2, 2],
    "blocks": [1, 1],
    "channels": 2,
    "features": 8,
    "layers": 2,
    "centroids": 5,
    "iterations": 2,
    "transitions": 2,
    "batch": 10,
    "epochs": 2,
}


def size(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


@lru_cache(maxsize=4)
def tiny(height: int = 2, width: int = 5) -> Dataset:
    """Sixty images of 4 grey levels in two classes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 4, (60, 1, height, width), generator=generator, dtype=torch.uint8)
    return handed_out(split("tiny", images, images.flatten(1).sum(1) % 2, levels=4, validation=10, test=10))


def digits(train: int = 60, evaluation: int = 20) -> Dataset:
    """Some of scikit-learn's digits, which need no download."""
    return load_dataset("digits").subset(train, evaluation)


def configuration(selector: str) -> Configuration:
    """Of a small network, unless the selector says otherwise."""
    (found,) = configure(selector, SMALL)
    return found


def model_of(selector: str, dataset: Dataset) -> Model:
    return build(configuration(selector), dataset)


def provided(entry: Callable[..., Any], dataset: Dataset, others: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a part takes, of what a data set gives and of `others`."""
    given = {"shape": dataset.shape, "levels": dataset.levels, "n": dataset.sizes["train"], "classes": len(dataset.classes or ())}
    return {key: value for key, value in {**given, **others}.items() if takes(entry, key)}


def members(selector: str, dataset: Dataset) -> tuple[Model, Tensor]:
    """An untrained model, initialised from the training images if it needs them, and the test images in its support."""
    population = Population(lambda: model_of(selector, dataset), (0,))
    data = dataset.as_(population.template.support)
    population.initialise(data.train[:])
    return next(population.members()), data.test[:]


def state_of(model: Model) -> dict[str, Tensor]:
    """All parameters and buffers."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def changed_by(work: Callable[[], object], model: Model) -> list[str]:
    """The parameters and buffers whose values a call changes."""
    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    work()
    return [name for name, tensor in state_of(model).items() if not (name in before and torch.equal(tensor, before[name]))]


def outside(x: Tensor, support: Support, levels: int) -> Tensor:
    """Those values of `x` that are no pixels of a support, on which grey levels are 0, 1 / (levels - 1), ..., 1."""
    steps = {Support.BINARY: 1, Support.BYTE: levels - 1}.get(support)
    if steps:
        return x[~(((x * steps).round().clamp(0, steps) / steps - x).abs() < 1e-6)]
    return x[~((x >= 0) & (x <= 1))] if support is Support.UNIT else x[~x.isfinite()]


def stacks(what: str, function: Callable[..., Tensor], arguments: tuple[Any, ...], alone: Tensor, fixes: tuple[str, str]) -> None:
    """Raises `Failed` unless a function mapped over stacked `arguments` (torch.func.vmap) gives `alone`, its stacked values.

    `fixes` are those of a function that cannot be mapped, and of one that gives other values.
    """
    try:
        found = vmap(function, randomness="different")(*arguments)
    except RuntimeError as error:
        raise Failed(f"{what}cannot be stacked (vmap): {' '.join(str(error).split())[:200]}", fixes[0]) from error
    if not torch.allclose(found, alone, atol=1e-5 if alone.dtype is torch.float32 else 1e-8):
        raise Failed(f"{what}gives other values stacked (vmap) than alone", fixes[1])


def stacks_in_a_vae(selector: str) -> None:
    """Raises `Failed` unless two seeds of a model, stacked, have the losses of each alone."""
    data = digits()

    def losses(seeds: tuple[int, ...]) -> Tensor:
        population = Population(lambda: model_of(selector, data).double(), seeds)
        x, t = data.as_(population.template.support).test[:].round().double(), torch.tensor(0.5, dtype=torch.float64)
        population.initialise(x)
        return population.call("loss", (None, None))(x, t)

    try:  # one seed is called through vmap as well
        alone, found = torch.cat([losses((0,)), losses((1,))]), losses((0, 1))
    except RuntimeError as error:
        fix = "use tensor operations alone: no .item(), no if on a value, nothing in place"
        raise Failed(f"cannot be stacked (vmap): {' '.join(str(error).split())[:200]}", fix) from error
    if not torch.allclose(found, alone, atol=1e-8):
        raise Failed("gives other values stacked (vmap) than alone", "reduce over axes of (K, B) alone")


def with_defaults(entry: Callable[..., Any], n: int, shape: tuple[int, int, int]) -> Any:
    """An objective or a regularizer with its default options, in float64, for n training images of that shape and two latent units."""
    given = {"n": n, "shape": shape, "levels": 4, "classes": 2, "latent": 2}
    term = bind(entry, {key: value for key, value in given.items() if takes(entry, key)})
    return term.double() if isinstance(term, nn.Module) else term


def each_player_trains(selector: str, fix: str) -> None:
    """Raises `Failed` unless the gradient of each player's loss reaches all of its parameters and is finite."""
    data = digits()
    model = model_of(selector, data)
    parameters = dict(model.named_parameters())
    for player, names in zip(model.players, owned(model.players, [*parameters]), strict=True):
        value = model(player.loss, data.as_(model.support).test[:].round(), torch.tensor(0.5))
        gradient_reaches("a VAE's loss" if player.loss == "loss" else player.loss, value, {name: parameters[name] for name in names}, fix)


@torch.no_grad()
def cancels(loss: Callable[[], Tensor], bias: Tensor) -> bool:
    """Whether a bias drops out of a loss, as the last one of a critic whose outputs are subtracted: it is the same for any value of it."""
    before, found = bias.clone(), list[Tensor]()
    for shift in (0.0, 1.0, -3.0):
        with torch.random.fork_rng(devices=[]):
            bias.copy_(before + shift)
            found.append(loss())
    bias.copy_(before)
    return all(torch.allclose(value, found[0], rtol=1e-4, atol=1e-5) for value in found)


def gradient_reaches(
    what: str, value: Tensor, parameters: Mapping[str, Tensor], fix: str, loss: Callable[[], Tensor] | None = None
) -> None:
    """Raises `Failed` unless the gradient of `value`, called `what`, is finite and not 0 for each of the parameters.

    A bias of the last layer, of one number, may have none if it is used and drops out of `loss`, which gives `value` again.
    """
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.numel() == 1 and loss and cancels(loss, parameters[name]):
            continue
        if gradient is None or not gradient.abs().sum() > 0:
            raise Failed(f"the gradient of {what} does not reach {name}", fix)
        if not gradient.isfinite().all():
            raise Failed(f"the gradient of {what} with respect to {name} is not finite", "keep logarithms and divisions away from 0")
