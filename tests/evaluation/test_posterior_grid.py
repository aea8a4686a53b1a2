"""The posterior of a two-dimensional latent on a grid: where its mass is, how fine the grid has to be, what is integrated."""

from __future__ import annotations

import math

import pytest
import torch

from tests.claims.test_elbo_gap import Fixed, linear, planar
from tests.claims.test_posterior_shape import modes
from vae_variants.evaluation.posterior_grid import PosteriorGrid, evaluated, located, midpoint_log_p, posterior_grids, resolved
from vae_variants.models.likelihoods import Gaussian
from vae_variants.models.vae import VAE


def test_the_second_rule_sees_what_lies_outside_of_the_box() -> None:
    model, x = planar((0.3, -0.6), (-0.7, -1.1))
    (grid,) = posterior_grids(model, x, 100, 120)
    assert midpoint_log_p(model, x, grid).item() == pytest.approx(-11.587021175172655, abs=1e-9)
    middle = torch.tensor([0.64518828, -0.34811715], dtype=torch.float64)  # of the posterior, whose sd are 0.317 and 0.205
    narrow = evaluated(model, x, middle - 0.6, middle + 0.6, 120)
    assert 0.01 < midpoint_log_p(model, x, narrow).item() - narrow.log_p().item() < 0.1


def test_posterior_moments_keep_the_two_units_apart() -> None:
    model, x = planar((0.0, 0.0), (-1.0, -1.0))
    (grid,) = posterior_grids(model, x, 100, 120)
    mean, sd = grid.moments()
    assert mean.tolist() == pytest.approx([0.64518828, -0.34811715], abs=1e-6)
    assert sd.square().tolist() == pytest.approx([0.100418410, 0.041841004], abs=1e-6)


def test_a_box_holds_q_too() -> None:
    model, x = planar((6.0, -7.0), (-1.0, -2.0))
    low, high = located(model, x, 100)
    assert (low[0] <= torch.tensor([0.6, -7 - 8 * math.exp(-2) + 1e-5])).all()
    assert (high[0] >= torch.tensor([6 + 8 * math.exp(-1) - 1e-5, -0.3])).all()


def test_a_box_follows_the_posterior_on_each_axis() -> None:
    """At (3, -0.3) with standard deviations of about 0.3 and 0.2, and q a speck at 0."""
    model, _ = planar((0.0, 0.0), (-4.0, -4.0))
    exact, _ = linear()
    x = exact.decoder(torch.tensor([[3.3, -0.3]], dtype=torch.float64))
    low, high = located(model, x, 200)
    assert -0.5 < low[0, 0] < 0.2 and 3.5 < high[0, 0] < 6
    assert -3 < low[0, 1] < -1 and 0 < high[0, 1] < 2


class Bumps(VAE):
    """log p(x, z) of two narrow bumps far apart, of masses 3/4 and 1/4, whatever x is."""

    SCALE, CENTRES = 0.004, ((-1.0, 0.5), (1.2, -0.7))
    asked = 0

    def log_px(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        self.asked += z[..., 0].numel()
        bumps = [
            math.log(mass / (2 * math.pi * self.SCALE**2)) - 0.5 * (z - z.new_tensor(c)).square().sum(-1) / self.SCALE**2
            for mass, c in zip((0.75, 0.25), self.CENTRES, strict=True)
        ]
        return torch.logaddexp(*bumps).expand(torch.broadcast_shapes(bumps[0].shape, x.shape[:-1])) - self.log_prior(z)


def test_a_grid_is_refined_where_the_mass_is_and_nowhere_else() -> None:
    model = Bumps((1, 1, 5), Gaussian(0.5), latent=2, hidden=(3,)).double()
    model.encoder = Fixed(-1.0, 0.5, math.log(0.01), math.log(0.01))
    x = torch.zeros(1, 5, dtype=torch.float64)
    low, high = torch.tensor([-1.3, -1.0], dtype=torch.float64), torch.tensor([1.5, 0.8], dtype=torch.float64)
    mean, scale = (each[0] for each in model.moments(x))
    assert evaluated(model, x, low, high, 150).coarseness(mean, scale) > 0.1  # steps of five standard deviations
    before, model.asked = model.asked, 0
    found = resolved(model, x, low, high, 150)
    assert found.coarseness(mean, scale) < 1e-3 and found.side > 1000
    assert model.asked < 2 * before  # a full grid of that size takes fifty times as many
    assert found.log_p().item() == pytest.approx(0.0, abs=1e-8)
    assert modes(found.log_posterior().numpy()).tolist() == pytest.approx([0.75, 0.25], abs=1e-6)
    exact = 2 * math.log(0.004 / 0.01) + 0.01**2 / 0.004**2 - 1 - math.log(0.75)  # q about the larger bump, wider than it
    assert found.kl(mean, scale)[0].item() == pytest.approx(exact, abs=1e-6)
    assert resolved(model, x, mean - 0.1, mean + 0.1, 150).side == 150  # fine enough as it is


def test_a_box_goes_after_what_is_far_from_q_and_from_the_prior() -> None:
    model = Bumps((1, 1, 5), Gaussian(0.5), latent=2, hidden=(3,)).double()
    model.SCALE, model.CENTRES = 0.05, ((-0.2, -3.3), (-0.2, -5.4))
    model.encoder = Fixed(-0.2, -3.3, math.log(0.1), math.log(0.1))
    x = torch.zeros(1, 5, dtype=torch.float64)
    low, high = located(model, x, 200)
    assert -6.5 < low[0, 1] < -5.6 and high[0, 1] > -2.6 and high[0, 0] - low[0, 0] < 3
    assert resolved(model, x, low[0], high[0], 200).log_p().item() == pytest.approx(0.0, abs=1e-8)
    model.CENTRES = ((-0.2, -5.9), (-0.2, -6.2))
    assert located(model, x, 200)[0][0, 1] < -6.4  # beyond the rim, where some of the mass is


def test_a_grid_integrates_a_gaussian_whatever_the_steps() -> None:
    low, step = torch.tensor([-8.0, -9.0]).double(), torch.tensor([0.1, 0.15]).double()
    empty = PosteriorGrid(low, step, torch.zeros(161, 161).double())
    found = empty._replace(log_joint=-0.5 * empty.latents().square().sum(-1))
    assert found.log_p().item() == pytest.approx(math.log(2 * math.pi), abs=1e-10)
    half = PosteriorGrid(low, 2 * step, found.log_joint[::2, ::2])
    assert half.log_p().item() == pytest.approx(math.log(2 * math.pi), abs=1e-10)
    mean, scale = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.5, 1.0]).double()
    there, back = found.kl(mean, scale)
    assert there.item() == pytest.approx(0.8181471805599453, abs=1e-9)
    assert back.item() == pytest.approx(math.log(0.5) + (1 + 1) / (2 * 0.25) - 0.5, abs=1e-9)
    assert found.coarseness(mean, scale) < 1e-9
