"""scikit-learn's digits, and the image sets that torchvision downloads.

Both libraries take seconds to import, so that happens where a set is loaded.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_variants.datasets.dataset import DATASETS, Dataset, split
from vae_variants.registry import UserError

__all__ = ["data_root"]


def data_root() -> Path:
    """Where images are kept: `VAE_VARIANTS_DATA`, or a folder in the user's cache."""
    if given := os.environ.get("VAE_VARIANTS_DATA"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vae_variants"


@DATASETS.add
def digits() -> Dataset:
    """1797 handwritten digits of 8x8 pixels in 17 grey levels, from scikit-learn: real, and needs no network"""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    return split("digits", images, torch.from_numpy(bunch.target), levels=17, validation=300, test=300)


Part = tuple[Tensor, Tensor]  # images (N, C, H, W) uint8, labels (N,)


Load = Callable[[Any, Path, bool], Part]  # (torchvision.datasets, root, training part or test part)


def fetch(name: str, load: Load) -> tuple[Part, Part]:
    """Training and test part; whatever goes wrong with network or files becomes one line."""
    from torchvision import datasets

    root = data_root()
    try:
        return load(datasets, root, True), load(datasets, root, False)
    except (OSError, RuntimeError, ValueError, AssertionError, EOFError, LookupError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(
            f"data set {name!r} is not complete under {str(root)!r} and could not be downloaded ({first_line(error)}); connect to the "
            "network, after deleting files that are damaged, or set VAE_VARIANTS_DATA to a folder that holds the data set"
        ) from error


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200].rstrip(" :")


def torchvision_set(name: str, description: str, load: Load, validation: int) -> None:
    def loader() -> Dataset:
        (images, labels), (test, test_labels) = fetch(name, load)
        return split(name, images, labels, validation=validation, test=(test, test_labels))

    loader.__doc__ = description
    DATASETS.add(loader, name=name)


def like_mnist(kind: str) -> Load:
    def load(datasets: Any, root: Path, train: bool) -> Part:
        part = getattr(datasets, kind)(root, train=train, download=True)
        return part.data.unsqueeze(1), part.targets

    return load


def letters(datasets: Any, root: Path, train: bool) -> Part:
    part = datasets.EMNIST(root, split="letters", train=train, download=True)
    return part.data.mT.unsqueeze(1).contiguous(), part.targets - 1  # stored transposed, and counted from 1


def cifar10(datasets: Any, root: Path, train: bool) -> Part:
    part = datasets.CIFAR10(root, train=train, download=True)
    return torch.from_numpy(part.data).movedim(-1, 1).contiguous(), torch.tensor(part.targets)


def svhn(datasets: Any, root: Path, train: bool) -> Part:
    part = datasets.SVHN(root, split="train" if train else "test", download=True)
    return torch.from_numpy(part.data), torch.from_numpy(part.labels)


torchvision_set("mnist", "70 000 handwritten digits of 28x28 grey pixels (LeCun, Cortes & Burges)", like_mnist("MNIST"), validation=10_000)
torchvision_set(
    "fashion-mnist",
    "70 000 pictures of clothing, 28x28 grey pixels (Xiao, Rasul & Vollgraf 2017)",
    like_mnist("FashionMNIST"),
    validation=10_000,
)
torchvision_set(
    "kmnist", "70 000 cursive Japanese characters, 28x28 grey pixels (Clanuwat et al. 2018)", like_mnist("KMNIST"), validation=10_000
)
torchvision_set("emnist-letters", "handwritten letters, 28x28 grey pixels (Cohen et al. 2017)", letters, validation=14_800)
torchvision_set("cifar10", "60 000 photographs of 32x32 colour pixels (Krizhevsky 2009)", cifar10, validation=5_000)
torchvision_set("svhn", "house numbers, 32x32 colour pixels (Netzer et al. 2011)", svhn, validation=7_000)
