"""Every named variant is in the suite `zoo`, trains, and has nats only if it has a density."""

from __future__ import annotations

import math

import pytest
import torch

from vae_variants.harness import Store, load_suite, run_all
from vae_variants.variants import VARIANTS

pytestmark = pytest.mark.usefixtures("smaller_smoke")

SUITE = load_suite("zoo")
SPECS = {spec.label: spec for spec in SUITE.plan(seeds="0,", fidelity="smoke")}
IMPLICIT = {
    *("ae", "ae-gmm", "ae-maf", "ae-iaf", "ae-two-stage", "rae-l2", "rae-gp", "rae-sn", "wae-mmd", "sliced-wae", "aae", "gan", "vae-gan"),
    *("vae-log-cosh", "vae-ms-ssim", "reference-data", "reference-pixels", "reference-random-projection", "reference-random-encoder"),
    *("wgan-gp", "gan-hinge", "lsgan", "bigan", "avb", "ae-denoising", "ae-contractive", "ae-sparse"),
    *(f"reference-pca-{latent}" for latent in (2, 5, 10, 20, 50)),
    *("reference-ica-10", "reference-ica-20"),
}

CHAINS = {"fvbn", "made", "made-orders-8", "nade", "eonade", "pixelcnn", "gated-pixelcnn", "pixelcnn-logistic"}  # without latents


def test_the_zoo_holds_every_named_variant() -> None:
    held = [name for block in SUITE.runs for name in block.variants]
    assert sorted(held) == sorted(VARIANTS)
    assert len(held) >= 60


@pytest.mark.parametrize("label", SPECS)
def test_a_named_variant_trains_and_is_measured(label: str, tmp_path) -> None:
    (record,) = run_all([SPECS[label]], Store(tmp_path), device=torch.device("cpu"))
    assert record.ok, record.reason
    assert all(math.isfinite(value) for rows in record.curves.values() for value in rows[0])
    values = {row["metric"]: row["value"] for row in record.rows if row["value"] is not None}
    assert all(map(math.isfinite, values.values()))
    assert ({"elbo", "log_likelihood", "bits_per_dimension"} & values.keys() != set()) == (label not in IMPLICIT)
    assert {"reconstruction_mse", "sharpness_ratio", "probe_accuracy"} & values.keys() or label in CHAINS
