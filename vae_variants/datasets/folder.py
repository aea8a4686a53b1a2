"""Pictures in folders, archives and tables: nested, linked, in parts, with broken ones, or mixed with other files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_variants.datasets.packed import ARCHIVES, unpacked
from vae_variants.datasets.pictures import looked_at, read_all
from vae_variants.datasets.tables import tabulated
from vae_variants.datasets.walk import SUFFIXES, TABLES, Walk, listed, walked
from vae_variants.memory import installed
from vae_variants.registry import UserError, closest, nearest, user_path

LARGEST = 2**34  # bytes
LONGEST = 1024  # pixels per side
GREY = ("auto", "true", "false")
BROKEN = ("refuse", "skip")  # choices for unreadable pictures
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
    factors: Tensor | None = None  # (N, F) int64, from 0
    factor_names: tuple[str, ...] = ()


def album(path: str, size: int, grey: str, labels: bool, broken: str) -> Images:
    """Reads the pictures in a folder, an archive or a Parquet file in the order of their names. For the options see `own.images`.

    Raises:
        UserError: For a missing folder, unreadable pictures, or too little memory.
    """
    if size and not 4 <= size <= LONGEST:
        raise UserError(f"size={size} is too {'small' if size < 4 else 'large'}; give 4 to {LONGEST} pixels per side")
    if grey not in GREY:
        raise UserError(closest("choice of grey=", grey, GREY))
    if broken not in BROKEN:
        raise UserError(closest("choice of broken=", broken, BROKEN))
    with source(path, user_path(path)) as walk:
        files, left_out = walk.files, walk.left_out()
        if not files:
            there = f"; it has {left_out}" if left_out else ""
            raise UserError(f"there are no pictures ({', '.join(sorted(SUFFIXES))}) in {path!r}{there}")
        parts, classes, notes = sorted_into(path, [tuple(f.name.split("/")[:-1]) for f in files], labels and not walk.labels)
        classes = walk.labels or classes
        if labels and any(classes) and "" in classes:
            fix = "put each into the folder of its class, or say ?labels=false"
            raise UserError(f"{path!r} has pictures both beside and inside its subfolders; {fix}")
        usual = looked_at(files)
        size, colour = size or usual.size, usual.colour if grey == "auto" else grey == "false"
        if (needed := len(files) * size**2 * (3 if colour else 1)) > room():
            most = f"{needed / 2**30:.3g} GiB at size={size}, and there is room for {room() / 2**30:.3g} GiB"
            raise UserError(f"the {len(files)} pictures in {path!r} take {most}; give a smaller size")
        pictures, faults, said = read_all(files, size, not colour)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        which = f"{len(faults)} of {len(files)} pictures cannot be read: {faults[0]}{more}"
        if broken == "refuse" or not pictures:
            raise UserError(f"{which}; fix or remove them, or skip them with ?broken=skip")
        notes.append(f"left out: {which}")
    notes = [*said, *notes]
    notes += [f"ignored: {left_out}"] if left_out else []
    notes += [f"folders without a picture: {listed(sorted(walk.without))}"] if walk.without else []
    order = sorted(pictures, key=lambda i: files[i].name.split("/"))
    known = [classes[i] for i in order] if labels and "" not in classes else None
    stored = torch.stack([pictures[i] for i in order])
    return Images(stored, known, [files[i].name for i in order], [parts[i] for i in order], read="; ".join(notes))


@contextmanager
def source(path: str, root: Path) -> Iterator[Walk]:
    """The pictures at a path. Raises `UserError` if it is no folder, archive or Parquet file."""
    if os.path.isdir(root):  # also false for impossible paths
        walk = walked(root)
        yield tabulated(root, walk.tables) if walk.tables and not walk.files else walk
    elif not os.path.isfile(root):
        raise UserError(f"there is no folder, archive or Parquet file {path!r}{beside(root, Path.exists)}")
    elif root.suffix.lower() in TABLES:
        yield tabulated(root, [root])
    elif root.suffix.lower() in ARCHIVES:
        with unpacked(path, root) as walk:
            yield walk
    else:
        arrays = f"; give it as {root.suffix[1:]}:{path}" if root.suffix in (".npz", ".npy") else ""
        raise UserError(f"{path!r} is a file, not a folder of pictures, nor a zip or tar archive{arrays}")


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
