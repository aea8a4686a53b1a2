"""The fully visible belief network with linear conditionals."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.ancestral import ancestral
from vae_variants.models.base import MODELS
from vae_variants.models.chains import Chain
from vae_variants.models.likelihoods import Bernoulli


@MODELS.add(name="fvbn")
class FVBN(Chain):
    """Logistic autoregression in raster order: p(x) = prod_i Bernoulli(x_i; sigmoid(b_i + sum_{j<i} W_ij (x_j - m_j))).

    m is the mean training image. Exact log p(x) in one pass (Frey, Hinton & Dayan 1996).
    """

    mask: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        dim = math.prod(shape)
        self.weight = nn.Parameter(0.01 * torch.randn(dim, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mask", torch.ones(dim, dim).tril(-1))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.centre.copy_(x.mean(0))
        self.bias.copy_(Bernoulli().start(x))

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(x - self.centre, self.weight * self.mask, self.bias)

    def chain(self, x: Tensor, r: int = 0) -> Tensor:
        return self.logits(x)

    def fill(self, u: Tensor, r: int = 0) -> Tensor:
        weight = self.weight * self.mask
        return ancestral([weight], [self.bias - weight @ self.centre], [], u)
