"""Pythae's HVAE and Poincaré VAE beside ours, with its weights and its noise. Where they differ, the paper's equation decides."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

pytest.importorskip("pythae", reason="Pythae is not installed: nox -s peers installs it")
from models import taught
from torch import Tensor, nn
from torch.nn.functional import softplus

from vae_variants.models.hamiltonian import Hamiltonian, Phase, gradient, leapfrog
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.poincare import WrappedNormal, WrappedNormalPrior, exp_0
from vae_variants.models.vae import VAE

LATENT, SHAPE, BETA, SIZE, STEPS = 3, (1, 28, 28), 0.3, 0.05, 3
F64 = {"dtype": torch.float64}


class Logits(nn.Module):
    """Pythae's decoder without its sigmoid: its HVAE takes the output for logits."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(decoder.layers[0], decoder.layers[1][0])

    def forward(self, z: Tensor):
        from pythae.models.base.base_utils import ModelOutput

        return ModelOutput(reconstruction=self.layers(z).reshape(-1, *SHAPE))


def pair() -> tuple[nn.Module, VAE, Tensor]:
    """Pythae's HVAE, ours with its weights, both in float64, and images."""
    from pythae.models import HVAE, HVAEConfig

    torch.manual_seed(0)
    config = HVAEConfig(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce", n_lf=STEPS, eps_lf=SIZE, beta_zero=BETA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it expects logits
        theirs = taught(HVAE(config))
    theirs.decoder = Logits(theirs.decoder)
    mine = VAE(
        SHAPE,
        Bernoulli(),
        posterior=Hamiltonian(LATENT, leapfrog=STEPS, step=SIZE, beta=BETA),
        latent=LATENT,
        hidden=(512,),
        activation="relu",
    )
    source, weights = dict(theirs.named_parameters()), {}
    for part in ("weight", "bias"):
        weights[f"encoder.0.{part}"] = source[f"encoder.layers.0.0.{part}"]
        weights[f"encoder.2.{part}"] = torch.cat([source[f"encoder.embedding.{part}"], 0.5 * source[f"encoder.log_var.{part}"]])
        weights[f"decoder.0.{part}"] = source[f"decoder.layers.0.0.{part}"]
        weights[f"decoder.2.{part}"] = source[f"decoder.layers.1.{part}"]
    mine.load_state_dict(weights, strict=False)
    return theirs.double(), mine.double(), (torch.rand(4, 784, **F64) < 0.3).double()


def test_the_same_weights_and_noise_give_the_same_trajectory_and_terms() -> None:
    """Its `get_nll` moves samples as ours does; only the density of its first momentum differs.

    It scores p_0 by -sqrt(beta_0) |p_K|^2 / 2. The paper's N(p_0; 0, I / beta_0) has -beta_0 |p_0|^2 / 2, of the first momentum.
    """
    theirs, mine, x = pair()
    k = 40
    for image in x[:2, None]:
        torch.manual_seed(5)
        found = float(theirs.get_nll(image.reshape(-1, *SHAPE), n_samples=k, batch_size=k))
        torch.manual_seed(5)
        q = mine.conditional(image)
        eps, noise = torch.randn(k, LATENT, **F64), torch.randn(k, LATENT, **F64)
        start = q.base.mean + q.base.scale * eps

        def joint(z: Tensor, image: Tensor = image) -> Tensor:
            return mine.log_joint(image.expand(len(z), -1), z)

        end = mine.posterior.end(start, noise, joint)
        shared = joint(end.z) - q.base.log_prob(start)  # the constants of p(z) and q(z) are the same
        last, first = -0.5 * end.momentum.square().sum(-1), -0.5 * noise.square().sum(-1)
        as_theirs = shared + last + math.sqrt(BETA) * 0.5 * end.momentum.square().sum(-1)
        assert found == pytest.approx((as_theirs.logsumexp(0) - math.log(k)).item(), abs=1e-4)
        torch.manual_seed(5)
        ours = mine.infer(image, k, torch.ones((), **F64)).log_w.squeeze(1)
        torch.testing.assert_close(ours, shared + last - first)
        assert abs(found - (ours.logsumexp(0) - math.log(k)).item()) > 0.1


def loss_terms(theirs: nn.Module, x: Tensor, start: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """What its `forward` gives for a z_0 and the noise of p_0."""
    theirs._sample_gauss = lambda mu, std: (start + 0 * mu, (start - mu) / std)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    before, torch.randn_like = torch.randn_like, lambda *_, **__: noise
    try:
        return theirs({"data": x.reshape(-1, *SHAPE)})
    finally:
        torch.randn_like = before
        torch.set_rng_state(state)


def test_its_training_step_is_no_leapfrog() -> None:
    """It moves z by the momentum before the half step, and forgets to cool it, so volume changes.

    The paper's step keeps volume, which its bound needs.
    """
    theirs, mine, x = pair()
    theirs.n_lf, theirs.eps_lf = 1, nn.Parameter(torch.tensor([0.2], **F64))
    torch.manual_seed(1)
    z, momentum = torch.randn(2, 1, LATENT, **F64)

    def step(at: Tensor) -> Tensor:
        found = loss_terms(theirs, x[:1], at[:, :LATENT].clone(), at[:, LATENT:] * theirs.beta_zero_sqrt)
        return torch.cat([found.z, found.rho], -1)

    def ours(at: Tensor) -> Tensor:
        force, size = gradient(lambda z: mine.log_joint(x[:1], z)), torch.tensor(0.2, **F64)
        end = leapfrog(Phase(at[:, :LATENT], at[:, LATENT:]), force, size, torch.ones(1))
        return torch.cat(list(end), -1)

    at, shift = torch.cat([z, momentum], -1), 1e-5
    dets = []
    for move in (step, ours):
        columns = [(move(at + d) - move(at - d)).detach()[0] / (2 * shift) for d in (shift * torch.eye(2 * LATENT, **F64)).unsqueeze(1)]
        dets.append(torch.stack(columns, -1).det().item())
    assert dets[1] == pytest.approx(1, abs=1e-6)
    assert abs(dets[0] - 1) > 0.01


def test_without_steps_its_loss_is_ours_but_for_constants_and_the_scale_of_z() -> None:
    """It leaves out |eps|^2 / 2 of log q(z_0) and |noise|^2 / 2 of the first momentum, whose expectations sum to Z nats.

    And it draws z_0 with the standard deviation softplus(log variance), but scores exp(log variance / 2).
    """
    theirs, mine, x = pair()
    theirs.n_lf, theirs.beta_zero_sqrt = 0, nn.Parameter(torch.ones(1, **F64))
    torch.manual_seed(2)
    start, noise = torch.randn(2, len(x), LATENT, **F64)
    found = loss_terms(theirs, x, start.requires_grad_(), noise)
    mean, log_variance = found.mu, found.log_var
    q = mine.conditional(x).base
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.log_scale, 0.5 * log_variance)
    ours = -(mine.log_joint(x, start) - q.log_prob(start))
    left_out = 0.5 * ((start - mean) / q.scale).square().sum(-1) + 0.5 * noise.square().sum(-1)
    torch.testing.assert_close(found.loss, (ours + left_out).mean())
    assert (softplus(log_variance) - q.scale).abs().min() > 0.01


def test_wrapped_normals_have_the_same_samples_and_densities() -> None:
    """Its standard deviation is that of each unit, and its density that of the paper."""
    from pythae.models.pvae.pvae_utils import PoincareBall
    from pythae.models.pvae.pvae_utils import WrappedNormal as Theirs

    torch.manual_seed(0)
    for c in (1.0, 0.7):
        mean, log_scale = exp_0(torch.randn(5, 3, **F64), c), 0.3 * torch.randn(5, 3, **F64)
        mine, theirs = WrappedNormal(mean, log_scale, c), Theirs(mean, log_scale.exp(), PoincareBall(3, c))
        torch.manual_seed(1)
        z = theirs.rsample(torch.Size([4]))
        torch.manual_seed(1)
        drawn = mine.draw(4)
        torch.testing.assert_close(drawn.z, z, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(theirs.log_prob(z).squeeze(-1), drawn.log_q, rtol=1e-6, atol=1e-6)
        origin = Theirs(torch.zeros(1, 3, **F64), torch.ones(1, 1, **F64), PoincareBall(3, c))
        torch.testing.assert_close(
            origin.log_prob(z).squeeze(-1), WrappedNormalPrior(3, curvature=c).log_prob(z, None), rtol=1e-6, atol=1e-6
        )
