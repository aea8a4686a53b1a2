"""What the options of a variant are chosen by: one metric, on validation images."""

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import METRICS, Value, value_of
from vae_variants.registry import UserError

OTHERS = ("fd_cnn", "spectral_distance", "reconstruction_mse")  # of models without a density; the first needs classes


def criterion(e: Evaluation) -> Value:
    """log p(x), or its bound from `bound_samples` samples of z, of a model that has one; else what its players aim at.

    An autoencoder, with one player, is chosen by its reconstructions. A model with several, such as a GAN, is chosen by the distance of
    its samples from images: in the features of a classifier, or without classes by their spectrum.

    Raises:
        UserError: If no metric applies.
    """
    names = ("log_likelihood", *(OTHERS if len(e.model.players) > 1 else reversed(OTHERS)))
    for m in (METRICS[name] for name in names):
        if m.asked_of(e) and (value := value_of(m, e)).status != "skipped":
            return value
    raise UserError(f"{type(e.model).__name__} has no bound, reconstructions or samples by which its options could be chosen")
