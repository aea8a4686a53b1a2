"""Models that were trained elsewhere: scored as they are, without training."""

import math
from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vae_variants.models.base import Coder, Density, Encoder, MeanSampler, Model, Player, Sampler
from vae_variants.registry import UserError

ELEMENTS = 2**21  # numbers of the images in one call


@runtime_checkable
class Encodes(Protocol):
    def encode(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) in [0, 1] -> latents (B, ...)."""


@runtime_checkable
class Decodes(Protocol):
    def decode(self, z: Tensor) -> Tensor:
        """Latents as `encode` gives them -> images (B, C, H, W) in [0, 1]."""


@runtime_checkable
class Samples(Protocol):
    def sample(self, n: int) -> Tensor:
        """n -> images (n, C, H, W) in [0, 1]."""


@runtime_checkable
class Scores(Protocol):
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) in the support -> (B,) nats."""


class External(Model, Coder, MeanSampler, Sampler, Density):
    """What `load` returns, with those capabilities for which it has a method: `encode`, `decode`, `sample`, `log_prob`."""

    players: tuple[Player, ...] = ()
    stackable = False

    def __init__(self, shape: tuple[int, int, int], *, version: str = "") -> None:
        super().__init__()
        self.shape, self.version = shape, version
        self.inner: Any = self.load()
        if isinstance(self.inner, nn.Module):
            self.inner.eval().requires_grad_(False)
        able = {Encoder: Encodes, Coder: Decodes, Sampler: Samples, MeanSampler: Samples, Density: Scores}
        self.lose(*(capability for capability, method in able.items() if not isinstance(self.inner, method)))
        if not isinstance(self, (Encoder, Sampler, Density)):
            self.refuse("has none of the methods encode, sample and log_prob")
        self.latent_shape = self.probed()
        self.latent = math.prod(self.latent_shape)

    @staticmethod
    @abstractmethod
    def load() -> object:
        """The model."""

    def refuse(self, what: str) -> None:
        raise UserError(f"what {type(self).__name__}() returns {what}")

    def probed(self) -> tuple[int, ...]:
        """Shape of the latents of an image; empty without an encoder. Raises `UserError` if a method gives another shape than it should."""
        x = torch.full((2, *self.shape), 0.5)
        found: tuple[int, ...] = ()
        if isinstance(self, Encoder):
            z = self.called("encode", x)
            found = tuple(z.shape[1:])
            if isinstance(self, Coder) and (y := self.called("decode", z)).shape != x.shape:
                self.refuse(f"decodes latents of images {tuple(x.shape)} to {tuple(y.shape)}")
        if isinstance(self, Density) and (p := self.called("log_prob", x)).shape != (2,):
            self.refuse(f"has log_prob {tuple(p.shape)} of images {tuple(x.shape)}, not one number for each")
        return found

    @torch.no_grad()
    def called(self, method: str, x: Tensor) -> Tensor:
        """A method of the model on x (B, ...), at most `ELEMENTS` numbers of images at a time."""
        given = x.split(max(1, ELEMENTS // math.prod(self.shape)))
        found = [getattr(self.inner, method)(part) for part in given]
        for part, n in zip(found, map(len, given), strict=True):
            if not isinstance(part, Tensor):
                self.refuse(f"has a method {method} that returns {type(part).__name__}, not a tensor")
            if part.shape[:1] != (n,):
                self.refuse(f"has a method {method} that gives {tuple(part.shape)} for {n} images; the first axis must be theirs")
        return torch.cat(found)

    def pictured(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)

    def encode(self, x: Tensor) -> Tensor:
        return self.called("encode", self.pictured(x)).flatten(1).float()

    def decode(self, z: Tensor) -> Tensor:
        return self.called("decode", z.reshape(-1, *self.latent_shape)).flatten(1).float()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        most = max(1, ELEMENTS // math.prod(self.shape))
        parts = [self.inner.sample(min(most, n - start)) for start in range(0, n, most)]
        return torch.cat(parts).flatten(1).float()

    def sample_mean(self, n: int) -> Tensor:
        return self.sample(n)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.called("log_prob", self.pictured(x)).float()
