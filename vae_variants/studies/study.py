"""A study: a claim, its measurement, its verdict and its figure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pandas as pd
from torch import Tensor

from vae_variants.analysis.verdicts import Effect, Verdict
from vae_variants.components import class_fault
from vae_variants.registry import Registry, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vae_variants.studies.lab import Lab

__all__ = [
    "STUDIES", "Cell", "Findings", "Judgement", "Picture", "Study", "Tables", "by_seed", "chosen", "rows", "select", "table",
]  # fmt: skip

Cell = str | int | float | None
Tables = Mapping[str, pd.DataFrame]


def table(caption: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table of measured values.

    Args:
        caption: what the table shows; kept in `attrs["caption"]`.
        rows: column -> value, with the same columns in each row and units in the names of the columns. None is a missing value.

    Returns:
        The rows as a DataFrame. A missing value is NaN; a column of integers keeps its integers if some are missing (`Int64`).

    Raises:
        ValueError: a value is infinite or NaN.
    """
    for row in rows:
        if wrong := [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]:
            raise ValueError(f"table {caption!r} has a value in column {wrong[0]!r} that is not finite; write None for a missing value")
    frame = pd.DataFrame(list(rows))
    for name in frame.columns[frame.isna().any()]:
        if {type(row[name]) for row in rows} == {int, type(None)}:
            frame[name] = frame[name].astype("Int64")
    frame.attrs["caption"] = caption
    return frame


def select(table: pd.DataFrame, **equal: Cell) -> pd.DataFrame:
    """The rows in which these columns have these values. A table without rows may lack the columns."""
    if len(table):
        for name, value in equal.items():
            table = table[table[name].isna() if value is None else table[name] == value]
    return table


def by_seed(table: pd.DataFrame, value: str, **equal: Cell) -> pd.Series[float]:
    """Column `value` by seed, without missing values, of the rows that `select` finds: `b - a` of two of them is paired by seed."""
    found = select(table, **equal)
    if not len(found):
        return pd.Series(dtype=float)
    return found.set_index("seed")[value].dropna().astype(float)


def rows(table: pd.DataFrame, **equal: Cell) -> list[dict[str, Any]]:
    """The rows that `select` finds as dictionaries, with None for missing values."""
    found = select(table, **equal).astype(object)
    return [dict(zip(found.columns, row, strict=True)) for row in found.where(found.notna(), None).to_numpy()]


@dataclass(frozen=True)
class Findings:
    """What was measured. `arrays` are for figures only (images, grids): a verdict rests on the tables."""

    tables: Tables
    arrays: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """A verdict, the sentence that explains it, and the effects that it rests on."""

    verdict: Verdict
    reason: str
    effects: tuple[Effect, ...] = ()


class Picture(NamedTuple):
    """A figure with a caption that says what to see in it; `name` is part of the name of its file."""

    name: str
    caption: str
    figure: Figure


class Study(ABC):
    """A claim that is put to the test; its docstring says what is measured.

    Only `measure` is slow and uses random numbers. `judge` and `draw` are pure functions of its findings, so that a claim can be judged
    again without measuring. `criterion` and the code beside it decide the verdict. Raise `version` when what is measured changes.
    """

    claim: ClassVar[str]  # one sentence, as a textbook would say it
    source: ClassVar[str]  # who says so
    criterion: ClassVar[str]  # when the claim is supported and when it is not, written before measuring
    version: ClassVar[int] = 1

    @abstractmethod
    def measure(self, lab: Lab) -> Findings:
        """Trains and measures what the claim needs."""

    @abstractmethod
    def judge(self, tables: Tables) -> Judgement:
        """The verdict, from the tables alone."""

    @abstractmethod
    def draw(self, found: Findings) -> list[Picture]:
        """At least one figure that shows the effect; the page shows the first one first."""


STUDIES: Registry[type[Study]] = Registry("study")


@STUDIES.validator
def _fault(obj: Any) -> str:
    if fault := class_fault(obj, Study):
        return fault
    if missing := [part for part in ("claim", "source", "criterion") if not isinstance(getattr(obj, part, None), str)]:
        return f"has no {missing[0]}; write {missing[0]} = a sentence in class {obj.__name__}"
    return ""


def chosen(names: Sequence[str]) -> list[str]:
    """These studies, or all of them without names. Raises `UserError` for an unknown name."""
    for name in names:
        STUDIES[name]
    if len(set(names)) < len(names):
        raise UserError(f"a study is named twice: {', '.join(names)}")
    return list(names) or list(STUDIES)
