"""Whether a Gaussian decoder's sigma matches its errors."""

import math

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.models.base import Decoder, LatentVariable
from vae_variants.models.likelihoods import ConstantScale


def gaussian(e: Evaluation) -> bool:
    return isinstance(e.model, Decoder) and isinstance(e.model.likelihood, ConstantScale)


@metric(needs=(LatentVariable,), unit="grey", better="none", kind="exact", applies=gaussian)
def pixel_sigma(e: Evaluation) -> float:
    """decoder sigma, fixed or learnt

    Formula: sigma in p(x|z) = N(decoder(z), sigma^2 I).
    Estimator: a parameter of the model.
    Sample size: none.
    Fails: a fixed sigma weighs reconstruction against rate, as beta = 2 sigma^2 weighs the KL against the squared error.
    Reference: Rybkin, Daniilidis & Levine 2021, Simple and Effective VAE Training with Calibrated Decoders.
    """
    assert isinstance(e.model, Decoder) and isinstance(e.model.likelihood, ConstantScale)
    return e.model.likelihood.scale.item()


@metric(needs=(LatentVariable,), unit="grey", better="none", kind="estimate", applies=gaussian)
def optimal_sigma(e: Evaluation) -> float:
    """the decoder sigma that minimises the distortion of the trained model: its root mean squared error per pixel

    Formula: r = sqrt(E_q |x - decoder(z)|^2 / D) = sigma sqrt(2 distortion / D - log(2 pi sigma^2)).
    Estimator: from the distortion, without further samples.
    Sample size: that of distortion.
    Fails: holds for this encoder and decoder; training with that sigma would change them.
    Reference: Rybkin, Daniilidis & Levine 2021.
    """
    sigma = pixel_sigma(e)
    return sigma * math.sqrt(2 * e.elbo.distortion.mean().item() / e.dataset.dim - math.log(2 * math.pi * sigma**2))


@metric(needs=(LatentVariable,), unit="nats", better="lower", kind="estimate", applies=gaussian)
def sigma_cost(e: Evaluation) -> float:
    """nats of ELBO lost because sigma is not optimal_sigma, for the trained encoder and decoder

    Formula: (D / 2) (r^2 / sigma^2 - 1 - log(r^2 / sigma^2)), r the optimal sigma.
    Estimator: from the distortion, without further samples.
    Sample size: that of distortion.
    Fails: a lower bound of the gain from a better sigma, since encoder and decoder could adapt.
    Reference: Rybkin, Daniilidis & Levine 2021.
    """
    ratio = (optimal_sigma(e) / pixel_sigma(e)) ** 2
    return 0.5 * e.dataset.dim * (ratio - 1 - math.log(ratio))
