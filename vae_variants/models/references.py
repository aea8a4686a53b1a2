"""Baselines that give other rows their scale: real images, principal and independent components, raw pixels, untrained encoders."""

import math
import warnings
from collections.abc import Sequence
from typing import ClassVar

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_variants.models.base import MODELS, Coder, DataDependent, Encoder, MeanSampler, Model, Player, Sampler
from vae_variants.models.likelihoods import Support
from vae_variants.models.networks import Network, encoder

STEPS, SOURCES = 1000, 10_000  # of FastICA: steps, and images at most
FLAT = 1e-6  # of the largest standard deviation: a principal component below it is constant


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


def principal_axes(centred: Tensor) -> Tensor:
    """Directions of centred images (N, D), those of the largest variance first: (min(N, D), D), each of length 1."""
    if len(centred) < centred.shape[1]:  # a DxD matrix of large pictures takes minutes and gigabytes
        return torch.linalg.svd(centred, full_matrices=False)[2]
    values, vectors = torch.linalg.eigh(centred.mT @ centred)
    return vectors[:, values.argsort(descending=True)].mT


@MODELS.add(name="pca")
class PCA(Model, Coder, DataDependent):
    """Projection on the first `latent` principal components: the best linear code in squared error."""

    players: tuple[Player, ...] = ()
    stackable: ClassVar[bool] = False
    support = Support.REAL
    components: Tensor

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 50) -> None:
        super().__init__()
        self.shape, self.latent, dim = shape, latent, math.prod(shape)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("components", torch.zeros(min(latent, dim), dim))

    def initialise(self, x: Tensor) -> None:
        self.mean = x.mean(0)
        axes = principal_axes((x - self.mean).double())
        found = torch.zeros_like(self.components)  # rows beyond the number of images stay 0
        found[: len(axes)] = axes[: len(found)]
        self.components = found.to(x.dtype)

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.components.mT

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.components + self.mean


@MODELS.add(name="ica")
class ICA(Model, Coder, DataDependent):
    """Independent components: the first `latent` principal components, whitened, and turned by FastICA (Hyvarinen 1999) from a fixed start.

    A rotation that is not found within `STEPS` steps is kept as it is then.
    """

    players: tuple[Player, ...] = ()
    stackable: ClassVar[bool] = False
    support = Support.REAL
    unmixing: Tensor
    mixing: Tensor

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 50) -> None:
        super().__init__()
        self.shape, self.latent, dim = shape, latent, math.prod(shape)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("unmixing", torch.zeros(min(latent, dim), dim))
        self.register_buffer("mixing", torch.zeros(dim, min(latent, dim)))

    def initialise(self, x: Tensor) -> None:
        from sklearn.decomposition import FastICA  # scikit-learn takes seconds to import
        from sklearn.exceptions import ConvergenceWarning

        self.mean = x.mean(0)
        centred = (x - self.mean).double()
        axes = principal_axes(centred)[: len(self.unmixing)]
        scale = (centred @ axes.mT).std(0, correction=0)
        axes, scale = (found[scale > FLAT * scale.max()] for found in (axes, scale))  # the other units stay 0
        few = torch.linspace(0, len(x) - 1, min(len(x), SOURCES), device=x.device).long()
        whitened = (centred[few] @ axes.mT / scale).cpu().numpy()
        with warnings.catch_warnings(), threadpool_limits(1):  # so that the last digits do not depend on the machine's threads
            warnings.simplefilter("ignore", ConvergenceWarning)
            turn = torch.from_numpy(FastICA(whiten=False, max_iter=STEPS, random_state=0).fit(whitened).components_).to(axes)
        self.unmixing, self.mixing = torch.zeros_like(self.unmixing), torch.zeros_like(self.mixing)
        self.unmixing[: len(axes)] = (turn / scale @ axes).to(x.dtype)
        self.mixing[:, : len(axes)] = ((axes.mT * scale) @ turn.mT).to(x.dtype)

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.unmixing.mT

    def decode(self, z: Tensor) -> Tensor:
        return z @ self.mixing.mT + self.mean


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
        latent: int = 50,
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

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 50) -> None:
        super().__init__()
        self.shape, self.latent = shape, latent
        self.register_buffer("projection", torch.randn(latent, math.prod(shape)) / math.sqrt(latent))

    def encode(self, x: Tensor) -> Tensor:
        return x @ self.projection.mT
