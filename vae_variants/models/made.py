"""The masked autoencoder for distribution estimation."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.ancestral import ancestral
from vae_variants.models.base import MODELS
from vae_variants.models.chains import OrderMixture, random_ranks
from vae_variants.models.likelihoods import Bernoulli
from vae_variants.models.masked import degrees
from vae_variants.models.numerics import cross_entropy


@MODELS.add(name="made")
class MADE(OrderMixture):
    """Autoregressive network whose masks let output i see only the pixels before i (Germain et al. 2015).

    With several `orders` the weights are shared, each batch trains one random order, and the model is the equal mixture of the orders:
    log p(x) = log (1/R) sum_r p(x | order r). (A mean of logits over orders would not be normalised.) The first order is raster; the
    others are random.
    """

    mask_in: Tensor
    mask_out: Tensor

    def __init__(self, shape: tuple[int, int, int], *, hidden: Sequence[int] = (500,), orders: int = 1) -> None:
        super().__init__(shape)
        self.depth = len(hidden)
        dim = math.prod(shape)
        widths = [dim, *hidden, dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        ranks = random_ranks(dim, orders)
        self.register_buffer("ranks", ranks)
        seen = [degrees(width, dim) for width in hidden]
        self.ready = [torch.searchsorted(degree, torch.arange(dim + 1)).tolist() for degree in seen]  # units per degree below i
        for i, (before, after) in enumerate(pairwise(seen)):
            self.register_buffer(f"mask_{i + 1}", (after[:, None] >= before).float())
        self.register_buffer("mask_in", (seen[0][:, None] >= ranks[:, None, :]).float())  # (R, H, D)
        self.register_buffer("mask_out", (ranks[:, :, None] > seen[-1]).float())  # (R, D, H)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.centre.copy_(x.mean(0))
        cast(nn.Linear, self.layers[-1]).bias.copy_(Bernoulli().start(x))

    def logits(self, x: Tensor, mask_in: Tensor, mask_out: Tensor) -> Tensor:
        """x (B, D), the masks of one order -> (B, D)."""
        for i, (weight, bias) in enumerate(self._masked(mask_in, mask_out)):
            x = F.linear(x.relu() if i else x, weight, bias)
        return x

    def _masked(self, mask_in: Tensor, mask_out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Masked weight and bias of each layer; the first takes the mean training image from its input."""
        masks = [mask_in, *(self.get_buffer(f"mask_{i}") for i in range(1, self.depth)), mask_out]
        for i, (layer, mask) in enumerate(zip(cast(Iterable[nn.Linear], self.layers), masks, strict=True)):
            weight = layer.weight * mask
            yield weight, layer.bias if i else layer.bias - weight @ self.centre

    def chain(self, x: Tensor, r: int = 0) -> Tensor:
        return self.logits(x, self.mask_in[r], self.mask_out[r])

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        if self.orders == 1:
            return -self.log_prob(x).mean()
        r = torch.randint(self.orders, (1,), device=x.device)
        h = self.logits(x, self.mask_in.index_select(0, r)[0], self.mask_out.index_select(0, r)[0])
        return cross_entropy(h, x).sum(-1).mean()

    def fill(self, u: Tensor, r: int = 0) -> Tensor:
        """Evaluates each unit once per image: O(D H) with one hidden layer, instead of O(D^2 H)."""
        weights, biases = (list(parts) for parts in zip(*self._masked(self.mask_in[r], self.mask_out[r]), strict=True))
        order, rank = self.order(r), self.ranks[r]
        weights[0], weights[-1], biases[-1] = weights[0][:, order], weights[-1][order], biases[-1][order]
        return ancestral(weights, biases, self.ready, u[:, order])[:, rank]
