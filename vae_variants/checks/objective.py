"""Laws of objectives: one number for each image, a bound on a log p(x) that is known, finite where weights are extreme."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from vae_variants.checks.check import Broken, Untried, law
from vae_variants.checks.linear_gaussian import W1, draws, linear_vae
from vae_variants.checks.words import described, digits, model_of, size
from vae_variants.models.objectives import OBJECTIVES, Draws

__all__: list[str] = []

IMAGES = 20_000
K_IS = "in d.log_px, d.log_pz, d.log_qz and d.log_w the first axis has the K draws, the last the B images"

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


def off_the_posterior(images: int, k: int) -> tuple[Draws, float]:
    """Draws from a q that is not the posterior, of a model whose log p(x) is known, and that."""
    model, x, exact = linear_vae(W1)
    with torch.no_grad():
        model.get_parameter("encoder.0.bias").add_(torch.tensor([0.1, -0.1, 0.3, -0.4], dtype=torch.float64))
    return draws(model, x.expand(images, -1), k), exact


@law("objective", first=True)
def says_what_it_is(name: str) -> None:
    """It has a description for `list`."""
    described(OBJECTIVES, name)


@law("objective", first=True)
def one_number_for_each_image(name: str) -> None:
    """It gives (B,) for draws (K, B)."""
    for k in (1, 3):
        value = OBJECTIVES[name](off_the_posterior(5, k)[0])
        if not isinstance(value, Tensor):
            raise Broken(f"gives {type(value).__name__}, expected a tensor of shape (5,)", "return a tensor")
        if (found := tuple(value.shape)) != (5,):
            known = {(): "reduces over the batch", (k, 5): f"does not reduce over its {k} draws"}
            what = known.get(found, "is of a wrong shape")
            mend = "take no sum or mean over the images: the model does" if not found else K_IS
            raise Broken(f"{what}: expected shape (5,), got {size(found)}", mend)


@law("objective")
def a_bound_when_training_ends(name: str) -> None:
    """At t = 1 it is minus a lower bound on log p(x), on a linear-Gaussian model whose log p(x) is known."""
    if not getattr(OBJECTIVES[name], "bound", True):
        raise Untried("it says that it is no bound (bound = False); a report's bounds are the evaluator's own, and its card says so")
    for k in (1, 8):
        d, exact = off_the_posterior(IMAGES, k)
        value = -OBJECTIVES[name](d)
        if not value.isfinite().all():
            raise Broken(f"is {value[~value.isfinite()][0].item()} where log p(x) is {exact:.4f}", "see that it is finite")
        error = value.std().item() / math.sqrt(IMAGES)
        if value.mean().item() > exact + 4 * error + 1e-9:
            found = f"is not a bound: minus it is {value.mean().item():.4f}, above log p(x) = {exact:.4f}, which is known here (K = {k})"
            slip = next((text for text, slipped in SLIPS.items() if torch.allclose(-value, slipped(d))), None)
            called = getattr(OBJECTIVES[name], "__name__", f"OBJECTIVES[{name!r}]")
            meant = f"if it is meant to be none, write {called}.bound = False below it"
            raise Broken(found, f"{slip or 'see its signs, its KL and its mean over draws'}; {meant}")


@law("objective")
def better_draws_cost_less(name: str) -> None:
    """It falls where log p(x | z) rises."""
    d, _ = off_the_posterior(5, 3)
    log_px = d.log_px.clone().requires_grad_()
    value = OBJECTIVES[name](d._replace(log_px=log_px))
    if not value.requires_grad:
        raise Broken("has no gradient with respect to log p(x | z)", "use d.log_px or d.log_w, without .detach()")
    (gradient,) = torch.autograd.grad(value.sum(), log_px)
    if not (gradient.sum(0) < 0).all():
        raise Broken("does not fall where log p(x | z) rises", "it is minimised: log p(x | z) enters with a minus")


@law("objective")
def finite_far_out(name: str) -> None:
    """It and its gradient are finite where weights differ by thousands of nats, as at the beginning of training."""
    d, _ = off_the_posterior(5, 4)
    log_px = (-4000.0 - 800.0 * torch.arange(20.0).reshape(4, 5)).requires_grad_()
    d = d._replace(**{field: part.float() for field, part in d._asdict().items()} | {"log_px": log_px})
    value = OBJECTIVES[name](d)
    (gradient,) = torch.autograd.grad(value.sum(), log_px)
    for what, found in (("it is", value), ("its gradient is", gradient)):
        if not (good := found.isfinite()).all():
            mend = "stay in logarithms: torch.logsumexp(d.log_w, 0), not d.log_w.exp().mean(0).log()"
            raise Broken(f"{what} {found[~good][0].item()} for log p(x | z) of -4000 to -19 200 nats", mend)


@law("objective")
def can_be_stacked(name: str) -> None:
    """It can be mapped over seeds that train together (torch.func.vmap)."""
    d, fn = off_the_posterior(5, 3)[0], OBJECTIVES[name]
    try:
        found = vmap(lambda *parts: fn(Draws(*parts)), randomness="different")(
            *(torch.stack([part, part]) for part in d if part is not None)
        )
    except RuntimeError as error:
        mend = "use tensor operations alone: no .item(), no if on a value, nothing in place"
        raise Broken(f"cannot be stacked (vmap): {' '.join(str(error).split())[:200]}", mend) from error
    if not torch.allclose(found[0], fn(d)):
        raise Broken("gives other values stacked (vmap) than alone", "reduce over axes of (K, B) alone")


@law("objective")
def trains(name: str) -> None:
    """A VAE takes a step by it: the gradient reaches every parameter and is finite."""
    data = digits()
    model = model_of(f"vae[objective={name},samples=3]", data)
    x = data.as_(model.support).test.round()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(model("loss", x, torch.tensor(0.5)), parameters, allow_unused=True)
    for parameter, gradient in zip(names, gradients, strict=True):
        if gradient is None or not gradient.abs().sum() > 0:
            raise Broken(f"leaves {parameter} of a VAE without a gradient", "use d.log_px for the decoder, d.kl or d.log_w for the encoder")
        if not gradient.isfinite().all():
            raise Broken(f"gives {parameter} of a VAE a gradient that is not finite", "keep logarithms and divisions away from 0")
