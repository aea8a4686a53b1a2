"""Finds pictures: under a folder, or by the names of an archive's members; what is left out is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from vae_variants.registry import UserError

SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
SUFFIXES |= {".pgm", ".ppm", ".pbm", ".pnm"}
TABLES = {".parquet"}
JUNK = {"__MACOSX", "@eaDir", "@tmp", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
SHOWN = 6  # names in a list


class Picture(NamedTuple):
    """A picture file, wherever it is stored."""

    name: str  # below its folder or archive, with / between folders
    shown: str  # in messages
    open: Callable[[], IO[bytes]]


@dataclass
class Walk:
    """What is under a folder or in an archive, and what of it is left out."""

    files: list[Picture] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)  # suffixes of other files
    hidden: int = 0
    dangling: int = 0
    junk: Counter[str] = field(default_factory=Counter)
    without: list[str] = field(default_factory=list)  # folders of files without a picture
    tables: list[Path] = field(default_factory=list)  # which may hold pictures too
    labels: list[Any] = field(default_factory=list)  # of each picture, or "", if folders do not tell

    def left_out(self) -> str:
        """What is left out, in words; empty if nothing is."""
        kinds = [f"{n} {suffix or 'without suffix'}" for suffix, n in self.other.most_common()]
        kinds += [plural(self.hidden, "hidden file or folder", "hidden files and folders")] if self.hidden else []
        kinds += [plural(self.dangling, "dangling link")] if self.dangling else []
        kinds += [f"{n} {name}" for name, n in self.junk.items()]
        return listed(kinds)

    def sift(self, name: str) -> bool:
        """Whether a member of an archive is a picture; otherwise counts it."""
        parts = name.split("/")
        if any(part.startswith(".") for part in parts):
            self.hidden += 1
        elif junk := next((part for part in parts if part in JUNK), ""):
            self.junk[junk] += 1
        elif (suffix := Path(name).suffix.lower()) not in SUFFIXES:
            self.other[suffix] += 1
        else:
            return True
        return False


def plural(n: int, what: str, many: str = "") -> str:
    return f"{n} {what if n == 1 else many or f'{what}s'}"


def listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN], *([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])])


def walked(root: Path) -> Walk:
    """Finds picture files, also through links. Raises `UserError` for a loop of links or a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{str(error.filename)!r} cannot be read: {error.strerror}") from error

    walk, found = Walk(), list[Path]()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        place, had = Path(folder), len(found)
        visible = [name for name in folders if not name.startswith(".") and name not in JUNK]
        walk.junk.update(name for name in folders if name in JUNK)
        walk.hidden += sum(name.startswith(".") for name in (*folders, *names))
        for name in visible:
            if (link := place / name).is_symlink() and any(link.samefile(above) for above in above(place, root)):
                raise UserError(f"{str(link)!r} links to a folder that holds it; remove this link")
        folders[:] = visible
        files = [place / name for name in names if not name.startswith(".")]
        for file in files:
            if (suffix := file.suffix.lower()) not in SUFFIXES or not file.is_file():
                broken = file.is_symlink() and not file.exists()
                walk.dangling += broken
                walk.other[suffix] += not broken
                walk.tables += [file] if suffix in TABLES and file.is_file() else []
            else:
                found.append(file)
        if len(found) == had and files and not visible and place != root:
            walk.without.append(place.relative_to(root).as_posix())
    walk.other, walk.tables = +walk.other, sorted(walk.tables)
    walk.files = [Picture(file.relative_to(root).as_posix(), str(file), partial(binary, file)) for file in sorted(found)]
    return walk


def binary(file: Path) -> IO[bytes]:
    return file.open("rb")


def above(place: Path, root: Path) -> Iterator[Path]:
    """`place` and the folders above it, up to `root`."""
    yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(root))
