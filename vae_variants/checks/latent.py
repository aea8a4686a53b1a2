"""Checks of models with latent variables: densities, samples and KL belong together, so that no model can cheat.

Each holds in expectation for every right model. They are estimates with 5 standard errors of tolerance, from fixed noise.
"""

import math

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.checks.fixtures import members, tiny
from vae_variants.checks.model import all_binary
from vae_variants.models.base import (
    Coded,
    Density,
    Encoder,
    Euclidean,
    GaussianPosterior,
    Generative,
    LatentVariable,
    Model,
    ScoredPosterior,
)
from vae_variants.models.likelihoods import Support
from vae_variants.models.posteriors import Scored

SAMPLES = 4000  # of z, for each image
ERRORS = 5  # tolerated standard errors
SLACK = 0.02  # tolerated beside them, as a share
WIDE = 0.02  # of the samples: an effective sample size for which an estimate is near its expectation
CENTRES, NEIGHBOURS = 400, 20  # of the density that is made of samples of a prior
APART = 1.3  # tolerated factor between that density and the prior's, in expectation
SHAKEN = 0.3  # standard deviation of what is added to the weights, so that no part is at its start, over sqrt(inputs)


def shaken(name: str) -> tuple[Model, Tensor]:
    """A model of four pixels in float64 whose weights are not at their start, and test images in its support."""
    model, x = members(name, tiny(2, 2))
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(SHAKEN / math.sqrt(max(1, p.shape[-1] if p.dim() > 1 else p.numel())) * torch.randn_like(p))
    return model, x.double()


def with_latents(name: str) -> tuple[LatentVariable, Tensor]:
    model, x = shaken(name)
    if not isinstance(model, LatentVariable):
        raise Skipped("it has no q(z | x) with a density, and so no nats to check")
    return model, x


def mean_of(log_w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log w (K, B) -> mean of w, its standard error, and the effective share of the samples, (B,) each."""
    top = log_w.amax(0)
    w = (log_w - top).exp()
    share = w.sum(0).square() / w.square().sum(0) / len(w)
    return w.mean(0) * top.exp(), w.std(0) / math.sqrt(len(w)) * top.exp(), share


@check("model")
def weights_sum_to_one_over_all_images(name: str) -> None:
    """Over all binary images x, E_q[p(x, z) / q(z | x)] sums to at most 1, and to 1 if q is wide and no single code."""
    model, _ = with_latents(name)
    if model.support is not Support.BINARY:  # type: ignore[attr-defined]
        raise Skipped("summed over binary images alone")
    with torch.no_grad():
        mean, error, share = mean_of(model.infer(all_binary(4), SAMPLES, torch.ones((), dtype=torch.float64)).log_w)
    total, tolerance = mean.sum().item(), ERRORS * error.square().sum().sqrt().item() + SLACK
    found = f"p(x), estimated from p(x, z) / q(z | x), sums to {total:.3g} over all images of 4 binary pixels"
    if total > 1 + tolerance:
        raise Failed(f"{found}, more than 1", "see that log p(z) and log p(x | z) have their constants, and log q(z | x) is not too low")
    if share.min() > WIDE and total < 1 - tolerance and not isinstance(model, Coded):
        raise Failed(f"{found}, less than 1", "see that log p(z), log p(x | z) and log q(z | x) are normalised")


@check("model")
def the_kl_is_that_of_its_densities(name: str) -> None:
    """The KL of infer() is E_q[log q(z | x) - log p(z)]."""
    model, x = with_latents(name)
    with torch.no_grad():
        d = model.infer(x, SAMPLES, torch.ones((), dtype=torch.float64))
    ratio = d.log_qz - d.log_pz
    difference = (ratio - d.kl).mean(1)  # of each sample, over the images
    error = ERRORS * difference.std().item() / math.sqrt(SAMPLES) + 1e-6
    if abs(off := difference.mean().item()) > error:
        found = f"its kl is {d.kl.mean().item():.4f} nats, while log q(z | x) - log p(z) is {d.kl.mean().item() + off:.4f} on average"
        raise Failed(found, "give the KL of the q and p that are drawn and scored, or closed_kl = False")


@check("model")
def samples_have_the_density_of_q(name: str) -> None:
    """log q(z | x) of samples is the density of conditional(x) at them; those of a diagonal Gaussian have its mean and scale."""
    model, x = with_latents(name)
    if not isinstance(model, ScoredPosterior):
        raise Skipped("q(z | x) has no density at a given z")
    with torch.no_grad():
        d, q = model.infer(x, SAMPLES, torch.ones((), dtype=torch.float64)), model.conditional(x)
        if not isinstance(q, Scored):
            raise Failed(f"conditional() gives a {type(q).__name__}, which is not Scored", "derive it from Scored, or lose ScoredPosterior")
        z, log_q = q.draw(7)
        for what, given, scored in (("infer()", d.log_qz, q.log_prob(d.z)), ("draw()", log_q, q.log_prob(z))):
            if not torch.allclose(given, scored, rtol=1e-6, atol=1e-6):
                off = (given - scored).abs().max().item()
                raise Failed(f"log q(z | x) of {what} differs from log_prob of conditional() by {off:.3g} nats", "score what is drawn")
        if not isinstance(model, GaussianPosterior):
            return
        noise = (d.z - model.moments(x)[0]) / model.moments(x)[1]
    limit = ERRORS / math.sqrt(SAMPLES) + 1e-9
    products = torch.einsum("kbi,kbj->bij", noise, noise) / SAMPLES - torch.eye(noise.shape[-1], dtype=noise.dtype)
    if noise.mean(0).abs().max() > limit or products.abs().max() > 2 * limit:
        found = "its samples are not those of the independent Gaussians that moments() gives"
        raise Failed(found, "draw mean + scale * noise, or let the posterior's `gives` be a class of its own")


@check("model")
def the_prior_draws_what_it_scores(name: str) -> None:
    """log_prior is the normalised density of draw_prior: E_p[f(z) / p(z)] = 1 for any density f."""
    model, _ = shaken(name)
    if not isinstance(model, Generative):
        raise Skipped("it has no prior")
    if not isinstance(model, Euclidean):
        raise Skipped("tried for latents that fill R^Z")
    with torch.no_grad():
        z, centres = model.draw_prior(SAMPLES), model.draw_prior(CENTRES)
        log_p = model.log_prior(z)
    near = torch.cdist(centres, centres).topk(NEIGHBOURS, largest=False).values[:, -1] / math.sqrt(z.shape[1])
    squares = (torch.cdist(z, centres) / near).square()
    log_f = (-0.5 * squares - z.shape[1] * (near.log() + 0.5 * math.log(2 * math.pi))).logsumexp(1) - math.log(CENTRES)
    mean, error, _ = mean_of((log_f - log_p)[:, None])
    ratio, tolerance = mean.item(), ERRORS * error.item()
    if not 1 / APART - tolerance < ratio < APART + tolerance:
        found = f"the density of samples of draw_prior() is {ratio:.3g} times that of log_prior() on average"
        raise Failed(found, "sample and score the same prior, with the constants of its density")


@check("model")
def samples_of_the_prior_give_the_same_p_of_x(name: str) -> None:
    """log p(x) from samples of the prior, log E_p[p(x | z)], is that from samples of q, and at least the bound of a single code."""
    model, x = with_latents(name)
    x = x[:4]
    with torch.no_grad():
        by_q = mean_of(model.infer(x, SAMPLES, torch.ones((), dtype=torch.float64)).log_w)
        z = model.draw_prior(SAMPLES)
        log_px = model.log_px(x, z[:, None].expand(-1, len(x), -1))  # type: ignore[attr-defined]
    by_p = mean_of(log_px)
    error = ((by_q[1] / by_q[0]).square() + (by_p[1] / by_p[0]).square()).sqrt()
    off = by_q[0].log() - by_p[0].log()
    off, sure = off if isinstance(model, Coded) else off.abs(), torch.minimum(by_q[2], by_p[2]) > WIDE
    if (bad := sure & (off > ERRORS * error + SLACK)).any():
        i = int(bad.nonzero()[0])
        found = (
            f"log p(x) of an image is {by_p[0][i].log().item():.3f} by samples of the prior, {by_q[0][i].log().item():.3f} by those of q"
        )
        raise Failed(found, "see that draw_prior() samples what log_prior() scores, and that log q(z | x) is that of its samples")


@check("model")
def an_image_is_seen_alone(name: str) -> None:
    """In evaluation mode latents, q(z | x) and exact log p(x) of an image do not depend on the images beside it."""
    model, x = shaken(name)
    asked = {}
    if isinstance(model, Encoder):
        asked["encode()"] = model.encode
    if isinstance(model, GaussianPosterior):
        asked |= {"the mean of q": lambda x: model.moments(x)[0], "the scale of q": lambda x: model.moments(x)[1]}
    if isinstance(model, Density) and model.exact:
        asked["log_prob()"] = model.log_prob
    if not asked:
        raise Skipped("nothing of it is a function of an image alone")
    with torch.no_grad():
        for what, ask in asked.items():
            together, apart = ask(x), torch.cat([ask(part) for part in x.split(2)])
            if not torch.allclose(together.double(), apart.double(), rtol=1e-6, atol=1e-8):
                off = (together - apart).abs().max().item()
                raise Failed(
                    f"{what} of an image moves by {off:.3g} with its batch", "in evaluation mode use averages that were kept while training"
                )
