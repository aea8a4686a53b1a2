"""Data sets: scikit-learn's digits, torchvision's image sets, drawn sprites, and the user's own images."""

from __future__ import annotations

import hashlib
import inspect
import os
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from vae_variants.components import options_fault, takes
from vae_variants.datasets import builtin as _builtin  # noqa: F401  (importing registers)
from vae_variants.datasets import factored as _factored  # noqa: F401
from vae_variants.datasets import own as _own  # noqa: F401
from vae_variants.datasets import solids as _solids  # noqa: F401
from vae_variants.datasets import sprites as _sprites  # noqa: F401
from vae_variants.datasets.dataset import DATASETS, Data, Dataset, handed_out, split
from vae_variants.isolation import unchanged
from vae_variants.registry import UserError, closest, user_path

__all__ = ["DATASETS", "Data", "Dataset", "load_dataset", "parse", "split"]


@DATASETS.validator
def _fault(obj: Any) -> str:
    if not callable(obj):
        return "is not a function; write def name(): ... that returns split(...)"
    return options_fault(obj, ("path",) if takes(obj, "path") else ())


def load_dataset(spec: str) -> Dataset:
    """Loads a data set by name: `mnist`, `mnist?static=true`, `npz:FILE`, `images:FOLDER?size=28&grey=true`.

    Every data set accepts `static=true` (binarise training images once) and `train=10000` (that many training images, at equal distances).
    A data set is read again if its files or its loader have changed. Raises `UserError`.
    """
    return read(spec, version(spec))


@lru_cache(maxsize=4)
def read(spec: str, _: object) -> Dataset:
    load, common = parse(spec)
    foreign = load.func in DATASETS.foreign.values()
    with unchanged(f"loading {spec!r}", "restore it before the data set is returned") if foreign else nullcontext():
        found = load()
    if common["train"] > found.sizes["train"]:
        raise UserError(f"train={common['train']} is not valid: data set {found.name!r} has {found.sizes['train']} training images")
    part = found.subset(common["train"], None) if common["train"] else found
    # the name is how it was asked for: that finds its records again
    return handed_out(replace(part, name=spec, static=common["static"]))


def version(spec: str) -> object:
    """Equal as long as a data set has the same loader, and files of the same names, sizes and times."""
    load, _ = parse(spec)
    found = hashlib.sha256()
    whole = load.func not in (DATASETS["npz"], DATASETS["npy"])  # those take one file; a folder may be that of a whole disk
    options = [value for value in load.keywords.values() if isinstance(value, str) and os.path.isfile(user_path(value))]
    for path in map(user_path, [*load.args, *options]):
        for file in within(path) if whole and os.path.isdir(path) else [path]:
            if os.path.exists(file):
                about = os.stat(file)
                found.update(repr((file, about.st_size, about.st_mtime_ns, about.st_ino)).encode())
    return load.func, found.hexdigest()


def within(folder: Path) -> list[str]:
    """The paths of all that lies in a folder, sorted."""
    return sorted(os.path.join(place, name) for place, folders, names in os.walk(folder) for name in (*folders, *names))


def on_disk(spec: str) -> bool:
    """Whether everything after the first colon is a path that exists: a folder's name may have a question mark."""
    path = spec.partition(":")[2]
    return bool(path) and os.path.exists(user_path(path))


COMMON: dict[str, Any] = {"static": False, "train": 0}  # options of every data set, and their defaults


def parse(spec: str) -> tuple[partial[Dataset], dict[str, Any]]:
    """The loader that `spec` names, and the options common to all data sets; reads no data. Raises `UserError`."""
    address, _, query = spec.rpartition("?") if "?" in spec and not on_disk(spec) else (spec, "", "")
    name, _, path = address.partition(":")
    if name not in DATASETS and on_disk(f":{spec}"):
        suffix = user_path(spec).suffix.lower()[1:]
        kind = suffix if suffix in ("npz", "npy") and not user_path(spec).is_dir() else "images"
        raise UserError(f"{spec!r} is a path; say how to read it, as {kind}:{spec}")
    loader = DATASETS[name]
    options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    parameters = inspect.signature(loader).parameters
    if ("path" in parameters) != bool(path):
        raise UserError(f"data set {spec!r} is not of the form {name}:PATH" if "path" in parameters else f"data set {name!r} takes no path")
    defaults = COMMON | {p.name: p.default for p in parameters.values() if p.default is not p.empty}
    for key, text in options.items():
        if key not in defaults:
            raise UserError(f"{closest('option', key, defaults)} (of data set {name!r})")
        options[key] = converted(key, text, defaults[key])
    if options.get("train", 1) < 1:
        raise UserError(f"option train={options['train']} is not valid; it takes a positive whole number")
    common = {key: options.pop(key, default) for key, default in COMMON.items()}
    return partial(loader, *([path] if path else []), **options), common


def converted(key: str, text: str, like: Any) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if isinstance(like, bool) else type(like)(text)
    except (KeyError, ValueError):
        kind = "true or false" if isinstance(like, bool) else {int: "a whole number", float: "a number"}.get(type(like), "text")
        raise UserError(f"option {key}={text!r} is not valid; it takes {kind}") from None
