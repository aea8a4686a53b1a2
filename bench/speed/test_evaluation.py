"""Sampling and scoring: models side by side, 784 pixels."""

import pytest
import torch

from vae_variants.datasets import Dataset, split
from vae_variants.evaluation import FIDELITIES, Evaluation
from vae_variants.variants import build, configure


@pytest.fixture(scope="module")
def noise() -> Dataset:
    """The cost does not depend on what is on the images."""
    images = torch.randint(0, 256, (300, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return split("noise", images, None, validation=100, test=100)


@pytest.mark.parametrize("variant", ["vae-bernoulli", "gan", "fvbn", "made"])
def test_sampling(benchmark, variant: str, noise: Dataset) -> None:
    benchmark.group = "100 samples of 784 pixels"
    model = build(variant, noise).eval().requires_grad_(False)
    benchmark.pedantic(model.sample, args=(100,), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("variant", ["vae-bernoulli", "fvbn", "made"])
def test_log_likelihood(benchmark, variant: str, noise: Dataset) -> None:
    benchmark.group = "log p(x) of 100 images of 784 pixels: exact, or its bound of 1000 draws"
    model = build(configure(variant)[0], noise).eval().requires_grad_(False)

    def score() -> None:
        e = Evaluation(model, noise, 0, FIDELITIES["full"], torch.device("cpu"), {})
        _ = e.log_prob if variant in ("fvbn", "made") else e.bound

    benchmark.pedantic(score, rounds=5, warmup_rounds=1)
