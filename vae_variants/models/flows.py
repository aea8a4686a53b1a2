"""Posteriors that are the image of a diagonal Gaussian under invertible functions of z, with a log q of their own samples alone."""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.masked import MaskedNetwork
from vae_variants.models.posteriors import POSTERIORS, Conditional, Diagonal, Drawn, Posterior, places, triangular

LEAST = 0.01  # factor by which a step shrinks a direction at most: the gradient of log det is not bounded near 0


class Moved(NamedTuple):
    """z (..., B, Z) after a flow, and log |det dz / dz_0| (..., B)."""

    z: Tensor
    log_det: Tensor


class Transformed(Conditional):
    """The distribution of f(z_0), where z_0 follows a diagonal Gaussian and f is invertible for each image.

    log q(z) = log q_0(z_0) - log |det df / dz_0|. The inverse of f is not known, so q has no density at a given z.

    Args:
        base: The distribution of z_0.
        flow: f: z_0 (K, B, Z) -> z and the log-determinant.
    """

    def __init__(self, base: Diagonal, flow: Callable[[Tensor], Moved]) -> None:
        self.base, self.flow = base, flow

    @cached_property
    def mean(self) -> Tensor:  # type: ignore[override]
        """The image of the base's mean, (B, Z); it is not E[z]."""
        return self.flow(self.base.mean.unsqueeze(0)).z.squeeze(0)

    def draw(self, k: int) -> Drawn:
        start, log_q = self.base.draw(k)
        z, log_det = self.flow(start)
        return Drawn(z, log_q - log_det)


class Flow(Posterior):
    """Base class of posteriors with `flows` steps. The encoder gives mean and log scale of z_0, then `numbers` for the steps."""

    gives = Transformed

    def __init__(self, latent: int, flows: int, numbers: int) -> None:
        super().__init__()
        self.latent, self.flows, self.inputs = latent, flows, 2 * latent + numbers

    def forward(self, h: Tensor) -> Transformed:
        mu, log_s, numbers = h.tensor_split([self.latent, 2 * self.latent], -1)
        steps = self.steps(numbers)

        def flow(z: Tensor) -> Moved:
            log_det = z.new_zeros(())
            for step in steps:
                z, change = step(z)
                log_det = log_det + change
            return Moved(z, log_det)

        return Transformed(Diagonal(mu, log_s), flow)

    @abstractmethod
    def steps(self, numbers: Tensor) -> list[Callable[[Tensor], Moved]]:
        """The encoder's numbers (B, numbers) -> functions of z (..., B, Z), to be applied one after the other."""

    def each(self, numbers: Tensor, *sizes: int) -> list[tuple[Tensor, ...]]:
        """The encoder's numbers (B, flows * sum(sizes)) -> for each step its parts (B, size)."""
        return [step.split(sizes, -1) for step in numbers.chunk(self.flows, -1)]


@POSTERIORS.add
class Planar(Flow):
    """`flows` planar steps z + u tanh(w.z + b), with u, w, b from the encoder (Rezende & Mohamed 2015).

    det = 1 + (1 - tanh^2) w.u is positive because w.u > -1: u is the encoder's v plus (m(w.v) - w.v) w / |w|^2, with
    m(a) = -1 + log(1 + e^a) in the paper (appendix A.1). Here m(a) = -1 + f + (1 - f) log(1 + e^(a + c)): c = log(e - 1) makes m(0) = 0,
    so that u stays finite as w goes to 0, and f = 0.01 keeps det away from 0.
    """

    def __init__(self, latent: int, *, flows: int = 8) -> None:
        super().__init__(latent, flows, flows * (2 * latent + 1))

    def steps(self, numbers: Tensor) -> list[Callable[[Tensor], Moved]]:
        return [self.step(*parts) for parts in self.each(numbers, self.latent, self.latent, 1)]

    @staticmethod
    def step(v: Tensor, w: Tensor, b: Tensor) -> Callable[[Tensor], Moved]:
        """v, w (B, Z), b (B, 1)."""
        product = (w * v).sum(-1, keepdim=True)
        stretch = LEAST + (1 - LEAST) * F.softplus(product + math.log(math.e - 1))  # 1 + w.u
        u = v + (stretch - 1 - product) * w / w.square().sum(-1, keepdim=True).clamp(min=1e-12)

        def step(z: Tensor) -> Moved:
            t = ((w * z).sum(-1, keepdim=True) + b).tanh()
            det = t.square() + (1 - t.square()) * stretch  # a sum of positive numbers, where 1 + (1 - t^2) w.u cancels
            return Moved(z + u * t, det.log().squeeze(-1))

        return step


@POSTERIORS.add
class Radial(Flow):
    """`flows` radial steps z + beta (z - c) / (alpha + r), r = |z - c|, with c, alpha, beta from the encoder (Rezende & Mohamed 2015).

    det = (1 + beta / (alpha + r))^(Z - 1) (1 + beta alpha / (alpha + r)^2). alpha > 0 and beta = s - alpha with s > 0.01 alpha make
    both factors at least 0.01 and the step invertible (appendix A.2).
    """

    def __init__(self, latent: int, *, flows: int = 8) -> None:
        super().__init__(latent, flows, flows * (latent + 2))

    def steps(self, numbers: Tensor) -> list[Callable[[Tensor], Moved]]:
        parts = ((c, LEAST + F.softplus(a), F.softplus(s)) for c, a, s in self.each(numbers, self.latent, 1, 1))
        return [self.step(c, alpha, LEAST * alpha + s) for c, alpha, s in parts]

    @staticmethod
    def step(c: Tensor, alpha: Tensor, s: Tensor) -> Callable[[Tensor], Moved]:
        """c (B, Z), alpha, s (B, 1)."""

        def step(z: Tensor) -> Moved:
            r = (z - c).square().sum(-1, keepdim=True).clamp(min=1e-24).sqrt()
            across = (r + s) / (r + alpha)  # 1 + beta h
            along = (r * (r + 2 * alpha) + s * alpha) / (r + alpha).square()  # 1 + beta h + beta h' r
            log_det = (z.shape[-1] - 1) * across.log() + along.log()
            return Moved(c + across * (z - c), log_det.squeeze(-1))

        return step


@POSTERIORS.add
class Sylvester(Flow):
    """`flows` Sylvester steps z + Q R tanh(S Q^T z + b), with Q, R, S, b from the encoder (van den Berg et al. 2018).

    Q (Z, M) has M = `columns` orthonormal columns, at most Z of them. R and S are upper triangular with diagonals under sqrt(0.99), so
    that each factor of det = prod_i (1 + tanh'_i S_ii R_ii) is at least 0.01. Q is the first M columns of a product of M Householder
    reflections.
    """

    place: Tensor

    def __init__(self, latent: int, *, flows: int = 4, columns: int = 8) -> None:
        columns = min(columns, latent)
        triangle = columns * (columns + 1) // 2
        sizes = (columns * latent, triangle, triangle, columns)  # of the numbers of Q, R, S, b
        super().__init__(latent, flows, flows * sum(sizes))
        self.columns, self.sizes = columns, sizes
        self.register_buffer("place", places(columns, upper=True), persistent=False)

    def steps(self, numbers: Tensor) -> list[Callable[[Tensor], Moved]]:
        v, r, s, b = (torch.stack(parts) for parts in zip(*self.each(numbers, *self.sizes), strict=True))  # (flows, B, size)
        return [self.step(*parts) for parts in zip(self.frame(v), self.bounded(r), self.bounded(s), b, strict=True)]

    def frame(self, numbers: Tensor) -> Tensor:
        """(..., M * Z) -> (..., Z, M) with orthonormal columns."""
        v = F.normalize(numbers.unflatten(-1, (self.columns, self.latent)), dim=-1)
        q = torch.eye(self.latent, self.columns, dtype=v.dtype, device=v.device)
        for i in reversed(range(self.columns)):
            mirror = v[..., i, :].unsqueeze(-1)
            q = q - 2 * mirror * (mirror * q).sum(-2, keepdim=True)
        return q

    def bounded(self, numbers: Tensor) -> Tensor:
        """(..., M + M (M - 1) / 2) -> (..., M, M), upper triangular with a diagonal between -sqrt(0.99) and sqrt(0.99)."""
        diagonal, above = numbers.tensor_split([self.columns], -1)
        return triangular(math.sqrt(1 - LEAST) * diagonal.tanh(), above, self.place)

    @staticmethod
    def step(q: Tensor, r: Tensor, s: Tensor, b: Tensor) -> Callable[[Tensor], Moved]:
        """q (B, Z, M), r, s (B, M, M), b (B, M)."""
        out, into = q @ r, s @ q.mT
        product = r.diagonal(dim1=-2, dim2=-1) * s.diagonal(dim1=-2, dim2=-1)

        def step(z: Tensor) -> Moved:
            t = (torch.einsum("bmz,...bz->...bm", into, z) + b).tanh()
            log_det = torch.log1p((1 - t.square()) * product).sum(-1)
            return Moved(z + torch.einsum("bzm,...bm->...bz", out, t), log_det)

        return step


@POSTERIORS.add(name="iaf")
class InverseAutoregressive(Flow):
    """`flows` inverse autoregressive steps sigma z + (1 - sigma) m (Kingma et al. 2016, the numerically stable form).

    m and logit sigma of a unit are masked networks of the units before it and of a context of `width` numbers from the encoder, with one
    hidden layer of `width`. log det = sum_j log sigma_j. The order of the units is reversed from step to step. Networks begin with sigma
    near `sigmoid(2)`, so that a step changes little.
    """

    def __init__(self, latent: int, *, flows: int = 2, width: int = 100) -> None:
        super().__init__(latent, flows, width)
        networks = [MaskedNetwork(latent, 2, [width], context=width, reverse=i % 2 == 1) for i in range(flows)]
        self.networks = nn.ModuleList(networks)

    def steps(self, numbers: Tensor) -> list[Callable[[Tensor], Moved]]:
        return [self.step(network, numbers) for network in self.networks]

    @staticmethod
    def step(network: nn.Module, context: Tensor) -> Callable[[Tensor], Moved]:
        """The context (B, width)."""

        def step(z: Tensor) -> Moved:
            m, s = network(z, context)
            s = s + 2
            sigma = s.sigmoid()
            return Moved(sigma * z + (1 - sigma) * m, F.logsigmoid(s).sum(-1))

        return step
