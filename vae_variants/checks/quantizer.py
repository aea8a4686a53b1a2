"""Checks of quantizers and of priors of codes: symbols and vectors belong together, and probabilities sum to 1."""

import itertools

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, check, described
from vae_variants.checks.fixtures import size, stacks_in_a_vae
from vae_variants.components import takes
from vae_variants.models.code_priors import CODE_PRIORS, CodePrior
from vae_variants.models.quantizers import QUANTIZERS, Quantizer

P, B, SYMBOLS, CODES, ROWS = 3, 40, 3, 4, 500
TOLERANCE = 1e-6
STEPS = 100  # of the fit of a prior


def made(name: str) -> tuple[Quantizer, Tensor]:
    """A quantizer with its default options in float64, initialised, and vectors (B, P, W)."""
    quantizer = QUANTIZERS[name]().double()
    h = 2 * torch.randn(B, P, quantizer.width, dtype=torch.float64)
    quantizer.initialise(h)
    return quantizer.eval(), h


@check("quantizer", first=True)
def symbols_and_vectors_have_their_shapes(name: str) -> None:
    """It has a description, and gives `depth` symbols below `codes` at each position, whose vectors are in its table."""
    described("quantizer", name)
    quantizer, h = made(name)
    indices = quantizer.indices(h)
    if tuple(indices.shape) != (B, P, quantizer.depth) or indices.is_floating_point():
        found = f"indices(h) gives {size(tuple(indices.shape))} of {indices.dtype}, expected {size((B, P, quantizer.depth))} integers"
        raise Failed(found, "give a symbol for each position and level")
    if indices.min() < 0 or indices.max() >= quantizer.codes:
        raise Failed(f"indices(h) gives {indices.max().item()}", f"give integers from 0 to codes - 1, {quantizer.codes - 1}")
    for what, tensor, shape in (
        ("table()", quantizer.table(), (quantizer.depth, quantizer.codes, quantizer.width)),
        ("lookup(indices)", quantizer.lookup(indices), (B, P, quantizer.depth, quantizer.width)),
    ):
        if tuple(tensor.shape) != shape:
            raise Failed(f"{what} gives {size(tuple(tensor.shape))}, expected {size(shape)}", "see the class Quantizer")


@check("quantizer")
def the_decoder_is_trained_on_the_codes_of_the_images(name: str) -> None:
    """In evaluation mode its z is the sum of the vectors of its symbols, and the loss is finite, one number for each image."""
    quantizer, h = made(name)
    z, loss = quantizer(h, torch.ones((), dtype=torch.float64))
    off = (z - quantizer.lookup(quantizer.indices(h)).sum(-2)).abs().max().item()
    if off > TOLERANCE:
        raise Failed(f"forward() gives vectors that differ from those of its symbols by {off:.3g}", "give the decoder what lookup() gives")
    if tuple(loss.shape) != (B,) or not loss.isfinite().all():
        raise Failed(f"its loss has the shape {size(tuple(loss.shape))}, expected finite {size((B,))}", "give one number for each image")


@check("quantizer")
def its_gradient_reaches_the_encoder(name: str) -> None:
    """The gradient of z passes to the encoder's vectors, and is finite for large ones too."""
    quantizer, h = made(name)
    for scale in (0.3, 1e4):
        x = (scale * h).requires_grad_()
        z, loss = quantizer.train()(x, torch.tensor(0.5, dtype=torch.float64))
        (gradient,) = torch.autograd.grad((z * torch.randn_like(z)).sum() + loss.sum(), x)
        if not gradient.isfinite().all():
            raise Failed(f"the gradient of vectors of size {scale:g} is not finite", "keep logarithms and divisions away from 0")
        if scale < 1 and not (gradient.abs().sum((-1, -2)) > 0).all():
            raise Failed("the gradient of z does not reach the encoder", "return straight_through(h, code)")


@check("quantizer")
def it_stacks_over_seeds(name: str) -> None:
    """Mapped over stacked seeds (torch.func.vmap) it gives what each seed gives alone."""
    stacks_in_a_vae(f"quantized-vae[quantizer={name}]")


def all_codes() -> Tensor:
    return torch.tensor(list(itertools.product(range(CODES), repeat=SYMBOLS)))


def prior_of_codes(name: str) -> CodePrior:
    """In float64, with few steps to fit it."""
    entry = CODE_PRIORS[name]
    return entry((1, SYMBOLS), CODES, **({"steps": STEPS} if takes(entry, "steps") else {})).double()


@check("code-prior", first=True)
def its_probabilities_sum_to_one(name: str) -> None:
    """It has a description, and p sums to 1 over all codes, before it is fitted (then all are equal) and afterwards."""
    described("code-prior", name)
    prior = prior_of_codes(name)
    if left := [key for key, _ in prior.named_parameters()]:
        raise Failed(f"has a parameter {left[0]}, which no player trains", "register it as a buffer")
    log_p = prior.log_prob(all_codes())
    if (log_p - log_p.mean()).abs().max() > TOLERANCE:
        raise Failed("is not uniform before it is fitted", "start with equal probabilities: validation is by them")
    for when in ("before", "after"):
        total = prior.log_prob(all_codes()).double().exp().sum().item()
        if abs(total - 1) > TOLERANCE:
            raise Failed(f"p sums to {total:.6g} over all codes {when} fit()", "normalise each conditional probability")
        prior.fit(*dependent().split([ROWS - 100, 100]))


def dependent() -> Tensor:
    """(ROWS, SYMBOLS) codes whose second symbol is the first, and whose third is 0 or 1."""
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(CODES, (ROWS,), generator=generator)
    return torch.stack([first, first, torch.randint(2, (ROWS,), generator=generator)], 1)


@check("code-prior")
def samples_follow_its_probabilities(name: str) -> None:
    """After fit(), which gives the same each time and costs codes no more than a uniform prior, samples have their probabilities."""
    first, second = (prior_of_codes(name) for _ in range(2))
    for prior in (first, second):
        prior.fit(*dependent().split([ROWS - 100, 100]))
        torch.rand(3)
    p = first.log_prob(all_codes()).double().exp()
    if not torch.equal(p, second.log_prob(all_codes()).double().exp()):
        raise Failed("fit() gives another prior the second time", "seed what it draws")
    if (cost := -first.log_prob(dependent()).mean().item()) > SYMBOLS * torch.tensor(float(CODES)).log().item() + TOLERANCE:
        raise Failed(f"fitted, it gives the codes {cost:.3g} nats, more than a uniform prior", "see its fit()")
    n = 20_000
    drawn = first.sample(n, torch.zeros((), dtype=torch.float64))
    counts = torch.bincount((drawn * CODES ** torch.arange(SYMBOLS - 1, -1, -1)).sum(1), minlength=len(p))
    off = (counts - n * p).abs() - 5 * torch.sqrt(n * p * (1 - p)) - 1
    if (off > 0).any():
        i = int(off.argmax())
        found = f"sample() draws {all_codes()[i].tolist()} {counts[i].item()} times in {n}"
        raise Failed(f"{found}, where log_prob says {n * p[i].item():.0f}", "draw each symbol given those before it")
