"""Regularizers: what is added to any objective."""

from collections.abc import Callable

from torch import Tensor

from vae_variants.models.draws import Draws
from vae_variants.registry import Registry

Regularizer = Callable[[Draws], Tensor]  # -> () or (B,), added to the objective's mean over the batch
REGULARIZERS: Registry[Callable[..., Tensor]] = Registry("regularizer")


@REGULARIZERS.add
def none(d: Draws) -> Tensor:
    """Nothing is added."""
    return d.t.new_zeros(())


@REGULARIZERS.add
def l2(d: Draws, weight: float = 1e-3) -> Tensor:
    """weight / 2 |z|^2, the mean over samples: keeps the latents of a deterministic encoder near 0 (RAE, Ghosh et al. 2020, eq. 3)."""
    return 0.5 * weight * d.z.square().sum(-1).mean(0)
