"""Samplers: how latents are drawn after training, to be decoded to images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from vae_variants.models.base import Generative
from vae_variants.models.posteriors import Space
from vae_variants.registry import Registry, UserError

if TYPE_CHECKING:
    from vae_variants.models.latent import Generator

LEAST = 1e-6  # standard deviation of a unit
CODES = 20_000  # training images whose latents a sampler is fitted to, at most


class LatentSampler(nn.Module, ABC):
    """Base class of samplers. A constructor takes `latent`, the number of units Z, then keyword options with defaults.

    Attributes:
        fits: Whether it is fitted to latents after training.
        samples: Whether it draws at all.
        space: Where its latents lie. None: wherever those of the model do.
    """

    fits: ClassVar[bool] = True
    samples: ClassVar[bool] = True
    space: ClassVar[Space | None] = None

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def fit(self, codes: Tensor) -> None:
        """Fills buffers from the latents (N, Z) of training images, deterministically. Shapes stay unchanged."""

    @abstractmethod
    def draw(self, n: int, model: Generator) -> Tensor:
        """n latents (n, Z)."""


SAMPLERS: Registry[type[LatentSampler]] = Registry("sampler")


@SAMPLERS.add(name="prior")
class PriorSampler(LatentSampler):
    """Draws from the prior p(z), as the model says that images are made."""

    fits = False

    def draw(self, n: int, model: Generator) -> Tensor:
        assert isinstance(model, Generative)
        return model.draw_prior(n)


@SAMPLERS.add(name="none")
class NoSampler(LatentSampler):
    """Draws nothing: the model has no samples."""

    fits = samples = False

    def draw(self, n: int, model: Generator) -> Tensor:
        raise NotImplementedError


@SAMPLERS.add(name="gaussian-mixture")
class GaussianMixtureSampler(LatentSampler):
    """A mixture of `components` Gaussians with full covariances, fitted to standardised latents by EM (Ghosh et al. 2020, RAE)."""

    space = Space.REAL
    weights: Tensor
    means: Tensor
    scale_tril: Tensor

    def __init__(self, latent: int, *, components: int = 10) -> None:
        super().__init__(latent)
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("scale_tril", torch.eye(latent).expand(components, latent, latent).clone())

    def fit(self, codes: Tensor) -> None:
        from sklearn.mixture import GaussianMixture

        if len(codes) < len(self.weights):
            found = f"{len(self.weights)} components cannot be fitted to {len(codes)} latents"
            raise UserError(f"{found}; write sampler.components={len(codes)} or fewer")
        codes = codes.double().cpu()
        centre, spread = codes.mean(0), codes.std(0, correction=0).clamp(min=LEAST)
        mixture = GaussianMixture(len(self.weights), reg_covar=1e-4, max_iter=500, tol=1e-2, random_state=0)
        fitted = mixture.fit(((codes - centre) / spread).numpy())  # whose regularisation is of unit variance
        self.weights.copy_(torch.from_numpy(fitted.weights_))
        self.means.copy_(centre + spread * torch.from_numpy(fitted.means_))
        self.scale_tril.copy_(spread[:, None] * torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)))

    def draw(self, n: int, model: Generator) -> Tensor:
        chosen = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.latent, 1, dtype=self.means.dtype, device=self.means.device)
        return self.means[chosen] + (self.scale_tril[chosen] @ noise).squeeze(-1)
