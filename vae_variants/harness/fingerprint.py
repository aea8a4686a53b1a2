"""A digest of the sources that can change a run's numbers.

It hashes whole files and follows their imports: what trains a model, what measures it, and the components that a configuration names.
Comments and docstrings do not count.
"""

import ast
import hashlib
import inspect
import itertools
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vae_variants.components import chosen
from vae_variants.evaluation import METRICS, Metric
from vae_variants.models.base import MODELS
from vae_variants.plugins import versions

NAME, PACKAGE = "vae_variants", Path(__file__).parents[1]
TRAINING, EVALUATION = ("training/setup.py", "harness/process.py"), ("evaluation/__init__.py", "harness/measured.py")
# Files that imports do not lead into: they find components, whose own files count, load data, which have a digest, or change no figure.
APART = (
    *("__init__.py", "registry.py", "isolation.py", "models/__init__.py", "variants/__init__.py"),
    *(
        f"datasets/{name}.py"
        for name in ("__init__", "builtin", "downloads", "factored", "factored_files", "own", "folder", "solids", "sprites")
    ),
)
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # where a statement or module holds others
LIBRARY = {"site-packages", "dist-packages"}


def fingerprint(values: Mapping[str, Any], evaluation: bool = True, foreign: bool = True) -> str:
    """Digest of the sources behind a configuration.

    Args:
        values: Of a configuration. Entries of variants do not count, nor do models that it does not name.
        evaluation: Whether what is measured counts.
        foreign: Whether a plug-in's metrics count too, if they apply to the class of this model.

    Raises:
        UserError: A component is not registered.
    """
    used = [kind.registry[values[kind.key]] for kind in chosen() if kind.key in values]
    files = {path for part in used for path in sources(part)}
    if evaluation and foreign and "model" in values:
        files |= {path for m in foreign_metrics(values) for path in sources(m.fn) if not path.is_relative_to(PACKAGE)}
    return digest(frozenset(files), evaluation, hash(tuple(versions.items())))


def foreign_metrics(values: Mapping[str, Any]) -> list[Metric]:
    """A plug-in's metrics that apply to the class of this model."""
    model = MODELS[values["model"]]
    found = METRICS.foreign.values() if isinstance(model, type) else ()
    return [m for m in found if all(issubclass(model, need) for need in m.needs)]


@lru_cache(maxsize=1024)
def sources(part: Any) -> frozenset[Path]:
    """The files of a function, of a class and its bases, or of a value that holds functions."""
    part = part.func if isinstance(part, partial) else part
    held = part if isinstance(part, tuple) else vars(part).values() if hasattr(part, "__dict__") else ()
    classes = [cls for member in (part, *held) if isinstance(member, type) for cls in member.__mro__]
    functions = [inspect.unwrap(member) for member in (part, *held) if callable(member) and hasattr(member, "__code__")]
    names = [getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in (*classes, type(part))]
    paths = [Path(name) for name in (*names, *(f.__code__.co_filename for f in functions if hasattr(f, "__code__"))) if name]
    return frozenset(path for path in paths if path.is_file() and counts(path))


def counts(path: Path) -> bool:
    """Whether a file is the project's, a plug-in's or the user's, not a library's."""
    if path.is_relative_to(PACKAGE) or any(path.is_relative_to(root) for root in installed()):
        return True
    return LIBRARY.isdisjoint(path.parts) and not path.is_relative_to(sysconfig.get_path("stdlib"))


@lru_cache(maxsize=1)
def installed() -> frozenset[Path]:
    """The folders or files of packages that register components by an entry point."""
    specs = [find_spec(name) for name in {point.module.partition(".")[0] for point in entry_points(group=f"{NAME}.plugins")}]
    places = [place for spec in specs if spec for place in (*(spec.submodule_search_locations or ()), spec.origin or "") if place]
    return frozenset(map(Path, places))


@lru_cache(maxsize=64)
def digest(components: frozenset[Path], evaluation: bool, *_: int) -> str:
    found, apart = dict[Path, str](), {PACKAGE / name for name in APART}
    waiting = [*components, *(PACKAGE / name for name in (*TRAINING, *(EVALUATION if evaluation else ())))]
    while waiting:
        path = waiting.pop()
        if path not in found and path not in apart:
            found[path], imported = read(path, versions.get(path, ""))
            waiting += imported
    texts = sorted((path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else "", text) for path, text in found.items())
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def read(path: Path, _: str = "") -> tuple[str, tuple[Path, ...]]:
    """The code of a file when this version of it is first asked for, and those of the files that it imports that count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = tuple(file for node in statements(tree, checks=False) for file in files_of(node, path))
    for node in statements(tree):
        if body := getattr(node, "body", None):
            node.body = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]  # type: ignore[attr-defined]
    return repr(plain(tree)), imported


def plain(node: object) -> object:
    """A syntax tree as tuples without what is empty, which is the same in each version of Python: `ast.unparse` and `ast.dump` are not."""
    if isinstance(node, ast.JoinedStr):  # some versions divide the text between two braces, or add an empty one
        runs = itertools.groupby(node.values, lambda value: isinstance(value, ast.Constant))
        parts = [["".join(str(ast.literal_eval(each)) for each in run)] if text else list(run) for text, run in runs]
        return ("JoinedStr", *(plain(part) for run in parts for part in run if part != ""))
    if isinstance(node, ast.AST):
        fields = ((name, plain(getattr(node, name, None))) for name in node._fields)
        return (type(node).__name__, *((name, value) for name, value in fields if value not in (None, ())))
    return tuple(map(plain, node)) if isinstance(node, list) else (type(node).__name__, node) if node is not None else None


def statements(node: ast.AST, checks: bool = True) -> Iterator[ast.AST]:
    """A module or statement and all statements in it; without `checks` those under `if TYPE_CHECKING` are left out."""
    if not checks and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for inner in itertools.chain.from_iterable(getattr(node, name, ()) for name in BLOCKS):
        yield from statements(inner, checks)


def files_of(node: ast.AST, path: Path) -> list[Path]:
    """The files that an import statement in the file `path` names, of those that count."""
    if isinstance(node, ast.ImportFrom):
        inner = [node.module] if node.module else []
        names = [".".join(parts) for parts in ([*inner], *([*inner, alias.name] for alias in node.names)) if parts]
        if node.level:
            return [file for name in names for file in below([path.parents[node.level - 1]], name.split("."))]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        return []
    found: list[Path] = []
    for name in names:
        top, *rest = name.split(".")
        if top == NAME:
            place = PACKAGE.joinpath(*rest)
            found += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
        elif not path.is_relative_to(PACKAGE) and top not in sys.stdlib_module_names:
            found += [file for file in elsewhere(top, tuple(rest)) if counts(file)]
    return found


@lru_cache(maxsize=256)
def elsewhere(top: str, rest: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of another package's module and of the packages that it is in; none if there is no source."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return ()
    if spec is None:
        return ()
    roots = list(map(Path, spec.submodule_search_locations or ()))
    own = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    return (*own, *below(roots, list(rest)))


def below(roots: list[Path], names: list[str]) -> Iterator[Path]:
    """The file of each part of a dotted name: a module's or a package's."""
    for root in roots:
        for i in range(1, len(names) + 1):
            place = root.joinpath(*names[:i])
            yield from (file for file in (place.with_name(f"{place.name}.py"), place / "__init__.py") if file.is_file())
