"""The one training loop, over a stack of seeds."""

from vae_variants.training.batches import derive_seed
from vae_variants.training.loop import Training, fit
from vae_variants.training.population import Population

__all__ = ["Population", "Training", "derive_seed", "fit"]
