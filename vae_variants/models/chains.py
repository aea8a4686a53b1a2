"""What exact densities of binary pixels by a chain of logits share."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from vae_variants.models.base import DataDependent, Density, Model, Sampler
from vae_variants.models.likelihoods import Support
from vae_variants.models.numerics import cross_entropy


class Chain(Model, Sampler, Density, DataDependent):
    """Base class of p(x) = prod_i Bernoulli(x_i; sigmoid(h_i)), where the logit h_i sees only the pixels before i in raster order.

    Attributes:
        centre: (D,) the mean training image, which is taken from the input.
    """

    exact: ClassVar[bool] = True
    support = Support.BINARY
    centre: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("centre", torch.zeros(math.prod(shape)))

    @abstractmethod
    def chain(self, x: Tensor, r: int = 0) -> Tensor:
        """x (B, D) -> the logit of each pixel given those before it in order r, (B, D)."""

    @abstractmethod
    def fill(self, u: Tensor, r: int = 0) -> Tensor:
        """Uniform numbers (B, D) -> images (B, D): pixel by pixel in order r, x_i = [u_i < sigmoid(h_i)]."""

    def order(self, r: int) -> Tensor:
        """(D,) the pixels in their order r."""
        return torch.arange(len(self.centre), device=self.centre.device)

    def joint(self, x: Tensor, r: int = 0) -> Tensor:
        """x (B, D) -> log p(x) in order r, (B,) nats."""
        return -cross_entropy(self.chain(x, r), x).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.joint(x)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.log_prob(x).mean()

    def uniform(self, n: int) -> Tensor:
        return torch.rand(n, len(self.centre), dtype=self.centre.dtype, device=self.centre.device)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        return self.fill(self.uniform(n))

    @torch.no_grad()
    def sample_naively(self, n: int) -> Tensor:
        """The images of `sample` from the same noise, by one pass per pixel."""
        return self.fill_naively(self.uniform(n))

    def fill_naively(self, u: Tensor, r: int = 0) -> Tensor:
        """As `fill`, by one pass per pixel."""
        x = torch.zeros_like(u)
        for i in self.order(r).tolist():
            x[:, i] = (u[:, i] < self.chain(x, r)[:, i].sigmoid()).to(x.dtype)
        return x


class OrderMixture(Chain):
    """Base class of equal mixtures of R chains in different orders of the pixels: log p(x) = log (1/R) sum_r p(x | order r).

    A mean of logits over orders would not be normalised.

    Attributes:
        ranks: (R, D) position of each pixel in the order; see `random_ranks`.
    """

    ranks: Tensor

    @property
    def orders(self) -> int:
        return len(self.ranks)

    def order(self, r: int) -> Tensor:
        return self.ranks[r].argsort()

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack([self.joint(x, r) for r in range(self.orders)]), 0) - math.log(self.orders)

    def sample(self, n: int) -> Tensor:
        return self._by_order(n, self.fill)

    def sample_naively(self, n: int) -> Tensor:
        """The images of `sample` from the same noise, by one pass per pixel."""
        return self._by_order(n, self.fill_naively)

    @torch.no_grad()
    def _by_order(self, n: int, fill: Callable[[Tensor, int], Tensor]) -> Tensor:
        u, order = self.uniform(n), torch.randint(self.orders, (n,), device=self.centre.device)
        x = torch.zeros_like(u)
        for r in range(self.orders):
            rows = order == r
            x[rows] = fill(u[rows], r)
        return x


def random_ranks(pixels: int, orders: int) -> Tensor:
    """(R, D): the first order is raster, the others are random."""
    return torch.stack([torch.arange(pixels), *(torch.randperm(pixels) for _ in range(orders - 1))])
