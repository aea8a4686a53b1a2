"""Neural autoregressive distribution estimators: NADE in raster order, and EoNADE, trained for all orders of the pixels."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.base import MODELS
from vae_variants.models.chains import Chain, OrderMixture, random_ranks
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.numerics import cross_entropy

BLOCK = 32  # pixels whose hidden units are in memory together


def uniform(rows: int, columns: int, inputs: int) -> nn.Parameter:
    """Weights drawn as torch draws those of a linear layer with so many inputs."""
    return nn.Parameter((2 * torch.rand(rows, columns) - 1) / math.sqrt(inputs))


@MODELS.add(name="nade")
class NADE(Chain):
    """Logits h_i = b_i + V_i . s(a_i) with a_i = c + sum_{j<i} (x_j - m_j) W_j, s the sigmoid (Larochelle & Murray 2011).

    m is the mean training image. Each a_i is the one before plus one row of W, so that all D logits of an image cost O(D H). More widths
    in `hidden` put dense layers between s(a_i) and V_i, at O(H H') for each pixel.
    """

    def __init__(self, shape: tuple[int, int, int], *, hidden: Sequence[int] = (500,)) -> None:
        super().__init__(shape)
        pixels = math.prod(shape)
        self.input_weight = uniform(pixels, hidden[0], pixels)  # W
        self.input_bias = nn.Parameter(torch.zeros(hidden[0]))  # c
        self.inner = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden))
        self.output_weight = uniform(pixels, hidden[-1], hidden[-1])  # V
        self.output_bias = nn.Parameter(torch.zeros(pixels))  # b

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.centre.copy_(x.mean(0))
        self.output_bias.copy_(Bernoulli().start(x))

    def rows(self) -> tuple[Tensor, ...]:
        """What belongs to each pixel, (D, ...): its row of V, its b, its mean, and its row of W."""
        return self.output_weight, self.output_bias, self.centre, self.input_weight

    def step(self, x: Tensor, centre: Tensor, weight: Tensor) -> Tensor:
        """Values x (..., n) of n pixels, and their rows -> what they add to the sums of the pixels after them, (..., n, H)."""
        return (x - centre).unsqueeze(-1) * weight

    def units(self, sums: Tensor) -> Tensor:
        """Sums a (..., H) -> units of the last hidden layer."""
        h = sums.sigmoid()
        for layer in cast(Sequence[nn.Linear], self.inner):
            h = layer(h).sigmoid()
        return h

    def chain(self, x: Tensor, r: int = 0) -> Tensor:
        return self.recurrence(x, self.rows())

    def recurrence(self, x: Tensor, rows: Sequence[Tensor]) -> Tensor:
        """x (B, D) and rows of the pixels, in one order -> logits (B, D), by blocks that begin with the sums that the last ended with."""
        sums, found = self.input_bias.expand(len(x), 1, -1), list[Tensor]()
        for some, weight, bias, *mine in zip(x.split(BLOCK, 1), *(row.split(BLOCK) for row in rows), strict=True):
            sums = torch.cat([sums, self.step(some, *mine)], 1).cumsum(1)
            found.append((self.units(sums[:, :-1]) * weight).sum(-1) + bias)
            sums = sums[:, -1:]
        return torch.cat(found, -1)

    def fill(self, u: Tensor, r: int = 0) -> Tensor:
        """By the recurrence: O(D H) for each image, instead of O(D^2 H)."""
        x, sums = torch.zeros_like(u), self.input_bias.expand(len(u), -1)
        for i in self.order(r).tolist():
            weight, bias, *mine = (row[i] for row in self.rows())
            x[:, i] = (u[:, i] < (self.units(sums) @ weight + bias).sigmoid()).to(x.dtype)
            sums = sums + self.step(x[:, i], *mine)
        return x


@MODELS.add(name="eonade")
class EoNADE(NADE, OrderMixture):
    """A deep NADE for every order of the pixels, and the equal mixture of its densities in `orders` of them (Uria et al. 2014).

    In an order o, a_i = c + sum_{j before i} ((x_j - m_j) W_j + U_j), so that the hidden units also know which pixels they see. Each step
    of training draws an order and a number d of seen pixels for each image, and minimises D / (D - d) times the cross-entropy of the
    other pixels. In expectation that is -log p(x | o), averaged over all orders, at the cost of one pass.

    log p(x) = log (1/R) sum_r p(x | order r), as of `made`: exact for the mixture of these R orders, which is the model. The first is
    raster; the others are random.
    """

    def __init__(self, shape: tuple[int, int, int], *, hidden: Sequence[int] = (500,), orders: int = 8) -> None:
        super().__init__(shape, hidden=hidden)
        pixels = math.prod(shape)
        self.seen_weight = uniform(pixels, hidden[0], pixels)  # U
        self.register_buffer("ranks", random_ranks(pixels, orders))

    def rows(self) -> tuple[Tensor, ...]:
        return *super().rows(), self.seen_weight

    def step(self, x: Tensor, centre: Tensor, weight: Tensor, seen: Tensor | None = None) -> Tensor:
        found = super().step(x, centre, weight)
        return found if seen is None else found + seen

    def chain(self, x: Tensor, r: int = 0) -> Tensor:
        order = self.order(r)
        return self.recurrence(x[:, order], [row[order] for row in self.rows()])[:, self.ranks[r]]

    def given(self, x: Tensor, seen: Tensor) -> Tensor:
        """Logits of all pixels given those where `seen` (B, D) is 1, (B, D)."""
        sums = self.input_bias + F.linear(seen * (x - self.centre), self.input_weight.mT) + seen @ self.seen_weight
        return F.linear(self.units(sums), self.output_weight, self.output_bias)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        ranks = torch.rand_like(x).argsort(-1)
        count = torch.randint(x.shape[1], (len(x), 1), device=x.device)
        seen = (ranks < count).to(x.dtype)
        scale = x.shape[1] / (x.shape[1] - count.to(x.dtype))
        return (scale * (1 - seen) * cross_entropy(self.given(x, seen), x)).sum(-1).mean()
