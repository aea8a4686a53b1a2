"""What a conformance check is, and how it is run."""

import ast
import inspect
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from vae_variants.components import KINDS
from vae_variants.isolation import Changed, Snapshot, unchanged
from vae_variants.registry import UserError


class Failed(AssertionError):
    """A check that failed. `found` follows the component's name in a sentence; `fix` says what to do."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"{found}; {fix}")
        self.found, self.fix = found, fix


class Skipped(Exception):
    """A check that does not apply; its message is the reason."""


@dataclass(frozen=True)
class Check:
    """A property that every component of a kind must have.

    Args:
        kind: Of component.
        name: In kebab case.
        says: The property, as a sentence without a full stop.
        run: Takes the name of a component; raises `Failed` or `Skipped`.
        first: If it fails, the other checks of the component are skipped.
    """

    kind: str
    name: str
    says: str
    run: Callable[[str], None]
    first: bool = False

    def __call__(self, name: str) -> None:
        """Runs it with its own random stream, the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.run(name)


class Outcome(NamedTuple):
    """What a check of one component found. `state` is passed, broken or untried; `found` is empty or the finding or the reason."""

    check: Check
    state: str
    found: str = ""
    fix: str = ""


CHECKS: dict[str, list[Check]] = {}  # kind -> its own checks, the first ones first
DESCRIBED = "says-what-it-is"


def check(kind: str, *, first: bool = False) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    """Makes a function of a component's name a check of that kind. The first line of its docstring states the property."""

    def add(run: Callable[[str], None]) -> Callable[[str], None]:
        says = (inspect.getdoc(run) or "").split("\n")[0].rstrip(".")
        CHECKS.setdefault(kind, []).append(Check(kind, run.__name__.replace("_", "-"), says, run, first))
        return run

    return add


def described(kind: str, name: str) -> None:
    """Raises `Failed` if a component has no description."""
    registry = KINDS[kind].registry
    inherited = isinstance(registry[name], type) and not vars(registry[name]).get("__doc__")
    if inherited or len(registry.describe(name)) < 8:
        raise Failed("has no description", "write a docstring: its first line is what `list` shows")


def checks_of(kind: str) -> list[Check]:
    """The checks of a kind: that a component has a description, then the kind's own."""
    own = CHECKS.get(kind, [])
    if kind == "study" or any(each.name == DESCRIBED for each in own):
        return own
    return [Check(kind, DESCRIBED, "It has a description for `list`", partial(described, kind), first=True), *own]


def edited(kind: str, name: str) -> None:
    """Raises `Failed` if a component is the worked example of `new`, under a name that promises something else."""
    written, snake = KINDS[kind], name.replace("-", "_")
    if not written.template or snake == f"my_{written.key}":
        return
    example, own = (definitions(text) for text in (written.filled(snake), read(written.registry.places[name].file)))
    if set(example.values()) <= set(own.values()):
        raise Failed(f"is the worked example still: {written.example}", f"put your own in its place, or call it my_{written.key}")


def read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError):  # made in a console
        return ""


def definitions(text: str) -> dict[str, str]:
    """Name -> code of each class and function of a file, without comments and docstrings."""
    body = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    for node in (inner for outer in body for inner in ast.walk(outer)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return {node.name: ast.dump(node) for node in body}


EDITED = "is-your-own"


def outcomes(kind: str, name: str) -> list[Outcome]:
    """Runs every check of a kind on one component. A plug-in's must not be the example of a template."""
    found, snapshots = list[Outcome](), list[Snapshot]()
    if name in KINDS[kind].registry.foreign:
        own = outcome(Check(kind, EDITED, "It is not the worked example of a template", partial(edited, kind)), name, snapshots)
        found += [own] if own.state == "broken" else []
    for each in checks_of(kind):
        if any(one.check.first and one.state == "broken" for one in found):
            found.append(Outcome(each, "untried", "an earlier check must pass first"))
        else:
            found.append(outcome(each, name, snapshots))
    return found


def outcome(each: Check, name: str, snapshots: list[Snapshot]) -> Outcome:
    """Runs a check; for what is foreign, it adds a snapshot to those of the checks just before it."""
    fix = "let it work on copies, and restore what it sets"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name not in KINDS[each.kind].registry.foreign:
                each(name)
            else:
                with unchanged("it", fix, earlier=snapshots[-1] if snapshots else None) as before:
                    snapshots[:] = [before]
                    each(name)
    except Failed as failed:
        return Outcome(each, "broken", failed.found, failed.fix)
    except Skipped as reason:
        return Outcome(each, "untried", str(reason))
    except Changed as changed:
        snapshots.clear()
        what, _, fix = str(changed).removeprefix("it ").partition("; ")
        return Outcome(each, "broken", what, fix)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        found = f"raises {said if isinstance(error, UserError) else f'{type(error).__name__}: {said}'}"
        file = KINDS[each.kind].registry.places[name].file
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        if not inside:
            return Outcome(each, "broken", found, "see where its result is used")
        return Outcome(each, "broken", found, f"fix {Path(file).name}:{inside[-1].lineno}, in {inside[-1].name}")
    return Outcome(each, "passed")
