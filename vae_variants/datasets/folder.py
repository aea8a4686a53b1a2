"""Folders of pictures: nested, linked, in parts, with broken pictures, or mixed with other files."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_variants.datasets.pictures import read_all
from vae_variants.memory import installed
from vae_variants.registry import UserError, closest, nearest, user_path

SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
SUFFIXES |= {".pgm", ".ppm", ".pbm", ".pnm"}
ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}
JUNK = {"__MACOSX", "@eaDir", "@tmp", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
LARGEST = 2**34  # bytes
LONGEST = 1024  # pixels per side
BROKEN = ("refuse", "skip")  # choices for unreadable pictures
SHOWN = 6  # names in a list
PARTS = (  # word -> part; `eval` is the test part unless there is another
    dict.fromkeys(("train", "training", "tr"), "train")
    | dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development"), "validation")
    | dict.fromkeys(("test", "testing", "tst", "holdout"), "test")
    | dict.fromkeys(("eval", "evaluation"), "eval")
)
FILLING = {"set", "data", "dataset", "images", "image", "imgs", "img", "pictures", "photos", "split", "folder", "dir"}


class Images(NamedTuple):
    """Images in source order."""

    stored: Tensor  # (N, C, H, W) uint8
    classes: Sequence[Any] | None  # of each image
    ids: Sequence[str]  # name of each image in its source
    parts: Sequence[str]  # part to which each image is given, or ""
    levels: int = 256
    read: str = ""  # what was read, in words


@dataclass
class Walk:
    """What is under a folder, and what of it is left out."""

    files: list[Path] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)  # suffixes of other files
    hidden: int = 0
    dangling: int = 0
    junk: Counter[str] = field(default_factory=Counter)
    without: list[str] = field(default_factory=list)  # folders of files without a picture

    def left_out(self) -> str:
        """What is left out, in words; empty if nothing is."""
        kinds = [f"{n} {suffix or 'without suffix'}" for suffix, n in self.other.most_common()]
        kinds += [plural(self.hidden, "hidden file or folder", "hidden files and folders")] if self.hidden else []
        kinds += [plural(self.dangling, "dangling link")] if self.dangling else []
        kinds += [f"{n} {name}" for name, n in self.junk.items()]
        return listed(kinds)


def plural(n: int, what: str, many: str = "") -> str:
    return f"{n} {what if n == 1 else many or f'{what}s'}"


def listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN], *([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])])


def album(path: str, size: int, grey: bool, labels: bool, broken: str) -> Images:
    """Reads the pictures under a folder in the order of their names. For the options see `own.images`.

    Raises:
        UserError: For a missing folder, unreadable pictures, or too little memory.
    """
    root = user_path(path)
    if not os.path.isdir(root):  # also false for impossible paths
        raise UserError(missing(path, root))
    if not 4 <= size <= LONGEST:
        raise UserError(f"size={size} is too {'small' if size < 4 else 'large'}; give 4 to {LONGEST} pixels per side")
    if broken not in BROKEN:
        raise UserError(closest("choice of broken=", broken, BROKEN))
    walk = walked(root)
    files, left_out = sorted(walk.files), walk.left_out()
    if not files:
        there = f"; it has {left_out}" if left_out else ""
        raise UserError(f"there are no pictures ({', '.join(sorted(SUFFIXES))}) in {path!r}{there}")
    parts, classes, notes = sorted_into(path, [f.relative_to(root).parent.parts for f in files], labels)
    if labels and any(classes) and not all(classes):
        fix = "put each into the folder of its class, or say ?labels=false"
        raise UserError(f"{path!r} has pictures both beside and inside its subfolders; {fix}")
    if (needed := len(files) * size**2 * (1 if grey else 3)) > room():
        most = f"{needed / 2**30:.3g} GiB at size={size}, and there is room for {room() / 2**30:.3g} GiB"
        raise UserError(f"the {len(files)} pictures in {path!r} take {most}; give a smaller size")
    pictures, faults, said = read_all(files, size, grey)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        which = f"{len(faults)} of {len(files)} pictures cannot be read: {faults[0]}{more}"
        if broken == "refuse" or not pictures:
            raise UserError(f"{which}; fix or remove them, or skip them with ?broken=skip")
        notes.append(f"left out: {which}")
    notes = [*said, *notes]
    notes += [f"ignored: {left_out}"] if left_out else []
    notes += [f"folders without a picture: {listed(sorted(walk.without))}"] if walk.without else []
    names = [files[i].relative_to(root).as_posix() for i in pictures]
    known = [classes[i] for i in pictures] if labels and all(classes) else None
    return Images(torch.stack(list(pictures.values())), known, names, [parts[i] for i in pictures], read="; ".join(notes))


def missing(path: str, root: Path) -> str:
    """Why `path` is no folder, and what to do."""
    if not os.path.isfile(root):
        return f"there is no folder {path!r}{beside(root, Path.is_dir)}"
    if root.suffix.lower() in ARCHIVES:
        return f"{path!r} is an archive; unpack it, and give the folder"
    return f"{path!r} is a file, not a folder of pictures{f'; give it as npz:{path}' if root.suffix == '.npz' else ''}"


def beside(path: Path, wanted: Callable[[Path], bool]) -> str:
    """Part of a sentence that suggests an existing path, or nothing."""
    try:
        names = [place.name for place in path.parent.iterdir() if wanted(place)]
    except (OSError, ValueError):
        return ""
    near = nearest(path.name, names)
    return f"; did you mean {str(path.with_name(near))!r}?" if near else ""


def room() -> int:
    """Bytes that images may occupy: a quarter of this process's memory, because splitting copies them; at most `LARGEST`."""
    return min(LARGEST, (installed() or 4 * LARGEST) // 4)


def walked(root: Path) -> Walk:
    """Finds picture files, also through links. Raises `UserError` for a loop of links or a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{str(error.filename)!r} cannot be read: {error.strerror}") from error

    walk = Walk()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        place, had = Path(folder), len(walk.files)
        visible = [name for name in folders if not name.startswith(".") and name not in JUNK]
        walk.junk.update(name for name in folders if name in JUNK)
        walk.hidden += sum(name.startswith(".") for name in (*folders, *names))
        for name in visible:
            if (link := place / name).is_symlink() and any(link.samefile(above) for above in above(place, root)):
                raise UserError(f"{str(link)!r} links to a folder that holds it; remove this link")
        folders[:] = visible
        files = [place / name for name in names if not name.startswith(".")]
        for file in files:
            if file.suffix.lower() not in SUFFIXES or not file.is_file():
                broken = file.is_symlink() and not file.exists()
                walk.dangling += broken
                walk.other[file.suffix.lower()] += not broken
            else:
                walk.files.append(file)
        if len(walk.files) == had and files and not visible and place != root:
            walk.without.append(place.relative_to(root).as_posix())
    walk.other = +walk.other
    return walk


def above(place: Path, root: Path) -> Iterator[Path]:
    """`place` and the folders above it, up to `root`."""
    yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(root))


def part_of(name: str, names: Sequence[str]) -> str:
    """The part that a folder's name stands for among `names`, or "": `train`, `Test`, `training_set`, `trainset`, `seg_train`."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    others = [re.split(r"[^a-z]+", other.lower()) for other in names if other != name]
    words = [word for word in words if word not in FILLING and not (others and all(word in other for other in others))]
    if len(words) != 1:
        return ""
    return next((PARTS[word] for filling in ("", *sorted(FILLING)) if (word := words[0].removesuffix(filling)) in PARTS), "")


def parts_at(level: int, folders: Sequence[tuple[str, ...]]) -> dict[str, str]:
    """Name -> part, if the folders of that level are a training and other parts, else empty."""
    names = sorted({f[level] if len(f) > level else "" for f in folders})
    found = {name: part_of(name, names) for name in names}
    kinds = set(found.values())
    if "" in kinds or "train" not in kinds or len(kinds) < 2:
        return {}
    stand_in = "validation" if "test" in kinds else "test"
    return {name: stand_in if part == "eval" else part for name, part in found.items()}


def sorted_into(path: str, folders: Sequence[tuple[str, ...]], labels: bool) -> tuple[list[str], list[str], list[str]]:
    """For pictures in such folders: part of each or "", class of each or "", and what is to be said.

    Common leading folders are ignored. If the next level are parts (train, val, test, ...), classes are one level below; classes may also
    be divided into parts each. Raises `UserError` if there are parts without a training part, or parts beside other folders.
    """
    while folders[0] and all(f and f[0] == folders[0][0] for f in folders):
        folders = [f[1:] for f in folders]
    first = sorted({f[0] if f else "" for f in folders})
    known = {name: part_of(name, first) for name in first}
    notes, parts = list[str](), [""] * len(folders)
    if found := parts_at(0, folders):
        parts = [found[f[0]] for f in folders]
        again = {name for name in found if all(f[1:2] == (name,) for f in folders if f[0] == name)}  # seg_train/seg_train/...
        folders = [f[2:] if f[0] in again else f[1:] for f in folders]
    elif found := parts_at(1, folders):
        parts = [found[f[1]] for f in folders]
        folders = [(f[0], *f[2:]) for f in folders]
    elif labels and ((kinds := {part for part in known.values() if part}) == {"test"} or len(kinds) > 1):
        others = listed([name or "pictures" for name, part in known.items() if not part])
        fault = f"beside its parts also {others}" if others else f"{listed(first)}, but no folder of training pictures"
        raise UserError(f"{path!r} has {fault}; move them, or say ?labels=false to draw the parts from all pictures")
    if found:
        notes.append(f"parts from folders: {listed([f'{name} ({part})' for name, part in found.items()])}")
    inside = defaultdict[str, set[str]](set)
    for f in folders:
        if len(f) > 1:
            inside[f[0]].add(f[1])
    if merged := [f"{name} ({listed(sorted(of))})" for name, of in sorted(inside.items()) if len(of) > 1] if labels else []:
        notes.append(f"folders inside a class count as that class: {listed(merged)}")
    return parts, [f[0] if f else "" for f in folders], notes
