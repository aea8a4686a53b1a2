"""A folder of pictures as it comes: of any size, nested, with files that are none, turned, transparent, or broken."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vae_variants.memory import installed
from vae_variants.registry import UserError, closest, nearest

__all__ = ["BROKEN", "Images", "album", "beside", "room"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # whatever a file is called: of others some start a program
LARGEST = 2**34  # bytes: what says that it has more is no data set
LONGEST = 1024  # pixels a side
BROKEN = ("refuse", "skip")  # what is done where a picture cannot be read
PARTS = dict.fromkeys(("test", "testing"), True) | dict.fromkeys(("train", "training", "val", "valid", "validation"), False)


class Images(NamedTuple):
    """Images (N, C, H, W) uint8 in the order of their source; `classes` are those of each, if there are any.

    `ids` are what they are called there, and `test` says which of them are a test set already.
    """

    stored: Tensor
    classes: Sequence[Any] | None
    ids: Sequence[str]
    test: Sequence[bool]


def album(path: str, size: int, grey: bool, labels: bool, broken: str) -> Images:
    """The pictures under a folder, in the order of their names. Says in one line what it leaves out; raises `UserError`."""
    root = Path(path)
    if not os.path.isdir(path):  # which says no to what cannot be a path, too
        raise UserError(f"there is no folder {path!r}{beside(path, Path.is_dir)}")
    if not 4 <= size <= LONGEST:
        raise UserError(f"size={size} is too {'small' if size < 4 else 'large'}; give 4 to {LONGEST} pixels a side")
    if broken not in BROKEN:
        raise UserError(closest("choice of broken=", broken, BROKEN))
    files = sorted(found(root))
    if outside := [f for f in files if not f.resolve().is_relative_to(root.resolve())]:
        raise UserError(f"{str(outside[0])!r} is a link that leads out of {path!r}; copy the picture instead")
    if not files:
        raise UserError(f"there are no pictures ({', '.join(sorted(SUFFIXES))}) in {path!r}")
    test, classes = sorted_into([f.relative_to(root).parent.parts for f in files])
    if labels and any(classes) and not all(classes):
        mend = "put each into the folder of its class, or say ?labels=false"
        raise UserError(f"{path!r} has pictures both beside and inside its subfolders; {mend}")
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
            raise UserError(f"{which}; mend or remove them, or leave them out with ?broken=skip")
        print(f"left out: {which}", file=sys.stderr)
    names = [files[i].relative_to(root).as_posix() for i in kept]
    known = [classes[i] for i in kept] if labels and all(classes) else None
    return Images(torch.stack(pictures), known, names, [test[i] for i in kept])


def beside(path: str, wanted: Callable[[Path], bool]) -> str:
    """What may have been meant by a path that is not there: a part of a sentence, or nothing."""
    try:
        names = [place.name for place in Path(path).parent.iterdir() if wanted(place)]
    except (OSError, ValueError):
        return ""
    near = nearest(Path(path).name, names)
    return f"; did you mean {str(Path(path).with_name(near))!r}?" if near else ""


def room() -> int:
    """Bytes that images may take: a quarter of what this process is granted, for they are copied when they are split; at most `LARGEST`."""
    return min(LARGEST, (installed() or 4 * LARGEST) // 4)


def found(root: Path) -> Iterator[Path]:
    """The pictures there, but for what is hidden, into whose folders nobody looks."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not hidden(name)]
        files = [Path(folder, name) for name in names if not hidden(name)]
        yield from (file for file in files if file.suffix.lower() in SUFFIXES and file.is_file())


def hidden(name: str) -> bool:
    """What systems put beside pictures: names that begin with a dot, and what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def sorted_into(folders: Sequence[tuple[str, ...]]) -> tuple[list[bool], list[str]]:
    """For pictures in such folders: whether each is a test image, and its class, empty where there is none.

    Folders that all pictures share say nothing. Where the rest begins with names of parts alone (train, val, test, ...), among them
    test and another, those are parts, and classes are one level further down.
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
            warnings.simplefilter("ignore")  # of what a camera wrote beside the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as opened:
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
