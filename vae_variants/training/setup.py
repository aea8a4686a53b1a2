"""From a configuration to models that are ready to train."""

from collections.abc import Sequence

import torch

from vae_variants.datasets.dataset import Dataset
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants.configurations import Configuration, build_model


def set_up(
    configuration: Configuration, dataset: Dataset, seeds: Sequence[int], device: torch.device, beside: Sequence[Configuration] = ()
) -> Training:
    """The untrained models of a run, one for each seed, with their data and recipe.

    Configurations `beside` it that differ in the learning rate alone train in the same stack, with the same seeds.
    """
    every = (configuration, *beside)
    population = Population(lambda: build_model(configuration, dataset), tuple(seeds) * len(every), device)
    rates = [each.recipe.lr for each in every for _ in seeds]
    return Training(population, dataset.as_(configuration.support), configuration.recipe, dataset.digest, rates)
