"""What the two sides of a game between a generator and a critic minimise, and the penalty on the critic's slope."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad
from torch.nn.utils import parametrize

from vae_variants.registry import UserError, closest

Score = Callable[[Tensor], Tensor]  # the critic's output -> what is minimised, elementwise


class Game(NamedTuple):
    """Losses as functions of the critic's output d.

    Attributes:
        real: What the critic minimises where it sees real images.
        fake: What the critic minimises where it sees generated images.
        up: What a generator minimises where its images are judged.
        down: What an encoder minimises where pairs (x, z) of real images are judged: see `BiGAN`.
        slope: Where the penalty on the critic's slope is if nothing else is chosen: see `SLOPES`.
    """

    real: Score
    fake: Score
    up: Score
    down: Score
    slope: str = "real"


GAMES: dict[str, Game] = {
    # non-saturating (Goodfellow et al. 2014)
    "ns": Game(lambda d: F.softplus(-d), F.softplus, lambda d: F.softplus(-d), F.softplus),
    # Wasserstein distance (Arjovsky et al. 2017; Gulrajani et al. 2017)
    "wgan-gp": Game(lambda d: -d, lambda d: d, lambda d: -d, lambda d: d, "between"),
    # hinge (Lim & Ye 2017; Miyato et al. 2018)
    "hinge": Game(lambda d: F.relu(1 - d), lambda d: F.relu(1 + d), lambda d: -d, lambda d: d),
    # least squares with the targets 1 and 0 (Mao et al. 2017)
    "lsgan": Game(
        lambda d: 0.5 * (d - 1).square(), lambda d: 0.5 * d.square(), lambda d: 0.5 * (d - 1).square(), lambda d: 0.5 * d.square()
    ),
}
SLOPES = ("auto", "real", "between")


def game(loss: str) -> Game:
    """The game of that name. Raises `UserError` if there is none."""
    if loss not in GAMES:
        raise UserError(closest("loss", loss, GAMES))
    return GAMES[loss]


def logit_and_slope(critic: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, D) -> d(x) (B,) and |grad_x d(x)|^2 (B,), both differentiable and compatible with vmap."""

    def total(v: Tensor) -> tuple[Tensor, Tensor]:
        logit = critic(v)
        return logit.sum(), logit

    gradient, logit = grad(total, has_aux=True)(x)
    return logit, gradient.square().sum(-1)


def between(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """(|grad d| - 1)^2 at u real + (1 - u) fake, u uniform: real, fake (B, D) -> (B,) (Gulrajani et al. 2017)."""
    u = torch.rand_like(real[..., :1])
    _, slope = logit_and_slope(critic, fake + u * (real - fake))
    return ((slope + 1e-12).sqrt() - 1).square()


class SpectralNorm(nn.Module):
    """W / s(W), s the largest singular value of the matrix W.flatten(1), by power iteration (Miyato et al. 2018).

    With v = W^T u / |W^T u|, s = |W v|, whose gradient holds v constant. `advance` makes u the direction of W v: one iteration a call.
    """

    u: Tensor

    def __init__(self, weight: Tensor, iterations: int = 15) -> None:
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(weight.shape[0], dtype=weight.dtype, device=weight.device), dim=0))
        for _ in range(iterations):
            self.advance(weight)

    def direction(self, weight: Tensor) -> Tensor:
        return F.normalize(weight.detach().flatten(1).mT @ self.u, dim=0)

    def forward(self, weight: Tensor) -> Tensor:
        return weight / (weight.flatten(1) @ self.direction(weight)).norm()

    @torch.no_grad()
    def advance(self, weight: Tensor) -> None:
        """One power iteration, in place."""
        self.u.copy_(F.normalize(weight.detach().flatten(1) @ self.direction(weight), dim=0))


def normalise(network: nn.Module) -> None:
    """Gives each linear layer and convolution of a network spectral norm 1; a convolution counts as the matrix of its kernel."""
    for layer in list(network.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))


def advance(network: nn.Module) -> None:
    """One power iteration of each layer that `normalise` has changed."""
    for held in network.modules():
        if isinstance(held, parametrize.ParametrizationList):
            for each in held:
                if isinstance(each, SpectralNorm):
                    each.advance(held.original)
