"""Plug-ins: Python files and installed entry points that register components when they are imported."""

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from vae_variants.registry import Refused, Registry, UserError, loading, nearest, user_path

NAME, GROUP = "vae_variants", "vae_variants.plugins"
MOVED = {  # modules of earlier versions -> where their names are now
    "batches": "training.batches",
    "commands": "cli",
    "events": "integrations.tensorboard",
    "exports": "integrations.export",
    "form": "components",
    "laws": "checks",
    "likelihoods": "models.likelihoods",
    "model": "models.base",
    "networks": "models.networks",
    "numerics": "models.numerics",
    "objectives": "models.objectives",
    "precision": "training.precision",
    "rates": "training.throughput",
    "steps": "training.traced",
    "harness.statistics": "analysis.statistics",
    "models.reference": "models.references",
    "studies.judging": "analysis.verdicts",
}

SEARCHED = tuple(sys.path)  # before a plug-in adds a folder

Added = list[tuple[Registry[Any], str]]  # registries and names in them
loaded: dict[str, tuple[str, Added]] = {}  # name of a plug-in's module -> digest of its text, what it registered
versions: dict[Path, str] = {}  # file of a plug-in -> digest of the text that was loaded, with its package's
left_out: set[str] = set()  # entry points that failed


def built_in() -> None:
    """Registers what is built in, before a plug-in can take its name. This imports torch, which help does without."""
    import vae_variants.datasets
    import vae_variants.evaluation
    import vae_variants.models
    import vae_variants.variants  # noqa: F401


def load_plugins(paths: Iterable[str | Path] = (), *, quiet: bool = False) -> None:
    """Loads each installed entry point of the group `vae_variants.plugins`, then each file.

    An entry point that fails is skipped with a warning on stderr, unless `quiet`, and nothing of it stays registered.

    Raises:
        UserError: A file failed.
    """
    built_in()
    for point in entry_points(group=GROUP):
        place = f"{point.value} of {point.dist.name} {point.dist.version}" if point.dist else point.value
        if place in left_out:
            continue
        try:
            with all_or_nothing(point.module), importing():
                loading.set(file_of(point))  # which imports the packages around the module
                point.load()
        except (Exception, SystemExit) as error:
            left_out.add(place)
            fix = f"fix {point.module}" + (f", or python -m pip uninstall {point.dist.name}" if point.dist else "")
            if not quiet:
                print(f"warning: plug-in {point.name!r} ({place}) is left out: {explained(error)}; {fix}", file=sys.stderr)
    for path in paths:
        load_plugin(path)


def load_plugin(path: str | Path) -> Added:
    """Executes a file, or a package by its `__init__.py`, unless it has been loaded and has not changed since.

    Returns:
        The registries and names of what it registered.

    Raises:
        UserError: The file failed; names the line and a fix.
    """
    built_in()
    path = user_path(path).absolute()
    shown = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    if not path.is_file():
        raise UserError(f"plug-in {shown!r} is not a file")
    folder, name = package_of(path), module_name(path)
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(folder)] if folder else None)
    if spec is None or spec.loader is None:
        raise UserError(f"plug-in {shown!r} is not a Python file (.py)")
    files = sorted(folder.rglob("*.py")) if folder else [path]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    known, before = loaded.get(name, ("", []))
    if known == digest and all(key in registry for registry, key in before):
        return before
    loaded.pop(name, None)
    for registry, key in before:
        registry.drop(key)
    unload(name)
    sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses and `inspect` look for it
    try:
        with all_or_nothing(str(path)) as added, importing():
            spec.loader.exec_module(sys.modules[name])
    except (Exception, SystemExit) as error:
        unload(name)
        raise UserError(f"plug-in {shown!r} failed to import: {explained(error, path)}") from error
    loaded[name] = (digest, added)
    versions.update(dict.fromkeys(files, digest))
    return added


def package_of(path: Path) -> Path | None:
    """The folder of a package, whose modules import each other by relative imports."""
    return path.parent if path.name == "__init__.py" else None


def module_name(path: Path) -> str:
    """The name that the module of a plug-in has in `sys.modules`."""
    return f"vae_variants_plugin_{(package_of(path) or path.with_suffix('')).name}_{hashlib.sha256(bytes(path.resolve())).hexdigest()[:8]}"


def function_of(path: str | Path, name: str) -> Callable[..., Any]:
    """A function in a file, which is loaded as a plug-in. Raises `UserError` without it, and as `load_plugin` does."""
    load_plugin(path)
    module = sys.modules[module_name(user_path(path).absolute())]
    found = getattr(module, name, None)
    if not inspect.isfunction(found):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
        raise UserError(f"{str(path)!r} has no function {name!r}; choices: {', '.join(there) or 'none'}")
    return found


def importing() -> AbstractContextManager[object]:
    """A context for the import of a plug-in: raises `UserError` if it changes what runs share, in scikit-learn as well."""
    import sklearn.linear_model  # noqa: F401  (runs import it: a change of what is not imported yet would not be seen)

    from vae_variants.isolation import unchanged  # imports torch, which help does without

    return unchanged("the import", "do that inside the function that needs it, and restore it there")


def unload(name: str) -> None:
    """Removes the module of a plug-in, and those inside it."""
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


def file_of(point: EntryPoint) -> str:
    """The file of an entry point's module; its name if there is none."""
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError:
        spec = None
    return (spec and spec.origin) or point.module


@contextmanager
def all_or_nothing(file: str) -> Iterator[Added]:
    """Yields a list that ends up with what is registered inside. If the block fails, all of it is dropped.

    Built-ins are not in it, nor is what another plug-in registered that was loaded inside.
    """
    before, earlier, found = {id(registry): set(registry) for registry in Registry.every}, dict(loaded), Added()

    def look() -> None:
        inside = [added for module, (_, added) in loaded.items() if earlier.get(module, ("", None))[1] is not added]
        others = {(id(registry), name) for added in inside for registry, name in added}
        for registry in Registry.every:
            new = [name for name in registry if name not in before.get(id(registry), ()) and (id(registry), name) not in others]
            found.extend((registry, name) for name in new if not registry.places[name].own)

    token = loading.set(file)
    try:
        yield found
        look()
    except BaseException:
        look()
        for registry, name in found:
            registry.drop(name)
        raise
    finally:
        loading.reset(token)


def explained(error: BaseException, path: Path | None = None) -> str:
    """One line: where in the file `path` an import failed, why, and how to fix it if that is known."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if path is None or Path(frame.filename) == path]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    told = words if isinstance(error, (Refused, UserError)) else f"{type(error).__name__}: {words}".rstrip(": ")
    where = f"line {line}: " if line and path is not None else ""
    return f"{where}{told}{fix_of(error)}"[:1000]


def fix_of(error: BaseException) -> str:
    """How to fix a failed import: a part of a sentence, or nothing."""
    match error:
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] == NAME:
            return moved(name.removeprefix(f"{NAME}."))
        case ModuleNotFoundError(name=str(name)):
            return f"; install it (python -m pip install {name.partition('.')[0]}), or correct its name"
        case ImportError(name=str(module)) if found := re.match(r"cannot import name '(\w+)'", str(error)):
            if fix := moved(f"{module}.{found[1]}".removeprefix(f"{NAME}.")):
                return fix
            near = nearest(found[1], dir(sys.modules.get(module)))
            return f"; did you mean {near!r}?" if near else f"; {module} has no such name"
        case NameError(name=str(name)):
            homes = [home for home, module in list(sys.modules.items()) if exports(home, module, name)]
            return f"; add: from {homes[0]} import {name}" if homes else "; define or import it first"
        case SyntaxError(text=str(text)):
            return f"; fix this line: {text.strip()}"
        case SystemExit():
            return "; a plug-in registers things and does not end the program"
        case TypeError() if re.search(r"missing \d+ required .*argument", str(error)):
            return "; give it"
    return ""


def moved(module: str) -> str:
    """Where a module of an earlier version is now; empty if it is not known."""
    return f"; it is {NAME}.{MOVED[module]} now; components and what they need: from {NAME} import ..." if module in MOVED else ""


def exports(home: str, module: ModuleType | None, name: str) -> bool:
    """Whether a module of the package offers a name, by `__all__` or because it defines it."""
    if module is None or home.split(".")[0] != NAME:
        return False
    return name in getattr(module, "__all__", ()) or getattr(vars(module).get(name), "__module__", None) == home
