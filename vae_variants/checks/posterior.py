"""Checks of posteriors: what they draw follows the density that they say, and its gradient reaches the encoder."""

import math
from functools import partial

import torch
from scipy.special import betainc
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.checks.fixtures import size, stacks_in_a_vae
from vae_variants.components import takes
from vae_variants.models.poincare import log_0, log_stretch
from vae_variants.models.posteriors import POSTERIORS, C, Conditional, Posterior, Scored, Space
from vae_variants.models.priors import PRIORS, rule
from vae_variants.registry import UserError

SIZES = (3, 4, 10)  # latent units; the first that a posterior accepts
IMAGES, DRAWS = 3, 20_000
PRIOR = {Space.REAL: "normal", Space.SPHERE: "sphere", Space.BALL: "wrapped-normal", Space.SIMPLEX: "concrete"}
CONSTANTS = {"log(2 pi) / 2": 0.5 * math.log(2 * math.pi), "log(2 pi)": math.log(2 * math.pi), "log 2": math.log(2), "1/2": 0.5}


def make(name: str) -> tuple[Posterior, int]:
    """A posterior with its default options, in float64, and its number of latent units."""
    for latent in SIZES:
        try:
            return POSTERIORS[name](latent).double(), latent
        except UserError:
            if latent == SIZES[-1]:
                raise
    raise AssertionError


def conditional(name: str) -> tuple[Conditional, Tensor]:
    """q(z | x) of some images, and the numbers of the encoder."""
    posterior, _ = make(name)
    h = 0.6 * torch.randn(IMAGES, posterior.inputs, dtype=torch.float64)
    return posterior(h.requires_grad_()), h


def with_density(name: str) -> Conditional:
    q, _ = conditional(name)
    if not q.density:
        raise Skipped("it says that it has no density")
    return q


def scored(name: str) -> Scored:
    q = with_density(name)
    if not isinstance(q, Scored):
        raise Skipped("it has no density at any z")
    return q


@check("posterior", first=True)
def draws_samples_with_their_density(name: str) -> None:
    """draw(k) gives z (k, B, Z) and log q (k, B), and mean is (B, Z); all are finite."""
    posterior, latent = make(name)
    if not isinstance(getattr(posterior, "inputs", None), int) or posterior.inputs < 1:
        raise Failed(f"has inputs = {getattr(posterior, 'inputs', None)!r}", "write self.inputs = the encoder's outputs for each image")
    q, _ = conditional(name)
    if not isinstance(q, posterior.gives):
        fix = f"write gives = {type(q).__name__} in class {type(posterior).__name__}"
        raise Failed(f"forward() gives {type(q).__name__}, where it says gives = {posterior.gives.__name__}", fix)
    for k in (1, 4):
        z, log_q = q.draw(k)
        expect(f"draw({k}).z", z, (k, IMAGES, latent), "one row of Z units for each sample and image")
        expect(f"draw({k}).log_q", log_q, (k, IMAGES), "sum log densities over the last axis alone, .sum(-1)")
    expect("mean", q.mean, (IMAGES, latent), "it is the latent of each image")
    if isinstance(q, Scored):
        expect("log_prob(z) for z (B, Z)", q.log_prob(q.mean), (IMAGES,), "sum over the last axis alone, .sum(-1)")


def expect(what: str, found: Tensor, shape: tuple[int, ...], fix: str) -> None:
    if tuple(found.shape) != shape:
        raise Failed(f"{what} has shape {size(tuple(found.shape))}, expected {size(shape)}", fix)
    if not found.isfinite().all():
        raise Failed(f"{what} is {found[~found.isfinite()][0].item()}", "keep logarithms, divisions and roots away from 0")


@check("posterior", first=True)
def samples_lie_in_its_space(name: str) -> None:
    """Samples and mean lie on the unit sphere or the simplex if it says so, and samples fill its space."""
    posterior, latent = make(name)
    q, _ = conditional(name)
    z = torch.cat([q.draw(500).z, q.mean.unsqueeze(0)]).detach()
    if posterior.space is Space.SPHERE and not torch.allclose(length := z.norm(dim=-1), torch.ones_like(length)):
        raise Failed(f"a z has length {length.max().item():.4g} in Space.SPHERE", "divide by the norm, or name the space in the class")
    if posterior.space is Space.BALL and not (most := z.norm(dim=-1).max().item()) < 1 / math.sqrt(posterior.curvature):
        raise Failed(f"a z has length {most:.4g} in Space.BALL", "keep samples inside the radius 1 / sqrt(self.curvature)")
    if posterior.space is Space.SIMPLEX:
        groups = z.unflatten(-1, (-1, posterior.categories or latent))
        if (groups < 0).any() or not torch.allclose(total := groups.sum(-1), torch.ones_like(total)):
            fix = "give a softmax over each vector of `categories` units, or name the space in the class"
            raise Failed(f"a vector of {groups.shape[-1]} probabilities sums to {total.max().item():.4g} in Space.SIMPLEX", fix)
    if q.density and (still := (z[:-1].std(0) < 1e-9).nonzero()).numel():
        raise Failed(f"unit {still[0, 1].item()} of its samples does not vary", "draw noise for each unit, or write density = False")


@check("posterior")
def scores_its_samples_alike(name: str) -> None:
    """If it has a density at any z, log_prob of a sample is the log q that came with it."""
    q = scored(name)
    z, log_q = q.draw(50)
    off = q.log_prob(z) - log_q
    if torch.allclose(off, torch.zeros_like(off), atol=1e-6):
        return
    least, most = off.min().item(), off.max().item()
    found = f"log_prob of its samples differs from the log q of draw() by {least:.4g} to {most:.4g} nats"
    same = "a constant of one of them is missing" if most - least < 1e-6 else "see the scale and the noise in draw()"
    raise Failed(found, f"{same}; or let draw() return log_prob(z)")


@check("posterior")
def samples_follow_its_density(name: str) -> None:
    """E_q[f(z) / q(z)] = 1 for a density f where q has mass: log q is normalised, and that of the samples."""
    posterior, _ = make(name)
    q = with_density(name)
    if posterior.space is Space.SIMPLEX and not q.reparameterised:
        raise Skipped("its samples are corners of the simplex")
    with torch.no_grad():
        z, log_q = q.draw(DRAWS)
    for b in range(IMAGES):
        w = (narrow(z[:, b], posterior) - log_q[:, b]).exp()
        mean, error = w.mean().item(), w.std().item() / math.sqrt(DRAWS)
        if not abs(mean - 1) < 5 * error + 1e-9:
            nats = math.log(mean) if mean > 0 else math.inf
            found = f"log q of its samples is {abs(nats):.3g} nats too {'low' if nats > 0 else 'high'} where they lie"
            units = z.shape[-1]
            known = [text for text, value in CONSTANTS.items() if abs(abs(nats) - units * value) < 5 * error / mean + 1e-9]
            told = f", which is {known[0]} for each unit" if known else ""
            fix = "write every constant of the density, and for z = f(e) subtract log |det df/de|"
            raise Failed(f"{found}{told}: E_q[f(z) / q(z)] = {mean:.4g} for a density f", fix)


def narrow(z: Tensor, posterior: Posterior) -> Tensor:
    """(N, Z) samples -> (N,) the log of a density among them: a Gaussian, in the ball of `log_0`, on the sphere uniform in a cap."""
    if posterior.space is Space.SPHERE:
        units, cosine = z.shape[-1], z @ torch.nn.functional.normalize(z.mean(0), dim=0)
        least = cosine.mean().clamp(min=0.0)
        share = 0.5 * betainc(0.5 * (units - 1), 0.5, 1 - least.item() ** 2)  # of the sphere
        surface = math.log(2) + 0.5 * units * math.log(math.pi) - math.lgamma(0.5 * units)
        return torch.where(cosine > least, -surface - math.log(share), -math.inf)
    jacobian = z.new_zeros(())
    if posterior.space is Space.BALL:
        z = log_0(z, posterior.curvature)
        jacobian = -log_stretch(z, posterior.curvature)
    if posterior.space is Space.SIMPLEX:  # log ratios to the last probability
        log_z = z.unflatten(-1, (-1, posterior.categories or z.shape[-1])).log()
        z, jacobian = (log_z[..., :-1] - log_z[..., -1:]).flatten(-2), -log_z.sum((-2, -1))
    tril = torch.linalg.cholesky(0.5 * torch.cov(z.mT))
    noise = torch.linalg.solve_triangular(tril, (z - z.mean(0)).mT, upper=False)
    return (-0.5 * noise.square() - tril.diag().log().unsqueeze(-1) - C).sum(0) + jacobian


@check("posterior")
def its_gradient_reaches_the_encoder(name: str) -> None:
    """If samples are reparameterised, the gradient of z reaches the encoder, and z or log q depends on each of its numbers."""
    q, h = conditional(name)
    z, log_q = q.draw(20)
    if not q.reparameterised:
        raise Skipped("it says that its samples are not reparameterised")
    fix = "write z as a function of the encoder's numbers and of noise, without .detach() or .item(); or write reparameterised = False"
    if not z.requires_grad:
        raise Failed("the gradient of z does not reach the encoder", fix)
    weights = torch.randn_like(z)
    (of_z,) = torch.autograd.grad((weights * z).sum(), h, retain_graph=True)
    of_q = torch.autograd.grad(log_q.sum(), h)[0] if log_q.requires_grad else torch.zeros_like(h)
    for what, gradient in (("z", of_z), ("log q", of_q)):
        if not gradient.isfinite().all():
            raise Failed(f"the gradient of {what} is not finite", "keep logarithms, divisions and roots away from 0")
    if (idle := ((of_z.abs() + of_q.abs()).sum(0) == 0).nonzero()).numel():
        found = f"neither z nor log q depends on number {idle[0].item()} of the {h.shape[-1]} that the encoder gives"
        raise Failed(found, "use it, or ask for fewer: self.inputs")
    if not of_z.abs().sum() > 0:
        raise Failed("the gradient of z does not reach the encoder", fix)


@check("posterior")
def detached_holds_its_parameters(name: str) -> None:
    """If it has a density at any z, detached() has the same one, without a gradient to the encoder."""
    q = scored(name)
    z = q.draw(5).z.detach()
    constant = q.detached().log_prob(z)
    if constant.requires_grad:
        raise Failed("log_prob of detached() still has a gradient to the encoder", "detach every parameter there")
    if not torch.allclose(constant, q.log_prob(z)):
        raise Failed("detached() has another density", "give it the same parameters")


@check("posterior")
def its_closed_kl_is_that_of_its_samples(name: str) -> None:
    """If a closed form of the KL to the usual prior is registered, it is (B, U) and its sum is E[log q - log p]."""
    posterior, latent = make(name)
    prior = PRIORS[PRIOR[posterior.space]]
    if (closed := rule(prior, posterior.gives)) is None:
        raise Skipped(f"no closed form of its KL to {PRIOR[posterior.space]!r} is registered")
    q, p = with_density(name), prior(latent).double()
    with torch.no_grad():
        units, (z, log_q) = closed(p, q), q.draw(DRAWS)
        sampled = log_q - p.log_prob(z, partial(no_images, q))
    if units.dim() != 2 or len(units) != IMAGES:
        found = f"its closed KL has shape {size(tuple(units.shape))}, expected ({IMAGES}, U)"
        raise Failed(found, "give a term for each unit, or one: (B, 1)")
    for kl, values in zip(units.sum(-1).tolist(), sampled.mT, strict=True):
        mean, error = values.mean().item(), values.std().item() / math.sqrt(DRAWS)
        if not abs(kl - mean) < 5 * error + 1e-9:
            found = f"its closed KL is {kl:.4g} nats, where the mean of log q - log p over {DRAWS} samples is {mean:.4g}"
            raise Failed(found, "see its signs and constants, and that it is KL(q || p) and not KL(p || q)")


def no_images(q: Conditional, _: Tensor) -> Conditional:
    return q


@check("posterior")
def can_be_stacked(name: str) -> None:
    """A VAE with it has the same losses for seeds that are stacked (torch.func.vmap) as for each alone."""
    posterior, latent = make(name)
    prior = PRIOR[posterior.space]
    objective = "elbo" if posterior.gives.density else "reconstruction"
    options = f"vae[posterior={name},prior={prior},objective={objective},latent={latent}"
    if takes(PRIORS[prior], "categories"):
        options += f",prior.categories={posterior.categories or latent}"
    stacks_in_a_vae(f"{options}]")
