"""Distances in networks that other people trained, whose files the user names: nothing is measured, or downloaded, without."""

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.evaluation.feature_sets import Features, frechet_distance
from vae_variants.evaluation.metrics import Skip, metric
from vae_variants.evaluation.reconstruction import both, compared
from vae_variants.evaluation.shelf import kept
from vae_variants.models.base import Coder, MeanSampler
from vae_variants.registry import UserError, user_path

VARIABLES = {  # variable of the environment with the path of a TorchScript file -> what it is
    "VAE_VARIANTS_INCEPTION": "Inception v3, such as inception-2015-12-05.pt of StyleGAN2-ADA",
    "VAE_VARIANTS_DINOV2": "DINOv2, which maps images (B, 3, 224, 224) to features (B, F)",
    "VAE_VARIANTS_LPIPS": "VGG-16 with LPIPS, such as vgg16.pt of StyleGAN2-ADA",
}
INCEPTION, DINOV2, LPIPS = VARIABLES
SIDE = 224  # pixels for DINOv2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
PIECE = 50  # images at a time


def given(name: str) -> Callable[[Evaluation], bool]:
    return lambda e: bool(os.environ.get(name))


def check_given() -> None:
    """Raises `UserError` if a variable names a file that is not there or cannot be read."""
    for name in VARIABLES:
        if os.environ.get(name):
            network(name, os.environ[name])


@lru_cache(maxsize=3)
def network(name: str, path: str) -> torch.jit.ScriptModule:
    """The network of a variable. Raises `UserError`."""
    file = user_path(path)
    if not file.is_file():
        raise UserError(f"{name} names {path!r}, and there is no such file; unset it, or give a TorchScript file of {VARIABLES[name]}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.*", FutureWarning)  # these networks are published as TorchScript alone
            return torch.jit.load(file, "cpu").eval()
    except (RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{name} names {path!r}, which is no TorchScript file; it takes {VARIABLES[name]}") from error


def coloured(x: Tensor, dataset: Dataset) -> Tensor:
    """Images (N, D) -> (N, 3, H, W); a grey channel is repeated."""
    return x.unflatten(-1, dataset.shape).expand(-1, 3, -1, -1)


def inception(x: Tensor, net: torch.jit.ScriptModule) -> Tensor:
    return net((x * 255).round().to(torch.uint8), return_features=True)


def dinov2(x: Tensor, net: torch.jit.ScriptModule) -> Tensor:
    large = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
    return net((large - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))


WAYS = {INCEPTION: inception, DINOV2: dinov2}


@torch.no_grad()
def features(name: str, path: str, x: Tensor, dataset: Dataset) -> Tensor:
    """Images (N, D) in [0, 1] -> features (N, F) in float64."""
    net = network(name, path)
    return torch.cat([WAYS[name](coloured(part, dataset), net).flatten(1).double() for part in x.split(PIECE)])


@lru_cache(maxsize=4)
def of_images(name: str, path: str, dataset: Dataset) -> Features:
    """Features of the test images that are compared, by the network in a file."""
    weights = hashlib.sha256(user_path(path).read_bytes()).hexdigest()
    what = f"{name} {weights} of test images of {dataset.digest}"
    return Features(kept(what, lambda: {"features": features(name, path, compared(dataset), dataset)})["features"])


def distance(e: Evaluation, name: str, generated: bool) -> float:
    """The Frechet distance of test images from samples, or from their reconstructions."""
    path = os.environ[name]
    real = of_images(name, path, e.dataset)
    if len(real) < 2:
        raise Skip("fewer than 2 test images")
    return frechet_distance(real, features(name, path, e.sample_means[: len(real)] if generated else both(e)[1], e.dataset))


def frechet(name: str, of: str, what: str, generated: bool, reference: str) -> None:
    """Registers a Frechet distance in a network's features."""
    fn = partial(distance, name=name, generated=generated)

    def value(e: Evaluation) -> float:
        return fn(e)

    value.__doc__ = f"""Frechet distance between {what} and test images in features of {of}, if {name} names its file

    Formula: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), with mean and covariance of the features.
    Estimator: sample moments in float64. A grey channel is repeated. Images are enlarged to the size that the network was trained on.
    Sample size: at most 1000 test images, and as many {what}.
    Fails: biased upward by O(1/n), far more than with the 50 000 images of published values, which it cannot be compared with. With fewer
    images than features the covariances are singular. Features of photographs say little of other images.
    Reference: {reference}.
    """
    short = {INCEPTION: "fid", DINOV2: "fd_dinov2"}[name]
    needs = (MeanSampler,) if generated else (Coder,)
    full = short if generated else f"reconstruction_{short}"
    metric(needs=needs, unit="squared features", better="lower", kind="estimate", applies=given(name), name=full)(value)


HEUSEL = "Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule"
STEIN = "Stein et al. 2023, Exposing flaws of generative model evaluation metrics"
for _name, _of, _reference in ((INCEPTION, "Inception v3", HEUSEL), (DINOV2, "DINOv2", STEIN)):
    frechet(_name, _of, "reconstructions", False, _reference)
    frechet(_name, _of, "noise-free samples", True, _reference)


@metric(needs=(Coder,), unit="distance", better="lower", applies=given(LPIPS))
def lpips(e: Evaluation) -> float:
    """LPIPS between test images and their reconstructions, if VAE_VARIANTS_LPIPS names a file of VGG-16 with its weights

    Formula: mean over images of |f(x) - f(r)|^2, f the weighted and normalised features of VGG-16.
    Estimator: one pass in float32. A grey channel is repeated. Images have their own size.
    Sample size: as ssim.
    Fails: a network of photographs of 224 pixels sees little in small images: compare within one data set.
    Reference: Zhang et al. 2018, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric.
    """
    net, found = network(LPIPS, os.environ[LPIPS]), list[Tensor]()
    with torch.no_grad():
        for pair in zip(*(x.split(PIECE) for x in both(e)), strict=True):
            x, r = (net(255 * coloured(part, e.dataset), resize_images=False, return_lpips=True).flatten(1).double() for part in pair)
            found.append((x - r).square().sum(1))
    return torch.cat(found).mean().item()
