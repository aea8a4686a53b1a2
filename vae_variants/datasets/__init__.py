"""Data sets: scikit-learn's digits, torchvision's, and the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any
from urllib.parse import parse_qsl

from vae_variants.datasets import builtin as _builtin  # noqa: F401  (importing registers)
from vae_variants.datasets import own as _own  # noqa: F401
from vae_variants.datasets.dataset import DATASETS, Data, Dataset, split
from vae_variants.registry import UserError, closest

__all__ = ["DATASETS", "Data", "Dataset", "load_dataset", "parse", "split"]


@lru_cache(maxsize=4)
def load_dataset(spec: str) -> Dataset:
    """`mnist`, `mnist?static=true`, `npz:FILE`, `images:FOLDER?size=28&grey=true`.

    Every data set takes `static=true`: training images are binarised once. Raises `UserError` in one line.
    """
    load, static = parse(spec)
    found = load()
    return replace(found, name=spec, static=static) if static else found


def parse(spec: str) -> tuple[Callable[[], Dataset], bool]:
    """What loads the data set that `spec` names, and whether it is static; touches no data. Raises `UserError`."""
    address, _, query = spec.partition("?")
    name, _, path = address.partition(":")
    loader = DATASETS[name]
    options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    parameters = inspect.signature(loader).parameters
    if ("path" in parameters) != bool(path):
        raise UserError(f"data set {spec!r} is not of the form {name}:PATH" if "path" in parameters else f"data set {name!r} takes no path")
    defaults = {"static": False} | {p.name: p.default for p in parameters.values() if p.default is not p.empty}
    for key, text in options.items():
        if key not in defaults:
            raise UserError(f"{closest('option', key, defaults)} (of data set {name!r})")
        options[key] = converted(key, text, defaults[key])
    static = options.pop("static", False)
    return partial(loader, *([path] if path else []), **options), static


def converted(key: str, text: str, like: Any) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if isinstance(like, bool) else type(like)(text)
    except (KeyError, ValueError):
        kind = "true or false" if isinstance(like, bool) else {int: "a whole number", float: "a number"}.get(type(like), "text")
        raise UserError(f"option {key}={text!r} is not valid; it takes {kind}") from None
