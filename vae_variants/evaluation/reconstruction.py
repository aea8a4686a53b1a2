"""How near the decoder comes to an image that went through the code."""

from __future__ import annotations

import torch

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import metric
from vae_variants.models.base import Coder, Decoder

__all__ = ["reconstruction_mse", "reconstruction_nats"]


@metric(needs=(Coder,), unit="squared grey per pixel", better="lower")
def reconstruction_mse(e: Evaluation) -> float:
    """mean squared difference between grey test images in [0, 1] and what the decoder makes of their codes

    Formula: mean over images and pixels of (x - E[x | z = code(x)])^2.
    Estimator: one pass, summed in float64. A model of binary pixels is given the grey image too: its levels are what the means of its
    pixels should be.
    Sample size: all test images.
    Fails: it falls with every latent unit while the log-likelihood may fall too: no ranking of generative models. It rewards blur. A
    model of binary pixels sees inputs that it was not trained on. Compare it with PCA of as many units.
    Reference: none
    """
    return (e.reconstructions.double() - e.dataset.grey()).square().mean().item()


@metric(needs=(Coder, Decoder), unit="nats", better="lower")
def reconstruction_nats(e: Evaluation) -> float:
    """-log p(x | z = posterior mean), mean over the test images: optimistic, not a term of the ELBO

    Formula: -log p(x | z = E_q[z | x]), x in the model's own pixels.
    Estimator: one pass, summed in float64.
    Sample size: all test images.
    Fails: it is no bound of anything: the term of the ELBO is distortion, which averages over q. Nats of different kinds of pixels do
    not compare; densities may make it negative.
    Reference: none
    """
    assert isinstance(e.model, Decoder) and isinstance(e.model, Coder)
    with e.noise("reconstruction_nats"):
        parts = [e.model.log_px(x, e.model.encode(x)).double().cpu() for x in e.test.split(e.rows())]
    return -torch.cat(parts).mean().item()
