"""The generative adversarial network."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from vae_variants.models.base import MODELS, DataDependent, MeanSampler, Model, Player, Sampler
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.networks import decoder, encoder, start


@MODELS.add(name="gan")
class GAN(Model, Sampler, MeanSampler, DataDependent):
    """Non-saturating GAN on grey images with R1 penalty (Goodfellow et al. 2014, Mescheder et al. 2018). It has no likelihood.

    g(z) in [0, 1]^D is the sigmoid of the generator's D outputs, with z ~ N(0, I) of `latent` units; d(x) is the logit that x (D,) is real.
    The discriminator minimises E softplus(-d(x)) + E softplus(d(g(z))) + `penalty` / 2 E |grad_x d(x)|^2 over real images x; the generator
    minimises E softplus(-d(g(z))). Each player takes one step per batch, the discriminator first.

    Without the penalty (0) the game need not converge on images that fill few of their D dimensions (L. Mescheder, A. Geiger, S. Nowozin,
    Which training methods for GANs do actually converge?, ICML 2018). Its strength depends on the scale of the pixels: p here is 4 p for
    pixels in [-1, 1]. Adam has beta_1 = 0.5 (Radford et al. 2016). The generator equals a VAE's decoder of the same options.
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
        penalty: float = 3.0,
        network: str = "mlp",
        hidden: Sequence[int] = (200, 200),
        activation: str = "leaky-relu",
    ) -> None:
        super().__init__()
        self.generator = decoder(network, latent, shape, 1, hidden, activation)
        self.discriminator = encoder(network, shape, 1, hidden, activation)
        self.shape, self.latent, self.penalty = shape, latent, penalty

    def initialise(self, x: Tensor) -> None:
        start(self.discriminator, self.generator, x.mean(0), Bernoulli().start(x))

    def sample(self, n: int) -> Tensor:
        like = next(self.generator.parameters())
        return self.generator(torch.randn(n, self.latent, dtype=like.dtype, device=like.device)).sigmoid()

    def sample_mean(self, n: int) -> Tensor:
        return self.sample(n)

    def logit_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> d(x) (B,) and |grad_x d(x)|^2 (B,), both differentiable and compatible with vmap."""

        def total(v: Tensor) -> tuple[Tensor, Tensor]:
            logit = self.discriminator(v).squeeze(-1)
            return logit.sum(), logit

        gradient, logit = grad(total, has_aux=True)(x)
        return logit, gradient.square().sum(-1)

    def discriminator_loss(self, x: Tensor, t: Tensor) -> Tensor:
        fake = self.discriminator(self.sample(x.shape[0])).squeeze(-1)
        real, slope = self.logit_and_slope(x)
        return (F.softplus(-real) + F.softplus(fake) + 0.5 * self.penalty * slope).mean()

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(self.sample(x.shape[0]))).mean()
