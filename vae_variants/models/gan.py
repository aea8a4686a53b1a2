"""The generative adversarial network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vae_variants.models.base import MODELS, DataDependent, MeanSampler, Model, Player, Sampler
from vae_variants.models.divergences import one_of
from vae_variants.models.games import SLOPES, advance, between, game, logit_and_slope, normalise
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.networks import Network, decoder, encoder, start


@MODELS.add(name="gan")
class GAN(Model, Sampler, MeanSampler, DataDependent):
    """Generator against critic on grey images (Goodfellow et al. 2014): `loss` ns, wgan-gp, hinge or lsgan. It has no likelihood.

    g(z) in [0, 1]^D is the sigmoid of the generator's D outputs, with z ~ N(0, I) of `latent` units; d(x) is the critic's output for x.
    The critic minimises E real(d(x)) + E fake(d(g(z))) and a penalty over real images x, in `critic_steps` steps a turn; then the generator
    minimises E up(d(g(z))) in one. The three functions of `loss` are in `games.GAMES`.

    The penalty is at real images, `penalty` / 2 E |grad_x d(x)|^2 (R1, Mescheder et al. 2018), or `between` real and generated ones,
    `penalty` E (|grad d| - 1)^2 (Gulrajani et al. 2017); `penalty_at=auto` is the latter for wgan-gp and the former otherwise. Without it
    (0) the non-saturating game need not converge on images that fill few of their D dimensions. R1's strength depends on the scale of the
    pixels: p here is 4 p for pixels in [-1, 1]. `spectral` divides each weight matrix of the critic by its spectral norm.

    Adam has beta_1 = 0.5 (Radford et al. 2016). The training option `average` keeps a moving average of the generator, which draws all
    samples. The generator equals a VAE's decoder of the same options.
    """

    players: tuple[Player, ...] = (
        Player(("discriminator.",), "discriminator_loss", optimizer="adam-0.5"),
        Player(("generator.",), "loss", optimizer="adam-0.5"),
    )
    support = Support.UNIT

    def __init__(
        self,
        shape: tuple[int, int, int],
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
        super().__init__()
        one_of("penalty_at", penalty_at, SLOPES)
        self.game, self.penalty = game(loss), penalty
        self.between = (self.game.slope if penalty_at == "auto" else penalty_at) == "between"
        self.generator = decoder(network, latent, shape, 1, hidden, activation)
        self.discriminator = self.critic(network, shape, latent, hidden, activation)
        if spectral:
            normalise(self.discriminator)
        self.shape, self.latent = shape, latent
        self.players = (self.players[0]._replace(steps=critic_steps), *self.players[1:])

    def critic(self, network: str | Network, shape: tuple[int, int, int], latent: int, hidden: Sequence[int], activation: str) -> nn.Module:
        """A network from what `real` and `generated` give to (B, 1)."""
        return encoder(network, shape, 1, hidden, activation)

    def initialise(self, x: Tensor) -> None:
        start(self.discriminator, self.generator, x.mean(0), Bernoulli().start(x))

    def noise(self, n: int) -> Tensor:
        """n latents z ~ N(0, I), (n, Z)."""
        like = next(self.generator.parameters())
        return torch.randn(n, self.latent, dtype=like.dtype, device=like.device)

    def image(self, z: Tensor) -> Tensor:
        """g(z): (B, Z) -> (B, D)."""
        return self.generator(z).sigmoid()

    def sample(self, n: int) -> Tensor:
        return self.image(self.noise(n))

    def sample_mean(self, n: int) -> Tensor:
        return self.sample(n)

    def real(self, x: Tensor) -> Tensor:
        """What the critic judges of real images x (B, D)."""
        return x

    def generated(self, n: int) -> Tensor:
        """What the critic judges of n generated images."""
        return self.sample(n)

    def logit(self, x: Tensor) -> Tensor:
        """d of what `real` and `generated` give: (B,)."""
        return self.discriminator(x).squeeze(-1)

    def discriminator_loss(self, x: Tensor, t: Tensor) -> Tensor:
        """What the critic minimises, ()."""
        if self.training:
            advance(self.discriminator)
        fake, real = self.generated(x.shape[0]), self.real(x)
        cost = self.game.fake(self.logit(fake))
        if self.penalty and not self.between:
            logit, slope = logit_and_slope(self.logit, real)
            return (cost + self.game.real(logit) + 0.5 * self.penalty * slope).mean()
        if self.penalty:
            cost = cost + self.penalty * between(self.logit, real, fake)
        return (cost + self.game.real(self.logit(real))).mean()

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return self.game.up(self.logit(self.generated(x.shape[0]))).mean()
