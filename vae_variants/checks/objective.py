"""Checks of objectives: shapes, a bound on a known log p(x), extreme importance weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.checks.fixtures import each_player_trains, size, stacks_in_a_vae, with_defaults
from vae_variants.checks.linear_gaussian import W1, draws, linear_vae
from vae_variants.models.draws import Draws
from vae_variants.models.objectives import OBJECTIVES, Objective, says

IMAGES = 20_000
K_IS = "in d.log_px, d.log_pz, d.log_qz and d.log_w the first axis has the K samples, the last the B images"

SLIPS: dict[str, Callable[[Draws], Tensor]] = {  # what to write -> an objective without it
    "turn its sign round: an objective is minimised, so that it is minus the bound": lambda d: d.log_px.mean(0) - d.kl,
    "the KL has the wrong sign: write d.kl - d.log_px.mean(0)": lambda d: -d.kl - d.log_px.mean(0),
    "the KL is missing: write d.kl - d.log_px.mean(0)": lambda d: -d.log_px.mean(0),
    "turn its sign round: an objective is minimised, so that it is minus the importance-weighted bound": lambda d: (
        d.log_w.logsumexp(0) - math.log(len(d.log_w))
    ),
    "the log K is missing: the bound is the log of the mean of the K weights, logsumexp - log K": lambda d: -d.log_w.logsumexp(0),
    "log p(z) and log q(z | x) have changed places: log w = log p(x | z) + log p(z) - log q(z | x)": lambda d: (
        -(d.log_px - d.log_pz + d.log_qz).mean(0)
    ),
    "log q(z | x) is missing: log w = log p(x | z) + log p(z) - log q(z | x)": lambda d: -(d.log_px + d.log_pz).mean(0),
}


def built(name: str, images: int) -> Objective:
    """The objective with its default options, for so many training images like those of the linear model."""
    return with_defaults(OBJECTIVES[name], images, shape=(1, 1, 5))


def off_the_posterior(images: int, k: int) -> tuple[Draws, float]:
    """Samples of a q that is not the posterior, for a model with known log p(x), and log p(x)."""
    model, x, exact = linear_vae(W1)
    with torch.no_grad():
        model.get_parameter("encoder.0.bias").add_(torch.tensor([0.1, -0.1, 0.3, -0.4], dtype=torch.float64))
    return draws(model, x.expand(images, -1), k), exact


@check("objective", first=True)
def one_number_for_each_image(name: str) -> None:
    """It gives (B,) for samples (K, B)."""
    for k in (1, 3):
        value = built(name, 5)(off_the_posterior(5, k)[0])
        if not isinstance(value, Tensor):
            raise Failed(f"gives {type(value).__name__}, expected a tensor of shape (5,)", "return a tensor")
        if (found := tuple(value.shape)) != (5,):
            known = {(): "reduces over the batch", (k, 5): f"does not reduce over its {k} samples"}
            what = known.get(found, "is of a wrong shape")
            fix = "take no sum or mean over the images: the model does" if not found else K_IS
            raise Failed(f"{what}: expected shape (5,), got {size(found)}", fix)


@check("objective")
def a_bound_when_training_ends(name: str) -> None:
    """At t = 1 it is minus a lower bound on log p(x), on a linear-Gaussian model whose log p(x) is known."""
    if not says(OBJECTIVES[name], "bound"):
        raise Skipped("it says that it is no bound (bound = False); a report's bounds are the evaluator's own, and its card says so")
    for k in (1, 8):
        d, exact = off_the_posterior(IMAGES, k)
        value = -built(name, IMAGES)(d)
        if not value.isfinite().all():
            raise Failed(f"is {value[~value.isfinite()][0].item()} where log p(x) is {exact:.4f}", "see that it is finite")
        error = value.std().item() / math.sqrt(IMAGES)
        if value.mean().item() > exact + 4 * error + 1e-9:
            found = f"is not a bound: minus it is {value.mean().item():.4f}, above log p(x) = {exact:.4f}, which is known here (K = {k})"
            slip = next((text for text, slipped in SLIPS.items() if torch.allclose(-value, slipped(d))), None)
            called = getattr(OBJECTIVES[name], "__name__", f"OBJECTIVES[{name!r}]")
            meant = f"if it is meant to be none, write {called}.bound = False below it"
            raise Failed(found, f"{slip or 'see its signs, its KL and its mean over samples'}; {meant}")


@check("objective")
def better_draws_cost_less(name: str) -> None:
    """It falls if log p(x | z) rises."""
    if not says(OBJECTIVES[name], "density"):
        raise Skipped("it says that its reconstruction error is no log density (density = False)")
    d, _ = off_the_posterior(5, 3)
    log_px = d.log_px.clone().requires_grad_()
    value = built(name, 5)(d._replace(log_px=log_px))
    if not value.requires_grad:
        raise Failed("has no gradient with respect to log p(x | z)", "use d.log_px or d.log_w, without .detach()")
    (gradient,) = torch.autograd.grad(value.sum(), log_px)
    if not (gradient.sum(0) < 0).all():
        raise Failed("does not fall where log p(x | z) rises", "it is minimised: log p(x | z) enters with a minus")


@check("objective")
def finite_far_out(name: str) -> None:
    """It and its gradient are finite where weights differ by thousands of nats, as at the beginning of training."""
    if not says(OBJECTIVES[name], "density"):
        raise Skipped("it says that its reconstruction error is no log density (density = False)")
    d, _ = off_the_posterior(5, 4)
    assert d.model is not None
    d.model.float()
    log_px = (-4000.0 - 800.0 * torch.arange(20.0).reshape(4, 5)).requires_grad_()
    parts: dict[str, Any] = {field: part.float() for field, part in d._asdict().items() if isinstance(part, Tensor)}
    d = d._replace(**parts | {"log_px": log_px})
    value = built(name, 5)(d)
    (gradient,) = torch.autograd.grad(value.sum(), log_px)
    for what, found in (("it is", value), ("its gradient is", gradient)):
        if not (good := found.isfinite()).all():
            fix = "stay in logarithms: torch.logsumexp(d.log_w, 0), not d.log_w.exp().mean(0).log()"
            raise Failed(f"{what} {found[~good][0].item()} for log p(x | z) of -4000 to -19 200 nats", fix)


@check("objective")
def can_be_stacked(name: str) -> None:
    """It can be mapped over seeds that train together (torch.func.vmap)."""
    stacks_in_a_vae(f"vae[objective={name},samples=3]")


@check("objective")
def trains(name: str) -> None:
    """A VAE takes a step by it: the gradient of each player reaches all of its parameters and is finite."""
    each_player_trains(f"vae[objective={name},samples=3]", "use d.log_px for the decoder, d.kl or d.log_w for the encoder")
