"""Adversarial variational Bayes: a posterior without a density, and an objective whose critic estimates the KL."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.base import Player
from vae_variants.models.divergences import beside_prior
from vae_variants.models.draws import Draws
from vae_variants.models.networks import Shape, layers
from vae_variants.models.objectives import OBJECTIVES, Term
from vae_variants.models.posteriors import POSTERIORS, Conditional, Diagonal, Drawn, Posterior
from vae_variants.registry import UserError


class Implicit(Conditional):
    """z = mu + s (e + f(c, e)), e ~ N(0, I): a mean mu, a log scale log s and features c of B images, all (B, Z). It has no density.

    `mean` and `scale` (B, Z) are moments of q, over M samples for which the rows of `probes` (M, B, Z) stand for e.
    """

    density = False

    def __init__(self, mean: Tensor, log_scale: Tensor, features: Tensor, warp: nn.Module, probes: Tensor) -> None:
        self.centre, self.log_s, self.features, self.warp = mean, log_scale, features, warp
        z = self.of(probes)
        self.mean, self.scale = z.mean(0), (z.var(0, correction=0) + 1e-12).sqrt()

    def of(self, e: Tensor) -> Tensor:
        """Noise e (K, B, Z) -> z (K, B, Z)."""
        bent = self.warp(torch.cat([self.features.expand_as(e), e], -1))
        return self.centre + self.log_s.exp() * (e + bent)

    def draw(self, k: int) -> Drawn:
        e = torch.randn(k, *self.centre.shape, dtype=self.centre.dtype, device=self.centre.device)
        z = self.of(e)
        return Drawn(z, z.new_zeros(z.shape[:-1]))


@POSTERIORS.add(name="implicit")
class ImplicitPosterior(Posterior):
    """Noise through a network beside the encoder's outputs: any shape, no density; for `objective=avb` (Mescheder et al. 2017).

    With f = 0 it is `diagonal`. Mean and scale are estimated from `moments` noise vectors in pairs of opposite sign: fresh ones for each
    image in training, since q would adapt to fixed ones, and the same ones for all images afterwards.
    """

    gives = Implicit
    probes: Tensor

    def __init__(self, latent: int, posterior_width: int = 100, moments: int = 32) -> None:
        super().__init__()
        self.inputs = 3 * latent
        self.warp = layers([2 * latent, posterior_width, latent], "leaky-relu")
        half = torch.randn(max(1, moments // 2), latent)
        self.register_buffer("probes", torch.cat([half, -half]))

    def forward(self, h: Tensor) -> Implicit:
        mean, log_scale, features = h.chunk(3, -1)
        probes = self.probes.unsqueeze(1).expand(-1, *mean.shape)
        if self.training:
            half = torch.randn_like(probes[: len(probes) // 2])
            probes = torch.cat([half, -half])
        return Implicit(mean, log_scale, features, self.warp, probes)


@OBJECTIVES.add(name="avb")
class AdversarialBayes(Term):
    """-ELBO with log q(z | x) from a critic T, the mean over K: adversarial variational Bayes (Mescheder, Nowozin & Geiger 2017).

    The critic minimises softplus(-T(x, z)) for z ~ q(z | x) and softplus(T(x, z)) for z ~ r. At its optimum T = log q(z | x) / r(z).

    - `contrast=false`: r is the prior, and the model minimises T(x, z) - log p(x | z);
    - `contrast=true`: r(z | x) is the Gaussian with mean and scale of q(z | x), and the model minimises T(x, z) + log r(z | x) - log p(z) -
      log p(x | z) (adaptive contrast). The critic sees z less the mean, over the scale.

    If q is `implicit`, the model has no nats. If it is `diagonal`, the critic estimates a KL that is known, and nats stay.
    """

    bound = rate = False
    players = (Player(("objective.critic.",), "objective.critic_loss"),)

    def __init__(
        self, shape: Shape, latent: int, contrast: bool = True, critic_width: int = 200, critic_layers: int = 2, critic_steps: int = 1
    ) -> None:
        super().__init__()
        self.contrast = contrast
        self.critic = layers([math.prod(shape) + latent, *[critic_width] * critic_layers, 1], "leaky-relu")
        self.players = (self.players[0]._replace(steps=critic_steps),)

    def logit(self, d: Draws, z: Tensor) -> Tensor:
        """T(x, z): z (K, B, Z) -> (K, B)."""
        assert d.x is not None
        return self.critic(torch.cat([d.x.expand(*z.shape[:-1], d.x.shape[-1]), z], -1)).squeeze(-1)

    def reference(self, d: Draws) -> Diagonal:
        """r(z | x) of adaptive contrast. Raises `UserError` if q has no scale."""
        if not isinstance(d.q, Implicit | Diagonal):
            raise UserError("adaptive contrast needs mean and scale of q(z | x); use posterior=implicit or diagonal, or contrast=false")
        return Diagonal(d.q.mean, d.q.scale.log())

    def forward(self, d: Draws) -> Tensor:
        if not self.contrast:
            return (self.logit(d, d.z) - d.log_px).mean(0)
        r = self.reference(d)
        return (self.logit(d, (d.z - r.mean) / r.scale) + r.log_prob(d.z) - d.log_pz - d.log_px).mean(0)

    def critic_loss(self, d: Draws) -> Tensor:
        """What the critic minimises, (B,)."""
        if self.contrast:
            r = self.reference(d)
            z, other = (d.z - r.mean) / r.scale, torch.randn_like(d.z)
        else:
            z, other = beside_prior(d)
        return (F.softplus(-self.logit(d, z.detach())) + F.softplus(self.logit(d, other.detach()))).mean(0)
