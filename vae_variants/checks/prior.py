"""Checks of priors: densities that integrate to 1, samples that follow them, closed forms of the KL."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check, described
from vae_variants.checks.fixtures import digits, gradient_reaches, model_of, provided, size, stacks_in_a_vae
from vae_variants.components import takes
from vae_variants.models.likelihoods import Support
from vae_variants.models.posteriors import POSTERIORS, Conditional, Diagonal, Space
from vae_variants.models.priors import PRIORS, Prior, Q, rule
from vae_variants.training.population import Population

SMALL = {"components": 4, "width": 8}  # options, for priors that have them
Z, UNITS, DRAWS = 2, 3, 20_000  # latent units alone and in a VAE, and samples
FINE, COARSE = 320, 8  # cells of each axis, to integrate and to count


def q_of(latent: int, pixels: int) -> Q:
    """Independent Gaussians whose means and scales are linear in the image."""
    encoder = torch.nn.Linear(pixels, 2 * latent).double().requires_grad_(False)

    def q(x: Tensor) -> Conditional:
        mean, log_scale = encoder(x).chunk(2, -1)
        return Diagonal(2 * mean, log_scale)

    return q


def made(name: str, latent: int = Z) -> tuple[Prior, Q]:
    """A small prior in float64 with some other than its first numbers, and a q(z | x)."""
    data = digits()
    prior = PRIORS[name](**provided(PRIORS[name], data, {"latent": latent, "categories": latent} | SMALL)).double()
    prior.initialise(data.as_(Support.UNIT).train.double())
    with torch.no_grad():
        for p in prior.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return prior.requires_grad_(False), q_of(latent, math.prod(data.shape))


def selector(name: str) -> str:
    """A VAE with this prior and the first posterior that goes with it. Raises `Failed` if there is none."""
    prior = PRIORS[name]
    fit = [key for key, entry in POSTERIORS.items() if entry.space is prior.space and issubclass(entry.gives, prior.needs)]
    if not fit:
        raise Failed(f"lies in {prior.space.value} space, where no posterior does", "register a posterior, or write another space")
    parts = {"prior": PRIORS[name], "posterior": POSTERIORS[fit[0]]}
    categories = [f",{part}.categories={UNITS}" for part, entry in parts.items() if takes(entry, "categories")]
    return f"vae[prior={name},posterior={fit[0]},latent={UNITS}{''.join(categories)}]"


class Plane(NamedTuple):
    """The plane in coordinates in (-1, 1): z = centre + scale tan(pi v / 2)."""

    centre: Tensor
    scale: Tensor

    def cells(self, z: Tensor) -> Tensor:
        """z (n, 2) -> (COARSE, COARSE) how many lie in each cell."""
        v = ((z - self.centre) / self.scale).atan() * 2 / math.pi
        index = ((v + 1) / 2 * COARSE).long().clamp(0, COARSE - 1)
        return torch.bincount(index[:, 0] * COARSE + index[:, 1], minlength=COARSE**2).reshape(COARSE, COARSE)

    def masses(self, prior: Prior, q: Q) -> Tensor:
        """(COARSE, COARSE) the integral of the density over each cell, by the midpoint rule."""
        t = ((torch.arange(FINE, dtype=torch.float64) + 0.5) * 2 / FINE - 1).mul(math.pi / 2).tan()
        volume = (1 + t.square()) * math.pi / FINE  # dz / dv times the width of a cell, over the scale
        z = self.centre + self.scale * torch.cartesian_prod(t, t)
        p = prior.log_prob(z, q).exp().reshape(FINE, FINE) * torch.outer(volume, volume) * self.scale.prod()
        return p.unflatten(0, (COARSE, -1)).unflatten(2, (COARSE, -1)).sum((1, 3))


def plane(prior: Prior, q: Q) -> Plane:
    """Coordinates in which most samples are not far out."""
    if prior.space is not Space.REAL:
        raise Skipped(f"integrated over the plane alone, and its latents lie in {prior.space.value} space")
    quartiles = prior.sample(DRAWS, q).quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), 0)
    return Plane(quartiles[1], quartiles[2] - quartiles[0])


@check("prior", first=True)
def says_what_it_is(name: str) -> None:
    """It has a description, samples (n, Z), and one finite number log p(z) for each z."""
    described("prior", name)
    prior, q = made(name, UNITS)
    z = prior.sample(6, q)
    if tuple(z.shape) != (6, 3) or z.dtype is not torch.float64:
        found = f"sample(6) gives {size(tuple(z.shape))} of {z.dtype} for 3 units in float64, expected (6, 3)"
        raise Failed(found, "draw torch.randn(n, self.latent, dtype=self.like.dtype, device=self.like.device)")
    for shape in ((6, 3), (2, 3, 3)):
        value = prior.log_prob(z.reshape(-1, 3)[: math.prod(shape[:-1])].reshape(shape), q)
        if tuple(value.shape) != shape[:-1]:
            raise Failed(
                f"log_prob of {size(shape)} gives {size(tuple(value.shape))}, expected {size(shape[:-1])}", "sum over the last axis"
            )
        if not value.isfinite().all():
            raise Failed(f"log_prob of its own samples is {value[~value.isfinite()][0].item()}", "stay in logarithms")


@check("prior")
def density_integrates_to_one(name: str) -> None:
    """The density of two units integrates to 1 over the plane."""
    prior, q = made(name)
    total = plane(prior, q).masses(prior, q).sum().item()
    if not abs(total - 1) < 1e-3:
        nats = math.log(total) if total > 0 else -math.inf
        raise Failed(
            f"p(z) integrates to {total:.4g} instead of 1 over two units", f"log_prob is {nats:.4g} nats too high: see its constants"
        )


@check("prior")
def samples_what_it_scores(name: str) -> None:
    """The samples of sample() follow log_prob."""
    prior, q = made(name)
    where = plane(prior, q)
    p, counts = where.masses(prior, q), where.cells(prior.sample(DRAWS, q))
    off = (counts - DRAWS * p).abs() - 5 * (DRAWS * p * (1 - p).clamp(min=0)).sqrt() - 1
    if (off > 0).any():
        i = int(off.argmax())
        found = f"{counts.flatten()[i].item()} of {DRAWS} samples lie in a cell where log_prob says {DRAWS * p.flatten()[i].item():.0f}"
        raise Failed(found, "make sample() draw from the density that log_prob has")


@check("prior")
def finite_far_out(name: str) -> None:
    """log_prob and its gradient in z are finite at 0 and for units between -100 and 100."""
    prior, q = made(name)
    if prior.space is not Space.REAL:
        raise Skipped(f"its latents lie in {prior.space.value} space")
    z = torch.cartesian_prod(*[torch.tensor([-100.0, -10.0, 0.0, 1.0, 100.0], dtype=torch.float64)] * 2).requires_grad_()
    value = prior.log_prob(z, q)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    for what, found in (("log_prob is", value), ("its gradient is", gradient.sum(-1))):
        if not (good := found.isfinite()).all():
            i = int((~good).nonzero()[0])
            raise Failed(f"{what} {found[i].item()} at z = {z[i].tolist()}", "stay in logarithms: torch.logsumexp, and no exp of a square")


@check("prior")
def a_closed_kl_is_the_expectation(name: str) -> None:
    """A closed form of KL(q || p) equals the mean of log q(z) - log p(z) over samples of q."""
    prior, q_of_images = made(name)
    rules = {key: entry for key, entry in POSTERIORS.items() if entry.space is prior.space and rule(type(prior), entry.gives)}
    if not rules:
        raise Skipped("it has no closed form for any posterior")
    for key, entry in rules.items():
        posterior = entry(**provided(entry, digits(), {"latent": Z})).double().requires_grad_(False)
        q = posterior(0.7 * torch.randn(3, posterior.inputs, dtype=torch.float64))
        closed = rule(type(prior), entry.gives)
        assert closed
        kl, (z, log_q) = closed(prior, q).sum(-1), q.draw(DRAWS)
        sampled = log_q - prior.log_prob(z, q_of_images)
        error = 5 * sampled.std(0) / math.sqrt(DRAWS) + 1e-9
        if ((sampled.mean(0) - kl).abs() > error).any():
            i = int(((sampled.mean(0) - kl).abs() / error).argmax())
            found = f"the closed KL to posterior={key} is {kl[i].item():.4g}, the mean over samples {sampled.mean(0)[i].item():.4g}"
            raise Failed(found, "see the function under @closed_kl, or remove it")


@check("prior")
def trains(name: str) -> None:
    """The loss of a VAE with it reaches each of its parameters and the encoder's, and is finite."""
    data = digits()
    model = model_of(selector(name), data)
    x = data.as_(model.support).test[:].round()
    model.initialise(x)  # type: ignore[operator]
    gradient_reaches("a VAE's loss", model("loss", x, torch.tensor(0.5)), dict(model.named_parameters()), "use it in log_prob")


@check("prior")
def can_be_stacked(name: str) -> None:
    """Density and samples can be mapped over seeds that train together (torch.func.vmap)."""
    stacks_in_a_vae(selector(name))
    population = Population(lambda: model_of(selector(name), digits()), (0, 1))
    z: Any = population.call("draw_prior", (None,))(5)
    if tuple(z.shape) != (2, 5, 3) or torch.equal(z[0], z[1]):
        found = f"sample(5) of two stacked seeds gives {size(tuple(z.shape))}, expected (2, 5, 3) of different numbers"
        raise Failed(found, "draw noise by torch.randn(shape) in sample()")


@check("prior")
def survives_as_a_file(name: str) -> None:
    """Its state dict holds all that log_prob depends on."""
    prior, q = made(name)
    other, _ = made(name)
    other.load_state_dict(prior.state_dict())
    z = prior.sample(20, q)
    if not torch.equal(prior.log_prob(z, q), other.log_prob(z, q)):
        raise Failed("has another density after its state dict is loaded into a new one", "keep what it learns in parameters and buffers")
