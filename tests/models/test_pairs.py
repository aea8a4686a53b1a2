"""Any two parts go together, or are refused in one line: models of drawn pairs train, draw and score, or cannot be built."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from vae_variants.components import KINDS
from vae_variants.datasets import Dataset
from vae_variants.models.base import MODELS, Density, Finished, Model, Sampler
from vae_variants.models.likelihoods import Support
from vae_variants.registry import UserError
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

NAMES = ("likelihood", "objective", "prior", "posterior", "regularizer", "sampler", "network", "quantizer")
PARTS = {key: list(KINDS[key].registry) for key in NAMES}
SMALL = {"hidden": "7", "latent": "4", "features": "4"}
PAIRS = 40  # for each model


def pairs(model: str) -> list[str]:
    """Selectors of the model with each pair of its parts."""
    (chosen,) = configure(model)
    small = ",".join(f"{key}={value}" for key, value in SMALL.items() if key in chosen.values)
    kinds = [kind for kind in PARTS if kind in chosen.values]
    return [
        f"{model}[{a}={first},{b}={second}{',' + small if small else ''}]"
        for a, b in itertools.combinations(kinds, 2)
        for first, second in itertools.product(PARTS[a], PARTS[b])
    ]


MADE_OF_PARTS = [name for name in MODELS if len(pairs(name)) > PAIRS]


def used(model: Model, x: torch.Tensor) -> None:
    """One loss of each player with its gradient, images and bounds: all finite."""
    for player in model.players:
        loss = model(player.loss, x, torch.tensor(0.5))
        assert loss.isfinite()
        loss.backward()
    model.eval()
    with torch.no_grad():
        if isinstance(model, Finished):
            for option in {"steps", "components"} & vars(model.sampler).keys():
                setattr(model.sampler, option, 2)
            model.finish(x)
        if isinstance(model, Sampler):
            assert model.sample(2).isfinite().all()
        if isinstance(model, Density):
            assert model.log_prob(x).isfinite().all()


@pytest.mark.parametrize("name", MADE_OF_PARTS)
def test_any_two_parts_go_together_or_are_refused(name: str, digits: Dataset) -> None:
    found, small = pairs(name), digits.subset(30, 10)
    refusals = list[str]()
    for selector in random.Random(0).sample(found, PAIRS):
        try:
            model = build(selector, small)
            x = small.as_(model.support).train
            Population(lambda m=model: m, (0,)).initialise(x)
            used(model, x.round() if model.support is Support.BINARY else x)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) < PAIRS
    assert not [text for text in refusals if "\n" in text]
