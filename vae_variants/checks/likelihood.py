"""Checks of likelihoods: normalised on their support, and what they sample is what they score."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.checks.fixtures import outside, size, stacks
from vae_variants.components import takes
from vae_variants.models.likelihoods import LIKELIHOODS, Likelihood, Support

LEVELS = 5
DRAWS = 20_000
CONSTANTS = {"log 2": 2.0, "log(2 pi) / 2": math.sqrt(2 * math.pi), "log(2 pi)": 2 * math.pi, "log pi": math.pi}


def make(name: str) -> Likelihood:
    """A likelihood with its default options, in float64 and evaluation mode, for grey images of `LEVELS` levels."""
    cls = LIKELIHOODS[name]
    given = {"levels": LEVELS, "shape": (1, 1, 3), "n": 60, "classes": 2}
    return cls(**{key: value for key, value in given.items() if takes(cls, key)}).double().eval()


def logits(likelihood: Likelihood, n: int, pixels: int = 1) -> Tensor:
    return 2.5 * torch.randn(n, pixels * likelihood.k, dtype=torch.float64)


def points(support: Support) -> tuple[Tensor, Tensor]:
    """(P,) points of a support and (P,) their weights in a sum or integral over it.

    x = sinh t and x = 1 / (1 + exp(-t)) stretch the lines, so that heavy tails and poles at the ends are integrated.
    """
    if support.discrete:
        x = torch.linspace(0, 1, 2 if support is Support.BINARY else LEVELS, dtype=torch.float64)
        return x, torch.ones_like(x)
    t = torch.linspace(-1, 1, 400_001, dtype=torch.float64)
    if support is Support.UNIT:
        x, slope = (30 * t).sigmoid(), 30 * (30 * t).sigmoid() * (-30 * t).sigmoid()
    else:
        x, slope = (16 * t).sinh(), 16 * (16 * t).cosh()
    return x, slope * (2 / 400_000)


@torch.no_grad()
def masses(likelihood: Likelihood, h: Tensor, support: Support) -> Tensor:
    """(B, k) outputs of the decoder -> (B, P) the probability mass of one pixel at each point of a support."""
    x, weight = points(support)
    log_p = torch.stack([likelihood.log_prob(each.expand(len(x), -1), x.unsqueeze(-1)) for each in h])
    return log_p.exp() * weight


@check("likelihood", first=True)
def shapes(name: str) -> None:
    """log_prob is one number for each image; sample and mean are images."""
    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    if not isinstance(likelihood.k, int) or likelihood.k < 1:
        raise Failed(f"has k = {likelihood.k!r}", "k is the number of the decoder's outputs per pixel: write k = 1 in the class")
    for leading in ((5,), (2, 5)):
        h = 2.5 * torch.randn(*leading, 3 * likelihood.k, dtype=torch.float64)
        for method in (likelihood.sample, likelihood.mean):
            if (found := tuple(method(h).shape)) != (*leading, 3):
                raise Failed(f"{cls}.{method.__name__} gives {size(found)} for 3 pixels, expected {size((*leading, 3))}", "keep every axis")
        x = likelihood.sample(h).detach().reshape(-1, 5, 3)[0]
        found = tuple(likelihood.log_prob(h, x).shape)
        if found != leading:
            reduced = "reduces over the batch" if len(found) < len(leading) else "is of the wrong shape"
            what = "does not sum over pixels" if found == (*leading, 3) else reduced
            wrong = f"{cls}.log_prob {what}: expected shape {size(leading)}, got {size(found)}"
            raise Failed(wrong, "sum over the last axis alone, .sum(-1)")


@check("likelihood", first=True)
def sums_over_pixels(name: str) -> None:
    """log_prob of an image is the sum over its pixels, whose decoder outputs lie side by side."""
    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    k, h = likelihood.k, logits(likelihood, 6, pixels=3)
    x = likelihood.sample(h.roll(1, 0)).detach()  # far from what h says: at its own mean, sum and mean may agree
    whole = likelihood.log_prob(h, x)
    parts = torch.stack([likelihood.log_prob(h[:, i * k : (i + 1) * k], x[:, i : i + 1]) for i in range(3)])
    if torch.allclose(whole, parts.sum(0), rtol=1e-5, atol=1e-5, equal_nan=True):
        return
    if torch.allclose(whole, parts.mean(0), rtol=1e-5, atol=1e-5):
        raise Failed(f"{cls}.log_prob is the mean over pixels and not their sum", "write .sum(-1) for .mean(-1): nats are per image")
    off = (whole - parts.sum(0)).abs().max().item()
    shape = f"h.unflatten(-1, (-1, {k})) has the {k} outputs of each pixel" if k > 1 else "each pixel has its own output"
    raise Failed(f"{cls}.log_prob of three pixels differs by up to {off:.3g} nats from the sum of the three alone", shape)


@check("likelihood")
def broadcasts(name: str) -> None:
    """log_prob scores each image under each of several outputs, whichever of the two has the axis that the other lacks."""
    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    h = logits(likelihood, 4, pixels=3)
    x = likelihood.sample(h).detach()[:2]
    expected = torch.stack([likelihood.log_prob(h, each.expand(4, -1)) for each in x])
    what, fix = (
        f"{cls}.log_prob of outputs (4, D k) and images (2, 1, D)",
        "index pixels from the last axis, and expand h and x alike",
    )
    try:
        found = likelihood.log_prob(h, x.unsqueeze(1))
    except RuntimeError as error:
        raise Failed(f"{what} fails: {error}", fix) from error
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-6, atol=1e-6):
        raise Failed(f"{what} is not that of each pair", fix)


@check("likelihood")
def normalised(name: str) -> None:
    """The mass or density of one pixel sums to 1 over its support, whatever the decoder puts out."""
    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    h = logits(likelihood, 8)
    total = masses(likelihood, h, likelihood.support).sum(-1)
    if torch.allclose(total, torch.ones_like(total), atol=2e-6, rtol=0):
        return
    what = "mass" if likelihood.support.discrete else "density"
    low, high = total.min().item(), total.max().item()
    others = [other for other in Support if other is not likelihood.support and sums_to_one(likelihood, h, other)]
    if others:
        found = f"sums to {spread(low, high)} over Support.{likelihood.support.name}, but to 1 over Support.{others[0].name}"
        raise Failed(f"{cls}.log_prob is not normalised: the {what} {found}", f"write support = Support.{others[0].name}")
    found = f"{cls}.log_prob is not normalised: the {what} sums to {spread(low, high)} instead of 1 over one pixel"
    if not (math.isfinite(high) and low > 0):
        raise Failed(found, "see that log_prob is finite where pixels are")
    if high - low < 1e-4 * high:
        factor, verb, word = (1 / low, "add", "missing") if low < 1 else (low, "subtract", "too much")
        known = [text for text, value in CONSTANTS.items() if abs(value / factor - 1) < 1e-4]
        nats = f"{math.log(factor):.4g} nats" + (f", which is {known[0]}," if known else "")
        raise Failed(found, f"a factor {factor:.4g} is {word}: {verb} {nats} for each pixel")
    raise Failed(f"{found}, depending on h", "its normaliser depends on the decoder's output: a term with h is wrong or missing")


def spread(low: float, high: float) -> str:
    return f"{low:.4g}" if high - low < 1e-4 * abs(high) else f"{low:.4g} to {high:.4g}"


def sums_to_one(likelihood: Likelihood, h: Tensor, support: Support) -> bool:
    try:
        total = masses(likelihood, h, support).sum(-1)
    except (ValueError, RuntimeError, IndexError):  # it does not accept such pixels
        return False
    return torch.allclose(total, torch.ones_like(total), atol=1e-4, rtol=0)


@check("likelihood")
def samples_lie_in_the_support(name: str) -> None:
    """sample() draws numbers that are pixels of its support."""
    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    with torch.no_grad():
        strange = outside(likelihood.sample(logits(likelihood, 2000)), likelihood.support, LEVELS)
    if strange.numel():
        found = f"{cls}.sample draws {strange[0].item():.4g}, which is not in Support.{likelihood.support.name}"
        raise Failed(found, "draw pixels of the support, or name the support that they are in")


@check("likelihood")
def samples_what_it_scores(name: str) -> None:
    """The samples of sample() follow log_prob."""
    from scipy.stats import kstest  # takes a second to import

    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    x, _ = points(likelihood.support)
    for h in logits(likelihood, 3):
        p = masses(likelihood, h.unsqueeze(0), likelihood.support)[0]
        p = p / p.sum()
        with torch.no_grad():
            drawn = likelihood.sample(h.expand(DRAWS, -1)).squeeze(-1)
        if likelihood.support.discrete:
            counts = torch.stack([(drawn - point).abs() < 1e-6 for point in x]).sum(-1)
            likely = p * DRAWS > 5
            good = bool(((counts - p * DRAWS).abs() < 5 * torch.sqrt(p * (1 - p) * DRAWS) + 1)[likely].all())
        else:
            cdf = (p.cumsum(0) - p / 2).numpy()
            at = np.interp(drawn.numpy(), x.numpy(), cdf)  # uniform if they follow it
            good = bool(kstest(at, "uniform").pvalue > 1e-5)
        if not good:
            mean, spread_ = (p * x).sum(), drawn.std().item()
            scored = ((x - mean).square() * p).sum().sqrt().item()
            found = f"at h = {h.tolist()[0]:.3g} they have mean {drawn.mean().item():.3g} and standard deviation {spread_:.3g}"
            told = f"{cls}.sample() draws do not match log_prob: {found}, log_prob says {mean.item():.3g} and {scored:.3g}"
            raise Failed(told, "make sample() draw from the density that log_prob has")


@check("likelihood")
def mean_is_the_expectation(name: str) -> None:
    """mean() is the expectation of a pixel under log_prob."""
    likelihood, cls = make(name), LIKELIHOODS[name].__name__
    x, _ = points(likelihood.support)
    h = logits(likelihood, 3)
    p = masses(likelihood, h, likelihood.support)
    if ((p * x.abs())[:, x.abs() > 1e3].sum(-1) > 1e-3).any():
        raise Skipped("its tails are too heavy to integrate its mean")
    expected = (p / p.sum(-1, keepdim=True) * x).sum(-1)
    with torch.no_grad():
        found = likelihood.mean(h).squeeze(-1).double()
    if not torch.allclose(found, expected, atol=2e-5, rtol=2e-5):
        i = int((found - expected).abs().argmax())
        where = f"{cls}.mean gives {found[i].item():.4g} at h = {h[i].tolist()[0]:.3g}"
        raise Failed(f"{where}, but the expectation under log_prob is {expected[i].item():.4g}", "give E[x | h], not the mode or h itself")


@check("likelihood")
def finite_far_out(name: str) -> None:
    """log_prob and its gradient are finite for pixels 0 and 1, however far out the decoder's output is."""
    likelihood, cls = make(name).float(), LIKELIHOODS[name].__name__
    places = (-80.0, -1e-6, 0.0, 1e-6, 1.0, 80.0)
    h = torch.tensor(places).unsqueeze(-1).repeat(1, likelihood.k).requires_grad_()
    for x in (0.0, 1.0):
        value = likelihood.log_prob(h, torch.full((len(places), 1), x))
        if not value.requires_grad:
            raise Failed(f"{cls}.log_prob has no gradient with respect to h", "use tensor operations, and neither .item() nor .detach()")
        (gradient,) = torch.autograd.grad(value.sum(), h)
        for what, found in (("log_prob is", value), ("the gradient with respect to h is", gradient.sum(-1))):
            if not (good := found.isfinite()).all():
                i = int((~good).nonzero()[0])
                fix = "keep logarithms, divisions and roots away from 0: clamp, or torch.where around a safe argument"
                raise Failed(f"{cls}: {what} {found[i].item()} at h = {places[i]:g}, x = {x:g}", fix)


@check("likelihood")
def can_be_stacked(name: str) -> None:
    """log_prob can be mapped over seeds that train together (torch.func.vmap)."""
    likelihoods = [make(name) for _ in range(3)]
    parameters, buffers = stack_module_state([Scored(likelihood) for likelihood in likelihoods])
    h = torch.stack([logits(likelihoods[0], 4, pixels=3) for _ in range(3)])
    x = torch.stack([likelihoods[0].sample(each).detach() for each in h])
    template = Scored(likelihoods[0])
    alone = torch.stack([likelihoods[0].log_prob(*each) for each in zip(h, x, strict=True)])
    fixes = (
        "use tensor operations alone: no .item(), no if on a value, nothing in place on what is given, no torch.distributions",
        "reduce over the last axis alone, counted from the end",
    )
    stacks("", lambda state, h, x: functional_call(template, state, (h, x)), (parameters | buffers, h, x), alone, fixes)


class Scored(torch.nn.Module):
    """Calls log_prob from forward(), because `functional_call` only calls forward()."""

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return self.likelihood.log_prob(h, x)
