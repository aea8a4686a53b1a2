"""What a Gaussian decoder's sigma costs, against a search over sigma."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from vae_variants.evaluation import FIDELITIES, METRICS, Evaluation
from vae_variants.variants import build


def value(e: Evaluation, name: str) -> float:
    return METRICS[name].fn(e)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0])
def test_the_optimal_sigma_is_where_the_elbo_is_highest(sigma, digits) -> None:
    torch.manual_seed(1)
    model = build(f"vae[likelihood=gaussian,sigma={sigma},hidden=8,latent=3]", digits).eval().requires_grad_(False)
    e = Evaluation(model, digits, 0, replace(FIDELITIES["smoke"], elbo_samples=3))
    assert value(e, "pixel_sigma") == pytest.approx(sigma)
    best, cost, elbo = value(e, "optimal_sigma"), value(e, "sigma_cost"), value(e, "elbo")

    def at(s: float) -> float:
        model.likelihood.sigma = s
        return value(Evaluation(model, digits, 0, e.fidelity), "elbo")

    assert at(best) - elbo == pytest.approx(cost, rel=1e-3, abs=1e-3)
    assert at(best * 1.02) < at(best)
    assert at(best / 1.02) < at(best)
    with e.noise("elbo"):  # the same draws
        z = model.infer(e.test, 3, torch.ones(())).z
    errors = (model.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2]) - e.test).double().square().mean()
    assert best == pytest.approx(math.sqrt(errors), rel=1e-4)


def test_only_a_gaussian_of_one_scale_is_asked(digits) -> None:
    asked = {
        name: METRICS["sigma_cost"].asked_of(Evaluation(build(name, digits), digits, 0, FIDELITIES["smoke"]))
        for name in ("vae-gaussian[hidden=8]", "vae-gaussian-learnt[hidden=8]", "vae-bernoulli[hidden=8]", "ae[hidden=8]")
    }
    assert list(asked.values()) == [True, True, False, False]
