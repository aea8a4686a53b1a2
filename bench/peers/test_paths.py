"""Pythae's IAF and RHVAE beside ours, with its weights and its noise. Where they differ, the paper's equation decides."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest
import torch

pytest.importorskip("pythae", reason="Pythae is not installed: nox -s peers installs it")
from models import HIDDEN, PARTS, SAME, SHAPE, taught
from pythae import models as peers
from torch import Tensor, nn

from vae_variants.models.draws import Draws
from vae_variants.models.flows import InverseAutoregressive
from vae_variants.models.hamiltonian import Phase, gradient
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.objectives import elbo_sampled
from vae_variants.models.posteriors import Diagonal
from vae_variants.models.riemannian import Metric, RiemannianVAE, generalized
from vae_variants.models.vae import VAE

LATENT, EACH, IMAGES = 5, 3, 6  # EACH: hidden units that see the same units
BETA, SIZE, STEPS = 0.5, 0.1, 2


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def x() -> Tensor:
    return (torch.rand(IMAGES, math.prod(SHAPE)) < 0.3).double()


def shared(theirs: nn.Module, numbers: int = 0) -> dict[str, Tensor]:
    """The weights of Pythae's encoder and decoder, by our names; the encoder gives `numbers` more, which are 0."""
    source, weights = dict(theirs.named_parameters()), {}
    for part in PARTS:
        weights |= {f"{mine}.{part}": source[f"{its}.{part}"] for mine, its in SAME.items()}
        mean, log_variance = (source[f"encoder.{name}.{part}"] for name in ("embedding", "log_var"))
        weights[f"encoder.2.{part}"] = torch.cat([mean, 0.5 * log_variance, mean.new_zeros(numbers, *mean.shape[1:])])
    return weights


def made(name: str, **options: object) -> nn.Module:
    config = getattr(peers, f"{name}_Config" if "_" in name else f"{name}Config")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = getattr(peers, name)(config(input_dim=SHAPE, latent_dim=LATENT, reconstruction_loss="bce", **options))
    return model


class Affine(nn.Module):
    """Pythae's network of a step, whose m and log s mean exp(log s) z + m, as one of our steps sigma z + (1 - sigma) m."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        m, log_s = self.network(z, context)
        return m / -torch.expm1(log_s), log_s - torch.log(-torch.expm1(log_s)) - 2


@torch.no_grad()
def autoregressive() -> tuple[nn.Module, VAE]:
    """Pythae's VAE_IAF with scales under 1, and ours with its weights.

    It reverses the units before each step, so that after two of them ours has every unit in the opposite place. Some of our hidden units
    see the context alone; it has neither.
    """
    theirs = taught(made("VAE_IAF", n_made_blocks=2, n_hidden_in_made=1, hidden_size=EACH * (LATENT - 1)))
    flow = InverseAutoregressive(LATENT, flows=2, width=EACH * LATENT)
    for network, its in zip(flow.networks, reversed(theirs.iaf_flow.net), strict=True):
        first, _, last = its.net
        last.bias[LATENT:] -= 2  # log s
        first.mask, last.mask = first.mask.double(), last.mask.double()
        order = its.m[0].argsort(stable=True)  # ours have the hidden units that see least in front
        units = slice(None) if network is flow.networks[0] else torch.arange(LATENT).flip(0)
        network.activation = nn.ReLU()
        network.context.weight.zero_()
        into, out = network.layers
        into.weight[EACH:], into.bias[EACH:] = first.weight[order][:, units], first.bias[order]
        out.weight.zero_()
        out.weight[:, EACH:] = last.weight.unflatten(0, (2, LATENT))[:, units].flatten(0, 1)[:, order]
        out.bias.copy_(last.bias.unflatten(0, (2, LATENT))[:, units].flatten())
        assert torch.equal(into.mask[EACH:], first.mask[order][:, units])
        assert torch.equal(out.mask[:LATENT, EACH:], last.mask[:LATENT][units][:, order])
    flow.networks = nn.ModuleList(map(Affine, flow.networks))
    mine = VAE(SHAPE, Bernoulli(), posterior=flow, latent=LATENT, hidden=(HIDDEN,), activation="relu")
    weights = shared(theirs, flow.inputs - 2 * LATENT)
    reverse = torch.arange(LATENT).flip(0)
    for part in PARTS:
        end = weights[f"encoder.2.{part}"]
        weights[f"encoder.2.{part}"] = torch.cat([end[:LATENT].flip(0), end[LATENT : 2 * LATENT].flip(0), end[2 * LATENT :]])
    weights["decoder.0.weight"] = weights["decoder.0.weight"][:, reverse]
    mine.load_state_dict(weights, strict=False)
    return theirs, mine


def infer(mine: VAE, x: Tensor, *noise: Tensor) -> Draws:
    """Our draws of one sample from these standard normal numbers (B, Z)."""
    waiting = [each.unsqueeze(0) for each in noise]
    before, torch.randn = torch.randn, lambda *_, **__: waiting.pop(0)  # type: ignore[assignment]
    try:
        return mine.infer(x, 1, torch.ones(()))
    finally:
        torch.randn = before


def test_inverse_autoregressive_flows_have_the_same_samples_terms_and_gradients(x: Tensor) -> None:
    """Both are z' = mu + sigma z of Kingma et al. 2016, whose Algorithm 1 gives each step a context h of the image.

    Ours has it; Pythae's steps do not, so that they are the same for all images.
    """
    theirs, mine = autoregressive()
    torch.manual_seed(3)
    found = theirs({"data": x.reshape(-1, *SHAPE)})
    torch.manual_seed(3)
    noise = torch.randn(IMAGES, LATENT)
    d = infer(mine, x, noise.flip(-1))
    torch.testing.assert_close(d.z[0].flip(-1), found.z)
    torch.testing.assert_close(-d.log_px.mean(), found.recon_loss)
    torch.testing.assert_close((d.log_qz - d.log_pz).mean(), found.reg_loss)
    own = elbo_sampled(d).mean()
    torch.testing.assert_close(own, found.loss)
    there = torch.autograd.grad(found.loss, [theirs.encoder.layers[0][0].weight, theirs.iaf_flow.net[1].net[2].bias])
    last = mine.posterior.networks[0].network.layers[1].bias
    here = torch.autograd.grad(own, [mine.encoder[0].weight, last])
    torch.testing.assert_close(here, there)


def riemannian(x: Tensor) -> tuple[nn.Module, RiemannianVAE, Metric]:
    """Pythae's RHVAE after a look at the images, ours with its weights, and its metric. Its option `beta_zero` is the root of beta_0."""
    theirs = made("RHVAE", n_lf=STEPS, eps_lf=SIZE, beta_zero=math.sqrt(BETA))
    theirs.train()
    theirs({"data": x.reshape(-1, *SHAPE)})
    theirs.update()
    mine = RiemannianVAE(
        SHAPE, Bernoulli(), 1, latent=LATENT, hidden=(HIDDEN,), activation="relu", leapfrog=STEPS, step=SIZE, largest=2 * SIZE, beta=BETA
    )
    mine.load_state_dict(shared(theirs), strict=False)
    theirs.lbd.data, theirs.temperature.data = torch.tensor([0.5]), torch.tensor([2.0])
    return theirs.eval(), mine, Metric(theirs.centroids_tens, theirs.M_tens, 2.0, 0.5)


def as_in_the_paper(theirs: nn.Module, first: bool = True, second: bool = True) -> None:
    """Puts the first and second step of the generalized leapfrog (Girolami & Calderhead 2011) in place of Pythae's."""
    own = theirs._leap_step_1

    def held(recon_x: Tensor, x: Tensor, z: Tensor, rho: Tensor, *metric: Tensor) -> Tensor:
        """dH/dz at a constant momentum."""
        return own(recon_x, x, z, rho.detach().requires_grad_(), *metric)

    def implicit(recon_x: Tensor, x: Tensor, z: Tensor, rho: Tensor, *_: Tensor) -> Tensor:
        """dH/dr at both ends."""

        def velocity(at: Tensor) -> Tensor:
            return (theirs.G_inv(at) @ rho.unsqueeze(-1)).squeeze(-1)

        end = z
        for _ in range(3):
            end = z + 0.5 * SIZE * (velocity(z) + velocity(end))
        return end

    theirs._leap_step_1 = held if first else own
    theirs._leap_step_2 = implicit if second else theirs._leap_step_2


class Terms(NamedTuple):
    """Ours of one sample for each image: z_K, log w, log |det| of the steps, and log N(p_0; 0, G(z_0)) less its constants."""

    z: Tensor
    log_w: Tensor
    log_det: Tensor
    first: Tensor


def terms(mine: RiemannianVAE, metric: Metric, x: Tensor, eps: Tensor, gamma: Tensor) -> Terms:
    """From the noise of z_0 and of p_0 as Pythae draws them: p_0 is the Cholesky root of G(z_0) times gamma, over beta_0^1/2."""
    base = Diagonal(*mine.encoder(x).chunk(2, -1))
    start, joint = base.mean + base.scale * eps, partial(mine.log_joint, x)
    begin, schedule = metric.at(start), mine.schedule
    root = torch.linalg.cholesky(torch.linalg.inv(begin.inverse))
    p = (root @ gamma.unsqueeze(-1)).squeeze(-1)
    steps = generalized(Phase(start, p / math.sqrt(BETA)), metric, gradient(joint), schedule.size, schedule.scales, mine.iterations)
    drawn = mine.path(metric, joint)(start, (torch.linalg.cholesky(begin.inverse).mT @ p.unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(drawn.z, steps.phase.z)
    log_w = joint(drawn.z) - base.log_prob(start) - drawn.log_q
    return Terms(drawn.z, log_w, steps.log_det, begin.log_volume - 0.5 * gamma.square().sum(-1))


def drawn_by(theirs: nn.Module, x: Tensor) -> tuple[object, Tensor, Tensor]:
    """What its `forward` gives, with the noise of z_0 and of the momentum."""
    torch.manual_seed(4)
    found = theirs({"data": x.reshape(-1, *SHAPE)})
    return found, found.eps0.detach(), found.gamma.detach()


def test_with_the_papers_steps_riemannian_dynamics_are_the_same(x: Tensor) -> None:
    """Pythae differentiates H by z through p, which is a function of z: p_0 is a root of G(z_0) times noise. It should hold p.

    And it solves z' = z + (e/2) (G^-1(z) + G^-1(z')) r with G^-1(z) on both sides. Generalized leapfrog has G^-1(z') there.
    """
    theirs, mine, metric = riemannian(x)
    first, second = theirs._leap_step_1, theirs._leap_step_2
    _, eps, gamma = drawn_by(theirs, x)
    ours = terms(mine, metric, x, eps, gamma)
    for mended in itertools.product((False, True), repeat=2):
        theirs._leap_step_1, theirs._leap_step_2 = first, second
        as_in_the_paper(theirs, *mended)
        found, *_ = drawn_by(theirs, x)
        assert all(mended) or (found.z - ours.z).abs().max() > 1e-4, mended
    torch.testing.assert_close(found.z, ours.z, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.G_log_det, -2 * metric.at(ours.z).log_volume)


def test_its_loss_is_ours_without_the_density_of_the_first_momentum_and_the_volume_of_the_steps(x: Tensor) -> None:
    """The ratio whose mean is p(x) has N(p_0; 0, G(z_0) / beta_0) below the line. Its log det G(z_0) depends on the weights.

    Neither is log |det| of the fixed-point iterations in it, which is 0 only when they have converged.
    """
    theirs, mine, metric = riemannian(x)
    as_in_the_paper(theirs)
    found, eps, gamma = drawn_by(theirs, x)
    ours = terms(mine, metric, x, eps, gamma)
    torch.testing.assert_close(found.loss, -(ours.log_w + ours.first - ours.log_det).mean(), rtol=1e-8, atol=1e-8)
    assert ours.first.std() > 0.1


def test_its_likelihood_is_ours_but_for_the_volume_that_the_tempering_takes(x: Tensor) -> None:
    """p_K has p_0 times beta_0^1/2, so that d(z_K, p_K) / d(z_0, p_0) has the determinant beta_0^(Z/2) beside that of the steps.

    Without it, as in Pythae's `get_nll`, log p(x) is too high by -(Z/2) log beta_0.
    """
    theirs, mine, metric = riemannian(x)
    as_in_the_paper(theirs)
    k, image = 30, x[:1]
    torch.manual_seed(5)
    found = float(theirs.get_nll(image.reshape(-1, *SHAPE), n_samples=k, batch_size=k))
    torch.manual_seed(5)
    eps, _, gamma = (torch.randn(k, LATENT) for _ in range(3))
    ours = terms(mine, metric, image.expand(k, -1), eps, gamma)
    volume = -0.5 * LATENT * math.log(BETA)
    assert found == pytest.approx((ours.log_w - ours.log_det).logsumexp(0).item() - math.log(k) + volume, abs=1e-6)


def test_in_training_its_momentum_has_another_covariance_than_the_metric(x: Tensor) -> None:
    """The paper has p_0 ~ N(0, G(z_0) / beta_0). Pythae takes L_i of the image, and L_i L_i^T is its term of G^-1, not G(z_0)."""
    theirs, mine, _ = riemannian(x)
    theirs.train()
    theirs.n_lf = 0
    found, _, gamma = drawn_by(theirs, x)
    root = theirs.metric(x)["L"]
    torch.testing.assert_close(found.rho, (root @ gamma.unsqueeze(-1)).squeeze(-1) / math.sqrt(BETA))
    centres = Diagonal(*mine.encoder(x).chunk(2, -1)).mean
    batch = Metric(centres, root @ root.mT, 2.0, 0.5).at(found.z0)
    torch.testing.assert_close(batch.inverse, found.G_inv)
    assert (root @ root.mT @ batch.inverse - torch.eye(LATENT)).abs().max() > 0.5
