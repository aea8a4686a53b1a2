"""Named things, added by a decorator: the one mechanism behind variants, models, likelihoods, metrics, ..."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast, overload

__all__ = ["Place", "Registry", "UserError", "closest", "load_plugin", "load_plugins", "nearest", "registry_of"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", re.ASCII)
GROUP, PACKAGE = "vae_variants.plugins", Path(__file__).parent
BETWEEN = (__name__, "vae_variants.evaluation.metrics")  # modules that register what others have written
FEW = 5  # choices that are named though one is near
T = TypeVar("T")
S = TypeVar("S")


class UserError(Exception):
    """Something the user can mend; its message is one line that names the valid choices or the mend."""


def closest(kind: str, name: str, choices: Iterable[str]) -> str:
    """One line for an unknown `name`: a suggestion if one is near, and the choices, unless that leaves out a long list of them.

    Of what a plug-in can register the line says how its file is given.
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
    """What was probably meant by `name`; empty where nothing is near."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1)), "")


class Refused(ValueError):
    """What a registry says of an object that it does not take."""


class Place(NamedTuple):
    """Where a thing was registered."""

    file: str
    line: int

    def __str__(self) -> str:
        path = Path(self.file)
        return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{self.line}"

    @property
    def own(self) -> bool:
        """Whether it is in this package."""
        return Path(self.file).is_relative_to(PACKAGE)


def filled(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same method of a dictionary, which finds what is built in though nobody has imported it yet.

    Not where the package itself looks: its modules look at each other while they are imported.
    """

    @functools.wraps(method)
    def wrapper(self: Registry[Any], *args: Any) -> Any:
        if not caller().own:
            import_all()
        return method(self, *args)

    return wrapper


class Registry(dict[str, T]):
    """A dictionary that is filled by decorators, never overwrites, and answers a typo with the nearest name.

    The key is the object's name in kebab case (`ContinuousBernoulli` -> `continuous-bernoulli`), or `name=`. `form` says what is
    wrong with an object that is to be added, and how it is mended; nothing, if it is as it should be.
    """

    every: ClassVar[list[Registry[Any]]] = []

    if not TYPE_CHECKING:  # their types are those of a dictionary
        __contains__, __iter__, __len__ = filled(dict.__contains__), filled(dict.__iter__), filled(dict.__len__)
        keys, values, items, get = filled(dict.keys), filled(dict.values), filled(dict.items), filled(dict.get)

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.form: Callable[[Any], str] | None = None
        self.places: dict[str, Place] = {}
        Registry.every.append(self)

    @overload
    def add(self, obj: S, *, name: str | None = None) -> S: ...
    @overload
    def add(self, obj: None = None, *, name: str | None = None) -> Callable[[S], S]: ...
    def add(self, obj: S | None = None, *, name: str | None = None) -> S | Callable[[S], S]:
        """Registers `obj` and gives it back; without `obj`, a decorator that does.

        Raises ValueError for a name that is taken, or that cannot be part of a selector, a file's name and a page, and for an object
        that is not of the form of this registry.
        """
        if obj is None:
            return lambda found: self.add(found, name=name)
        key = name or kebab(getattr(obj, "name", None) or cast(type, obj).__name__)
        if not NAME.fullmatch(key):
            raise Refused(f"{self.kind} name {key!r} is not valid: letters, digits and . _ + - in between")
        place = caller()
        if not place.own:
            import_all()  # before the look at whether the name is free
        if key in self:
            raise Refused(f"{self.kind} {key!r} is registered twice, first at {self.places.get(key)}; give this one another name")
        if self.form is not None and (fault := self.form(obj)):
            raise Refused(f"{self.kind} {key!r} {fault}")
        self[key] = cast(T, obj)
        self.places[key] = place
        return obj

    def drop(self, name: str) -> None:
        """Forgets an entry, so that the name is free."""
        self.pop(name, None)
        self.places.pop(name, None)

    def __missing__(self, name: str) -> T:
        import_all()
        if name in self:
            return self[name]
        raise UserError(closest(self.kind, name, self))

    def describe(self, name: str) -> str:
        """The first line of what is known about an entry: its `description`, or its docstring."""
        obj = self[name]
        text = getattr(obj, "description", None) or inspect.getdoc(obj) or ""
        return text.strip().split("\n")[0]


def import_all() -> None:
    """Everything that is built in, and how registries look at what others add to them."""
    importlib.import_module(f"{__package__}.components")


def registry_of(kind: str) -> Registry[Any]:
    """That of likelihoods, if `kind` is "likelihood", and so on."""
    import_all()
    if kind == "study":
        importlib.import_module(f"{__package__}.studies").load_claims()  # brings matplotlib
    return next(registry for registry in Registry.every if registry.kind.replace(" ", "") == kind.replace(" ", ""))


def kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", "-", name).lower()


def caller() -> Place:
    """Of the code that registers: the nearest frame that is not of `BETWEEN`."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in BETWEEN:
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


# -- plug-ins ----------------------------------------------------------------------------------------------------------

Added = list[tuple[Registry[Any], str]]  # registries and names in them
loaded: dict[str, tuple[str, Added]] = {}  # name of a plug-in's module -> digest of its text, what it registered
left_out: set[str] = set()  # entry points that failed


def load_plugins(paths: Iterable[str | Path] = (), *, quiet: bool = False) -> None:
    """Imports each file, and each installed entry point of the group `vae_variants.plugins`: importing registers.

    A file that fails raises `UserError`, since it was asked for. An entry point that fails is left out, with a line on stderr unless
    `quiet`, and nothing of it stays: what does not need it goes on.
    """
    import_all()
    for point in entry_points(group=GROUP):
        place = f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value
        if place in left_out:
            continue
        try:
            with all_or_nothing():
                point.load()
        except (Exception, SystemExit) as error:
            left_out.add(place)
            mend = f"mend {point.module}, or python -m pip uninstall {point.dist.name}" if point.dist else f"mend {point.module}"
            if not quiet:
                print(f"warning: plug-in {point.name!r} ({place}) is left out: {explained(error)}; {mend}", file=sys.stderr)
    for path in paths:
        load_plugin(path)


def load_plugin(path: str | Path) -> Added:
    """Imports one file, or a package by its `__init__.py` -> what it registered. It is not loaded twice unless it changed.

    Raises `UserError` with file, line and mend.
    """
    import_all()
    path = Path(path).absolute()
    shown = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    if not path.is_file():
        raise UserError(f"plug-in {shown!r} is not a file")
    folder = path.parent if path.name == "__init__.py" else None  # of a package, whose modules import each other by relative imports
    name = f"vae_variants_plugin_{folder.name if folder else path.stem}_{hashlib.sha256(bytes(path.resolve())).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(folder)] if folder else None)
    if spec is None or spec.loader is None:
        raise UserError(f"plug-in {shown!r} is not a Python file (.py)")
    files = sorted(folder.rglob("*.py")) if folder else [path]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    known, before = loaded.get(name, ("", []))
    if known == digest and all(key in registry for registry, key in before):
        return before
    for registry, key in before:
        registry.drop(key)
    unload(name)
    sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses and `inspect` look for it
    try:
        with all_or_nothing() as added:
            spec.loader.exec_module(sys.modules[name])
    except (Exception, SystemExit) as error:
        unload(name)
        raise UserError(f"plug-in {shown!r} failed to import: {explained(error, path)}") from error
    loaded[name] = (digest, added)
    return added


def unload(name: str) -> None:
    """Forgets the module of a plug-in, and those inside it."""
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


@contextmanager
def all_or_nothing() -> Iterator[Added]:
    """Yields a list that has in the end what others than this package registered inside; where that fails, nothing of it stays."""
    before, found = {id(registry): set(registry) for registry in Registry.every}, Added()

    def look() -> None:
        for registry in Registry.every:
            new = [name for name in registry if name not in before.get(id(registry), ())]
            found.extend((registry, name) for name in new if not registry.places[name].own)

    try:
        yield found
        look()
    except BaseException:
        look()
        for registry, name in found:
            registry.drop(name)
        raise


def explained(error: BaseException, path: Path | None = None) -> str:
    """One line: of a file the line in which it went wrong, what went wrong, and the mend where it can be told."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if path is None or Path(frame.filename) == path]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    told = words if isinstance(error, (Refused, UserError)) else f"{type(error).__name__}: {words}".rstrip(": ")
    where = f"line {line}: " if line and path is not None else ""
    return f"{where}{told}{mend(error)}"[:1000]


def mend(error: BaseException) -> str:
    """What is to be done about an import that failed: a part of a sentence, or nothing."""
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] != __package__:
            return f"; install it (python -m pip install {name.partition('.')[0]}), or correct its name"
        case ImportError(name=str(module)) if found := re.match(r"cannot import name '(\w+)'", str(error)):
            near = nearest(found[1], dir(sys.modules.get(module)))
            return f"; did you mean {near!r}?" if near else f"; {module} has no such name"
        case NameError(name=str(name)):
            homes = [m for m in list(sys.modules) if m.startswith(f"{__package__}.") and name in getattr(sys.modules[m], "__all__", ())]
            return f"; add: from {homes[0]} import {name}" if homes else "; define or import it first"
        case SyntaxError(text=str(text)):
            return f"; mend this line: {text.strip()}"
        case SystemExit():
            return "; a plug-in registers things and does not end the program"
        case TypeError() if found := re.search(r"missing \d+ required .*argument", str(error)):
            return "; give it"
    return ""
