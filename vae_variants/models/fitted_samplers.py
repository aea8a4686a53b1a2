"""Samplers that are trained on the latents of training images: a flow, and a second VAE."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vae_variants.models.fitting import fitted, held
from vae_variants.models.likelihoods import GaussianLearnt
from vae_variants.models.networks import layers
from vae_variants.models.posteriors import Diagonal, Space
from vae_variants.models.prior_flows import Flow, Inverted, masked_autoregressive
from vae_variants.models.priors import StandardNormal, kl_units
from vae_variants.models.samplers import LEAST, SAMPLERS, LatentSampler

if TYPE_CHECKING:
    from vae_variants.models.latent import Generator


class TrainedSampler(LatentSampler):
    """Base class of samplers with a network that Adam fits to standardised latents, in so many `steps` from a fixed seed.

    The numbers of the network are buffers, because no player of the model trains them.
    """

    space = Space.REAL
    centre: Tensor
    spread: Tensor

    def __init__(self, latent: int, steps: int) -> None:
        super().__init__(latent)
        self.steps = steps
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))
        self.network = held(self.build())

    @abstractmethod
    def build(self) -> nn.Module:
        """A new network."""

    @abstractmethod
    def loss(self, network: nn.Module, z: Tensor) -> Tensor:
        """What the network minimises on standardised latents z (B, Z): (B,) nats."""

    @abstractmethod
    def standardised(self, u: Tensor) -> Tensor:
        """Standardised latents (n, Z) from standard normal noise u (n, Z)."""

    def fit(self, codes: Tensor) -> None:
        self.centre.copy_(codes.mean(0))
        self.spread.copy_(codes.std(0, correction=0).clamp(min=LEAST))
        z = ((codes - self.centre) / self.spread).detach()
        network = fitted(lambda: self.build().to(z), self.loss, z, self.steps)
        self.network.load_state_dict(network.state_dict())

    def draw(self, n: int, model: Generator) -> Tensor:
        u = torch.randn(n, self.latent, dtype=self.centre.dtype, device=self.centre.device)
        return self.centre + self.spread * self.standardised(u)


@SAMPLERS.add(name="maf")
class MAFSampler(TrainedSampler):
    """A masked autoregressive flow of `flows` layers, fitted to the latents by maximum likelihood (Papamakarios et al. 2017)."""

    def __init__(self, latent: int, *, flows: int = 2, width: int = 100, steps: int = 1000) -> None:
        self.flows, self.width = flows, width
        super().__init__(latent, steps)

    def build(self) -> nn.Module:
        return masked_autoregressive(self.latent, self.flows, self.width)

    def loss(self, network: nn.Module, z: Tensor) -> Tensor:
        return -cast(Flow, network).log_prob(z)

    def standardised(self, u: Tensor) -> Tensor:
        return cast(Flow, self.network).inverse(u)


@SAMPLERS.add(name="iaf")
class IAFSampler(MAFSampler):
    """An inverse autoregressive flow of `flows` layers, fitted to the latents by maximum likelihood (Kingma et al. 2016).

    Its samples take one pass where those of `maf` take one for each unit; its density, and so its fit, is slower by as much.
    """

    def __init__(self, latent: int, *, flows: int = 2, width: int = 100, steps: int = 100) -> None:
        super().__init__(latent, flows=flows, width=width, steps=steps)

    def build(self) -> nn.Module:
        return Inverted(masked_autoregressive(self.latent, self.flows, self.width))


class SecondStage(nn.Module):
    """A VAE of latents z (B, Z): q(u | z) a diagonal Gaussian, p(u) = N(0, I), p(z | u) a Gaussian with one learnt standard deviation."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.encoder = layers([latent, width, width, 2 * latent], "silu")
        self.decoder = layers([latent, width, width, latent], "silu")
        self.likelihood = GaussianLearnt()
        self.prior = StandardNormal(latent)

    def forward(self, z: Tensor) -> Tensor:
        """-ELBO, (B,) nats."""
        q = Diagonal(*self.encoder(z).chunk(2, -1))
        u = q.draw(1).z[0]
        return kl_units(self.prior, q).sum(-1) - self.likelihood.log_prob(self.decoder(u), z)

    def sample(self, u: Tensor) -> Tensor:
        """z ~ p(z | u), (n, Z)."""
        return self.likelihood.sample(self.decoder(u))


@SAMPLERS.add(name="second-stage")
class SecondStageSampler(TrainedSampler):
    """A second VAE, of the latents: u ~ N(0, I), z ~ p(z | u), with networks of two layers of `width` units (Dai & Wipf 2019).

    Dai & Wipf fit it to samples of q(z | x). Here it is fitted to means of q(z | x), which vary less where q is wide.
    """

    def __init__(self, latent: int, *, width: int = 100, steps: int = 1000) -> None:
        self.width = width
        super().__init__(latent, steps)

    def build(self) -> nn.Module:
        return SecondStage(self.latent, self.width)

    def loss(self, network: nn.Module, z: Tensor) -> Tensor:
        return cast(Tensor, network(z))

    def standardised(self, u: Tensor) -> Tensor:
        return cast(SecondStage, self.network).sample(u)
