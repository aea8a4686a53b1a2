"""Objectives whose reconstruction error is no log density, so that a model trained by them has no nats."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_variants.models.base import Player
from vae_variants.models.divergences import beside_prior
from vae_variants.models.draws import Draws
from vae_variants.models.networks import Shape, layers
from vae_variants.models.objectives import OBJECTIVES, Term

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, from fine to coarse (Wang, Simoncelli & Bovik 2003)
WINDOW, SIGMA, SMALLEST = 11, 1.5, 4  # pixels of the window and its standard deviation; the coarsest side


def images_of(d: Draws) -> Tensor:
    """x, as large as the decoder's mean: (K, B, D)."""
    assert d.x is not None
    return d.x.expand_as(d.mean)


@OBJECTIVES.add(name="log-cosh")
def log_cosh(d: Draws, sharpness: float = 10.0) -> Tensor:
    """KL + (1 / a) sum over pixels of log cosh(a (x - mean)), the mean over K, a = `sharpness` (Chen et al. 2019): no density."""
    error = sharpness * (images_of(d) - d.mean)
    each = error.abs() + F.softplus(-2 * error.abs()) - F.softplus(error.new_zeros(()))
    return d.kl + each.sum(-1).mean(0) / sharpness


log_cosh.bound = log_cosh.density = False  # type: ignore[attr-defined]


def blurred(x: Tensor, window: int) -> Tensor:
    """x (N, C, H, W) under a Gaussian window of that size, within the image."""
    place = torch.arange(window, dtype=x.dtype, device=x.device) - (window - 1) / 2
    kernel = (-0.5 * (place / SIGMA).square()).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, window)
    x = F.conv2d(x, kernel.unsqueeze(-1), groups=x.shape[1])
    return F.conv2d(x, kernel.unsqueeze(-2), groups=x.shape[1])


def similarity(x: Tensor, y: Tensor, most: int = len(WEIGHTS), least: float = 1e-3) -> Tensor:
    """MS-SSIM of images in [0, 1] (N, C, H, W) -> (N,) (Wang, Simoncelli & Bovik 2003); with `most` = 1 scale it is SSIM (same, 2004).

    It has up to `most` scales, each half of the one before, with sides of at least 4 pixels: two for 8x8. The weights of those used are
    scaled to sum to 1, and the window of 11 pixels is the largest odd one that fits. The value of a scale is at least `least`.
    """
    scales = max(1, min(most, len(WEIGHTS), min(x.shape[-2:]).bit_length() - SMALLEST.bit_length() + 1))
    total, found = sum(WEIGHTS[:scales]), x.new_ones(len(x))
    for scale, weight in enumerate(WEIGHTS[:scales]):
        window = min(WINDOW, (min(x.shape[-2:]) - 1) // 2 * 2 + 1)
        mean_x, mean_y = blurred(x, window), blurred(y, window)
        var_x, var_y = blurred(x.square(), window) - mean_x.square(), blurred(y.square(), window) - mean_y.square()
        contrast = (2 * (blurred(x * y, window) - mean_x * mean_y) + 9e-4) / (var_x + var_y + 9e-4)
        if scale == scales - 1:
            contrast = contrast * (2 * mean_x * mean_y + 1e-4) / (mean_x.square() + mean_y.square() + 1e-4)
        found = found * contrast.mean((-3, -2, -1)).clamp(min=least) ** (weight / total)
        x, y = F.avg_pool2d(x, 2) if scale < scales - 1 else x, F.avg_pool2d(y, 2) if scale < scales - 1 else y
    return found


@OBJECTIVES.add(name="ms-ssim")
def ms_ssim(d: Draws, shape: Shape, strength: float = 1.0) -> Tensor:
    """KL + strength D (1 - MS-SSIM(x, mean)), the mean over K, D the number of pixels (Snell et al. 2017): no density."""
    k, b, pixels = d.mean.shape
    x, y = (images.reshape(k * b, *shape) for images in (images_of(d), d.mean))
    return d.kl + strength * pixels * (1 - similarity(x, y)).unflatten(0, (k, b)).mean(0)


ms_ssim.bound = ms_ssim.density = False  # type: ignore[attr-defined]


@OBJECTIVES.add(name="vae-gan")
class VaeGan(Term):
    """Reconstruction in the hidden features f of a critic on images, which trains beside the VAE (Larsen et al. 2016): no density.

    Three players, with D the critic's logit and G the decoder's mean at z ~ q and at z ~ p:

    - encoder: KL + |f(x) - f(mean)|^2 / 2, the mean over K;
    - decoder: `gamma` |f(x) - f(mean)|^2 / 2 + softplus(-D(G)), summed over both;
    - critic: softplus(-D(x)) + softplus(D(G)), summed over both.

    Decoder and critic use Adam with beta_1 = 0.5. The critic sees D pixels of any support; grey images suit it, and binary ones do not,
    since means are grey.
    """

    bound = density = False
    players = (
        Player(("decoder.",), "objective.decoder_loss", optimizer="adam-0.5"),
        Player(("objective.",), "objective.critic_loss", optimizer="adam-0.5"),
    )
    regularized = ("decoder_loss",)

    def __init__(self, shape: Shape, gamma: float = 1.0, critic_width: int = 200, critic_layers: int = 2) -> None:
        super().__init__()
        self.gamma = gamma
        self.features = layers([math.prod(shape), *[critic_width] * critic_layers], "leaky-relu")
        self.last = nn.Linear(critic_width, 1)

    def logit(self, x: Tensor) -> Tensor:
        """Images (..., D) -> (...)."""
        return self.last(F.leaky_relu(self.features(x))).squeeze(-1)

    def reconstruction(self, d: Draws) -> Tensor:
        """(B,) half the squared distance of features."""
        return 0.5 * (self.features(images_of(d)) - self.features(d.mean)).square().sum(-1).mean(0)

    def generated(self, d: Draws) -> tuple[Tensor, Tensor]:
        """The decoder's means at samples of q and of the prior, both (K, B, D)."""
        assert d.model is not None
        return d.mean, d.model.decode(beside_prior(d)[1])

    def forward(self, d: Draws) -> Tensor:
        return d.kl + self.reconstruction(d)

    def decoder_loss(self, d: Draws) -> Tensor:
        """What the decoder minimises, (B,)."""
        return self.gamma * self.reconstruction(d) + sum(F.softplus(-self.logit(x)).mean(0) for x in self.generated(d))

    def critic_loss(self, d: Draws) -> Tensor:
        """What the critic minimises, (B,)."""
        fake = sum(F.softplus(self.logit(x.detach())).mean(0) for x in self.generated(d))
        return F.softplus(-self.logit(images_of(d))).mean(0) + fake
