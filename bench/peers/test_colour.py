"""The plain script for colour: its ELBO is the ELBO, and it is compared on the same images and seeds."""

from __future__ import annotations

from pathlib import Path

import colour
import numpy as np
import pytest
import torch
from torch import distributions as d

from vae_variants.datasets import load_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("colour") / "x.npy"
    coarse = np.random.default_rng(0).integers(0, 256, (120, 4, 4, 3), dtype=np.uint8)
    np.save(file, coarse.repeat(4, 1).repeat(4, 2))
    return f"npy:{file}"


def test_the_bound_is_that_of_its_densities() -> None:
    torch.manual_seed(0)
    model, x = colour.PlainVAE((3, 16, 32), 5).eval(), torch.rand(4, 3, 16, 32)
    assert model.log_sigma.item() == -1.5
    with torch.no_grad():
        mean, log_variance = model.encode(x)
        torch.manual_seed(1)
        found = colour.elbo(model, x, 3)
        torch.manual_seed(1)
        q, terms = d.Normal(mean, (log_variance / 2).exp()), []
        for _ in range(3):
            z = mean + q.stddev * torch.randn_like(mean)
            terms.append(d.Independent(d.Normal(model.decoder(z), model.log_sigma.exp()), 3).log_prob(x))
        expected = torch.stack(terms).mean(0) - d.kl_divergence(q, d.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-2)


def test_training_keeps_the_best_validation_and_helps(dataset: str) -> None:
    data = load_dataset(dataset)
    validation, untrained = colour.pictures(data, "validation"), colour.PlainVAE(data.shape, 4)
    assert colour.scored(colour.trained(data, 4, 30, 0), validation, 10)[0] > colour.scored(untrained, validation, 10)[0]


def test_rows_are_beside_each_other_seed_by_seed(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "FIDELITY", "full[elbo_samples=2,bound_samples=2,bound_images=2,image_samples=20]")
    monkeypatch.setattr(colour, "ROWS", colour.ROWS[:1])
    size = (dataset, 4, 1, (0, 1))
    found = [*colour.plain(*size), *colour.built_in(*size, tmp_path)]
    assert [(one.row, one.seed) for one in found] == [(row, seed) for row in ("plain script", *colour.ROWS) for seed in (0, 1)]
    means = colour.table(found)
    assert not means.isna().any().any() and (means.loc["plain script"].iloc[2:] == 0).all()
    differences = [found[2].elbo - found[0].elbo, found[3].elbo - found[1].elbo]
    assert means.loc[colour.ROWS[0], "ELBO less the plain script's"] == pytest.approx(sum(differences) / 2)
