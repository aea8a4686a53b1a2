"""Combinations of importance-weighted bounds (Rainforth et al. 2018, Tighter variational bounds are not necessarily better)."""

import math

from torch import Tensor

from vae_variants.models.base import Player
from vae_variants.models.draws import Draws
from vae_variants.models.objectives import OBJECTIVES, Term, elbo_sampled, iwae
from vae_variants.registry import UserError


@OBJECTIVES.add
def miwae(d: Draws, groups: int = 8) -> Tensor:
    """-(mean of the importance-weighted bounds of `groups` equal groups of the K samples): MIWAE (Rainforth et al. 2018).

    groups = 1 is `iwae`, groups = K the sampled ELBO. If `groups` does not divide K, their greatest common divisor counts.
    """
    log_w = d.log_w
    parts = math.gcd(groups, len(log_w))
    inside = len(log_w) // parts
    return math.log(inside) - log_w.unflatten(0, (parts, inside)).logsumexp(1).mean(0)


@OBJECTIVES.add
def ciwae(d: Draws, weight: float = 0.5) -> Tensor:
    """weight (-ELBO) + (1 - weight) (-L_K), both from the same K samples: CIWAE (Rainforth et al. 2018)."""
    if weight > 1:
        raise UserError(f"weight={weight:g} is not a share; choose one from 0, the importance-weighted bound, to 1, the ELBO")
    return weight * elbo_sampled(d) + (1 - weight) * iwae(d)


@OBJECTIVES.add
class Piwae(Term):
    """-L_K for the decoder and MIWAE of `groups` groups for the encoder: PIWAE (Rainforth et al. 2018).

    Two players: encoder and posterior minimise `miwae`, all else `iwae`. Each draws its own K samples, so that a step costs two passes.
    """

    players = (Player(("encoder.", "posterior."), "objective.inference_loss"),)
    regularized = ("inference_loss",)

    def __init__(self, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, d: Draws) -> Tensor:
        return iwae(d)

    def inference_loss(self, d: Draws) -> Tensor:
        """What encoder and posterior minimise, (B,)."""
        return miwae(d, self.groups)
