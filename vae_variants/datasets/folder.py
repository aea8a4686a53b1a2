"""Folders of pictures: any size, nested, rotated, transparent, broken, or mixed with other files."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vae_variants.memory import installed
from vae_variants.registry import UserError, closest, nearest

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # regardless of the suffix; other formats may start a program
LARGEST = 2**34  # bytes
LONGEST = 1024  # pixels per side
BROKEN = ("refuse", "skip")  # choices for unreadable pictures
PARTS = dict.fromkeys(("test", "testing"), True) | dict.fromkeys(("train", "training", "val", "valid", "validation"), False)


class Images(NamedTuple):
    """Images in source order."""

    stored: Tensor  # (N, C, H, W) uint8
    classes: Sequence[Any] | None  # of each image
    ids: Sequence[str]  # name of each image in its source
    test: Sequence[bool]  # whether each image belongs to a given test set


def album(path: str, size: int, grey: bool, labels: bool, broken: str) -> Images:
    """Reads the pictures under a folder in the order of their names, and prints what it leaves out. For the options see `own.images`.

    Raises:
        UserError: For a missing folder, unreadable pictures, or too little memory.
    """
    root = Path(path)
    if not os.path.isdir(path):  # also false for impossible paths
        raise UserError(f"there is no folder {path!r}{beside(path, Path.is_dir)}")
    if not 4 <= size <= LONGEST:
        raise UserError(f"size={size} is too {'small' if size < 4 else 'large'}; give 4 to {LONGEST} pixels per side")
    if broken not in BROKEN:
        raise UserError(closest("choice of broken=", broken, BROKEN))
    files = sorted(found(root))
    if outside := [f for f in files if not f.resolve().is_relative_to(root.resolve())]:
        raise UserError(f"{str(outside[0])!r} is a link that leads out of {path!r}; copy the picture instead")
    if not files:
        raise UserError(f"there are no pictures ({', '.join(sorted(SUFFIXES))}) in {path!r}")
    test, classes = sorted_into([f.relative_to(root).parent.parts for f in files])
    if labels and any(classes) and not all(classes):
        fix = "put each into the folder of its class, or say ?labels=false"
        raise UserError(f"{path!r} has pictures both beside and inside its subfolders; {fix}")
    if (needed := len(files) * size**2 * (1 if grey else 3)) > room():
        most = f"{needed / 2**30:.3g} GiB at size={size}, and there is room for {room() / 2**30:.3g} GiB"
        raise UserError(f"the {len(files)} pictures in {path!r} take {most}; give a smaller size")
    kept, pictures, faults = list[int](), list[Tensor](), list[UserError]()
    for i, file in enumerate(files):
        try:
            pictures.append(picture(file, size, grey))
            kept.append(i)
        except UserError as fault:
            faults.append(fault)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        which = f"{len(faults)} of {len(files)} pictures cannot be read: {faults[0]}{more}"
        if broken == "refuse" or not kept:
            raise UserError(f"{which}; fix or remove them, or skip them with ?broken=skip")
        print(f"left out: {which}", file=sys.stderr)
    names = [files[i].relative_to(root).as_posix() for i in kept]
    known = [classes[i] for i in kept] if labels and all(classes) else None
    return Images(torch.stack(pictures), known, names, [test[i] for i in kept])


def beside(path: str, wanted: Callable[[Path], bool]) -> str:
    """Part of a sentence that suggests an existing path, or nothing."""
    try:
        names = [place.name for place in Path(path).parent.iterdir() if wanted(place)]
    except (OSError, ValueError):
        return ""
    near = nearest(Path(path).name, names)
    return f"; did you mean {str(Path(path).with_name(near))!r}?" if near else ""


def room() -> int:
    """Bytes that images may occupy: a quarter of this process's memory, because splitting copies them; at most `LARGEST`."""
    return min(LARGEST, (installed() or 4 * LARGEST) // 4)


def found(root: Path) -> Iterator[Path]:
    """Picture files, without hidden files and folders."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]  # the latter is macOS's, in archives
        files = [Path(folder, name) for name in names if not name.startswith(".")]
        yield from (file for file in files if file.suffix.lower() in SUFFIXES and file.is_file())


def sorted_into(folders: Sequence[tuple[str, ...]]) -> tuple[list[bool], list[str]]:
    """For pictures in such folders: whether each is a test image, and its class, or an empty class.

    Common leading folders are ignored. If the next level consists of split names only (train, val, test, ...), including test and
    another, these are splits, and classes are one level below.
    """
    while folders[0] and all(f and f[0] == folders[0][0] for f in folders):
        folders = [f[1:] for f in folders]
    first = [f[0].lower() if f else "" for f in folders]
    test = [False] * len(folders)
    if set(first) <= set(PARTS):
        folders = [f[1:] for f in folders]
        if {PARTS[name] for name in first} == {True, False}:
            test = [PARTS[name] for name in first]
    return test, [f[0] if f else "" for f in folders]


def eight_bit(opened: Image.Image) -> Image.Image:
    """8 bits per channel, on white if transparent."""
    if opened.mode.startswith(("I", "F")):  # convert() would clip 16 and 32 bits at 255
        x = np.asarray(opened, dtype=np.float64)
        top = 65535.0 if opened.mode.startswith("I;16") or x.max() > 255 else 255.0 if x.max() > 1 else 1.0
        return Image.fromarray(np.rint(np.clip(x / top, 0, 1) * 255).astype(np.uint8))
    if opened.has_transparency_data:
        opened = opened.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened)
    return opened


def picture(file: Path, size: int, grey: bool) -> Tensor:
    """(C, size, size) uint8, cropped to a centred square."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as opened:
                fitted = ImageOps.fit(eight_bit(ImageOps.exif_transpose(opened)).convert("L" if grey else "RGB"), (size, size))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{str(file)!r} is not a readable picture (damaged, truncated or too large): {error}") from error
    return torch.from_numpy(np.array(fitted)).reshape(size, size, -1).movedim(-1, 0)
