"""The user's own images: arrays in an .npz file, or a folder of pictures."""

import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_variants.datasets.dataset import DATASETS, Dataset, split
from vae_variants.datasets.folder import Images, album, beside, room
from vae_variants.registry import UserError

FEWEST = 30  # images
PIECE = 2**20  # numbers per chunk


def own(name: str, found: Images) -> Dataset:
    """Splits off a seventh each for validation and test, randomly but fixed; keeps a given test set. One class alone gives no labels."""
    stored, apart = found.stored, torch.tensor(found.test)
    if len(stored) < FEWEST:
        raise UserError(f"data set {name!r} has {len(stored)} images; at least {FEWEST} are needed")
    classes = {c: i for i, c in enumerate(sorted(set(found.classes or ())))}
    labels = torch.tensor([classes[c] for c in found.classes]) if found.classes and len(classes) > 1 else None
    names = None if labels is None else [str(c) for c in classes]
    rest = stored[~apart]
    held_out = len(rest) // 7
    if not apart.any():
        return split(name, stored, labels, classes=names, validation=held_out, test=held_out)
    test = (stored[apart], None if labels is None else labels[apart])
    return split(name, rest, None if labels is None else labels[~apart], classes=names, validation=max(1, held_out), test=test)


@DATASETS.add
def npz(path: str) -> Dataset:
    """npz:FILE with an array `x` of images (N, H, W), (N, C, H, W) or (N, H, W, C) and, if known, labels `y` (N,)"""
    return own(f"npz:{path}", archive(path))


def archive(path: str) -> Images:
    """The images of an .npz file. Raises `UserError`."""
    try:
        with zipfile.ZipFile(path) as packed:
            if (size := sum(member.file_size for member in packed.infolist())) > room():
                raise UserError(f"{path!r} has {size / 2**30:.3g} GiB of arrays, and there is room for {room() / 2**30:.3g} GiB")
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile) or "x" not in archive.files:
                raise UserError(f"{path!r} has no array named 'x'; save it with numpy.savez(path, x=images, y=labels)")
            x, y = archive["x"], archive["y"] if "y" in archive.files else None
        stored = levels_of(path, channels_first(path, x))
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path!r}{beside(path, Path.is_file)}") from error
    except MemoryError as error:
        raise UserError(f"{path!r} says that it has more images than there is memory for; save fewer of them, or as uint8") from error
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path!r} is not a readable .npz file: truncated, of another format, or with arrays of objects; "
            "save it with numpy.savez(path, x=images, y=labels)"
        ) from error
    ids, test = list(map(str, range(len(x)))), [False] * len(x)
    if y is None:
        return Images(stored, None, ids, test)
    if y.shape != (len(x),) or y.dtype.kind not in "iubU":
        raise UserError(f"{path!r}: y has shape {y.shape} and type {y.dtype}; it must be ({len(x)},) of integers or strings")
    return Images(stored, y.tolist(), ids, test)


def channels_first(path: str, x: np.ndarray) -> np.ndarray:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) -> (N, C, H, W)."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = np.moveaxis(x, 3, 1)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < 2:
        raise UserError(f"{path!r}: x has shape {x.shape}; it must be (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels")
    return x


def levels_of(path: str, x: np.ndarray) -> Tensor:
    """uint8 unchanged, unless it holds only 0 and 1; numbers in [0, 1] rounded to 256 levels."""
    if x.dtype == np.uint8 and x.size and x.max() > 1:
        return torch.from_numpy(np.ascontiguousarray(x))
    low, high = (x.min(), x.max()) if x.dtype.kind in "fbiu" and x.size else (1, 0)
    if not 0 <= low <= high <= 1:  # also false for NaN
        found = f"{low} to {high}" if x.dtype.kind in "fbiu" and x.size else "nothing"
        raise UserError(f"{path!r}: x holds {x.dtype} from {found}; it must be uint8, or finite numbers from 0 to 1")
    stored, rows = np.empty(x.shape, np.uint8), max(1, PIECE // x[0].size)
    for i in range(0, len(x), rows):
        stored[i : i + rows] = np.rint(x[i : i + rows].astype(np.float64) * 255)
    return torch.from_numpy(stored)


@DATASETS.add
def images(path: str, size: int = 28, grey: bool = True, labels: bool = True, broken: str = "refuse") -> Dataset:
    """images:FOLDER of pictures, one subfolder per class; ?size=28&grey=true set the pixels per side and the colour

    Pictures are cropped to a centred square. `labels=false` ignores subfolders. `broken=skip` leaves out unreadable pictures instead of
    refusing. If folders train and test exist side by side, the second holds the test images.
    """
    return own(f"images:{path}", album(path, size, grey, labels, broken))


def source_ids(load: partial[Dataset], train: int = 0) -> dict[str, list[str]]:
    """split -> the source name of each image: a file's name in the folder, or a row of `x`; for a loader of `parse` and its `train`."""
    defaults = {p.name: p.default for p in signature(load.func).parameters.values() if p.default is not p.empty}
    read: Callable[..., Images] = archive if load.func is npz else album
    found = read(*load.args, **{**defaults, **load.keywords})
    numbers = torch.arange(len(found.stored), dtype=torch.int32).view(torch.uint8).reshape(-1, 1, 1, 4)
    cut = own("", found._replace(stored=numbers, classes=None)).subset(train or None, None)
    rows = {part: getattr(cut, part).contiguous().view(torch.int32).flatten().tolist() for part in cut.sizes}
    return {part: [found.ids[row] for row in index] for part, index in rows.items()}
