"""What each layer of a hierarchical model is used for."""

from torch import Tensor

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.likelihood import kind_of_rate
from vae_variants.evaluation.metrics import metric
from vae_variants.evaluation.units import ACTIVE, SAMPLES  # noqa: F401  (in the texts)
from vae_variants.models.base import Encoder, Euclidean, Layered

USED = 0.1  # nats: the rate of a layer that is used


def by_layer(e: Evaluation, units: Tensor) -> list[float]:
    """The sums of `units` (Z,) over each layer of latents, the one nearest to the image first."""
    assert isinstance(e.model, Layered)
    return [part.double().sum().item() for part in units.split(e.model.layers)]


@metric(needs=(Layered,), unit="nats", better="none", kind=kind_of_rate)
def rate_top(e: Evaluation) -> float:
    """part of the rate that is due to the top layer of latents, mean over the test images

    Formula: E_q[log q(z_L | ...) - log p(z_L)], each density that of the top layer given what the model draws before it. If q draws from
    the top down it is KL(q(z_L|x) || p(z_L)).
    Estimator: that of the rate, of which it is a part: closed given samples of what is drawn before.
    Sample size: that of the rate.
    Fails: near 0 the top layer is not used, and the model is one with a layer less.
    Reference: Sonderby et al. 2016, Ladder Variational Autoencoders.
    """
    return by_layer(e, e.elbo.rate_units)[-1]


@metric(needs=(Layered,), unit="nats", better="none", kind=kind_of_rate)
def rate_bottom(e: Evaluation) -> float:
    """part of the rate that is due to the layer of latents nearest to the image, mean over the test images

    Formula: E_q[log q(z_1 | ...) - log p(z_1 | z_2, ...)].
    Estimator: that of the rate, of which it is a part.
    Sample size: that of the rate.
    Fails: if q draws from the bottom up, it is no KL and can be negative, since q(z_1|x) does not know z_2. With one layer it is the rate.
    Reference: Sonderby et al. 2016, Ladder Variational Autoencoders.
    """
    return by_layer(e, e.elbo.rate_units)[0]


@metric(needs=(Layered,), unit="layers", better="none", kind="estimate")
def layers_used(e: Evaluation) -> float:
    """layers of latents whose part of the rate is at least {USED} nats

    Formula: number of layers l with E_q[log q(z_l | ...) - log p(z_l | ...)] >= {USED}.
    Estimator: counted from the terms of the rate.
    Sample size: that of the rate.
    Fails: the threshold decides for layers near it. Says nothing of what a layer encodes.
    Reference: none
    """
    return float(sum(rate >= USED for rate in by_layer(e, e.elbo.rate_units)))


@metric(needs=(Layered, Euclidean, Encoder), unit="units", better="none")
def active_units_top(e: Evaluation) -> float:
    """active latent units of the top layer

    Formula: as of active_units, over the units j of the top layer: Var_x(E_q[z_j | x]) > {ACTIVE} Var(z_j).
    Estimator: as of active_units, from {SAMPLES} samples of q.
    Sample size: all test images.
    Fails: as active_units. With a few hundred images, the noise of {SAMPLES} samples can make an inactive unit active; see rate_top.
    Reference: Burda et al. 2016, Importance Weighted Autoencoders, who count them by layer.
    """
    return by_layer(e, e.variance(e.data.test).active)[-1]
