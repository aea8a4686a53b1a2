"""Several layers of latents against what can be worked out: linear Gaussian models, models with a layer less, and quadrature."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vae_variants.checks import latent as checks
from vae_variants.checks.fixtures import digits, members, stacks_in_a_vae, tiny
from vae_variants.checks.linear_gaussian import MU, VARIANCE, W2
from vae_variants.checks.model import all_binary
from vae_variants.evaluation import METRICS, Evaluation, fidelity
from vae_variants.models.hierarchical import WIDEST, Hierarchical, divergence, gaussian, log_ratio, merged
from vae_variants.models.likelihoods import Bernoulli, Gaussian
from vae_variants.models.networks import Centred
from vae_variants.models.objectives import iwae, stl
from vae_variants.models.posteriors import Diagonal
from vae_variants.models.vae import VAE
from vae_variants.models.vdvae import VDVAE
from vae_variants.registry import UserError

F64 = {"dtype": torch.float64}
WAYS = ("bottom-up", "top-down")
END = torch.ones((), **F64)
A, S, SHIFT = torch.tensor([0.8, -1.5], **F64), torch.tensor([0.7, 0.4], **F64), torch.tensor([0.3, -0.2], **F64)


def linear(weight: Tensor, bias: Tensor, log_scale: Tensor) -> nn.Linear:
    """N(weight h + bias, exp(log_scale)^2) as the last layer of a network."""
    layer = nn.Linear(weight.shape[1], 2 * len(weight), **F64)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([weight, torch.zeros_like(weight)]))
        layer.bias.copy_(torch.cat([bias, log_scale]))
    return layer


def known(inference: str, off: float = 0.0) -> tuple[Hierarchical, MultivariateNormal]:
    """z2 ~ N(0, I), z1 = A z2 + SHIFT + S noise, x = W z1 + mu + noise, with the posterior for q; and the distribution of x.

    The columns of W are orthogonal, so that the posterior is a chain of diagonal Gaussians. `off` is added to means and log scales of q.
    """
    model = Hierarchical((1, 1, 5), Gaussian(math.sqrt(VARIANCE)), latents=(2, 2), hidden=(5,), inference=inference).double()
    w, mu = torch.tensor(W2, **F64), torch.tensor(MU, **F64)
    precision = w.square().sum(0) / VARIANCE  # of the likelihood of z1, whose mean is m(x) = w.T (x - mu) / |w|^2
    m, t = w.T / w.square().sum(0)[:, None], A.square() + S.square()

    def posterior(gain: Tensor, inner: Tensor, bias: Tensor, precision: Tensor) -> nn.Linear:
        return linear(gain[:, None] * inner, bias + off, -0.5 * precision.log() + off)

    below = precision / (precision + 1 / t)
    wide = S.square() + 1 / precision
    above = A / wide / (1 + A.square() / wide)
    back = A / S.square() / (1 + A.square() / S.square())
    one, eye = torch.ones(2, **F64), torch.eye(2, **F64)
    if inference == "bottom-up":
        start = posterior(below, m, below * (-m @ mu) + SHIFT * (1 - below), precision + 1 / t)
        model.encoder = Centred(start, 5).double()
        model.up = nn.ModuleList([posterior(back, eye, -back * SHIFT, 1 + (A / S).square())])
    else:
        model.encoder, model.activation = Centred(nn.Identity(), 5).double(), nn.Identity()
        model.up = nn.ModuleList([nn.Identity()])
        top = posterior(above, m, above * (-m @ mu - SHIFT), 1 + A.square() / wide)
        model.heads = nn.ModuleList([posterior(one, m, -m @ mu, precision), top])
    model.prior.networks = nn.ModuleList([linear(A.diag(), SHIFT, S.log())])
    model.decoder = nn.Linear(2, 5, **F64)
    model.decoder.load_state_dict({"weight": w, "bias": mu})
    return model, MultivariateNormal(mu + w @ SHIFT, w @ t.diag() @ w.T + VARIANCE * torch.eye(5, **F64))


@pytest.mark.parametrize("inference", WAYS)
def test_at_the_posterior_every_weight_is_p_of_x(inference: str) -> None:
    torch.manual_seed(0)
    model, exact = known(inference)
    x = exact.sample((6,))
    d = model.infer(x, 4, END)
    torch.testing.assert_close(d.log_w, exact.log_prob(x).expand(4, -1), atol=1e-10, rtol=0)
    torch.testing.assert_close(model.log_prob(x), exact.log_prob(x), atol=1e-10, rtol=0)


@pytest.mark.parametrize("inference", WAYS)
def test_the_rate_is_the_kl_of_the_joint_gaussians(inference: str) -> None:
    torch.manual_seed(0)
    model, exact = known(inference)
    x, w = exact.sample((3,)), torch.tensor(W2, **F64)
    prior_cov = torch.cat([torch.cat([(A.square() + S.square()).diag(), A.diag()], 1), torch.cat([A.diag(), torch.eye(2, **F64)], 1)])
    whole = torch.cat([w, torch.zeros(5, 2, **F64)], 1)
    cov = torch.linalg.inv(torch.linalg.inv(prior_cov) + whole.T @ whole / VARIANCE)
    prior = MultivariateNormal(torch.cat([SHIFT, 0 * SHIFT]), prior_cov)
    mean = prior.mean + (x - torch.tensor(MU, **F64) - w @ SHIFT) @ whole @ cov / VARIANCE
    with torch.no_grad():
        d = model.infer(x, 40_000, END)
    error = 5 * (d.log_qz - d.log_pz).std(0) / 200
    assert ((d.kl - kl_divergence(MultivariateNormal(mean, cov), prior)).abs() < error).all()
    torch.testing.assert_close(sum(part.sum(-1) for part in d.kl_units.split(model.layers, -1)), d.kl)
    assert not model.closed_kl and d.kl_units.shape == (3, 4)
    torch.testing.assert_close(model.encode(x), mean, msg="for linear networks the latents are the mean of q")


@pytest.mark.parametrize("inference", WAYS)
def test_bounds_lie_below_log_p_and_rise_to_it(inference: str) -> None:
    torch.manual_seed(0)
    model, exact = known(inference, off=0.3)
    x = exact.sample((4,))
    with torch.no_grad():
        log_w = model.infer(x, 40_000, END).log_w
    bounds = [(log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean(0) for k in (1, 10, 100, 40_000)]
    assert all((low < high).all() for low, high in pairwise(bounds[:3]))
    w = (log_w - exact.log_prob(x)).exp()
    assert (bounds[0] < exact.log_prob(x) - 0.1).all()
    assert ((bounds[-1] - exact.log_prob(x)).abs() < 5 * w.std(0) / 200).all()


@pytest.mark.parametrize("inference", WAYS)
def test_the_path_gradient_of_the_inference_vanishes_at_the_posterior(inference: str) -> None:
    torch.manual_seed(0)
    model, exact = known(inference)
    d = model.infer(exact.sample((6,)), 3, END)
    torch.testing.assert_close(d.log_w_path, d.log_w)
    own = [p for name, p in model.named_parameters() if name.split(".")[0] in ("encoder", "up", "heads")]
    gradients = torch.autograd.grad(stl(d).sum(), own, retain_graph=True)
    assert all(gradient.abs().max() < 1e-9 for gradient in gradients)
    assert any(gradient.abs().max() > 1e-3 for gradient in torch.autograd.grad(-d.log_w.sum(), own))


@pytest.mark.parametrize("a", [0.0, 0.6, 0.999])
def test_two_layers_of_which_the_top_one_repeats_the_other_are_one_layer(a: float) -> None:
    """z1 = a z2 + noise with p(z1) = N(0, I), and q(z2 | z1) its posterior: p(z2) p(z1 | z2) / q(z2 | z1) = p(z1) for any z."""
    torch.manual_seed(0)
    one = VAE((1, 2, 3), Bernoulli(), latent=3, hidden=(7,)).double()
    two = Hierarchical((1, 2, 3), Bernoulli(), latents=(3, 3), hidden=(7,)).double()
    two.encoder, two.decoder = one.encoder, one.decoder
    identity = linear(a * torch.eye(3, **F64), torch.zeros(3, **F64), torch.full((3,), 0.5 * math.log(1 - a * a), **F64))
    two.up, two.prior.networks = nn.ModuleList([identity]), nn.ModuleList([identity])
    x = torch.rand(5, 6, **F64).round()
    found = []
    for model in (one, two):
        torch.manual_seed(1)  # z1 is drawn first
        d = model.infer(x, 8, END)
        found.append((d.log_px, d.log_w, iwae(d), *torch.autograd.grad(iwae(d).sum(), [*one.encoder.parameters()])))
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(double, single, atol=1e-9, rtol=1e-7)


def test_a_ladder_whose_top_layer_is_not_used_is_one_layer() -> None:
    torch.manual_seed(0)
    model = Hierarchical((1, 2, 3), Bernoulli(), latents=(3, 2), hidden=(7,), inference="top-down").double()
    with torch.no_grad():
        for p in (*model.heads[1].parameters(), *model.prior.networks.parameters()):
            p.zero_()
    one = VAE((1, 2, 3), Bernoulli(), latent=3, hidden=(7,)).double()
    one.decoder, x = model.decoder, torch.rand(5, 6, **F64).round()
    likelihood = gaussian(model.heads[0](model.activation(model.encoder(x))))
    precision = 1 + likelihood.scale**-2
    q = Diagonal(likelihood.mean * likelihood.scale**-2 / precision, -0.5 * precision.log())
    d = model.infer(x, 4, END)
    z = d.z[..., :3]
    torch.testing.assert_close(d.log_w, one.log_px(x, z) + one.log_prior(z) - q.log_prob(z))
    torch.testing.assert_close(d.kl, divergence(q, Diagonal(torch.zeros(5, 3, **F64), torch.zeros(5, 3, **F64))).sum(-1))
    assert d.kl_units[:, 3:].abs().max() == 0


def test_one_layer_is_the_vae() -> None:
    torch.manual_seed(0)
    vae = VAE((1, 2, 3), Bernoulli(), latent=3, hidden=(7,)).double()
    model = Hierarchical((1, 2, 3), Bernoulli(), latents=(3,), hidden=(7,)).double()
    model.load_state_dict(vae.state_dict())
    x, found = torch.rand(5, 6, **F64).round(), []
    for each in (vae, model):
        torch.manual_seed(1)
        found.append(each.infer(x, 4, END))
    for name in ("log_px", "log_pz", "log_qz", "kl", "kl_units", "z"):
        torch.testing.assert_close(getattr(found[1], name), getattr(found[0], name))
    assert model.closed_kl


def test_gaussians_are_multiplied_and_compared_as_densities() -> None:
    torch.manual_seed(0)
    p, q = (Diagonal(torch.randn(4, **F64), torch.randn(4, **F64)) for _ in range(2))
    normals = [Normal(each.mean, each.scale) for each in (p, q)]
    z = torch.randn(9, 4, **F64)
    both = merged(p, q)
    constant = normals[0].log_prob(z) + normals[1].log_prob(z) - Normal(both.mean, both.scale).log_prob(z)
    torch.testing.assert_close(constant, constant[:1].expand(9, -1))
    torch.testing.assert_close(divergence(q, p), kl_divergence(normals[1], normals[0]))
    torch.testing.assert_close(log_ratio(q, p, z), normals[1].log_prob(z) - normals[0].log_prob(z))


def test_a_log_scale_out_of_bounds_is_held_and_keeps_its_gradient() -> None:
    h = torch.tensor([0.0, 0.0, 0.0, -300.0, 4.0, 300.0], requires_grad=True)
    found = gaussian(h).log_scale
    assert found.tolist() == [-WIDEST, 4.0, WIDEST]
    assert torch.autograd.grad(found.sum(), h)[0].tolist() == [0, 0, 0, 1, 1, 1]


def made(selector: str) -> tuple[Hierarchical | VDVAE, Tensor]:
    model, x = members(selector, tiny(2, 2))
    assert isinstance(model, Hierarchical | VDVAE)
    return model.requires_grad_(True), x


@pytest.mark.parametrize("selector", ["hierarchical", "hierarchical[inference=top-down,latents=3-2-1]", "vdvae"])
def test_losses_and_gradients_are_finite_for_extreme_weights(selector: str) -> None:
    torch.manual_seed(0)
    model, x = made(selector)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(10)
    d = model.infer(x, 2, torch.ones(()))
    for value in (d.kl.sum(), d.log_w.sum()):
        gradients = torch.autograd.grad(value, [*model.parameters()], retain_graph=True, allow_unused=True)
        assert value.isfinite() and all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


OTHERS = ["hierarchical[inference=top-down]", "hierarchical[latents=2-1-1]", "hierarchical[inference=top-down,latents=2-1-1]"]


@pytest.mark.parametrize("selector", OTHERS)
def test_densities_samples_and_kl_belong_together(selector: str) -> None:
    torch.manual_seed(0)
    checks.weights_sum_to_one_over_all_images(selector)
    checks.the_kl_is_that_of_its_densities(selector)
    checks.the_prior_draws_what_it_scores(selector)
    checks.samples_have_the_density_of_q(selector)


def test_stacked_ladders_have_the_losses_of_separate_ones() -> None:
    stacks_in_a_vae("hierarchical[inference=top-down]")


@pytest.mark.parametrize("selector", ["hierarchical", "hierarchical[inference=top-down]", "vdvae"])
def test_one_pass_gives_what_the_densities_give(selector: str) -> None:
    torch.manual_seed(0)
    model, x = made(selector)
    d = model.infer(x, 3, torch.ones(()))
    torch.testing.assert_close(d.log_px, model.log_px(x, d.z))
    torch.testing.assert_close(d.log_pz, model.log_prior(d.z))
    torch.testing.assert_close(d.mean, model.decode(d.z.flatten(0, 1)).unflatten(0, (3, -1)))
    assert d.z.shape[-1] == sum(model.layers) == model.draw_prior(2).shape[-1]


# -- the convolutional one ---------------------------------------------------------------------------------------------


def small(**options: object) -> VDVAE:
    """Two layers of one unit each."""
    torch.manual_seed(0)
    model = VDVAE((1, 2, 2), Bernoulli(), blocks=(1, 1), channels=1, width=6, **options).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for block in model.prior.blocks:
            block.q[-1].bias[1] += 0.4  # a q wider than the posterior has weights without heavy tails
    return model


def test_log_p_of_a_vdvae_is_that_by_quadrature() -> None:
    model, x = small(), all_binary(4)
    line = torch.linspace(-8, 8, 81, **F64)
    at = torch.cartesian_prod(line, line)
    with torch.no_grad():
        means = model.draw_prior(2000)
        z = means.mean(0) + means.std(0) * at
        cell = ((line[1] - line[0]).square() * means.std(0).prod()).log()
        joint = model.log_prior(z)[:, None] + model.log_px(x, z[:, None].expand(-1, 16, -1))
        exact = joint.logsumexp(0) + cell
        assert exact.logsumexp(0).item() == pytest.approx(0, abs=1e-4)
        log_w = model.infer(x, 4000, END).log_w
    w = (log_w - exact).exp()
    assert ((w.mean(0) - 1).abs() < 5 * w.std(0) / 4000**0.5 + 1e-3).all()
    assert (log_w.mean(0) < exact).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (1, 28, 28)])
def test_grids_cover_images_of_any_size(shape: tuple[int, int, int]) -> None:
    model, levels = VDVAE(shape, Bernoulli(), blocks=(1, 2, 1), channels=2, width=4), []
    cells = [math.ceil(side / 2) for side in shape[1:]]
    for blocks in (1, 2, 1):
        levels += [2 * math.prod(cells)] * blocks
        cells = [math.ceil(side / 2) for side in cells]
    assert model.layers == tuple(levels)
    x = torch.rand(2, math.prod(shape))
    assert model.decode(model.encode(x)).shape == x.shape
    assert model.sample(3).shape == (3, math.prod(shape))


def test_the_state_of_a_vdvae_carries_each_layer_to_the_image() -> None:
    model = small()
    z = torch.zeros(1, 2, **F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.decode(z).sum(), z)
    assert (gradient.abs() > 1e-6).all()


# -- metrics and options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", WAYS)
def test_rates_by_layer_sum_to_the_rate_and_a_dead_layer_is_not_used(inference: str) -> None:
    data = digits(60, 400)  # with fewer images, the noise of q makes a dead unit active
    torch.manual_seed(0)
    model = Hierarchical(data.shape, Bernoulli(), latents=(5, 3), hidden=(9,), inference=inference)
    model.initialise(data.grey("train"))

    def values() -> dict[str, float]:
        e = Evaluation(model.eval().requires_grad_(False), data, 0, fidelity("smoke"))
        return {name: METRICS[name].fn(e) for name in ("rate", "rate_top", "rate_bottom", "layers_used", "active_units_top")}

    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn_like(p))
    found = values()
    assert found["rate_top"] + found["rate_bottom"] == pytest.approx(found["rate"], rel=1e-6)
    assert found["layers_used"] == 2 and found["active_units_top"] > 0
    with torch.no_grad():
        top = model.heads[-1] if inference == "top-down" else model.up[-1][-1]
        for p in top.parameters():
            p.zero_()
    found = values()
    assert (found["rate_top"], found["layers_used"], found["active_units_top"]) == (0, 1, 0)


def test_an_unknown_way_of_inference_is_named() -> None:
    with pytest.raises(UserError, match="top-down"):
        Hierarchical((1, 2, 2), Bernoulli(), inference="topdown")
