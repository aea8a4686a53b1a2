"""From a configuration to models that are ready to train."""

from collections.abc import Sequence
from functools import partial

import torch

from vae_variants.datasets.dataset import Dataset
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants.configurations import Configuration, build_model, canonical


def set_up(
    configuration: Configuration, dataset: Dataset, seeds: Sequence[int], device: torch.device, beside: Sequence[Configuration] = ()
) -> Training:
    """The untrained models of a run, one for each seed, with their data and recipe.

    Configurations `beside` it, which differ in the learning rate and in real numbers of the model, train in the same stack, with the same
    seeds.

    Raises:
        Unlike: If the models cannot be stacked, because an option changes more than numbers in them.
    """
    every = (configuration, *beside)
    models = [canonical(each.options) for each in every]
    builds = {name: partial(build_model, each, dataset) for name, each in zip(models, every, strict=True)}
    population = Population([builds[name] for name in models for _ in seeds], tuple(seeds) * len(every), device)
    rates = [each.recipe.lr for each in every for _ in seeds]
    return Training(population, dataset.as_(configuration.support), configuration.recipe, dataset.digest, rates)
