"""scikit-learn's digits, and the image sets that torchvision downloads."""

import io
import math
import pickle  # of one published file, by `Arrays` alone
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_variants.datasets.dataset import DATASETS, Dataset, split
from vae_variants.datasets.downloads import Source, data_root, fetch

# from torchvision, which has none of the files that it unpacks from MNIST's archives: those of MNIST are published in many places
MNIST = {
    "train-images-idx3-ubyte": "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CIFAR10 = {
    "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
    "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
    "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "md5:40351d587109b95175f43aff81a1287e",
}
SVHN = {"train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373", "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3"}


@DATASETS.add
def digits() -> Dataset:
    """1797 handwritten digits of 8x8 pixels in 17 grey levels, from scikit-learn: real, and needs no network"""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    return split("digits", images, torch.from_numpy(bunch.target), levels=17, validation=300, test=300)


Part = tuple[Tensor, Tensor]  # images (N, C, H, W) uint8, labels (N,)


def idx(labels: range) -> Callable[[np.ndarray, str], Tensor]:
    """Parser of a file in MNIST's format: images (N, 28, 28) uint8, or labels (N,) within `labels`."""

    def parse(content: np.ndarray, name: str) -> Tensor:
        axes = 3 if "images" in name else 1
        start = 4 * (axes + 1)
        if len(content) < start or content[:4].tolist() != [0, 0, 8, axes]:
            raise ValueError("it does not begin as such a file does")
        shape = tuple(content[4:start].view(">u4").tolist())
        if shape[1:] != (28, 28)[: axes - 1] or len(content) != start + math.prod(shape):
            raise ValueError(f"it has {len(content)} bytes and says that it is of {shape}")
        numbers = torch.from_numpy(content[start:]).reshape(shape)
        if axes == 1 and not (len(numbers) and labels.start <= int(numbers.min()) <= int(numbers.max()) < labels.stop):
            raise ValueError(f"it has labels that are not of {labels.start} to {labels.stop - 1}")
        return numbers

    return parse


class Arrays(pickle.Unpickler):
    """Unpickles numbers, text and arrays of bytes only, so that nothing is executed."""

    def find_class(self, module: str, name: str) -> Any:
        match name:
            case "_reconstruct":
                return np.empty(0).__reduce__()[0]
            case "ndarray":
                return np.ndarray
            case "dtype":
                return self.of_bytes
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    @staticmethod
    def of_bytes(name: str, *_: object) -> np.dtype[np.uint8]:
        if name != "u1":
            raise pickle.UnpicklingError(f"an array of {name} is not allowed")
        return np.dtype(np.uint8)


def batch(content: np.ndarray, _: str = "") -> Part:
    """Images and labels of one CIFAR-10 file."""
    try:
        found = Arrays(io.BytesIO(content.tobytes()), encoding="latin1").load()
        return torch.from_numpy(found["data"]).reshape(-1, 3, 32, 32), torch.tensor(found["labels"])
    except (pickle.UnpicklingError, LookupError, TypeError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is no batch of CIFAR-10: {error}") from error


def matrix(content: np.ndarray, _: str = "") -> Part:
    """Images and labels of one SVHN file in Matlab's format; its label of the digit 0 is 10."""
    from scipy.io import loadmat

    found = loadmat(io.BytesIO(content.tobytes()))  # type: ignore[arg-type]
    labels = torch.from_numpy(found["y"].astype(np.int64)).flatten()
    return torch.from_numpy(np.ascontiguousarray(found["X"].transpose(3, 2, 0, 1))), labels % 10


def unknown(prefix: str = "", test: str = "t10k") -> dict[str, str]:
    return {f"{prefix}{part}-{kind}": "" for part in ("train", test) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")}


def house_numbers(part: str) -> dict[str, str]:
    file = f"{part}_32x32.mat"
    return {"split": part, "filename": file, "url": f"http://ufldl.stanford.edu/housenumbers/{file}"}


SOURCES = {
    "mnist": Source("MNIST", "MNIST/raw", MNIST, idx(range(10)), "MNIST/raw/*.gz"),
    "fashion-mnist": Source("FashionMNIST", "FashionMNIST/raw", unknown(), idx(range(10)), "FashionMNIST/raw/*.gz"),
    "kmnist": Source("KMNIST", "KMNIST/raw", unknown(), idx(range(10)), "KMNIST/raw/*.gz"),
    "emnist-letters": Source(
        "EMNIST", "EMNIST/raw", unknown("emnist-letters-", "test"), idx(range(1, 27)), "EMNIST/raw/gzip.zip", [{"split": "letters"}]
    ),
    "cifar10": Source("CIFAR10", "cifar-10-batches-py", CIFAR10, batch, "cifar-10-python.tar.gz"),
    "svhn": Source("SVHN", "", SVHN, matrix, options=[house_numbers("train"), house_numbers("test")]),
}


def from_idx(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> tuple[Part, Part]:
    return (train.unsqueeze(1), train_labels), (test.unsqueeze(1), test_labels)


def from_letters(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> tuple[Part, Part]:
    return from_idx(train.mT, train_labels - 1, test.mT, test_labels - 1)  # stored transposed, and counted from 1


def from_parts(*parts: Part) -> tuple[Part, Part]:
    """Joins the training parts; the last part is the test set."""
    images, labels = zip(*parts[:-1], strict=True)
    return (torch.cat(images), torch.cat(labels)), parts[-1]


def absent(name: str) -> str:
    """Which files of a downloaded data set are missing, in words; empty if none is, and for other data sets."""
    source = SOURCES.get(name)
    folder = data_root() / source.folder if source else Path()
    kept = {file: [file, *([f"{file}.gz"] if digest else [])] for file, digest in source.files.items()} if source else {}
    lacking = [file for file, names in kept.items() if not any((folder / name).is_file() for name in names)]
    missing = f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing in {str(folder)!r}; a run downloads them"
    return f"data set {name!r} is not complete: {missing}" if lacking else ""


def downloaded_set(name: str, description: str, parts: Callable[..., tuple[Part, Part]], validation: int, classes: str = "") -> None:
    def loader() -> Dataset:
        (images, labels), test = parts(*fetch(name, SOURCES[name]))
        return split(name, images, labels, classes=classes.split(), validation=validation, test=test)

    loader.__doc__ = description
    DATASETS.add(loader, name=name)


CLOTHING = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot"
OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"
SYLLABLES, LETTERS = "o ki su tsu na ha ma ya re wo", " ".join(ascii_lowercase)
downloaded_set("mnist", "70 000 handwritten digits of 28x28 grey pixels (LeCun, Cortes & Burges)", from_idx, 10_000)
downloaded_set("fashion-mnist", "70 000 pictures of clothing, 28x28 grey pixels (Xiao, Rasul & Vollgraf 2017)", from_idx, 10_000, CLOTHING)
downloaded_set("kmnist", "70 000 cursive Japanese characters, 28x28 grey pixels (Clanuwat et al. 2018)", from_idx, 10_000, SYLLABLES)
downloaded_set("emnist-letters", "handwritten letters, 28x28 grey pixels (Cohen et al. 2017)", from_letters, 14_800, LETTERS)
downloaded_set("cifar10", "60 000 photographs of 32x32 colour pixels (Krizhevsky 2009)", from_parts, 5_000, OBJECTS)
downloaded_set("svhn", "house numbers, 32x32 colour pixels (Netzer et al. 2011)", from_parts, 7_000)
