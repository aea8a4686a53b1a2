"""Reads picture files: turned as their EXIF data say, on white if transparent, cropped to a square, in 8 bits."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vae_variants.datasets.scale import Seen
from vae_variants.datasets.walk import Picture
from vae_variants.registry import UserError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # regardless of the suffix; other formats may start a program
COLOUR = {"RGB", "RGBA", "RGBX", "RGBa", "PA", "CMYK", "YCbCr", "LAB", "HSV"}  # modes
TRAITS: dict[str, Callable[[Image.Image], bool]] = {  # what is converted, beside depth and colour
    "turned as their EXIF data say": lambda image: image.getexif().get(ExifTags.Base.Orientation, 1) != 1,
    "with transparency, laid on white": lambda image: image.has_transparency_data,
    "with a palette": lambda image: image.mode in ("P", "PA"),
    "in CMYK": lambda image: image.mode == "CMYK",
}
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning)


LOOKED_AT = 200  # pictures, to decide size and colour for all
VISIBLE = 16  # levels between the channels of a pixel
SMALL, USUAL, LARGE = 8, 32, 64  # pixels a side: pictures of one size keep it from SMALL to LARGE, others get USUAL


class Usual(NamedTuple):
    size: int
    colour: bool


@contextmanager
def opened(file: Picture) -> Iterator[Image.Image]:
    """The first frame or page of a picture. Raises `UserError` for whatever is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with file.open() as stream, Image.open(stream, formats=FORMATS) as image:
                yield image
    except DAMAGE as error:
        reason = "its content is of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{file.shown!r} is not a readable picture (damaged, truncated or too large): {reason}") from error


def deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits per channel: `convert` would clip them at 255."""
    return image.mode.startswith(("I", "F"))


def coloured(image: Image.Image) -> bool:
    """Whether it is stored in colour; a palette may be grey."""
    if image.mode == "P":
        r, g, b = np.reshape(image.getpalette("RGB") or (0, 0, 0), (-1, 3)).T
        return not (np.array_equal(r, g) and np.array_equal(g, b))
    return image.mode in COLOUR


def visibly_coloured(image: Image.Image) -> bool:
    """Whether more than a hundredth of its area has a hue that can be seen; grey pictures are often stored as RGB."""
    small = np.asarray(image.convert("RGB").resize((16, 16)), np.int16)
    return bool((np.ptp(small, -1) > VISIBLE).mean() > 0.01)


def looked_at(files: Sequence[Picture]) -> Usual:
    """The size and the colour that suit pictures, by some of them at equal distances."""
    sides, colours = set[tuple[int, int]](), list[bool]()
    for i in sorted({*np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT)).astype(int).tolist()}):
        with suppress(UserError, *DAMAGE), opened(files[i]) as image:
            sides.add(image.size)
            colours.append(coloured(image) and visibly_coloured(image))
    (width, height), *others = sides or {(USUAL, USUAL)}
    own = not others and SMALL <= min(width, height) <= LARGE
    return Usual(min(width, height) if own else USUAL, 2 * sum(colours) > len(colours))


def squared(image: Image.Image, size: int, grey: bool) -> Tensor:
    """(C, size, size) uint8, cropped to a centred square."""
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    fitted = ImageOps.fit(upright.convert("L" if grey else "RGB"), (size, size))
    return torch.from_numpy(np.array(fitted)).reshape(size, size, -1).movedim(-1, 0)


def read_all(files: Sequence[Picture], size: int, grey: bool) -> tuple[dict[int, Tensor], list[UserError], list[str]]:
    """Reads pictures; the meaning of those with more than 8 bits is decided for all of them together.

    Returns:
        Number of each readable file -> its picture (C, size, size) uint8; what is wrong with the others; what else is to be said.
    """
    found, faults, deeper, seen, sides = dict[int, Tensor](), list[UserError](), list[int](), Seen(), set[int]()
    traits, converted = Counter[str](), Counter[str]()
    for i, file in enumerate(files):
        try:
            with opened(file) as image:
                sides |= {*image.size}
                traits["colour"] += coloured(image)
                converted.update(trait for trait, has in TRAITS.items() if has(image))
                if deep(image):
                    seen.add(np.asarray(image))
                    deeper.append(i)
                else:
                    found[i] = squared(image, size, grey)
                with suppress(*DAMAGE):
                    traits["frames"] += getattr(image, "is_animated", False)
        except UserError as fault:
            faults.append(fault)
    notes = [f"{min(sides)} to {max(sides)} pixels a side, cropped to squares of {size}"] if sides else []
    if deeper:
        what = f"{len(deeper)} of {len(files)} pictures have more than 8 bits"
        scale = seen.scale(f"{what}, such as {files[deeper[0]].shown!r}:", beside=bool(found))._replace(levels=256)
        notes.append(f"{what}: {seen}, {scale}")
        for i in deeper:
            with opened(files[i]) as image:
                levels = scale.to_levels(np.asarray(ImageOps.exif_transpose(image)))
                found[i] = squared(Image.fromarray(levels), size, grey)
    notes += [f"pictures {', '.join(f'{trait}: {n}' for trait, n in sorted(converted.items()))}"] if converted else []
    notes += [f"{traits['colour']} pictures in colour made grey (grey=false keeps it)"] if grey and traits["colour"] else []
    notes += [f"only the first frame or page of {traits['frames']} pictures"] if traits["frames"] else []
    return dict(sorted(found.items())), faults, notes
