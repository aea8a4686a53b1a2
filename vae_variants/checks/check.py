"""What a law is, and how one is tried on something registered."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from vae_variants.cli.registries import registry_of
from vae_variants.registry import UserError

__all__ = ["LAWS", "Broken", "Law", "Outcome", "Untried", "law", "outcomes"]


class Broken(AssertionError):
    """A law that does not hold: what was found, in words that stand after the name of the thing, and the mend."""

    def __init__(self, found: str, mend: str) -> None:
        super().__init__(f"{found}; {mend}")
        self.found, self.mend = found, mend


class Untried(Exception):
    """A law that says nothing here; its message is the reason."""


@dataclass(frozen=True)
class Law:
    """Holds for everything of a kind: `check` takes a registered name, and raises `Broken` or `Untried`.

    Where a `first` one is broken, the others of its kind have nothing to stand on.
    """

    kind: str
    name: str
    says: str
    check: Callable[[str], None]
    first: bool = False

    def __call__(self, name: str) -> None:
        """Tried with draws of its own, the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.check(name)


class Outcome(NamedTuple):
    """Of one law on one thing; `state` is passed, broken or untried, `found` what was found or the reason."""

    law: Law
    state: str
    found: str = ""
    mend: str = ""


LAWS: dict[str, list[Law]] = {}  # kind -> its laws, the first ones first


def law(kind: str, *, first: bool = False) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    """Makes a function (registered name) a law of that kind; the first line of its docstring says what holds."""

    def add(check: Callable[[str], None]) -> Callable[[str], None]:
        says = (inspect.getdoc(check) or "").split("\n")[0].rstrip(".")
        LAWS.setdefault(kind, []).append(Law(kind, check.__name__.replace("_", "-"), says, check, first))
        return check

    return add


def outcomes(kind: str, name: str) -> list[Outcome]:
    """Every law of a kind on one thing of it."""
    found: list[Outcome] = []
    for each in LAWS[kind]:
        if any(one.law.first and one.state == "broken" for one in found):
            found.append(Outcome(each, "untried", "the first laws have to hold before"))
        else:
            found.append(tried(each, name))
    return found


def tried(each: Law, name: str) -> Outcome:
    """Whatever it raises is an outcome."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each(name)
    except Broken as broken:
        return Outcome(each, "broken", broken.found, broken.mend)
    except Untried as reason:
        return Outcome(each, "untried", str(reason))
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        place = registry_of(each.kind).places[name]
        told = said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place.file]
        if not inside:
            return Outcome(each, "broken", f"raises {told}", "see where what it gives is used")
        return Outcome(each, "broken", f"raises {told}", f"mend {Path(place.file).name}:{inside[-1].lineno}, in {inside[-1].name}")
    return Outcome(each, "passed")
