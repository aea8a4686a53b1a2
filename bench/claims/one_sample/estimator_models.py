"""The frozen models on which estimators are measured: a star of variants, each at three ages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from vae_variants.evaluation.evaluation import spread
from vae_variants.models.vae import VAE
from vae_variants.studies.lab import Lab

__all__ = ["AGES", "STAR", "Subject", "ages", "some_images", "subjects"]

STAR = ("vae-latent-2", "vae-latent-20", "vae-latent-50", "vae-gaussian", "vae-gaussian-learnt")
AGES = ("early", "middle", "final")
SEEDS = 3


class Subject(NamedTuple):
    """One trained model; `age` is one of `AGES`, `epochs` how long it was trained."""

    name: str
    age: str
    epochs: int
    seed: int
    model: VAE

    @property
    def where(self) -> dict[str, str | int]:
        """The columns by which a table finds its row."""
        return {"model": self.name, "age": self.age, "epochs": self.epochs, "latent units": self.model.latent, "seed": self.seed}


def ages(epochs: int) -> dict[str, int]:
    """age -> epochs: 1, a third of all (where that is none of the others), all."""
    found = {"early": 1, "middle": round(epochs / 3), "final": epochs}
    if not 1 < found["middle"] < epochs:
        del found["middle"]
    if epochs == 1:
        del found["early"]
    return found


def subjects(lab: Lab, names: tuple[str, ...] = STAR, of: tuple[str, ...] = AGES) -> Iterator[Subject]:
    """Trains, or takes from the store, every model of the star; those of one variant follow each other, young ones first.

    A recipe is constant over its epochs, so that a model trained for one epoch is the one that the full training had after its first.
    """
    for name in names:
        configuration = lab.configurations(name)[0]
        for age, epochs in ages(configuration.recipe.epochs).items():
            if age in of:
                for seed, model in lab.models(configuration.with_defaults(epochs=epochs), lab.seeds(SEEDS)).items():
                    assert isinstance(model, VAE)
                    yield Subject(name, age, epochs, seed, model)


def some_images(lab: Lab, model: VAE, count: int) -> Tensor:
    """`count` test images at even distances, or all, (N, D) in the model's support."""
    images = lab.dataset.as_(model.support).test
    return images[spread(len(images), count)].to(lab.device)
