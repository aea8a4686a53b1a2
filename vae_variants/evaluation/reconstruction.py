"""Errors of images that pass through encoder and decoder."""

import torch

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.models.base import Coder, Decoder


@metric(needs=(Coder,), unit="squared grey per pixel", better="lower")
def reconstruction_mse(e: Evaluation) -> float:
    """mean squared error per pixel between grey test images in [0, 1] and their reconstructions

    Formula: mean over images and pixels of (x - E[x | z = encode(x)])^2.
    Estimator: one pass, summed in float64. Models of binary pixels also encode the grey image.
    Sample size: all test images.
    Fails: falls with every latent unit, and rewards blur; compare with PCA of as many units. Models of binary pixels saw no grey input.
    Reference: none
    """
    return (e.reconstructions.double() - e.dataset.grey()).square().mean().item()


@metric(needs=(Coder,), unit="fraction", better="lower")
def unexplained_variance(e: Evaluation) -> float:
    """reconstruction_mse as a share of the error of the mean training image; at 1 the latents say nothing about the image

    Formula: reconstruction_mse / mean over images and pixels of (x - m)^2, m the mean grey training image.
    Estimator: one pass, summed in float64.
    Sample size: all test images.
    Fails: as reconstruction_mse.
    Reference: none
    """
    mean = e.dataset.grey("train").mean(0, dtype=torch.float64)
    variance = (e.dataset.grey() - mean).square().mean().item()
    if variance == 0:
        raise Skip("all test images equal the mean training image")
    return reconstruction_mse(e) / variance


@metric(needs=(Coder, Decoder), unit="nats", better="lower")
def reconstruction_nats(e: Evaluation) -> float:
    """-log p(x | z = posterior mean), mean over the test images; not a term of the ELBO

    Formula: -log p(x | z = E_q[z | x]), x in the model's own pixels.
    Estimator: one pass, summed in float64.
    Sample size: all test images.
    Fails: bounds nothing; distortion averages over q. Nats of different pixel types cannot be compared; those of densities can be negative.
    Reference: none
    """
    assert isinstance(e.model, Decoder) and isinstance(e.model, Coder)
    with e.noise("reconstruction_nats"):
        parts = [e.model.log_px(x, e.model.encode(x)).double().cpu() for x in e.test.split(e.rows())]
    return -torch.cat(parts).mean().item()
