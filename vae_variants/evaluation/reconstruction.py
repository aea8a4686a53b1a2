"""Errors of images that pass through encoder and decoder."""

from functools import lru_cache

import torch
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.datasets.levels import mean
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.feature_sets import Features, frechet_distance, kernel_distance, real_features
from vae_variants.evaluation.features import classifier
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.pieces import rows, spread, stored
from vae_variants.models.base import Coder, Decoder
from vae_variants.models.perceptual import similarity

IMAGES = 1000  # of the test images, at equal distances, where each costs more than an error
EXACT = 1e-10  # least squared error of an image in its PSNR: at most 100 dB


@metric(needs=(Coder,), unit="squared grey per pixel", better="lower")
def reconstruction_mse(e: Evaluation) -> float:
    """mean squared error per pixel between grey test images in [0, 1] and their reconstructions

    Formula: mean over images and pixels of (x - E[x | z = encode(x)])^2.
    Estimator: one pass, summed in float64. Models of binary pixels also encode the grey image.
    Sample size: all test images.
    Fails: falls with every latent unit, and rewards blur; compare with PCA of as many units. Models of binary pixels saw no grey input.
    Reference: none
    """
    return errors(e.dataset, e.reconstructions).mean().item()


@metric(needs=(Coder,), unit="fraction", better="lower")
def unexplained_variance(e: Evaluation) -> float:
    """reconstruction_mse as a share of the error of the mean training image; at 1 the latents say nothing about the image

    Formula: reconstruction_mse / mean over images and pixels of (x - m)^2, m the mean grey training image.
    Estimator: one pass, summed in float64.
    Sample size: all test images.
    Fails: as reconstruction_mse.
    Reference: none
    """
    variance = errors(e.dataset, mean(stored(e.dataset, "train"))).mean().item()
    if variance == 0:
        raise Skip("all test images equal the mean training image")
    return reconstruction_mse(e) / variance


@metric(needs=(Coder,), unit="dB", better="higher")
def psnr(e: Evaluation) -> float:
    """peak signal-to-noise ratio of reconstructions, mean over the test images

    Formula: mean over images of -10 log10 of the mean over pixels of (x - r)^2, r the reconstruction within [0, 1].
    Estimator: one pass, in float64. An image without error counts as 100 dB.
    Sample size: all test images.
    Fails: as reconstruction_mse. Depends on the contrast of the images: compare within one data set.
    Reference: none
    """
    error = errors(e.dataset, e.reconstructions.clamp(0, 1))
    return -10 * error.clamp(min=EXACT).log10().mean().item()


def errors(dataset: Dataset, found: Tensor) -> Tensor:
    """Mean squared error over the pixels of each test image (N,), in float64. `found` are other images (N, D), or one for all (D,)."""
    size = rows(8 * dataset.dim)
    pairs = zip(stored(dataset).split(size), found.expand(len(dataset.test), -1).split(size), strict=True)
    return torch.cat([(x - other.double()).square().mean(-1) for x, other in pairs])


def compared(dataset: Dataset) -> Tensor:
    """At most `IMAGES` test images, (n, D)."""
    return stored(dataset, most=IMAGES)[:]


def both(e: Evaluation) -> tuple[Tensor, Tensor]:
    """At most `IMAGES` test images and their reconstructions within [0, 1], (n, D)."""
    return compared(e.dataset), e.reconstructions[spread(len(e.dataset.test), IMAGES)].clamp(0, 1)


def similarities(e: Evaluation, most: int, least: float) -> float:
    parts = zip(*(x.split(rows(8 * e.dataset.dim, 100)) for x in both(e)), strict=True)
    pairs = ((part.double().unflatten(-1, e.dataset.shape) for part in pair) for pair in parts)
    return torch.cat([similarity(x, r, most, least) for x, r in pairs]).mean().item()


@metric(needs=(Coder,), unit="ratio", better="higher")
def ssim(e: Evaluation) -> float:
    """structural similarity of test images and their reconstructions: 1 for equal images

    Formula: mean over images, channels and places of (2 m_x m_r + c1)(2 s_xr + c2) / ((m_x^2 + m_r^2 + c1)(s_x^2 + s_r^2 + c2)), with local
    means, variances and covariance, c1 = 0.01^2 and c2 = 0.03^2.
    Estimator: Gaussian windows of 11 pixels and standard deviation 1.5 inside the image, or as large as it, in float64.
    Sample size: 1000 test images, or all if there are fewer.
    Fails: flat black grounds count as similar places, so that line drawings have high values. Compare within one data set.
    Reference: Wang, Bovik, Sheikh & Simoncelli 2004, Image quality assessment, doi:10.1109/TIP.2003.819861
    """
    return similarities(e, 1, -1.0)


@metric(needs=(Coder,), unit="ratio", better="higher")
def ms_ssim(e: Evaluation) -> float:
    """structural similarity over up to five scales of test images and their reconstructions: 1 for equal images

    Formula: mean over images of the product over scales of (mean contrast and structure)^w, times (mean luminance)^w at the coarsest.
    Estimator: as ssim, at each scale. Sides of the coarsest scale have at least 4 pixels: four scales for 32 pixels, two for 8. The weights
    of those used are scaled to sum to 1.
    Sample size: as ssim.
    Fails: with fewer than five scales it cannot be compared with published values. Else as ssim.
    Reference: Wang, Simoncelli & Bovik 2003, Multiscale structural similarity, doi:10.1109/ACSSC.2003.1292216
    """
    return similarities(e, 5, 0.0)


@lru_cache(maxsize=1)
def reconstructed_features(e: Evaluation) -> tuple[Features, Features]:
    """Features of test images and of their reconstructions, from the classifier of the data set."""
    if e.dataset.labels is None or len(e.dataset.labels["train"].unique()) < 2:
        raise Skip("the data set has no labels of two classes, so there is no classifier")
    model, _ = classifier(e.dataset, e.fidelity.classifier_steps)
    return real_features(e.dataset, IMAGES, e.fidelity.classifier_steps), Features(model.embed(both(e)[1]))


@metric(needs=(Coder,), unit="squared features", better="lower", kind="estimate", published="reconstruction_fd-{data}cnn")
def reconstruction_fd_cnn(e: Evaluation) -> float:
    """Frechet distance between reconstructions and test images in the features of the data set's own classifier

    Formula: as fd_cnn, of reconstructions in place of samples.
    Estimator: as fd_cnn.
    Sample size: as ssim.
    Fails: as fd_cnn. Both sets are of the same images, so that its floor is 0.
    Reference: Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule (the distance, in other features).
    """
    return frechet_distance(*reconstructed_features(e))


@metric(needs=(Coder,), unit="squared features", better="lower", kind="estimate", published="reconstruction_kid-{data}cnn")
def reconstruction_kid_cnn(e: Evaluation) -> float:
    """unbiased kernel distance between reconstructions and test images in the same features

    Formula: as kid_cnn, of reconstructions in place of samples.
    Estimator: as kid_cnn. An image and its own reconstruction are left out of the mean of k(x_i, y_j), so that it is 0 for equal images.
    Sample size: as ssim.
    Fails: as kid_cnn.
    Reference: Binkowski et al. 2018, Demystifying MMD GANs (the distance, in other features).
    """
    return kernel_distance(*reconstructed_features(e), paired=True)


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
