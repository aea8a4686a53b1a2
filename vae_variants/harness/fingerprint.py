"""A digest of the sources that can change a run's numbers; comments, docstrings and everything else can change without it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from vae_variants.likelihoods import LIKELIHOODS
from vae_variants.model import MODELS
from vae_variants.networks import NETWORKS
from vae_variants.objectives import OBJECTIVES
from vae_variants.registry import Registry

__all__ = ["fingerprint"]

NAME, PACKAGE = "vae_variants", Path(__file__).parents[1]
TRAINING = ("training", "datasets/dataset", "process", "variants")
EVALUATION = ("evaluation/__init__", "harness/runner")
COMPONENTS: dict[str, Registry[Any]] = {"model": MODELS, "likelihood": LIKELIHOODS, "objective": OBJECTIVES, "network": NETWORKS}
# the registry finds things, data have a digest of their own, and the rest of the harness carries numbers about
APART = {PACKAGE / "registry.py", *(PACKAGE / f"datasets/{name}.py" for name in ("__init__", "builtin", "downloads", "own", "folder"))}
ONLY = {PACKAGE / "harness/runner.py": {"train_and_evaluate", "costs"}}  # file -> functions of it that make numbers


def fingerprint(values: Mapping[str, Any], evaluation: bool = True) -> str:
    """Of the sources behind a configuration and what it imports: training, and unless told otherwise what is measured.

    A variant's entry does not count, nor a model that is not this one. Raises `UserError` for a component that is not registered.
    """
    used = [registry[values[name]] for name, registry in COMPONENTS.items() if name in values]
    files = {path for part in used if (path := source(part)) is not None}
    return digest(frozenset(files), evaluation)


@lru_cache(maxsize=1024)
def source(part: Any) -> Path | None:
    """The file of a function, a class or a value that is made of functions; None of what was typed in."""
    part = part.func if isinstance(part, partial) else part
    parts = part if isinstance(part, tuple) else vars(part).values() if hasattr(part, "__dict__") else ()
    members = (part, *parts)
    files = (Path(member.__code__.co_filename) for member in members if hasattr(member, "__code__"))
    return next((path for path in files if path.is_file()), None)


@lru_cache(maxsize=64)
def digest(components: frozenset[Path], evaluation: bool) -> str:
    roots = [PACKAGE / f"{name}.py" for name in (*TRAINING, *(EVALUATION if evaluation else ()))]
    found: dict[Path, str] = {}
    waiting = [*components, *roots]
    while waiting:
        path = waiting.pop()
        if path not in found and path not in APART:
            found[path], imported = read(path)
            waiting += imported
    texts = sorted((path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else "", text) for path, text in found.items())
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def read(path: Path) -> tuple[str, tuple[Path, ...]]:
    """The code of a file as it is when one first asks, and the files of this package that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path in ONLY:
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ONLY[path]]
    if path == PACKAGE / "variants.py":  # its entries are names for values, which stand in the key themselves
        tree.body = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom))]
    imported = tuple(file for node in statements(tree) for file in files_of(node))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]  # type: ignore[attr-defined]
    return ast.unparse(tree), imported


def statements(tree: ast.Module) -> list[ast.stmt]:
    """Those that are executed, of a module and of its functions: what stands under `if TYPE_CHECKING` is not."""
    types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(inner) for node in types for inner in ast.walk(node)}
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and id(node) not in skipped]


def files_of(node: ast.stmt) -> list[Path]:
    """The files of this package that an import statement names."""
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        return []
    found: list[Path] = []
    for name in names:
        top, _, rest = name.partition(".")
        if top == NAME and rest:
            found += [path for path in (PACKAGE / f"{rest.replace('.', '/')}.py",) if path.is_file()]
    return found
