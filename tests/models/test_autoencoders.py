"""Denoising, contractive and sparse autoencoders beside their formulas."""

from __future__ import annotations

import pytest
import torch

from vae_variants.checks.regularizer import drawn
from vae_variants.checks.stacking import seeds_train_apart
from vae_variants.datasets import Dataset
from vae_variants.models.regularizers import contractive, l2, sparse
from vae_variants.variants import build


def shrunk(parameters: dict[str, torch.Tensor], shrink: float) -> torch.Tensor:
    return 0.5 * shrink * sum(p.detach().square().sum() for name, p in parameters.items() if name.startswith("decoder."))


def test_the_contractive_penalty_is_the_squared_jacobian_of_the_encoder(digits: Dataset) -> None:
    model = build("autoencoder[hidden=7,latent=3,activation=tanh,likelihood=gaussian]", digits).double()
    x = digits.grey("train")[:5].double()
    d = model.draws(x, torch.ones((), dtype=torch.float64))
    expected = torch.stack([torch.autograd.functional.jacobian(lambda v: model.encode(v[None])[0], one).square().sum() for one in x])
    torch.testing.assert_close(contractive(d, weight=0.3, shrink=0.0, exact=True), 0.3 * expected)
    torch.manual_seed(0)
    estimates = torch.stack([contractive(d, weight=0.3, shrink=0.0).detach() for _ in range(400)])
    error = estimates.std(0) / 20
    assert ((estimates.mean(0) - 0.3 * expected).abs() < 4 * error).all() and (error < 0.1 * expected).all()
    value = contractive(d, weight=0.3, shrink=0.0, exact=True).mean()
    (gradient,) = torch.autograd.grad(value, model.encoder[0].weight)
    step = torch.zeros_like(gradient)
    step[2, 5] = 1e-5

    def moved(sign: int) -> float:
        with torch.no_grad():
            model.encoder[0].weight += sign * step
        found = contractive(model.draws(x, d.t), weight=0.3, shrink=0.0, exact=True).mean().item()
        with torch.no_grad():
            model.encoder[0].weight -= sign * step
        return found

    assert gradient[2, 5].item() == pytest.approx((moved(1) - moved(-1)) / 2e-5, rel=1e-5)


def test_sparsity_is_an_l1_norm_and_each_can_shrink_the_decoder() -> None:
    d, parameters = drawn(3)
    torch.testing.assert_close(sparse(d, 0.5, 0.0), 0.5 * d.z.abs().sum(-1).mean(0))
    expected = shrunk(parameters, 0.2)
    torch.testing.assert_close(sparse(d, 0.0, 0.2), expected.expand(5))
    torch.testing.assert_close(contractive(d, 0.0, 0.2), expected.expand(5))
    torch.testing.assert_close(l2(d, 0.0, 0.2), expected.expand(5))


def test_a_denoising_autoencoder_reconstructs_clean_images_from_noisy_ones(digits: Dataset) -> None:
    x, t = digits.grey("train")[:40], torch.ones(())
    plain = build("autoencoder[hidden=7,latent=3,likelihood=gaussian]", digits)
    for options in ("noise=0.5", "masked=0.4"):
        model = build(f"autoencoder[hidden=7,latent=3,likelihood=gaussian,{options}]", digits)
        model.load_state_dict(plain.state_dict())
        torch.manual_seed(0)
        d = model.draws(x, t)
        torch.manual_seed(0)
        seen = x + 0.5 * torch.randn_like(x) if "noise" in options else x * (torch.rand_like(x) >= 0.4)
        torch.testing.assert_close(d.z[0], plain.encode(seen))
        torch.testing.assert_close(d.log_px, plain.log_px(x, plain.encode(seen).unsqueeze(0)))
        assert torch.equal(model.encode(x), plain.encode(x)) and torch.equal(d.x, x)
        torch.testing.assert_close(model.eval()("loss", x, t), plain("loss", x, t))
    assert torch.equal(plain.draws(x, t).z, plain.draws(x, t).z)


def test_seeds_of_a_denoising_autoencoder_train_apart() -> None:
    seeds_train_apart("autoencoder[noise=0.3,masked=0.2,regularizer=contractive]", ways=[True])
