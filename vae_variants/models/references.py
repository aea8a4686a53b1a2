"""Baselines that give other rows their scale: real images, principal components, raw pixels, untrained encoders."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vae_variants.models.base import MODELS, Coder, DataDependent, Encoder, MeanSampler, Model, Player, Sampler
from vae_variants.models.likelihoods import Support
from vae_variants.models.networks import Network, encoder


@MODELS.add
class RealData(Model, Sampler, MeanSampler, DataDependent):
    """Random training images: the sharpness of a perfect sampler."""

    players: tuple[Player, ...] = ()
    stackable: ClassVar[bool] = False
    support = Support.UNIT

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("images", torch.zeros(0, math.prod(shape)), persistent=False)

    def initialise(self, x: Tensor) -> None:
        self.images = x

    def sample(self, n: int) -> Tensor:
        return self.images[torch.randint(len(self.images), (n,), device=self.images.device)]

    def sample_mean(self, n: int) -> Tensor:
        return self.sample(n)


@MODELS.add(name="pca")
class PCA(Model, Coder, DataDependent):
    """Projection on the first `latent` principal components: the best linear code in squared error."""

    players: tuple[Player, ...] = ()
    stackable: ClassVar[bool] = False
    support = Support.REAL
    components: Tensor

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 20) -> None:
        super().__init__()
        self.shape, self.latent, dim = shape, latent, math.prod(shape)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("components", torch.zeros(min(latent, dim), dim))

    def initialise(self, x: Tensor) -> None:
        self.mean = x.mean(0)
        centred = (x - self.mean).double()
        if len(x) < x.shape[1]:  # a DxD matrix of large pictures takes minutes and gigabytes
            axes = torch.linalg.svd(centred, full_matrices=False)[2]
        else:
            values, vectors = torch.linalg.eigh(centred.mT @ centred)
            axes = vectors[:, values.argsort(descending=True)].mT
        found = torch.zeros_like(self.components)  # rows beyond the number of images stay 0
        found[: len(axes)] = axes[: len(found)]
        self.components = found.to(x.dtype)

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.components.mT

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.components + self.mean


@MODELS.add
class Pixels(Model, Encoder):
    """Raw pixels as latents."""

    players: tuple[Player, ...] = ()
    stackable: ClassVar[bool] = False
    support = Support.REAL

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def encode(self, x: Tensor) -> Tensor:
        return x


@MODELS.add
class RandomEncoder(Model, Encoder, DataDependent):
    """An untrained encoder: what the architecture alone gives."""

    players: tuple[Player, ...] = ()
    support = Support.REAL

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        latent: int = 20,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.encoder = encoder(network, shape, latent, hidden, activation)
        self.shape, self.latent = shape, latent

    def initialise(self, x: Tensor) -> None:
        self.encoder.centre.copy_(x.mean(0))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@MODELS.add
class RandomProjection(Model, Encoder):
    """Latents z = A x / sqrt(latent) with A of independent standard normal numbers."""

    players: tuple[Player, ...] = ()
    support = Support.REAL
    projection: Tensor

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 20) -> None:
        super().__init__()
        self.shape, self.latent = shape, latent
        self.register_buffer("projection", torch.randn(latent, math.prod(shape)) / math.sqrt(latent))

    def encode(self, x: Tensor) -> Tensor:
        return x @ self.projection.mT
