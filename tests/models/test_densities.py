"""Autoregressive densities: sums over all binary images, the order of pixels, ancestral samples."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from vae_variants.checks.model import all_binary, roughened
from vae_variants.models.base import MODELS
from vae_variants.models.made import MADE


def test_exact_densities_sum_to_one() -> None:
    for model in (MADE((1, 2, 5), hidden=(9,)), MADE((1, 2, 5), hidden=(9,), orders=4), MADE((1, 2, 5), hidden=(12, 9), orders=2)):
        total = roughened(model).log_prob(all_binary(10)).logsumexp(0).item()
        assert total == pytest.approx(0.0, abs=1e-9)


def test_a_mean_of_logits_over_orders_is_not_a_density() -> None:
    model = roughened(MADE((1, 2, 5), hidden=(9,), orders=4))
    x = all_binary(10)
    h = torch.stack([model.logits(x, model.mask_in[r], model.mask_out[r]) for r in range(4)]).mean(0)
    wrong = (x * h - torch.nn.functional.softplus(h)).sum(-1).logsumexp(0).item()
    assert abs(wrong) > 1e-3


def test_a_pixel_depends_on_those_before_it_alone() -> None:
    for model in (MADE((1, 2, 5), hidden=(12, 9), orders=3), MODELS["fvbn"]((1, 2, 5))):
        model = roughened(model)
        for r in range(getattr(model, "orders", 1)):
            logits = (
                partial(model.logits, mask_in=model.mask_in[r], mask_out=model.mask_out[r]) if isinstance(model, MADE) else model.logits
            )
            rank = model.ranks[r] if isinstance(model, MADE) else torch.arange(10)
            jacobian = torch.autograd.functional.jacobian(logits, torch.rand(10, dtype=torch.float64))
            later = rank[None, :] >= rank[:, None]
            assert jacobian[later].abs().max() == 0
            assert (jacobian[~later].abs() > 0).float().mean() > 0.5


def test_ancestral_samples_follow_the_density() -> None:
    for cls in (MADE, MODELS["fvbn"]):
        for orders in (1, 3) if cls is MADE else (1,):
            model = roughened(cls((1, 2, 2), hidden=(6,), orders=orders) if cls is MADE else cls((1, 2, 2)))
            with torch.no_grad():
                p = model.log_prob(all_binary(4)).exp()
                index = (model.sample(20_000) * torch.tensor([8, 4, 2, 1])).sum(-1).long()
            counts = torch.bincount(index, minlength=16)
            assert ((counts - 20_000 * p).abs() <= 5 * torch.sqrt(20_000 * p * (1 - p)) + 1).all()
