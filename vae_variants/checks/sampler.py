"""Checks of samplers: what is fitted follows the latents, the same each time."""

from functools import lru_cache

import torch
from torch import Tensor

from vae_variants.checks.base import Failed, Skipped, check, described
from vae_variants.checks.fixtures import digits, model_of, provided, size
from vae_variants.models.latent import Generator
from vae_variants.models.samplers import SAMPLERS, LatentSampler

SMALL = {"components": 4, "width": 30, "steps": 600}  # options, for samplers that have them
Z, CODES, DRAWS = 3, 2000, 10_000


def made(entry: type[LatentSampler]) -> LatentSampler:
    """A new, small one in float64."""
    return entry(**provided(entry, digits(), {"latent": Z} | SMALL)).double()


@lru_cache(maxsize=1)
def model() -> Generator:
    found = model_of("vae", digits()).double().requires_grad_(False)
    assert isinstance(found, Generator)
    return found


def codes() -> Tensor:
    """(CODES, Z) of two Gaussians, one nine times as frequent, with correlated units whose scales differ a hundredfold."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(CODES, Z, dtype=torch.float64, generator=generator)
    root = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [-0.5, 0.3, 0.8]], dtype=torch.float64)
    second = torch.rand(CODES, 1, generator=generator) < 0.1
    z = noise @ root.mT + torch.where(second, torch.tensor([4.0, 0, -2], dtype=torch.float64), 0.0)
    return z * torch.tensor([0.1, 1, 10], dtype=torch.float64) + 5


@lru_cache(maxsize=16)
def fitted(entry: type[LatentSampler], seed: int) -> LatentSampler:
    """One that is fitted to `codes`, while the global random stream begins with a seed."""
    sampler = made(entry)
    if not (sampler.samples and sampler.fits):
        raise Skipped("it is not fitted")
    torch.manual_seed(seed)
    with torch.no_grad():
        sampler.fit(codes())
    return sampler


@check("sampler", first=True)
def says_what_it_is(name: str) -> None:
    """It has a description, and draws n finite latents (n, Z) before it is fitted too."""
    described("sampler", name)
    sampler = made(SAMPLERS[name])
    if left := [key for key, _ in sampler.named_parameters()]:
        raise Failed(f"has a parameter {left[0]}, which no player trains", "register it as a buffer")
    if sampler.samples:
        drawn_well(sampler, "draw(6) before fit()")


def drawn_well(sampler: LatentSampler, what: str) -> None:
    with torch.no_grad():
        z = sampler.draw(6, model())
    if tuple(z.shape) != (6, Z) or not z.isfinite().all():
        raise Failed(f"{what} gives {size(tuple(z.shape))}, expected (6, {Z}) finite numbers", "draw (n, self.latent) of the buffers' type")


@check("sampler")
def draws_follow_the_latents(name: str) -> None:
    """After fit() its samples have mean and covariance of the latents: two unequal Gaussians with correlated units of different scales."""
    sampler, z = fitted(SAMPLERS[name], 1), codes()
    drawn_well(sampler, "draw(6) after fit()")
    with torch.no_grad():
        found = sampler.draw(DRAWS, model())
    mean, scale = z.mean(0), z.std(0)
    off = ((found.mean(0) - mean) / scale).abs().max().item()
    if not off < 0.15:
        raise Failed(f"the mean of its samples is off by {off:.2g} standard deviations of the latents", "fit it to the latents as they are")
    off = ((found / scale).mT.cov() - (z / scale).mT.cov()).abs().max().item()
    if not off < 0.18:
        raise Failed(f"the covariance of its samples, for units of variance 1, is off by {off:.2g}", "fit the correlations of units too")


@check("sampler")
def fits_the_same_each_time(name: str) -> None:
    """fit() gives the same buffers of the same shapes each time, whatever the random stream."""
    before = {key: tuple(value.shape) for key, value in made(SAMPLERS[name]).state_dict().items()}
    first, second = fitted(SAMPLERS[name], 1).state_dict(), fitted(SAMPLERS[name], 2).state_dict()
    for key, value in first.items():
        if tuple(value.shape) != before.get(key):
            raise Failed(f"fit() changes the shape of {key}", "fill buffers of the shapes that the constructor gives them")
        if not torch.equal(value, second[key]):
            raise Failed(f"a second fit() gives another {key}", "draw with a seed of your own, inside torch.random.fork_rng()")


@check("sampler")
def survives_as_a_file(name: str) -> None:
    """Its state dict holds all that its samples depend on."""
    sampler, other = fitted(SAMPLERS[name], 1), made(SAMPLERS[name])
    other.load_state_dict(sampler.state_dict())
    drawn = []
    for each in (sampler, other):
        torch.manual_seed(4)
        with torch.no_grad():
            drawn.append(each.draw(6, model()))
    if not torch.equal(*drawn):
        raise Failed("draws other latents after its state dict is loaded into a new one", "keep what it fits in buffers")
