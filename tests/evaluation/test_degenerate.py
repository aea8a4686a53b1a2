"""Data that leave a metric nothing to divide by: each value is finite, or is skipped with a reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vae_variants.datasets import split
from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation, Skip, features
from vae_variants.evaluation.distance import nearest
from vae_variants.evaluation.feature_sets import prdc
from vae_variants.evaluation.metrics import value_of
from vae_variants.models.base import DataDependent
from vae_variants.models.references import PCA, RealData
from vae_variants.variants import build

DIFFERENT = np.random.default_rng(0).integers(0, 17, (60, 1, 8, 8))
FEW = replace(FIDELITIES["smoke"], annealed_images=0, bound_samples=10, image_samples=40)
DATA = {
    "one image": DIFFERENT[:1].repeat(60, 0),
    "test images are training images": np.tile(DIFFERENT[:20], (3, 1, 1, 1)),
    "flat images": np.arange(60)[:, None, None, None] % 17 + DIFFERENT * 0,
}


@pytest.mark.parametrize(("data", "classes"), [(data, 2) for data in DATA] + [("flat images", 1)])
def test_no_metric_fails_on_such_data(data, classes, monkeypatch):
    monkeypatch.setattr(features, "STEPS", (3, 3))
    images, y = torch.from_numpy(DATA[data]).to(torch.uint8), torch.arange(60) % 2
    dataset = split(data, images[:40], y[:40], levels=17, validation=10, test=(images[40:], y[40:] % classes))
    for model in (build("reference-data", dataset), build("reference-pca-2", dataset), build("vae[hidden=8,latent=2]", dataset)):
        if isinstance(model, DataDependent):
            model.initialise(dataset.grey("train"))
        e = Evaluation(model.eval(), dataset, 0, FEW)
        values = {m.name: value_of(m, e) for m in METRICS.values() if m.asked_of(e) and not m.module.endswith("speed")}
        assert {name: value.reason for name, value in values.items() if value.status == "error"} == {}
        if data != "flat images" and isinstance(model, RealData):
            assert "copies of training images" in values["memorisation_ratio"].reason
        if classes == 1 and isinstance(model, PCA):
            assert values["probe_accuracy"].reason == "the test images have one class"


def test_the_distance_to_a_near_copy_is_exact():
    images = torch.full((90, 1, 28, 28), 200, dtype=torch.uint8)
    images[torch.arange(40), 0, 0, 0] = torch.arange(40, dtype=torch.uint8)
    dataset = split("near", images[:40], validation=1, test=(images[40:], None))
    x = dataset.grey("train")[:2].clone()
    x[1, 5] += 2**-10
    assert nearest(x, dataset).tolist() == [0, 2**-10]


def test_balls_are_closed_and_a_set_of_copies_has_none():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    x[:6] = x[0]
    assert prdc(x, x).coverage == prdc(x, x).precision == prdc(x, x).recall == 1
    with pytest.raises(Skip, match="5 copies"):
        prdc(x[:1].expand(30, 3), x)
