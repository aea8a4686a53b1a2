"""Adversarial inference: a generator and an encoder against a critic of pairs (x, z)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vae_variants.models.base import MODELS, Coder, Player
from vae_variants.models.gan import GAN
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.networks import ACTIVATIONS, Network, Shape, encoder, layers, start
from vae_variants.models.posteriors import PointPosterior, Posterior, Space
from vae_variants.registry import UserError


class PairCritic(nn.Module):
    """d(x, z) of pairs (B, D + Z): features of x from the registered network, then layers that see z as well -> (B, 1)."""

    def __init__(self, network: str | Network, shape: Shape, latent: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        width = hidden[-1] if hidden else latent
        self.features, self.latent = encoder(network, shape, width, hidden, activation), latent
        self.activation = ACTIVATIONS[activation]()
        self.last = layers([width + latent, width, 1], activation)

    def forward(self, pair: Tensor) -> Tensor:
        x, z = pair[..., : -self.latent], pair[..., -self.latent :]
        return self.last(torch.cat([self.activation(self.features(x)), z], -1))


@MODELS.add(name="bigan")
class BiGAN(GAN, Coder):
    """A critic tells pairs (x, E(x)) from (g(z), z): BiGAN (Donahue et al. 2017), with `posterior=diagonal` ALI (Dumoulin et al. 2017).

    Generator and encoder are one player, which minimises E up(d(g(z), z)) + E down(d(x, E(x))); see `games.GAMES`. At the critic's
    optimum of `ns`, d(x, z) = log q(x, z) / p(x, z), with q(x, z) of real images and p(x, z) of generated ones; where both are equal, E
    inverts g. It has no likelihood, and all other options are a GAN's. R1 is on the gradient with respect to x and z.
    """

    usual: ClassVar[Mapping[str, str]] = {"posterior": "point"}
    players: tuple[Player, ...] = (GAN.players[0], Player(("generator.", "encoder.", "posterior."), "loss", optimizer="adam-0.5"))

    def __init__(
        self,
        shape: Shape,
        posterior: Posterior | None = None,
        *,
        latent: int = 50,
        loss: str = "ns",
        penalty: float = 3.0,
        penalty_at: str = "auto",
        spectral: bool = False,
        critic_steps: int = 1,
        network: str | Network = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "leaky-relu",
    ) -> None:
        game = {"loss": loss, "penalty": penalty, "penalty_at": penalty_at, "spectral": spectral, "critic_steps": critic_steps}
        super().__init__(shape, latent=latent, network=network, hidden=hidden, activation=activation, **game)  # type: ignore[arg-type]
        self.posterior = posterior or PointPosterior(latent)
        if self.posterior.space is not Space.REAL:
            raise UserError(f"bigan's latents are Gaussian, and this posterior's lie in {self.posterior.space.value} space; use diagonal")
        self.encoder = encoder(network, shape, self.posterior.inputs, hidden, activation)

    def critic(self, network: str | Network, shape: Shape, latent: int, hidden: Sequence[int], activation: str) -> nn.Module:
        return PairCritic(network, shape, latent, hidden, activation)

    def initialise(self, x: Tensor) -> None:
        assert isinstance(self.discriminator, PairCritic)
        for seen in (self.encoder, self.discriminator.features):
            start(seen, self.generator, x.mean(0), Bernoulli().start(x))

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(self.encoder(x)).mean

    def decode(self, z: Tensor) -> Tensor:
        return self.image(z)

    def real(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.posterior(self.encoder(x)).draw(1).z.squeeze(0)], -1)

    def generated(self, n: int) -> Tensor:
        z = self.noise(n)
        return torch.cat([self.image(z), z], -1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return super().loss(x, t) + self.game.down(self.logit(self.real(x))).mean()
