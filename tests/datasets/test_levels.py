"""Data that stay in their stored levels give the numbers of float32, and take the memory of what is stored."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_variants import isolation
from vae_variants.datasets import Dataset, levels
from vae_variants.datasets.levels import Levels, images, mean, rows_of, some
from vae_variants.evaluation import Evaluation, fidelity
from vae_variants.evaluation.distance import nearest
from vae_variants.evaluation.features import classifier
from vae_variants.evaluation.reconstruction import unexplained_variance
from vae_variants.harness.pictures import contact_sheet
from vae_variants.models.likelihoods import Support
from vae_variants.training import fit
from vae_variants.training.setup import set_up
from vae_variants.variants import configure

CPU = torch.device("cpu")
SMALL = "batch=7,epochs=2,latent=2,hidden=4"
LIKELIHOODS = ("bernoulli", "continuous-bernoulli", "gaussian-learnt", "discretized-logistic", "categorical")
VARIANTS = [  # of each support, with labels, with a sampler that is fitted, of another number of players
    *(f"vae[{SMALL},likelihood={name}]" for name in LIKELIHOODS),
    f"conditional-vae[{SMALL}]", "rae-gp[batch=7,epochs=2,latent=2,hidden=4]", "gan[batch=7,epochs=2]", "reference-pca-50[latent=3]",
]  # fmt: skip


def both(dataset: Dataset, look: Callable[[Dataset], Any]) -> tuple[Any, Any]:
    """What is found with all images as float32, and with those of a part that has over 64 bytes so in their levels."""
    found = []
    for limit in (levels.LARGEST, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(levels, "LARGEST", limit)
            patch.setattr(levels, "rows_of", lambda found: torch.arange(len(found)))  # models start from all images, as small ones do
            patch.setattr("vae_variants.training.loop.rows_of", lambda found: torch.arange(len(found)))
            isolation.forget()
            found.append(look(replace(dataset)))
    isolation.forget()
    return found[0], found[1]


@pytest.mark.parametrize("selector", VARIANTS)
def test_training_gives_the_same_weights_and_curves(tiny, selector):
    (chosen,) = configure(selector)

    def trained(dataset: Dataset) -> tuple[bool, dict, dict]:
        training = set_up(chosen, dataset, (0, 3), CPU)
        curves = fit(training.population, training.data, training.recipe, "key") if training.players else {}
        return isinstance(training.train, Levels), curves, training.population.state()

    (whole, curves, weights), (stored, same_curves, same) = both(tiny, trained)
    assert (whole, stored) == (False, True)
    assert curves == same_curves and all(torch.equal(weights[name], same[name]) for name in weights)


@pytest.mark.parametrize("support", Support)
@pytest.mark.parametrize("static", [False, True])
def test_each_support_has_the_same_images(tiny, support, static):
    one, other = both(replace(tiny, static=static), lambda dataset: dataset.as_(support))
    for part in ("train", "validation", "test"):
        a, b = getattr(one, part), getattr(other, part)
        rows = torch.tensor([4, 0, 4])
        assert isinstance(b, Levels) and b.shape == a.shape and len(b) == len(a)
        for found, expected in ((b[:], a), (b[rows], a[rows]), (b.index_select(0, rows), a[rows]), (torch.cat([*b.split(3)]), a)):
            assert found.dtype == torch.float32 and torch.equal(found, expected)
        assert torch.equal(b.double(), a.double()) and torch.equal(b.to(CPU)[2:5], a[2:5])
    assert one.dynamic == other.dynamic


def test_evaluation_gives_the_same_numbers(tiny):
    (chosen,) = configure(f"vae[{SMALL}]")

    def measured(dataset: Dataset) -> list[Any]:
        model = next(set_up(chosen, dataset, (0,), CPU).population.members())
        e = Evaluation(model, dataset, 0, fidelity("smoke"))
        network, accuracy = classifier(dataset, 3)
        contact = contact_sheet(replace(dataset, read="something")) | contact_sheet(replace(dataset, read="it", labels=None, classes=None))
        variances = e.variances["train"]
        return [
            e.elbo.value, e.bound.value, *e.codes.values(), e.reconstructions, variances.active, network.digest, accuracy,
            unexplained_variance(e), nearest(e.sample_means, dataset), *contact.values(), dataset.on_dark.digest, dataset.copies,
        ]  # fmt: skip

    for one, other in zip(*both(tiny, measured), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_the_mean_of_parts_is_that_of_the_whole(monkeypatch):
    stored = torch.randint(0, 256, (5000, 6), dtype=torch.uint8)
    whole = mean(images(stored, 255))
    monkeypatch.setattr(levels, "PIECE", 600)
    assert torch.equal(mean(Levels(stored, 255)), whole)


def test_models_of_large_data_start_from_images_at_equal_distances(monkeypatch):
    stored = torch.arange(200, dtype=torch.uint8).view(50, 4)
    monkeypatch.setattr(levels, "LARGEST", 100)
    monkeypatch.setattr(levels, "START", 10 * 4 * 4)
    found = images(stored, 255)
    assert isinstance(found, Levels) and len(some(found)) == 10 and torch.equal(some(found), found[rows_of(found)])
    assert rows_of(found).tolist() == sorted({*rows_of(found).tolist()}) and {0, 49} <= {*rows_of(found).tolist()}


TRAIN = """
import resource, sys, torch
from vae_variants.datasets import levels, load_dataset
from vae_variants.training.setup import set_up
from vae_variants.variants import configure

torch.set_num_threads(1)
levels.LARGEST, levels.START, levels.PIECE = 2**20, 2**20, 2**18
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
data = load_dataset("npy:" + sys.argv[1])
(chosen,) = configure("vae-gaussian-learnt[latent=2,hidden=4,batch=2000,epochs=1]")
training = set_up(chosen, data, (0,), torch.device("cpu"))
training.run_epoch()
data.copies, data.digest
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of the memory")
def test_training_takes_the_memory_of_what_is_stored(tmp_path: Path):
    """The file as it is mapped, and its parts in levels: with float32 of all images it would be over six times the file."""
    file, size = tmp_path / "images.npy", 2**26
    stored = np.lib.format.open_memmap(file, "w+", np.uint8, (size // 768, 16, 16, 3))
    stored[:] = np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).reshape(16, 16, 3)
    stored[:, 0, 0, 0], stored[:, 0, 0, 1] = np.arange(len(stored)) % 256, np.arange(len(stored)) // 256 % 256
    stored.flush()
    done = subprocess.run([sys.executable, "-c", TRAIN, str(file)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4 * size
