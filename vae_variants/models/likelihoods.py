"""Likelihoods p(x | h): densities of an image x given the decoder's output h, normalised on a named support."""

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.numerics import cross_entropy, log, slowdown
from vae_variants.registry import Registry, UserError, positive

PIECE = 2**22  # pixels that are counted at once


class Support(enum.Enum):
    """The space in which a density or mass lives. Nats can be compared only within one.

    All are written on [0, 1]: `BINARY` is {0, 1}; `BYTE` the stored grey levels j / (levels - 1); `UNIT` the interval [0, 1]; `REAL` the
    real line, of which pixels use [0, 1].
    """

    BINARY = "binary"
    UNIT = "unit"
    BYTE = "byte"
    REAL = "real"

    @property
    def discrete(self) -> bool:
        return self in (Support.BINARY, Support.BYTE)


class Likelihood(nn.Module, ABC):
    """Base class: a density of x (..., D) given decoder outputs h (..., k * D), independent over pixels given h.

    For k > 1 the outputs of one pixel are adjacent: h.unflatten(-1, (D, k)).

    Attributes:
        support: Where the density lives.
        k: Decoder outputs per pixel.
        clip: How near to 0 and 1 the mean may start.
    """

    support: ClassVar[Support]
    k: int
    clip: float = 1e-3

    @abstractmethod
    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        """h (..., k * D), x (..., D) -> (...,) nats, summed over pixels, with every constant."""

    @abstractmethod
    def sample(self, h: Tensor) -> Tensor:
        """h (..., k * D) -> (..., D)."""

    @abstractmethod
    def mean(self, h: Tensor) -> Tensor:
        """h (..., k * D) -> (..., D), the expectation of x given h."""

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """The decoder's outputs before training: those whose mean is the mean training image.

        Learnt parameters of the likelihood are set to fit that image too.

        Args:
            x: Training images (N, D).

        Returns:
            (k * D,). By default it inverts an increasing `mean` for k = 1, the image clipped to [clip, 1 - clip]. Zeros if it cannot.
        """
        mean = x.mean(0).double().clamp(self.clip, 1 - self.clip)
        if self.k == 1:
            h = inverted(self.mean, mean)
            if torch.allclose(self.mean(h), mean, atol=1e-4, rtol=0):
                return h
        return x.new_zeros(self.k * x.shape[1])


def inverted(mean: Callable[[Tensor], Tensor], wanted: Tensor, bound: float = 128.0) -> Tensor:
    """h with mean(h) = wanted, by bisection of an increasing elementwise function on [-bound, bound]."""
    low, high = torch.full_like(wanted, -bound), torch.full_like(wanted, bound)
    for _ in range(50):
        middle = (low + high) / 2
        below = mean(middle) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def spread(x: Tensor) -> Tensor:
    """() the root mean squared distance of pixels of x (N, D) from the mean image; no less than a hundredth."""
    return x.var(0, correction=0).mean().sqrt().clamp(min=0.01)


class ConstantScale(Likelihood):
    """Base class of densities about h on the real line with one standard deviation for all pixels."""

    support, k = Support.REAL, 1

    @property
    @abstractmethod
    def scale(self) -> Tensor:
        """() the standard deviation."""

    def mean(self, h: Tensor) -> Tensor:
        return h

    def start(self, x: Tensor) -> Tensor:
        return x.mean(0)


LIKELIHOODS: Registry[type[Likelihood]] = Registry("likelihood")


@LIKELIHOODS.add
class Bernoulli(Likelihood):
    """Binary pixels: x h - softplus(h), h the logit (binary cross-entropy of a sigmoid decoder)."""

    support, k = Support.BINARY, 1

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        return -cross_entropy(h, x).sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        return (torch.rand_like(h) < h.sigmoid()).to(h.dtype)

    def mean(self, h: Tensor) -> Tensor:
        return h.sigmoid()


@LIKELIHOODS.add
class ContinuousBernoulli(Likelihood):
    """A density on [0, 1]: p(x) = g exp(g x) / (exp(g) - 1), g the logit h within [-limit, limit] (Loaiza-Ganem & Cunningham 2019).

    The density of a pixel is at most that of black or white at the limit, limit / (1 - exp(-limit)). Without a limit nats are of no use:
    logits of pixels that are always black fall as long as training lasts, and each halving of their mean adds log 2.
    Stored pixels do not say so much: where 0 is one of `levels` grey levels, it stands for half a level, which has a density of
    2 (levels - 1). That is the limit, unless it is given. The authors' code has log 9999 = 9.21, so that black is no darker than 0.11.

    Beyond the limit the derivative in h is that at the limit if it pulls h back, and else 0. With 0 for both, a pixel that is black in
    nearly all images would never be learnt in the others.

    Args:
        levels: Grey levels of the stored images.
        limit: The largest logit; 0 is 2 (levels - 1).
    """

    support, k = Support.UNIT, 1

    def __init__(self, levels: int = 256, limit: float = 0.0) -> None:
        super().__init__()
        if limit < 0:
            raise UserError(f"limit={limit:g} is below 0; choose a positive number, or 0 for one by the grey levels")
        self.limit = float(limit or 2 * (levels - 1))
        self.darkest = 1 / self.limit + math.exp(-self.limit) / math.expm1(-self.limit)  # the mean at logit -limit
        self.clip = max(0.02, 1.1 * self.darkest)  # a logit of 50: more would punish the first grey pixel where training images are black

    def within(self, h: Tensor, x: Tensor) -> Tensor:
        """h within the limit; its derivative is 1 also where it was not and the gradient of log_prob pulls h back."""
        back = torch.where(h < 0, (h < -self.limit) & (x > self.darkest), (h > self.limit) & (x < 1 - self.darkest))
        return self.cut(h) + torch.where(back, h - h.detach(), 0.0)

    def cut(self, h: Tensor) -> Tensor:
        return h.clamp(-self.limit, self.limit)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        h = self.within(h, x)
        near = h.abs() < 0.05
        g = torch.where(near, torch.ones_like(h), h)  # keeps the unused branch and its gradient finite
        far = g.clamp(min=0) + torch.log(-torch.expm1(-g.abs())) - g.abs().log()
        series = h / 2 + h**2 / 24 - h**4 / 2880
        return (x * h - torch.where(near, series, far)).sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        u, g = torch.rand_like(h), -self.cut(h).abs().clamp(min=1e-4)
        x = torch.log1p(u * torch.expm1(g)) / g  # inverse distribution function for a negative logit
        return torch.where(h > 0, 1 - x, x)

    def mean(self, h: Tensor) -> Tensor:
        h = self.cut(h)
        near = h.abs() < 1  # nearer to 0, the two terms of the formula cancel
        g, s = torch.where(near, torch.ones_like(h), h), h.clamp(-1, 1)
        t = s.square()
        series = 0.5 + s * (1 / 12 + t * (-1 / 720 + t * (1 / 30240 + t * (-1 / 1209600 + t / 47900160))))
        return torch.where(near, series, -1 / torch.expm1(-g) - 1 / g)


@LIKELIHOODS.add
class Gaussian(ConstantScale):
    """Constant standard deviation `sigma`: -(x - h)^2 / (2 sigma^2) - log sigma - log(2 pi) / 2 per pixel."""

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.sigma = float(positive("sigma", sigma))

    @property
    def scale(self) -> Tensor:
        return torch.tensor(self.sigma)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        constant = x.shape[-1] * (log(self.sigma) + 0.5 * math.log(2 * math.pi))
        return -0.5 * ((x - h) / self.sigma).square().sum(-1) - constant

    def sample(self, h: Tensor) -> Tensor:
        return h + self.sigma * torch.randn_like(h)


class LearntScale(ConstantScale):
    """Base class of densities with one learnt standard deviation."""

    pace: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("pace", torch.ones(()))

    @property
    def log_sigma(self) -> Tensor:
        """() the log of sigma: a weight times a constant that undoes the lower learning rate for more pixels."""
        return self.pace * self.weight

    @property
    def scale(self) -> Tensor:
        return self.log_sigma.exp()

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        self.pace.fill_(slowdown(x.shape[1]))
        self.weight.copy_(spread(x).log() / self.pace)
        return super().start(x)


@LIKELIHOODS.add
class GaussianLearnt(LearntScale):
    """One learnt standard deviation shared by all pixels (sigma-VAE: Rybkin, Daniilidis & Levine 2021)."""

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        constant = x.shape[-1] * (self.log_sigma + 0.5 * math.log(2 * math.pi))
        return -0.5 * (-2 * self.log_sigma).exp() * (x - h).square().sum(-1) - constant

    def sample(self, h: Tensor) -> Tensor:
        return h + self.log_sigma.exp() * torch.randn_like(h)


@LIKELIHOODS.add
class DiscretizedLogistic(Likelihood):
    """A mass on the stored grey levels: a logistic distribution rounded to the nearest level; the end levels take its tails.

    Outputs per pixel: the location, on the whole real line, and the log scale plus 2. With a, b the standardised edges of the bin,
    sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)), which stays exact in the tails.
    """

    support, k = Support.BYTE, 2

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        self.levels = levels

    @staticmethod
    def _split(h: Tensor) -> tuple[Tensor, Tensor]:
        """Location and log scale plus 2 of each pixel."""
        location, wide = h.unflatten(-1, (-1, 2)).unbind(-1)
        return location, wide

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        return self.log_masses(*self._split(h), x).sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        return self.draws(*self._split(h))

    def mean(self, h: Tensor) -> Tensor:
        return self.means(*self._split(h))

    def log_masses(self, location: Tensor, wide: Tensor, x: Tensor) -> Tensor:
        """Of the levels x, elementwise; `wide` is the log scale plus 2."""
        precision, half = (2 - wide).clamp(-9, 9).exp(), 0.5 / (self.levels - 1)
        lowest, highest = x < half, x > 1 - half
        upper = F.logsigmoid((x + half - location) * precision).masked_fill(highest, 0.0)
        lower = F.logsigmoid((location - x + half) * precision).masked_fill(lowest, 0.0)
        width = torch.log(-torch.expm1(-2 * half * precision)).masked_fill(lowest | highest, 0.0)
        return upper + lower + width

    def draws(self, location: Tensor, wide: Tensor) -> Tensor:
        """A level of each element."""
        u = torch.rand_like(location).clamp(1e-7, 1 - 1e-7)
        x = location + (wide - 2).clamp(-9, 9).exp() * torch.logit(u)
        return ((x * (self.levels - 1)).round() / (self.levels - 1)).clamp(0, 1)

    def means(self, location: Tensor, wide: Tensor) -> Tensor:
        """The expectation of each element."""
        precision, total = (2 - wide).clamp(-9, 9).exp(), torch.zeros_like(location)
        for j in range(self.levels - 1):  # E[j] = sum over thresholds of P(level > threshold)
            total += ((location - (j + 0.5) / (self.levels - 1)) * precision).sigmoid()
        return total / (self.levels - 1)

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """The scale fits the spread of pixels about the mean image."""
        log_scale = (spread(x).double() * math.sqrt(3) / math.pi).log() + 2
        mean = x.mean(0).double().clamp(self.clip, 1 - self.clip)

        def outputs(location: Tensor) -> Tensor:
            return torch.stack([location, log_scale.expand_as(location)], -1).flatten(-2)

        return outputs(inverted(lambda location: self.mean(outputs(location)), mean, bound=4.0))


@LIKELIHOODS.add
class Categorical(Likelihood):
    """A mass on the stored grey levels: a softmax over `levels` logits per pixel, which ignores their order."""

    support = Support.BYTE

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        self.k = self.levels = levels

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        logits = h.unflatten(-1, (-1, self.levels)).log_softmax(-1)
        level = (x * (self.levels - 1)).round().long()
        shape = torch.broadcast_shapes(logits.shape[:-1], level.shape)
        return logits.expand(*shape, -1).gather(-1, level.expand(shape).unsqueeze(-1)).squeeze(-1).sum(-1)

    def sample(self, h: Tensor) -> Tensor:
        logits = h.unflatten(-1, (-1, self.levels))
        noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-20, 1 - 1e-7)))  # Gumbel: the argmax is a sample
        return (logits + noise).argmax(-1).to(h.dtype) / (self.levels - 1)

    def mean(self, h: Tensor) -> Tensor:
        level = torch.linspace(0, 1, self.levels, dtype=h.dtype, device=h.device)
        return (h.unflatten(-1, (-1, self.levels)).softmax(-1) * level).sum(-1)

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Log frequencies of the levels, with one more image that has every level alike."""
        counts = x.new_full((x.shape[1], self.levels), 1 / self.levels)
        for part in x.split(max(1, PIECE // x.shape[1])):
            level = (part * (self.levels - 1)).round().long().mT
            counts.scatter_add_(1, level, counts.new_ones(()).expand_as(level))
        return counts.log().flatten()
