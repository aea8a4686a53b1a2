"""The summary of the page: the main metrics of every variant, by pixel type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vae_variants.analysis.entries import SUPPORTS, TIMINGS, Entry, best, distinct, enough, trained
from vae_variants.analysis.statistics import Interval
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.content import Cell, Content, figure, noisy, seeds
from vae_variants.report.sections import OVERVIEW, SHARP

__all__ = ["Bar", "Best", "Column", "Group", "Overview", "overview"]

NATS = ("nats", "bits")
NO_LIKELIHOOD, REFERENCE, FAILED = "none", "reference", "failed"
GROUPS = {**SUPPORTS, NO_LIKELIHOOD: "no likelihood", REFERENCE: "references, not trained", FAILED: "no values"}


@dataclass(frozen=True)
class Bar:
    """Places of an interval and its mean in a cell, in percent; without an interval both ends are the mean."""

    low: float
    mean: float
    high: float


Put = Callable[[Interval], Bar | None]


@dataclass(frozen=True)
class Column:
    title: str
    metric: str
    better: str
    unit: str


@dataclass(frozen=True)
class Group:
    """Rows whose nats compare."""

    name: str
    title: str
    rows: tuple[tuple[Entry, tuple[tuple[Cell, Bar | None], ...]], ...]


@dataclass(frozen=True)
class Best:
    """The best of a column, then those statistically tied with it; `of` counts the competitors with enough seeds.

    `group` is one of `GROUPS`, or empty if the metric compares between them.
    """

    title: str
    metric: str
    group: str
    entries: tuple[Entry, ...]
    cell: Cell
    of: int

    @property
    def all(self) -> bool:
        return len(self.entries) == self.of


@dataclass(frozen=True)
class Overview:
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    best: tuple[Best, ...]


def group_of(entry: Entry) -> str:
    if not entry.rows:
        return FAILED
    if not trained(entry):
        return REFERENCE
    return entry.record.support if entry.interval("log_likelihood") else NO_LIKELIHOOD


def overview(found: Content) -> Overview:
    """The summary. Its rows are those that the report shows; all trained variants compete, for nats those of one pixel type."""
    data, columns = data_name(found.runs.data), []
    for pattern, title in OVERVIEW.items():
        metric = pattern.format(data=data)
        row = next((e.rows[metric][0] for e in found.entries if metric in e.rows), None)
        if row is not None and any(e.interval(metric) for e in found.shown):
            columns.append(Column(title.format(data=data), metric, row["better"], row["unit"]))
    everyone = {name: [e for e in found.entries if group_of(e) == name] for name in GROUPS}
    top = [b for c in columns for b in bests(c, everyone)]
    bold = {(b.group, b.metric): {e.record.key for e in b.entries} for b in top if not b.all}
    groups = []
    for name, title in GROUPS.items():
        if own := [e for e in found.shown if group_of(e) == name]:
            rivals = [e for e in found.shown if trained(e)] or found.shown
            places = [place(c, own if c.unit in NATS else rivals) for c in columns]
            competes = name not in (REFERENCE, FAILED)
            marked = [bold.get((name if c.unit in NATS else "", c.metric), set()) if competes else set() for c in columns]
            groups.append(Group(name, title, tuple((e, tuple(cells(e, columns, places, marked))) for e in own)))
    return Overview(tuple(columns), tuple(groups), tuple(top))


def bests(column: Column, everyone: dict[str, list[Entry]]) -> list[Best]:
    """The best of a column among all trained variants with a value, for nats one for each pixel type."""
    if column.better == "none" or column.unit in TIMINGS:
        return []
    kinds = {name: everyone[name] for name in (*SUPPORTS, NO_LIKELIHOOD)}
    if column.unit not in NATS:
        kinds = {"": [e for group in kinds.values() for e in group]}
    found, head = [], column.title.split(" ↑")[0].split(" ↓")[0]
    for name, group in kinds.items():
        noise = column.metric in SHARP  # which noise alone can improve
        own = {e.label: e for e in distinct(group) if e.interval(column.metric) and not (noise and noisy(e))}
        if labels := best(list(own.values()), column.metric) if own else []:
            first, of = own[labels[0]], len(enough(list(own.values()), column.metric))
            title = f"{head}, {SUPPORTS[name]}" if name else head
            found.append(Best(title, column.metric, name, tuple(own[x] for x in labels), figure(first, column.metric), of))
    return found


def cells(e: Entry, columns: Sequence[Column], places: Sequence[Put | None], bold: Sequence[set[str]]) -> list[tuple[Cell, Bar | None]]:
    found: list[tuple[Cell, Bar | None]] = []
    for c, put, keys in zip(columns, places, bold, strict=True):
        value = e.interval(c.metric)
        found.append((figure(e, c.metric, best=e.record.key in keys), put(value) if put and value else None))
    return [*found, (seeds(e), None)]


def place(column: Column, rows: Sequence[Entry]) -> Put | None:
    """A function that places an interval in its cell, on one scale for the column; None if all means are equal.

    The scale goes from the lowest mean to the highest with some room, by logarithm if they span decades. Intervals of two seeds and
    means outside the scale, as of a reference, are not drawn.
    """
    means = [found.mean for e in rows if (found := e.interval(column.metric))]
    if len(means) < 2 or min(means) == max(means):
        return None
    log = min(means) > 0 and max(means) > 30 * min(means)

    def scaled(value: float) -> float:
        return math.log(max(value, 1e-300)) if log else value

    low, high = scaled(min(means)), scaled(max(means))
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)

    def percent(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (scaled(value) - low) / (high - low))), 1)

    def put(found: Interval) -> Bar | None:
        if not low <= scaled(found.mean) <= high:
            return None
        if found.low is None or found.high is None or found.n < 3:
            return Bar(*[percent(found.mean)] * 3)
        return Bar(percent(found.low), percent(found.mean), percent(found.high))

    return put
