"""Every named variant is in the suite `zoo`, trains, and has a finite value of each metric that its capabilities allow, and of no other."""

from __future__ import annotations

import math

import pytest
import torch

from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation
from vae_variants.evaluation.metrics import TOLD
from vae_variants.harness import Store, load_suite, run_all
from vae_variants.harness.spec import prepared
from vae_variants.integrations.export import rebuilt
from vae_variants.models.base import Classifier, Encoder, LatentVariable
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
    spec = SPECS[label]
    (record,) = run_all([spec], Store(tmp_path), device=torch.device("cpu"))
    assert record.ok, record.reason
    assert all(math.isfinite(value) for rows in record.curves.values() for value in rows[0])
    model = rebuilt(record.label, record.values, record.dataset)
    e = Evaluation(model, prepared(spec.dataset, spec.fidelity), 0, FIDELITIES["smoke"])
    rows = {row["metric"]: row for row in record.rows}
    lost = [row for row in rows.values() if not (row["status"] == "ok" and math.isfinite(row["value"]))]
    assert [row for row in lost if not (isinstance(model, Classifier) and row["reason"] == TOLD)] == []
    assert set(rows) == {m.published_for("digits") for m in METRICS.values() if m.asked_of(e)}
    assert ("elbo" in rows) == isinstance(model, LatentVariable)
    assert ("probe_accuracy" in rows) == isinstance(model, Encoder)
    assert bool({"elbo", "log_likelihood", "bits_per_dimension"} & {*rows} - {row["metric"] for row in lost}) == (label not in IMPLICIT)
    assert {"reconstruction_mse", "sharpness_ratio", "probe_accuracy"} & {*rows} or label in CHAINS
