"""Published image sets with known factors. Their files are large: they are downloaded once, checked by a published digest, and sampled."""

import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from vae_variants.datasets import builtin
from vae_variants.datasets.dataset import DATASETS, SPLIT_SEED, Dataset, split
from vae_variants.datasets.downloads import FAILURES, data_root
from vae_variants.datasets.factored_files import BLOCK, NORB, of_cars, of_hdf5, of_norb, of_npz
from vae_variants.datasets.sprites import numbered
from vae_variants.registry import UserError

SECONDS = 60  # that a server may stay silent
TOYS = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/smallnorb-5x"
FEWEST = 100  # images
MPI3D = "https://storage.googleapis.com/disentanglement_dataset/Final_Dataset"


@dataclass(frozen=True)
class Published:
    """A set of files, and the factors of its images in their order.

    Attributes:
        folder: Under `data_root()`.
        files: Address -> digest, as `md5:...` or `sha256:...`.
        sizes: Name -> number of values of each factor; the last one changes first.
        read: (paths of the files, rows that are wanted in ascending order) -> images (n, H, W) or (n, H, W, C) uint8.
        levels: Of a pixel.
    """

    folder: str
    files: Mapping[str, str]
    sizes: Mapping[str, int]
    read: Callable[[list[Path], np.ndarray], np.ndarray]
    levels: int = 256

    @property
    def paths(self) -> list[Path]:
        return [data_root() / self.folder / address.rpartition("/")[2] for address in self.files]


def digest_of(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def fault(path: Path, digest: str) -> str:
    """Why a file cannot be used, or an empty text."""
    algorithm, _, expected = digest.partition(":")
    if not path.is_file():
        return "is not there"
    return "" if digest_of(path, algorithm) == expected else "is damaged: its content does not fit its digest"


def retrieve(name: str, source: Published) -> list[Path]:
    """The paths of the files, downloaded if they are missing or damaged. Raises `UserError`, one line for any failure."""
    for (address, digest), path in zip(source.files.items(), source.paths, strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock"), fallback_to_soft=False):
                if wrong := fault(path, digest):
                    download(address, digest, path)
        except FAILURES as error:
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200].rstrip(" :")
            fix = f"connect to the network, or put the file from {address} there"
            raise UserError(f"data set {name!r}: {str(path)!r} {wrong}, and it could not be downloaded ({reason}); {fix}") from error
    return source.paths


def download(address: str, digest: str, path: Path) -> None:
    """Replaces a file once what was downloaded fits its digest. Raises one of `FAILURES`."""
    print(f"downloading {address} to {str(path.parent)!r}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        with urllib.request.urlopen(address, timeout=SECONDS) as remote, temporary.open("wb") as file:
            shutil.copyfileobj(remote, file, BLOCK)
        if wrong := fault(temporary, digest):
            raise ValueError(f"what was downloaded {wrong}")
        os.replace(temporary, path)


def absent(name: str) -> str:
    """Which files of a downloaded data set are missing, in words; empty if none is, and for other data sets."""
    if name not in SOURCES:
        return builtin.absent(name)
    lacking = [str(path) for path in SOURCES[name].paths if not path.is_file()]
    return f"data set {name!r} is not complete: {', '.join(lacking)} missing; a run downloads it" if lacking else ""


SOURCES = {
    "dsprites": Published(
        "dsprites",
        {
            "https://github.com/deepmind/dsprites-dataset/raw/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz": (
                "md5:7da33b31b13a06f4b04a70402ce90c2e"
            )
        },
        {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32},
        of_npz("imgs"),
        levels=2,
    ),
    "shapes3d": Published(
        "shapes3d",
        {"https://storage.googleapis.com/3d-shapes/3dshapes.h5": "sha256:0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785"},
        {"floor hue": 10, "wall hue": 10, "object hue": 10, "scale": 8, "shape": 4, "orientation": 15},
        of_hdf5,
    ),
    "cars3d": Published(
        "cars3d",
        {"http://www.scottreed.info/files/nips2015-analogy-data.tar.gz": "md5:4e866a7919c1beedf53964e6f7a23686"},
        {"elevation": 4, "azimuth": 24, "model": 183},
        of_cars,
    ),
    "small-norb": Published(
        "small-norb",
        {
            f"{TOYS}{part}-{kind}.mat.gz": f"sha256:{digest}"
            for part, kinds in {
                "46789x9x18x6x2x96x96-training": {
                    "cat": "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
                    "dat": "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
                    "info": "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
                },
                "01235x9x18x6x2x96x96-testing": {
                    "cat": "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
                    "dat": "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
                    "info": "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
                },
            }.items()
            for kind, digest in kinds.items()
        },
        dict(zip(("category", "instance", "elevation", "azimuth", "light"), NORB, strict=True)),
        of_norb,
    ),
} | {
    f"mpi3d-{kind}": Published(
        "mpi3d",
        {f"{MPI3D}/mpi3d_{kind}.npz": f"md5:{digest}"},
        {"colour": 6, "shape": 6, "size": 2, "camera": 3, "background": 3, "horizontal": 40, "vertical": 40},
        of_npz("images"),
    )
    for kind, digest in (
        ("toy", "55889cb7c7dfc655d6e0277beee88868"),
        ("realistic", "59a6225b88b635365f70c91b3e52f70f"),
        ("real", "0f33f609918fb5c97996692f91129802"),
    )
}


def loaded(name: str, source: Published, images: int) -> Dataset:
    """A fixed random subset of so many images, or all; a seventh of it for testing, and half as many for validation. Raises `UserError`."""
    values = numbered(source.sizes)
    total = len(next(iter(values.values())))
    if not FEWEST <= images <= total:
        raise UserError(f"option images={images} is not valid: data set {name!r} has {total} images; it takes {FEWEST} to {total}")
    rows = torch.randperm(total, generator=torch.Generator().manual_seed(SPLIT_SEED))[:images].sort().values
    paths = retrieve(name, source)
    try:
        found = np.ascontiguousarray(source.read(paths, rows.numpy()))
        channels = np.moveaxis(found, 3, 1) if found.ndim == 4 else found[:, None]
    except UserError:
        raise
    except (*FAILURES, TypeError) as error:
        raise UserError(f"data set {name!r}: {str(paths[0])!r} cannot be read ({type(error).__name__}: {error})") from error
    kept = {factor: value[rows] for factor, value in values.items()}
    labels = next((kept[factor] for factor in ("shape", "category") if factor in kept), None)
    pixels = torch.from_numpy(np.ascontiguousarray(channels))
    return split(name, pixels, labels, levels=source.levels, validation=images // 14, test=images // 7, factors=kept)


def published_set(name: str, description: str, usual: int) -> None:
    def loader(images: int = usual) -> Dataset:
        return loaded(name, SOURCES[name], images)

    loader.__doc__ = f"{description}; `images=N` of them, a fixed random subset\n\nA seventh of them is for testing."
    DATASETS.add(loader, name=name)


published_set("dsprites", "737 280 white shapes of 64x64 pixels with 5 factors (Matthey et al. 2017)", 70_000)
published_set("shapes3d", "480 000 rooms with a solid, 64x64 colour pixels, 6 factors (Burgess & Kim 2018); needs h5py", 35_000)
published_set("cars3d", "17 568 cars of 64x64 colour pixels with 3 factors (Reed et al. 2015)", 17_568)
published_set("small-norb", "48 600 toys of 48x48 grey pixels with 5 factors (LeCun et al. 2004)", 48_600)
for _kind, _words in (("toy", "drawn simply"), ("realistic", "drawn realistically"), ("real", "photographed")):
    published_set(
        f"mpi3d-{_kind}", f"1 036 800 pictures of a robot's arm, {_words}, 64x64 colour pixels, 7 factors (Gondal et al. 2019)", 35_000
    )
