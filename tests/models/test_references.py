"""Baselines that are fitted in closed form."""

from __future__ import annotations

import torch

from vae_variants.evaluation.factor_scores import mcc
from vae_variants.models.references import ICA, PCA


def mixed() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 4x4 pixels that mix three independent sources of a uniform distribution, and the sources."""
    generator = torch.Generator().manual_seed(0)
    sources = torch.rand(3000, 3, generator=generator)
    return sources @ torch.randn(3, 16, generator=generator) + 0.5, sources


def test_independent_components_find_the_sources_that_were_mixed():
    x, sources = mixed()
    found = {}
    for kind in (PCA, ICA):
        model = kind((1, 4, 4), latent=3)
        model.initialise(x)
        found[kind] = mcc(model.encode(x).double().numpy(), sources.numpy())
        torch.testing.assert_close(model.decode(model.encode(x)), x, atol=1e-4, rtol=1e-4)
    assert found[PCA] < 0.95 < 0.99 < found[ICA]


def test_independent_components_are_white_and_span_what_principal_ones_do(digits):
    x = digits.grey("train")
    ica, pca = ICA(digits.shape, latent=10), PCA(digits.shape, latent=10)
    for model in (ica, pca):
        model.initialise(x)
    torch.testing.assert_close(torch.cov(ica.encode(x).mT, correction=0), torch.eye(10), atol=1e-3, rtol=0)
    torch.testing.assert_close(ica.decode(ica.encode(x)), pca.decode(pca.encode(x)), atol=1e-4, rtol=1e-4)


def test_units_beyond_the_rank_of_the_images_stay_zero():
    x, _ = mixed()
    for images in (x, x[:3]):
        model = ICA((1, 4, 4), latent=10)
        model.initialise(images)
        z = model.encode(images)
        assert z.isfinite().all() and (z.std(0, correction=0) > 1e-3).sum() == min(3, len(images) - 1)
        torch.testing.assert_close(model.decode(z), images, atol=1e-3, rtol=1e-3)
