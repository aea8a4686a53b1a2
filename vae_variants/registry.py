"""Registries: dictionaries of named components, filled by decorators."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast, overload

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", re.ASCII)
PACKAGE = Path(__file__).parent
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # and what reverses text
FEW = 5  # choices that are all listed beside a suggestion
T = TypeVar("T")
S = TypeVar("S")

loading: ContextVar[str] = ContextVar("loading", default="")  # the plug-in file that is being executed


class UserError(Exception):
    """An error that the user can fix. Its message is one line that names the valid choices or the fix."""


def positive(option: str, value: float) -> float:
    """The value of an option. Raises `UserError` unless it is above 0."""
    if not value > 0:
        raise UserError(f"{option}={value:g} is not above 0; choose a positive number")
    return value


def visible(text: str) -> str:
    """`text` with each character that controls a terminal as an escape such as `\\x1b`; tabs and line ends stay."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Refused(ValueError):
    """An object that a registry does not accept."""


def closest(kind: str, name: str, choices: Iterable[str]) -> str:
    """One line for an unknown `name`: the nearest choice if there is one, and all choices unless they are many.

    If plug-ins can register the kind, the line says how to load one.
    """
    choices = sorted(set(choices))
    near = nearest(name, choices)
    parts = [f"did you mean {near!r}?"] if near else []
    parts += [] if near and len(choices) > FEW else [f"choices: {', '.join(choices)}"]
    if {*kind.split(" or ")} & {registry.kind for registry in Registry.every}:
        parts[-1] += " " if parts[-1].endswith("?") else "; "
        parts[-1] += "if it is a plug-in's, give its file with --plugin FILE"
    return f"unknown {kind} {name!r}; {' '.join(parts)}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice most similar to `name`; empty if none is similar."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1)), "")


def user_path(given: str | Path) -> Path:
    """A path as a user wrote it, with `~` as a home folder. Raises `UserError` if that home is unknown."""
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"{str(given)!r} names a home folder that is unknown; write the whole path") from error


@dataclass(frozen=True)
class Place:
    """Where a component comes from: its file and, found when asked for, its line.

    `source` is the class or function that was registered, or the name of a plain value.
    """

    file: str
    source: Any = None

    @cached_property
    def line(self) -> int:
        try:
            if isinstance(self.source, str):
                text = Path(self.file).read_text(encoding="utf-8").splitlines()
                return next((n for n, line in enumerate(text, 1) if self.source in line), 1)
            return inspect.getsourcelines(self.source)[1]
        except (OSError, TypeError, ValueError):
            return 1

    @cached_property
    def own(self) -> bool:
        """Whether it is built in."""
        return Path(self.file).is_relative_to(PACKAGE)

    def __str__(self) -> str:
        path = Path(self.file)
        return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{self.line}"


def place_of(obj: Any, name: str | None, key: str) -> Place:
    """The file of a function or class. A plain value comes from the plug-in being loaded, else from its class's file."""
    function = getattr(inspect.unwrap(obj), "__code__", None) if callable(obj) else None
    cls = obj if isinstance(obj, type) else type(obj)
    file = function.co_filename if function else getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    plain = function is None and cls is not obj
    if loading.get() and (plain or name) and (plain or Place(file).own):
        return Place(loading.get(), key)
    return Place(file, key if plain else obj)


class Registry(dict[str, T]):
    """A dictionary that decorators fill. It never overwrites an entry, and answers a typo with the nearest name.

    The key is the object's name in kebab case (`ContinuousBernoulli` -> `continuous-bernoulli`), or `name=`.
    A registry is complete when it can be imported: a package's `__init__` imports the modules that fill it.
    """

    every: ClassVar[list[Registry[Any]]] = []

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.fault: Callable[[Any], str] = lambda obj: ""
        self.places: dict[str, Place] = {}
        Registry.every.append(self)

    def validator(self, fault: Callable[[Any], str]) -> Callable[[Any], str]:
        """Decorates the function that says what is wrong with an object and how to fix it; empty if nothing is."""
        self.fault = fault
        return fault

    @overload
    def add(self, obj: S, *, name: str | None = None, source: Any = None) -> S: ...
    @overload
    def add(self, obj: None = None, *, name: str | None = None, source: Any = None) -> Callable[[S], S]: ...
    def add(self, obj: S | None = None, *, name: str | None = None, source: Any = None) -> S | Callable[[S], S]:
        """Registers `obj`.

        Args:
            obj: The component. Without it, `add` is a decorator.
            name: Its name. Default: the object's name in kebab case.
            source: The function or class that says where it comes from. Default: `obj`.

        Returns:
            `obj`.

        Raises:
            Refused: The name is taken or is not valid, or the validator found a fault.
        """
        if obj is None:
            return lambda found: self.add(found, name=name, source=source)
        key = name or kebab(getattr(obj, "name", None) or cast(type, obj).__name__)
        if not NAME.fullmatch(key):
            raise Refused(f"{self.kind} name {key!r} is not valid: letters, digits and . _ + - in between")
        if key in self:
            raise Refused(f"{self.kind} {key!r} is registered twice, first at {self.places.get(key)}; give this one another name")
        if fault := self.fault(obj):
            raise Refused(f"{self.kind} {key!r} {fault}")
        self[key] = cast(T, obj)
        self.places[key] = place_of(obj, name, key) if source is None else place_of(source, None, key)
        return obj

    def drop(self, name: str) -> None:
        """Removes an entry."""
        self.pop(name, None)
        self.places.pop(name, None)

    @property
    def foreign(self) -> dict[str, T]:
        """What is not built in."""
        return {name: self[name] for name, place in self.places.items() if not place.own and name in self}

    def __missing__(self, name: str) -> T:
        raise UserError(closest(self.kind, name, self))

    def describe(self, name: str) -> str:
        """The first line of an entry's `description` or docstring."""
        obj = self[name]
        text = getattr(obj, "description", None) or inspect.getdoc(obj) or ""
        return text.strip().split("\n")[0]


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", name).lower()
