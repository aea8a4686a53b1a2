"""The fully visible belief network with linear conditionals."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.ancestral import ancestral
from vae_variants.models.base import MODELS, DataDependent, Density, Model, Sampler
from vae_variants.models.likelihoods import Bernoulli, Support
from vae_variants.models.numerics import cross_entropy


@MODELS.add(name="fvbn")
class FVBN(Model, Sampler, Density, DataDependent):
    """Logistic autoregression in raster order: p(x) = prod_i Bernoulli(x_i; sigmoid(b_i + sum_{j<i} W_ij (x_j - m_j))).

    m is the mean training image. Exact log p(x) in one pass (Frey, Hinton & Dayan 1996).
    """

    exact: ClassVar[bool] = True
    support = Support.BINARY
    mask: Tensor
    centre: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape, dim = shape, math.prod(shape)
        self.weight = nn.Parameter(0.01 * torch.randn(dim, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("mask", torch.ones(dim, dim).tril(-1))
        self.register_buffer("centre", torch.zeros(dim))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        self.centre.copy_(x.mean(0))
        self.bias.copy_(Bernoulli().start(x))

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(x - self.centre, self.weight * self.mask, self.bias)

    def log_prob(self, x: Tensor) -> Tensor:
        h = self.logits(x)
        return -cross_entropy(h, x).sum(-1)

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        u = torch.rand(n, len(self.bias), dtype=self.bias.dtype, device=self.bias.device)
        weight = self.weight * self.mask
        return ancestral([weight], [self.bias - weight @ self.centre], [], u)
