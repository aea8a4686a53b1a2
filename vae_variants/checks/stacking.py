"""The check that three seeds stacked train as three separate ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.checks.fixtures import configuration, digits
from vae_variants.models.base import MODELS
from vae_variants.training.loop import FEW, Training
from vae_variants.training.population import Population
from vae_variants.variants import build
from vae_variants.variants.recipe import Recipe


def seeds_train_apart(selector: str, ways: Sequence[bool] = (False, True), rates: Sequence[float] = (1e-2, 1e-2, 1e-2)) -> None:
    """Three steps with three stacked seeds end where plain steps with each seed alone end. Raises `Failed`.

    Args:
        selector: What is trained.
        ways: Whether the steps of the stack are traced; several are tried one after the other.
        rates: The learning rate of each seed.
    """
    data, chosen = digits(), configuration(selector)
    images = data.as_(chosen.support)

    def trained(seeds: tuple[int, ...], traced: bool) -> dict[str, Tensor]:
        recipe = Recipe(FEW if traced else 1, 20)
        population = Population(lambda: build(chosen, data).double(), seeds)
        training = Training(population, images, recipe, "key", [rates[seed] for seed in seeds])
        for step, x in enumerate(training.batches()):
            for i in range(len(training.players)):
                population.reseed(step, i)
                training.turn(i, x.double(), torch.tensor(0.5, dtype=torch.float64))
        return {name: tensor.clone() for name, tensor in population.state().items()}

    alone = dict[int, dict[str, Tensor]]()
    for traced in ways:
        try:
            together = trained((0, 1, 2), traced)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            fix = "use tensor operations alone, and noise from torch.randn(shape); or say stackable = False in the class"
            raise Failed(f"cannot be stacked (vmap): {reason}", fix) from error
        alone = alone or {seed: trained((seed,), False) for seed in (0, 1, 2)}
        for seed, state in alone.items():
            for name, tensor in state.items():
                if not torch.allclose(tensor[0], together[name][seed], atol=1e-9, rtol=1e-7):
                    off = (tensor[0] - together[name][seed]).abs().max().item()
                    found = f"{name} of seed {seed} differs by {off:.2g} after three steps stacked from three alone"
                    raise Failed(found, "nothing may be shared between seeds: keep to parameters, buffers and what is given")
        if all(torch.equal(tensor[0], tensor[1]) for tensor in together.values()):
            raise Failed("three seeds give the same model", "initialise parameters by draws of torch's global generator")


@check("model")
def stacked_seeds_are_separate_ones(name: str) -> None:
    """Seeds that train together, stacked on one axis, train as each does alone."""
    if not (MODELS[name].stackable and MODELS[name].players):
        raise Skipped("it is not stacked" if MODELS[name].players else "it has nothing to train")
    seeds_train_apart(name)
