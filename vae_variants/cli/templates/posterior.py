"""A posterior: q(z | x), made of the numbers that the encoder gives for each image.

Independent Laplace distributions are a worked example: put your own in their place.
"""

import math

import torch

from vae_variants import POSTERIORS, Drawn, Posterior, Scored


class Laplace(Scored):  # Conditional in its place, if there is no density at any z: then draw() alone gives log q of its own samples
    """Independent Laplace distributions, from mean and log scale, both (B, Z)."""

    def __init__(self, mean, log_scale):
        self.mean, self.log_scale = mean, log_scale

    def draw(self, k):
        """k -> z (k, B, Z), reparameterised, and log q(z | x) (k, B)."""
        u = torch.rand(k, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device).clamp(1e-6, 1 - 1e-6) - 0.5
        z = self.mean - self.log_scale.exp() * u.sign() * torch.log1p(-2 * u.abs())
        return Drawn(z, self.log_prob(z))

    def log_prob(self, z):
        """(..., B, Z) -> (..., B) nats."""
        return (-(z - self.mean).abs() * (-self.log_scale).exp() - self.log_scale - math.log(2)).sum(-1)

    def detached(self):
        """The same with its parameters held constant."""
        return Laplace(self.mean.detach(), self.log_scale.detach())


@POSTERIORS.add  # the name of the class, in kebab case, is its name in a selector
class Template(Posterior):
    """Independent Laplace distributions."""  # what `vae-variants list posteriors` shows

    gives = Laplace

    def __init__(self, latent: int):  # then options with defaults
        super().__init__()
        self.inputs = 2 * latent  # numbers that the encoder gives

    def forward(self, h):
        """(B, inputs) -> q(z | x) of the B images."""
        return Laplace(*h.chunk(2, -1))
