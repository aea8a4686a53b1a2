"""What a study is: a claim, what is measured, how that is judged, and the figure that shows it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor

from vae_variants.components import class_fault
from vae_variants.registry import Registry, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vae_variants.studies.lab import Lab

__all__ = ["STUDIES", "Effect", "Findings", "Judgement", "Picture", "Study", "Table", "Verdict"]

Cell = str | int | float | None


class Verdict(StrEnum):
    """What the evidence says of a claim."""

    SUPPORTED = "supported"
    CONDITIONAL = "supported under conditions"
    INCONCLUSIVE = "inconclusive"
    REFUTED = "not supported"


@dataclass(frozen=True)
class Table:
    """Plain values in rows; units belong into the names of the columns. A `folded` one is long, and shown closed."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"a row of {len(wrong[0])} cells in a table of {len(self.columns)} columns: {wrong[0]}")
        for name, column in zip(self.columns, zip(*self.rows, strict=True), strict=False):
            if any(isinstance(value, float) and not math.isfinite(value) for value in column):
                raise ValueError(f"table {self.caption!r} has a value in column {name!r} that is not finite; None is for what there is not")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Row by row, each as column -> cell."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def where(self, **equal: Cell) -> list[dict[str, Any]]:
        """The rows in which these columns have these values."""
        if unknown := set(equal) - set(self.columns):
            raise ValueError(f"no column {sorted(unknown)} among {list(self.columns)}")
        return [row for row in self if all(row[name] == value for name, value in equal.items())]

    def by_seed(self, value: str, **equal: Cell) -> dict[int, float]:
        """seed -> `value`, of the rows in which these columns have these values and there is a value."""
        return {row["seed"]: row[value] for row in self.where(**equal) if row[value] is not None}

    @classmethod
    def of(cls, caption: str, rows: Sequence[Mapping[str, Cell]], folded: bool = False) -> Table:
        """From rows as mappings that all have the same columns."""
        columns = tuple(rows[0]) if rows else ()
        return cls(caption, columns, tuple(tuple(row[name] for name in columns) for row in rows), folded)


Tables = Mapping[str, Table]


@dataclass(frozen=True)
class Findings:
    """What was measured. `arrays` are for figures alone (images, grids): a verdict rests on tables, which the page shows."""

    tables: Tables
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


class Effect(NamedTuple):
    """One comparison: its size with an interval, and what it was held against, which was written down before it was measured."""

    where: Mapping[str, str]  # what it is of, as column -> text
    value: float
    low: float | None
    high: float | None
    level: float | None  # of the interval; None for an identity that is checked and not estimated
    n: int
    of: str  # what n counts: seeds, images, draws
    unit: str
    criterion: str
    verdict: Verdict


@dataclass(frozen=True)
class Judgement:
    """`reason` is one to three sentences that a student can read; the effects are its evidence, `more` has what else was seen."""

    verdict: Verdict
    reason: str
    effects: tuple[Effect, ...] = ()
    more: tuple[str, ...] = ()  # sentences, each of which stands alone


class Picture(NamedTuple):
    """A figure with a caption that says what one sees in it; `name` is that of its file."""

    name: str
    caption: str
    figure: Figure


class Study(ABC):
    """A claim that is put to the test.

    `measure` is slow and has all the chance in it; `judge` and `draw` are pure functions of what it found, so that a verdict can be
    given again without measuring. What decides the verdict, margins included, is written in `criterion` and nowhere else than in
    the code beside it. Raise `version` when what is measured changes.
    """

    claim: ClassVar[str]  # one sentence, as a textbook would say it
    source: ClassVar[str]  # who says so
    criterion: ClassVar[str]  # when the claim counts as supported, and when as not supported: written before the study ran
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(self, lab: Lab) -> Findings:
        """Trains and measures what the claim needs."""

    @abstractmethod
    def judge(self, tables: Tables) -> Judgement:
        """The verdict, from the tables alone."""

    @abstractmethod
    def draw(self, found: Findings) -> list[Picture]:
        """At least one figure that shows the effect."""


STUDIES: Registry[type[Study]] = Registry("study")


@STUDIES.validator
def _fault(obj: Any) -> str:
    if fault := class_fault(obj, Study):
        return fault
    if missing := [part for part in ("claim", "source", "criterion") if not isinstance(getattr(obj, part, None), str)]:
        return f"has no {missing[0]}; write {missing[0]} = a sentence in class {obj.__name__}"
    return ""


def chosen(names: Sequence[str]) -> list[str]:
    """Those names, or all. Raises `UserError` for one that is not there."""
    for name in names:
        STUDIES[name]
    if len(set(names)) < len(names):
        raise UserError(f"a study is named twice: {', '.join(names)}")
    return list(names) or list(STUDIES)
