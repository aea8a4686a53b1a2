"""Named things, added by a decorator: the one mechanism behind variants, models, likelihoods, metrics, ..."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar, cast, overload

__all__ = ["Registry", "UserError", "closest", "load_plugins"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", re.ASCII)
T = TypeVar("T")
S = TypeVar("S")


class UserError(Exception):
    """Something the user can mend; its message is one line that names the valid choices or the mend."""


def closest(kind: str, name: str, choices: Iterable[str]) -> str:
    """One line for an unknown `name`: a suggestion if one is near, and the choices."""
    choices = sorted(set(choices))
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}choices: {', '.join(choices)}"


class Registry(dict[str, T]):
    """A dictionary that is filled by decorators, never overwrites, and answers a typo with the nearest name.

    The key is the object's name in kebab case (`ContinuousBernoulli` -> `continuous-bernoulli`), or `name=`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    @overload
    def add(self, obj: S, *, name: str | None = None) -> S: ...
    @overload
    def add(self, obj: None = None, *, name: str | None = None) -> Callable[[S], S]: ...
    def add(self, obj: S | None = None, *, name: str | None = None) -> S | Callable[[S], S]:
        """Registers `obj` and gives it back; without `obj`, a decorator that does.

        Raises ValueError for a name that is taken, or that cannot be part of a selector, a file's name and a page.
        """
        if obj is None:
            return lambda found: self.add(found, name=name)
        key = name or kebab(getattr(obj, "name", None) or cast(type, obj).__name__)
        if not NAME.fullmatch(key):
            raise ValueError(f"{self.kind} name {key!r} is not valid: letters, digits and . _ + - in between")
        if key in self:
            raise ValueError(f"{self.kind} {key!r} is registered twice")
        self[key] = cast(T, obj)
        return obj

    def __missing__(self, name: str) -> T:
        raise UserError(closest(self.kind, name, self))

    def describe(self, name: str) -> str:
        """The first line of what is known about an entry: its `description`, or its docstring."""
        obj = self[name]
        text = getattr(obj, "description", None) or inspect.getdoc(obj) or ""
        return text.strip().split("\n")[0]


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", name).lower()


def load_plugins(paths: Iterable[str | Path] = ()) -> None:
    """Imports each file, and each installed entry point of the group `vae_variants.plugins`: importing registers."""
    for point in entry_points(group="vae_variants.plugins"):
        point.load()
    for path in map(Path, paths):
        if not path.is_file():
            raise UserError(f"plug-in {str(path)!r} is not a file")
        name = next(n for n in names_of(path) if n not in sys.modules)
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        if spec is None or spec.loader is None:
            raise UserError(f"plug-in {str(path)!r} is not a Python file (.py)")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)  # where a class's own file is looked up
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"plug-in {str(path)!r} failed to import: {type(error).__name__}: {error}") from error


def names_of(path: Path) -> Iterator[str]:
    """Names for a plug-in's module, until one is free."""
    yield (first := f"vae_variants_plugin_{path.stem}")
    yield from (f"{first}_{i}" for i in itertools.count(2))
