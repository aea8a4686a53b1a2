"""Images in .npz and .npy files: of any order of axes and any range that can be told, with labels of any kind."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vae_variants.datasets.folder import Images, beside, room
from vae_variants.datasets.scale import PIECE, Scale, Seen
from vae_variants.registry import UserError, user_path

HELP = "save it with numpy.savez(path, x=images, y=labels)"
FACTOR_HELP = "give factors (N, F), a row of numbers or texts for each image, and factor_names (F,)"
MOST_VALUES = 1000  # of a factor
BROKEN = (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)
PARTS = {"": "", "train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
NAMES = [  # of an array of images, and of its labels; lower case
    (f"x{'_' * bool(part)}{part}", f"y{'_' * bool(part)}{part}", whole) for part, whole in PARTS.items()
] + [(f"{part}_images", f"{part}_labels", whole) for part, whole in PARTS.items() if part]
SIDE = 2  # fewest pixels


def archive(path: str) -> Images:
    """The images of an .npz file. Raises `UserError`."""
    file = user_path(path)
    try:
        if not file.is_file():  # a device would be read without end
            raise UserError(f"there is no file {path!r}{beside(file, Path.is_file)}")
        with zipfile.ZipFile(file) as packed:
            if (size := sum(member.file_size for member in packed.infolist())) > room():
                raise UserError(f"{path!r} has {size / 2**30:.3g} GiB of arrays, and there is room for {room() / 2**30:.3g} GiB")
        with np.load(file, allow_pickle=False) as stored:
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise UserError(f"{path!r} has one array; give it as npy:{path}, or {HELP}")
            return assembled(path, stored)
    except MemoryError as error:
        raise UserError(f"{path!r} says that it has more images than there is memory for; save fewer of them, or as uint8") from error
    except BROKEN as error:
        raise UserError(f"{path!r} is not a readable .npz file: truncated, or of another format; {HELP}") from error


def mapped(path: str, labels: str) -> Images:
    """The images of an .npy file, mapped into memory, and the labels of another, if there is one. Raises `UserError`."""
    arrays = {"x": opened(path), **({"y": opened(labels)} if labels else {})}
    if (size := arrays["x"].size) > room():
        raise UserError(f"{path!r} takes {size / 2**30:.3g} GiB in 8 bits, and there is room for {room() / 2**30:.3g} GiB")
    return assembled(path, arrays)


def opened(path: str) -> np.ndarray:
    """An .npy file mapped into memory: only what is used is read."""
    file = user_path(path)
    if not file.is_file():
        raise UserError(f"there is no file {path!r}{beside(file, Path.is_file)}")
    try:
        stored = np.load(file, mmap_mode="c", allow_pickle=False)  # a change would stay in memory
    except BROKEN as error:
        hint = "it holds Python objects; save numbers" if "object" in str(error) else "truncated, or of another format"
        raise UserError(f"{path!r} is not a readable .npy file: {hint}; save it with numpy.save(path, images)") from error
    if isinstance(stored, np.lib.npyio.NpzFile):
        stored.close()
        raise UserError(f"{path!r} has several arrays; give it as npz:{path}")
    return stored


def assembled(path: str, stored: Mapping[str, np.ndarray]) -> Images:
    """The arrays of all parts, one after the other."""
    known = {name.lower(): name for name in stored}
    groups = [(known[x], known.get(y, ""), part) for x, y, part in NAMES if x in known]
    if not groups:
        raise UserError(f"{path!r} has no array named 'x' (nor x_train); it has {', '.join(list(stored)[:8]) or 'none'}; {HELP}")
    given = sorted(part for *_, part in groups)
    if given != [""] and (given.count("train") != 1 or "" in given or len(set(given)) < len(given)):
        raise UserError(f"{path!r} has images in {', '.join(x for x, *_ in groups)}; keep x alone, or x_train with x_val and x_test")
    pictures, labels, parts, read, seen = list[np.ndarray](), list[object](), list[str](), list[str](), Seen()
    unlabelled = [x for x, y, _ in groups if not y]
    for name, label, part in groups:
        x = array(path, stored, name)
        pictures.append(channels_first(path, name, x))
        seen.add(pictures[-1])
        parts += [part] * len(x)
        read.append(f"{name} {shown(x.shape)} {x.dtype}")
        if not unlabelled:
            y = labels_of(path, label, array(path, stored, label), len(x))
            labels += y
            read.append(f"{label} {', '.join(map(str, y[:4]))}, ...")
    labels = list(map(str, labels)) if len({*map(type, labels)}) > 1 else labels
    if len({x.shape[1:] for x in pictures}) > 1:
        raise UserError(f"{path!r} has images of several shapes: {'; '.join(read)}")
    scale = seen.scale(f"{path!r}: {groups[0][0]} has")
    read.append(f"{seen}, {scale}")
    if unlabelled and len(unlabelled) < len(groups):
        read.append(f"no labels, as {unlabelled[0]} has none")
    levels = torch.from_numpy(quantised(pictures, scale))
    factors, names, words = factors_of(path, stored, known, [(x, len(p)) for (x, _, _), p in zip(groups, pictures, strict=True)])
    read += words
    order = [str(i) for i in range(len(levels))]
    return Images(levels, None if unlabelled else labels, order, parts, scale.levels, "; ".join(read), factors, names)


def factors_of(
    path: str, stored: Mapping[str, np.ndarray], known: Mapping[str, str], groups: Sequence[tuple[str, int]]
) -> tuple[torch.Tensor | None, tuple[str, ...], list[str]]:
    """Factors (N, F) of the images of all parts as numbers of their values, their names, and what was read.

    `known` has the names of the arrays by lower case, and `groups` the name and the length of each array of images.
    """
    asked = [x.lower().replace("images", "factors") if "images" in x.lower() else f"factors{x[1:].lower()}" for x, _ in groups]
    if not any(name in known for name in asked):
        return None, (), []
    if lacking := [name for name in asked if name not in known]:
        raise UserError(f"{path!r} has factors, and no array {lacking[0]!r}; {FACTOR_HELP}")
    arrays = [array(path, stored, known[name]) for name in asked]
    for name, found, (_, n) in zip(asked, arrays, groups, strict=True):
        if found.ndim != 2 or len(found) != n or not found.shape[1] or found.dtype.kind not in "biufUS":
            raise UserError(f"{path!r}: {name} has shape {shown(found.shape)} and type {found.dtype}, for {n} images; {FACTOR_HELP}")
    if len({found.shape[1] for found in arrays}) > 1:
        raise UserError(f"{path!r} has factors of several shapes: {', '.join(shown(found.shape) for found in arrays)}; {FACTOR_HELP}")
    table = np.concatenate(arrays)
    given = array(path, stored, known["factor_names"]).ravel().tolist() if "factor_names" in known else range(table.shape[1])
    names = [f"factor {name}" if isinstance(name, int) else str(name) for name in given]
    if len(names) != table.shape[1] or len(set(names)) < len(names):
        raise UserError(f"{path!r} has {table.shape[1]} factors and {len(set(names))} different factor_names; {FACTOR_HELP}")
    values, numbers = zip(*(np.unique(column, return_inverse=True) for column in table.T), strict=True)
    for name, found in zip(names, values, strict=True):
        if len(found) > MOST_VALUES or (found.dtype.kind == "f" and not np.isfinite(found).all()):
            raise UserError(f"{path!r}: factor {name!r} has {len(found)} values, at most {MOST_VALUES}, all finite, are allowed; give bins")
    vary = [i for i, found in enumerate(values) if len(found) > 1]
    constant = [f"factor {names[i]} is constant and left out" for i in range(len(names)) if i not in vary]
    if not vary:
        return None, (), constant
    return torch.from_numpy(np.stack([numbers[i] for i in vary], 1)), tuple(names[i] for i in vary), constant


def array(path: str, stored: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One array of plain numbers or texts."""
    try:
        return stored[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(f"{path!r}: {name} holds Python objects; save numbers, or texts as numpy.array(..., dtype=str)") from error


def shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def channels_first(path: str, name: str, x: np.ndarray) -> np.ndarray:
    """(N, H, W), (N, C, H, W), (N, H, W, C) or flat squares (N, H * H) -> (N, C, H, W)."""
    what, shape = f"{path!r}: {name} has shape {shown(x.shape)}", x.shape
    if x.dtype.kind not in "biuf" or not x.size:
        raise UserError(f"{what} and type {x.dtype}; it must be numbers")
    if x.ndim == 2:
        side = int(shape[1] ** 0.5)
        if side * side != shape[1] or side < SIDE or shape[0] == shape[1]:
            raise UserError(f"{what}, which is not clear; give it as (N, H, W), (N, C, H, W) or (N, H, W, C)")
        return x.reshape(-1, 1, side, side)
    if x.ndim == 3 and (shape[2] in (1, 3) or (shape[2] == 4 and shape[1] > 8) or shape[0] == shape[1] != shape[2]):
        kind = "(H, W, N)" if shape[2] > 4 else "one image (H, W, C)"
        raise UserError(f"{what}, which may be {kind}; give it as (N, 1, H, W), (N, C, H, W) or (N, H, W, C)")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and shape[1] in (1, 3) and shape[3] in (1, 3):
        raise UserError(f"{what}, so that its channels may be first or last; crop or pad the images to another width")
    elif x.ndim == 4 and shape[3] in (1, 3):
        x = np.moveaxis(x, 3, 1)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < SIDE:
        alpha = "; leave the fourth channel out" if len(shape) == 4 and 4 in (shape[1], shape[3]) else ""
        raise UserError(f"{what}; it must be (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels{alpha}")
    return x


def labels_of(path: str, name: str, y: np.ndarray, n: int) -> list[object]:
    """Classes (N,) from integers, whole floats or texts (N,) or (N, 1), or from one-hot rows (N, K)."""
    what = f"{path!r}: {name} has shape {shown(y.shape)} and type {y.dtype}"
    if y.ndim == 2 and y.shape[0] == n and y.shape[1] > 1 and y.dtype.kind in "biuf":
        if not (((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()):
            raise UserError(f"{what}; its rows are not one-hot, so give the class of each image (N,)")
        y = y.argmax(1)
    if y.shape not in ((n,), (n, 1)) or y.dtype.kind not in "biufUS":
        raise UserError(f"{what}; it must be ({n},) of integers or texts, one for each image")
    if y.dtype.kind == "f":
        if not ((np.abs(y) < 2**53).all() and (y == np.rint(y)).all()):
            raise UserError(f"{what} with numbers that are not whole; give classes, or no {name}")
        y = y.astype(np.int64)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    return y.ravel().tolist()


def quantised(pictures: list[np.ndarray], scale: Scale) -> np.ndarray:
    """Arrays (N, C, H, W) as one of uint8 levels; a single one that has them already is not copied."""
    as_stored = scale.white == scale.levels - 1
    if as_stored and len(pictures) == 1 and pictures[0].dtype == np.uint8:
        return pictures[0]
    found, start = np.empty((sum(map(len, pictures)), *pictures[0].shape[1:]), np.uint8), 0
    for x in pictures:
        rows = max(1, PIECE // x[0].size)
        for i in range(0, len(x), rows):
            part = x[i : i + rows]
            exact = as_stored and x.dtype == np.uint8
            found[start + i : start + i + len(part)] = part if exact else scale.to_levels(part)
        start += len(x)
    return found
