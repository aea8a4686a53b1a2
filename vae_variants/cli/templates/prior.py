"""A prior: p(z), from which images are generated and to which q(z | x) is compared.

Independent Laplace distributions are a worked example: put your own in their place, in `sample` and `log_prob`. The KL is estimated from
samples unless you give its closed form for a class of q: @closed_kl(Template, Diagonal) above a function (prior, q) -> (B, Z).
"""

import math

import torch

from vae_variants import PRIORS, Prior


@PRIORS.add  # the name of the class, in kebab case, is its name in a selector
class Template(Prior):
    """Independent Laplace distributions of scale `s`."""  # what `vae-variants list priors` shows

    def __init__(self, latent: int, s: float = 0.7):  # options have defaults: vae[prior=...,s=0.5|1] sets them
        super().__init__(latent)
        self.s = s  # learnt: self.log_s = torch.nn.Parameter(torch.zeros(latent))

    def sample(self, n, q):
        """n -> (n, Z). `q` gives q(z | x) of images, for a prior that is made of posteriors."""
        u = torch.rand(n, self.latent, dtype=self.like.dtype, device=self.like.device).clamp(1e-6, 1 - 1e-6) - 0.5
        return -self.s * u.sign() * torch.log1p(-2 * u.abs())

    def log_prob(self, z, q):
        """(..., Z) -> (...,) nats, with every constant, summed over units."""
        return (-z.abs() / self.s - math.log(2 * self.s)).sum(-1)
