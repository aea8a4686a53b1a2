"""Likelihoods on the real line besides the Gaussian of one constant or learnt standard deviation."""

import math

import torch
from torch import Tensor

from vae_variants.models.likelihoods import LIKELIHOODS, ConstantScale, LearntScale, Likelihood, Support, spread
from vae_variants.models.numerics import log
from vae_variants.registry import UserError, positive

LOG_2PI = math.log(2 * math.pi)


@LIKELIHOODS.add
class Laplace(LearntScale):
    """Laplace density about h, -|x - h| / b - log 2b per pixel, with one learnt standard deviation sigma = sqrt(2) b."""

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        log_b = self.log_sigma - 0.5 * math.log(2)
        return -(-log_b).exp() * (x - h).abs().sum(-1) - x.shape[-1] * (log_b + math.log(2))

    def sample(self, h: Tensor) -> Tensor:
        u = torch.rand_like(h) - 0.5
        return h - self.scale * math.sqrt(0.5) * u.sign() * torch.log1p(-2 * u.abs().clamp(max=0.5 - 1e-7))


@LIKELIHOODS.add
class StudentT(LearntScale):
    """Student's t density about h with `df` > 2 degrees of freedom and one learnt standard deviation sigma.

    Per pixel: log Gamma((df + 1) / 2) - log Gamma(df / 2) - log(pi df) / 2 - log s - (df + 1) / 2 log(1 + ((x - h) / s)^2 / df), with
    the scale s = sigma sqrt((df - 2) / df).
    """

    def __init__(self, df: float = 5.0) -> None:
        super().__init__()
        if not df > 2:
            raise UserError(f"df={df:g} is not above 2, where the standard deviation is finite; choose a larger number")
        self.df = float(df)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        log_s = self.log_sigma + 0.5 * math.log((self.df - 2) / self.df)
        constant = math.lgamma((self.df + 1) / 2) - math.lgamma(self.df / 2) - 0.5 * math.log(math.pi * self.df)
        squares = ((x - h) * (-log_s).exp()).square() / self.df
        return x.shape[-1] * (constant - log_s) - 0.5 * (self.df + 1) * squares.log1p().sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        """By the polar method (Bailey 1994): sqrt(df (u^(-2 / df) - 1)) cos(2 pi v) for uniform u, v."""
        u, v = torch.rand_like(h).clamp(min=1e-12), torch.rand_like(h)
        t = (self.df * torch.expm1(-2 / self.df * u.log())).sqrt() * (2 * math.pi * v).cos()
        return h + self.scale * math.sqrt((self.df - 2) / self.df) * t


@LIKELIHOODS.add
class GaussianPixel(Likelihood):
    """N(h_1, sigma^2) with a standard deviation of its own for each pixel of each image, sigma = `floor` + exp(h_2).

    Outputs per pixel: the mean and h_2. The floor keeps the density of pixels that never change finite, so that nats depend on it.
    """

    support, k = Support.REAL, 2

    def __init__(self, floor: float = 0.01) -> None:
        super().__init__()
        self.floor = float(positive("floor", floor))

    def _mean_and_log_scale(self, h: Tensor) -> tuple[Tensor, Tensor]:
        h = h.unflatten(-1, (-1, 2))
        return h[..., 0], torch.logaddexp(h[..., 1], h.new_zeros(()) + log(self.floor))

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = self._mean_and_log_scale(h)
        return (-0.5 * ((x - mean) * (-log_scale).exp()).square() - log_scale - 0.5 * LOG_2PI).sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        mean, log_scale = self._mean_and_log_scale(h)
        return mean + log_scale.exp() * torch.randn_like(mean)

    def mean(self, h: Tensor) -> Tensor:
        return h.unflatten(-1, (-1, 2))[..., 0]

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Each pixel has the spread of all pixels about the mean image."""
        mean = x.mean(0)
        return torch.stack([mean, spread(x).log().expand_as(mean)], -1).flatten()


@LIKELIHOODS.add
class GaussianOptimal(ConstantScale):
    """N(h, sigma^2) with sigma^2 the mean squared error: of the batch in training (Rybkin, Daniilidis & Levine 2021).

    In training, sigma depends on the images of the batch, so that the values are no density of one image. In evaluation sigma is
    constant: the exponential moving average of the squared errors of training steps, with decay `memory`. That is a density.
    The gradient of a batch's mean does not depend on whether sigma is held constant in it, since it is at its optimum; it is.
    """

    mse: Tensor

    def __init__(self, memory: float = 0.9) -> None:
        super().__init__()
        if not memory < 1:
            raise UserError(f"memory={memory:g} is not below 1; choose a share such as 0.9")
        self.memory = float(memory)
        self.register_buffer("mse", torch.ones(()))

    @property
    def scale(self) -> Tensor:
        return self.mse.sqrt()

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        squares = (x - h).square()
        variance = self.mse.clone()
        if self.training:
            variance = squares.detach().mean().clamp(min=1e-6)
            self.mse.copy_(self.memory * self.mse + (1 - self.memory) * variance)
        return -0.5 * (squares.sum(-1) / variance + x.shape[-1] * (variance.log() + LOG_2PI))

    def sample(self, h: Tensor) -> Tensor:
        return h + self.scale * torch.randn_like(h)

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        self.mse.copy_(spread(x).square())
        return super().start(x)
