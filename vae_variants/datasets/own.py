"""The user's own images: arrays in an .npz file, or a folder of pictures."""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vae_variants.datasets.dataset import DATASETS, Dataset, split
from vae_variants.registry import UserError

__all__ = ["images", "npz"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
FEWEST = 30  # images that can still be split in three
LARGEST, LONGEST = 2**34, 1024  # bytes of an archive's arrays, and pixels a side: what says that it is more is no data set


def own(name: str, stored: Tensor, labels: Tensor | None, classes: list[str] | None) -> Dataset:
    """A seventh each for validation and test, at random but fixed."""
    if len(stored) < FEWEST:
        raise UserError(f"data set {name!r} has {len(stored)} images; at least {FEWEST} are needed")
    held_out = len(stored) // 7
    return split(name, stored, labels, classes=classes, validation=held_out, test=held_out)


@DATASETS.add
def npz(path: str) -> Dataset:
    """npz:FILE with an array `x` of images (N, H, W), (N, C, H, W) or (N, H, W, C) and, if known, labels `y` (N,)"""
    name = f"npz:{path}"
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(member.file_size for member in packed.infolist()) > LARGEST:
                raise UserError(f"{path!r} has more than {LARGEST // 2**30} GiB of arrays")
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile) or "x" not in archive.files:
                raise UserError(f"{path!r} has no array named 'x'; save it with numpy.savez(path, x=images, y=labels)")
            x, y = archive["x"], archive["y"] if "y" in archive.files else None
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path!r}") from error
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        MemoryError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path!r} is not a readable .npz file: truncated, of another format, or with arrays of objects; "
            "save it with numpy.savez(path, x=images, y=labels)"
        ) from error
    stored = levels_of(path, channels_first(path, x))
    if y is None:
        return own(name, stored, None, None)
    if y.shape != (len(x),) or y.dtype.kind not in "iubU":
        raise UserError(f"{path!r}: y has shape {y.shape} and type {y.dtype}; it must be ({len(x)},) of integers or strings")
    classes, labels = np.unique(y, return_inverse=True)
    return own(name, stored, torch.from_numpy(labels), [str(c) for c in classes])


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
    """uint8 as it is, unless it is of 0 and 1 alone; numbers in [0, 1] to the nearest of 256 levels."""
    if x.dtype == np.uint8 and x.size and x.max() > 1:
        return torch.from_numpy(np.ascontiguousarray(x))
    if x.dtype.kind not in "fbiu" or x.size == 0 or not np.isfinite(x).all() or x.min() < 0 or x.max() > 1:
        found = f"{x.min()} to {x.max()}" if x.dtype.kind in "fbiu" and x.size else "nothing"
        raise UserError(f"{path!r}: x holds {x.dtype} from {found}; it must be uint8, or finite numbers from 0 to 1")
    return torch.from_numpy(np.rint(x.astype(np.float64) * 255).astype(np.uint8))


@DATASETS.add
def images(path: str, size: int = 28, grey: bool = True) -> Dataset:
    """images:FOLDER of pictures, a subfolder for each class; ?size=28&grey=true are the pixels a side and the colour"""
    root = Path(path)
    if not os.path.isdir(path):  # which says no to what cannot be a path, too
        raise UserError(f"there is no folder {path!r}")
    if not 4 <= size <= LONGEST:
        raise UserError(f"size={size} is too {'small' if size < 4 else 'large'}; give 4 to {LONGEST} pixels a side")
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if outside := [f for f in files if not f.resolve().is_relative_to(root.resolve())]:
        raise UserError(f"{str(outside[0])!r} is a link that leads out of {path!r}; copy the picture instead")
    folders = [f.relative_to(root).parts[0] if f.parent != root else None for f in files]
    classes = sorted({folder for folder in folders if folder is not None})
    if classes and None in folders:
        raise UserError(f"{path!r} has pictures both beside and inside its subfolders; put each into the folder of its class")
    if not files:
        raise UserError(f"there are no pictures ({', '.join(sorted(SUFFIXES))}) in {path!r}")
    pictures = torch.stack([picture(f, size, grey) for f in files])
    labels = torch.tensor([classes.index(folder) for folder in folders if folder is not None]) if classes else None
    return own(f"images:{path}?size={size}&grey={str(grey).lower()}", pictures, labels, classes or None)


def eight_bit(opened: Image.Image) -> Image.Image:
    """In 8 bits a channel and without transparency: what is seen through is white."""
    if opened.mode.startswith(("I", "F")):  # 16 bits, or 32, which convert() would cut off at 255
        x = np.asarray(opened, dtype=np.float64)
        top = 65535.0 if opened.mode.startswith("I;16") or x.max() > 255 else 255.0 if x.max() > 1 else 1.0
        return Image.fromarray(np.rint(np.clip(x / top, 0, 1) * 255).astype(np.uint8))
    if opened.has_transparency_data:
        opened = opened.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened)
    return opened


def picture(file: Path, size: int, grey: bool) -> Tensor:
    """(C, size, size) uint8, cut to a square about its middle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                fitted = ImageOps.fit(eight_bit(ImageOps.exif_transpose(opened)).convert("L" if grey else "RGB"), (size, size))
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise UserError(f"{str(file)!r} is not a readable picture (damaged, truncated or too large): {error}") from error
    return torch.from_numpy(np.array(fitted)).reshape(size, size, -1).movedim(-1, 0)
