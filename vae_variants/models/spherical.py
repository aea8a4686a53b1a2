"""Latents on the unit sphere of R^Z: the power spherical posterior and the uniform prior. Densities are per unit of its surface."""

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.models.posteriors import POSTERIORS, Drawn, Posterior, Scored, Space
from vae_variants.models.priors import PRIORS, Prior, Q, closed_kl
from vae_variants.registry import UserError


def log_surface(latent: int) -> float:
    """The logarithm of the surface of the unit sphere of R^Z, 2 pi^(Z/2) / Gamma(Z/2)."""
    return math.log(2) + 0.5 * latent * math.log(math.pi) - math.lgamma(0.5 * latent)


def at_least_two(latent: int) -> None:
    if latent < 2:
        raise UserError("latents on the sphere need at least two units; write latent=2 or more")


class PowerSpherical(Scored):
    """q(z) proportional to (1 + mu.z)^kappa on the sphere, from its direction mu (B, Z) and concentration kappa (B,).

    log q(z) = kappa log(1 + mu.z) - (a + b) log 2 - b log pi - log Gamma(a) + log Gamma(a + b), with b = (Z - 1) / 2 and a = b + kappa.
    E[z] = mu (a - b) / (a + b) (De Cao & Aziz 2020). `mean` is mu: a point of the sphere.
    """

    def __init__(self, mean: Tensor, kappa: Tensor) -> None:
        self.mean, self.kappa = mean, kappa
        self.b = 0.5 * (mean.shape[-1] - 1)
        self.a = kappa + self.b

    @property
    def log_normaliser(self) -> Tensor:
        """(B,)."""
        return (self.a + self.b) * math.log(2) + self.b * math.log(math.pi) + torch.lgamma(self.a) - torch.lgamma(self.a + self.b)

    @property
    def entropy(self) -> Tensor:
        """-E[log q], (B,) nats."""
        expected = math.log(2) + torch.digamma(self.a) - torch.digamma(self.a + self.b)  # of log(1 + mu.z)
        return self.log_normaliser - self.kappa * expected

    def draw(self, k: int) -> Drawn:
        """mu.z = 2 t - 1 with t from Beta(a, b) as a ratio of two gammas; a reflection takes the first axis to mu."""
        a = self.a.expand(k, *self.a.shape)
        one, other = torch._standard_gamma(a), torch._standard_gamma(torch.full_like(a, self.b))
        total = one + other
        along, across = (one - other) / total, 2 * (one * other).sqrt() / total
        shape = (*a.shape, self.mean.shape[-1] - 1)
        around = F.normalize(torch.randn(shape, dtype=a.dtype, device=a.device), dim=-1)
        y = torch.cat([along.unsqueeze(-1), across.unsqueeze(-1) * around], -1)
        log_q = self.kappa * (math.log(2) + one.log() - total.log()) - self.log_normaliser
        return Drawn(self.turned(y), log_q)

    def turned(self, y: Tensor) -> Tensor:
        """y (..., B, Z) turned so that the first axis becomes mu.

        With s = sign(mu_1), -s times the reflection along mu + s e_1 does it. |mu + s e_1|^2 = 2 + 2 |mu_1| is never near 0.
        """
        first, rest = self.mean[..., :1], self.mean[..., 1:]
        s = torch.where(first < 0, -1.0, 1.0).to(first.dtype)
        u = torch.cat([first + s, rest], -1)
        return s * (u * (u * y).sum(-1, keepdim=True) / (1 + first.abs()) - y)

    def log_prob(self, z: Tensor) -> Tensor:
        cosine = (self.mean * z).sum(-1)
        least = torch.finfo(z.dtype).eps - 1
        return self.kappa * torch.log1p(cosine.clamp(min=least)) - self.log_normaliser

    def detached(self) -> Self:
        return type(self)(self.mean.detach(), self.kappa.detach())


@POSTERIORS.add(name="power-spherical")
class PowerSphericalPosterior(Posterior):
    """A power spherical distribution around a direction mu(x) of the unit sphere (De Cao & Aziz 2020). Its prior is `sphere`.

    kappa = (Z - 1) log(1 + e^h): its mean mu kappa / (Z - 1 + kappa) depends on h alike for every Z.
    """

    gives = PowerSpherical
    space = Space.SPHERE

    def __init__(self, latent: int) -> None:
        super().__init__()
        at_least_two(latent)
        self.latent, self.inputs = latent, latent + 1

    def forward(self, h: Tensor) -> PowerSpherical:
        direction, concentration = h.tensor_split([self.latent], -1)
        return PowerSpherical(F.normalize(direction, dim=-1), (self.latent - 1) * F.softplus(concentration).squeeze(-1))


@PRIORS.add(name="sphere")
class UniformSphere(Prior):
    """The uniform distribution on the unit sphere, for the posterior `power-spherical` (Davidson et al. 2018)."""

    space = Space.SPHERE

    def __init__(self, latent: int) -> None:
        super().__init__(latent)
        at_least_two(latent)

    def sample(self, n: int, q: Q) -> Tensor:
        return F.normalize(torch.randn(n, self.latent, dtype=self.like.dtype, device=self.like.device), dim=-1)

    def log_prob(self, z: Tensor, q: Q) -> Tensor:
        return z.new_full(z.shape[:-1], -log_surface(self.latent))


@closed_kl(UniformSphere, PowerSpherical)
def kl_to_uniform(p: UniformSphere, q: PowerSpherical) -> Tensor:
    """log surface - entropy of q: (B, 1)."""
    return (log_surface(p.latent) - q.entropy).unsqueeze(-1)
