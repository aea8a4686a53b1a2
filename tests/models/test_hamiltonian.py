"""Hamiltonian posteriors: volumes by autograd, and models whose log p(x) is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from tests.models.test_posteriors import of_linear
from vae_variants.checks.linear_gaussian import draws
from vae_variants.models.hamiltonian import TEMPERING, Driven, Hamiltonian, Phase, Schedule, gradient, leapfrog
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.objectives import elbo
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError

F64 = {"dtype": torch.float64}
CHOICES = [{"tempering": tempering, "leapfrog": steps, "step": 0.2} for tempering in TEMPERING for steps in (1, 4)]


def bumpy(z: Tensor) -> Tensor:
    """A density of units that depend on each other, up to a constant."""
    return -(z[..., :1] * z.roll(1, -1) + z.square().square() + (3 * z).sin()).sum(-1)


def jacobian(steps, z: Tensor, momentum: Tensor) -> Tensor:
    """d(z_K, p_K) / d(z_0, p_0) of one sample."""
    units = len(z)

    def flat(at: Tensor) -> Tensor:
        return torch.cat(list(steps(Phase(at[:units], at[units:]))))

    return torch.autograd.functional.jacobian(flat, torch.cat([z, momentum]))


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1.0), (0.5, 0.9, 0.8)])
def test_the_leapfrog_keeps_volume_but_for_the_tempering(scales: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    z, momentum, size = torch.randn(3, **F64), torch.randn(3, **F64), torch.tensor([0.1, 0.2, 0.3], **F64)
    found = jacobian(lambda start: leapfrog(start, gradient(bumpy), size, torch.tensor(scales, **F64)), z, momentum)
    assert found.det().item() == pytest.approx(math.prod(scales) ** 3, rel=1e-9)
    assert (found - torch.eye(6, **F64)).abs().max() > 0.2


def test_the_leapfrog_is_reversible() -> None:
    torch.manual_seed(0)
    start, size, scales = Phase(torch.randn(5, 2, 3, **F64), torch.randn(5, 2, 3, **F64)), torch.tensor(0.1, **F64), torch.ones(7, **F64)
    end = leapfrog(start, gradient(bumpy), size, scales)
    back = leapfrog(Phase(end.z, -end.momentum), gradient(bumpy), size, scales)
    assert (end.z - start.z).abs().max() > 0.1
    torch.testing.assert_close(back.z, start.z)
    torch.testing.assert_close(back.momentum, -start.momentum)


@pytest.mark.parametrize("options", CHOICES, ids=lambda options: f"{options['tempering']}-{options['leapfrog']}")
def test_log_q_is_the_change_of_variables_of_z_and_momentum(options, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    posterior = Hamiltonian(3, **options).double()
    q = posterior.given(torch.randn(2, 6, **F64), bumpy)
    noise = iter(torch.randn(2, 1, 2, 3, **F64))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(noise))
    z, log_q = q.draw(1)
    monkeypatch.undo()
    torch.manual_seed(0)
    torch.randn(2, 6, **F64)
    eps, gamma = torch.randn(2, 1, 2, 3, **F64)
    schedule = posterior.schedule
    start, momentum = q.base.mean + q.base.scale * eps[0], schedule.widths[0] * gamma[0]
    for b in range(2):
        whole = jacobian(lambda s: leapfrog(s, gradient(bumpy), schedule.size, schedule.scales), start[b], momentum[b])
        end = leapfrog(Phase(start[b], momentum[b]), gradient(bumpy), schedule.size, schedule.scales)
        expected = Normal(q.base.mean[b], q.base.scale[b]).log_prob(start[b]).sum() - whole.det().abs().log()
        expected = expected + (Normal(0, schedule.widths[0]).log_prob(momentum[b]) - Normal(0, 1).log_prob(end.momentum)).sum()
        torch.testing.assert_close(log_q[0, b], expected)
        torch.testing.assert_close(z[0, b], end.z)


def test_tempering_cools_the_momentum_from_beta_to_one() -> None:
    quadratic, free, none = (Schedule(2, 4, 0.1, 0.5, tempering, 0.3).double() for tempering in TEMPERING)
    k = torch.arange(5, **F64) / 4
    torch.testing.assert_close(1 / quadratic.widths, 1 / ((1 - 0.3**-0.5) * k.square() + 0.3**-0.5), rtol=1e-6, atol=0)
    torch.testing.assert_close(free.widths, 0.3 ** (-0.5 * (1 - k)), rtol=1e-6, atol=0)
    assert none.widths.tolist() == [1] * 5
    for schedule in (quadratic, free, none):
        assert (schedule.widths[0] * schedule.scales.prod()).item() == pytest.approx(1)
        torch.testing.assert_close(schedule.size, torch.full((2,), 0.1, **F64), rtol=1e-6, atol=0)
        with torch.no_grad():
            schedule.size_logit.fill_(50.0)
        assert (schedule.size <= 0.5).all()


def test_impossible_options_are_refused() -> None:
    for options, words in (
        ({"tempering": "cubic"}, "tempering"),
        ({"step": 0.5}, "not between 0 and largest=0.5"),
        ({"beta": 1.0}, "tempering=none"),
    ):
        with pytest.raises(UserError, match=words):
            Hamiltonian(3, **options)


def test_without_steps_it_is_the_vae_on_the_same_noise() -> None:
    torch.manual_seed(0)
    vae = VAE((1, 2, 5), Bernoulli(), latent=3, hidden=(7,)).double()
    moved = VAE((1, 2, 5), Bernoulli(), posterior=Hamiltonian(3, leapfrog=0), latent=3, hidden=(7,)).double()
    assert moved.load_state_dict(vae.state_dict(), strict=False).missing_keys == []
    x, found = torch.rand(4, 10, **F64).round(), []
    for model in (vae, moved):
        torch.manual_seed(1)
        found.append(draws(model, x, 6))
    for name in ("z", "log_px", "log_pz", "log_qz"):
        assert torch.equal(*(getattr(each, name) for each in found)), name
    torch.testing.assert_close(moved.encode(x), vae.moments(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize("options", CHOICES, ids=lambda options: f"{options['tempering']}-{options['leapfrog']}")
def test_weights_average_to_p_of_x(options) -> None:
    model, x, exact = of_linear(Hamiltonian(2, **options))
    w = (draws(model, x, 100_000).log_w - exact).exp()
    error = w.std().item() / math.sqrt(w.numel())
    assert error < 0.05
    assert w.mean().item() == pytest.approx(1, abs=5 * error)


def test_steps_move_samples_uphill() -> None:
    """If the Gaussian is in the wrong place, its bound comes closer to log p(x) as more steps cool the momentum."""
    found = []
    for steps in (0, 1, 4):
        model, x, exact = of_linear(Hamiltonian(2, leapfrog=steps, step=0.1, beta=0.5))
        with torch.no_grad():
            model.encoder[0].bias[:2] += 0.5
        found.append(exact + elbo(draws(model, x, 40_000)).item())
    assert found[0] - 0.1 > found[1] > found[2] + 0.5 > 0.5


def test_the_gradient_sees_that_the_force_depends_on_the_weights() -> None:
    model, x, _ = of_linear(Hamiltonian(2, leapfrog=2, step=0.2))

    def loss() -> Tensor:
        torch.manual_seed(3)
        return elbo(model.infer(x, 5, torch.ones((), **F64))).sum()

    for parameter in (model.decoder[0].weight, model.posterior.schedule.size_logit, model.posterior.schedule.excess, model.encoder[0].bias):
        (slope,) = torch.autograd.grad(loss(), parameter)
        values, flat = [], parameter.detach().view(-1)
        for shift in (1e-5, -1e-5):
            flat[0] += shift
            values.append(loss().item())
            flat[0] -= shift
        assert slope.flatten()[0].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_it_is_no_density_at_a_given_z() -> None:
    model = VAE((1, 2, 5), Bernoulli(), posterior=Hamiltonian(3), latent=3, hidden=(7,))
    q = model.conditional(torch.rand(2, 10))
    assert isinstance(q, Driven) and not hasattr(q, "log_prob")
    assert not model.closed_kl
