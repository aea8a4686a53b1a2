"""The first table of the page: what one looks at first, of every variant, by kind of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vae_variants.analysis.entries import SUPPORTS, TIMINGS, Entry, best, distinct, enough, trained
from vae_variants.analysis.statistics import Interval
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.content import Cell, Content, figure, leaders, noisy, seeds
from vae_variants.report.sections import OVERVIEW, SHARP

__all__ = ["Bar", "Best", "Column", "Group", "Overview", "overview"]

NATS = ("nats", "bits")
NO_LIKELIHOOD, REFERENCE, FAILED = "none", "reference", "failed"
GROUPS = {**SUPPORTS, NO_LIKELIHOOD: "no likelihood", REFERENCE: "references: nothing is trained", FAILED: "no figures"}


@dataclass(frozen=True)
class Bar:
    """Where an interval and its mean are drawn in a cell, in percent; without an interval both ends are the mean."""

    low: float
    mean: float
    high: float


Put = Callable[[Interval], Bar | None]


@dataclass(frozen=True)
class Column:
    title: str
    metric: str
    scale: float
    better: str
    unit: str


@dataclass(frozen=True)
class Group:
    """Rows whose nats may be compared."""

    name: str
    title: str
    rows: tuple[tuple[Entry, tuple[tuple[Cell, Bar | None], ...]], ...]


@dataclass(frozen=True)
class Best:
    """The best of a column, and those that cannot be told from it, the best first; of how many with the seeds for it."""

    title: str
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
    """Rows are those that the report shows; what is best is decided among all that were trained, of nats among one kind of pixels."""
    data, columns = data_name(found.facts.data), []
    for title, pattern, scale in OVERVIEW:
        metric = pattern.format(data=data)
        row = next((e.rows[metric][0] for e in found.entries if metric in e.rows), None)
        if row is not None and any(e.interval(metric) for e in found.shown):
            columns.append(Column(title.format(data=data), metric, scale, row["better"], row["unit"]))
    everyone: dict[str, list[Entry]] = {}
    for e in found.entries:
        everyone.setdefault(group_of(e), []).append(e)
    top = {(name, c.metric): keys for c in columns for name, keys in tops(c, everyone).items()}
    groups = []
    for name, title in GROUPS.items():
        own = [e for e in found.shown if group_of(e) == name]
        if own:
            rivals = [e for e in found.shown if trained(e)] or found.shown
            places = [place(c, own if c.unit in NATS else rivals) for c in columns]
            rows = tuple((e, tuple(cells(e, name, columns, places, top))) for e in own)
            groups.append(Group(name, title, rows))
    return Overview(tuple(columns), tuple(groups), tuple(b for c in columns for b in bests(c, everyone)))


def competitors(column: Column, everyone: dict[str, list[Entry]]) -> list[tuple[str, list[Entry]]]:
    """Those among whom a column has a best one: (kind of pixels, or nothing where that does not matter; who has a value)."""
    if column.better == "none" or column.unit in TIMINGS:
        return []
    kinds = [(name, everyone.get(name, [])) for name in (*SUPPORTS, NO_LIKELIHOOD)]
    if column.unit not in NATS:
        kinds = [("", [e for _, group in kinds for e in group])]
    noise = column.metric in SHARP  # which can be had by noise alone
    has = {name: [e for e in group if e.interval(column.metric) and not (noise and noisy(e))] for name, group in kinds}
    return [(name, own) for name, own in has.items() if len(distinct(own)) > 1]


def tops(column: Column, everyone: dict[str, list[Entry]]) -> dict[str, set[str]]:
    """Keys of the best of each kind, unless nobody can be told from them."""
    found = {
        name: (leaders(own, column.metric), {e.record.key for e in enough(own, column.metric)})
        for name, own in competitors(column, everyone)
    }
    return {name: top if top < runs else set() for name, (top, runs) in found.items()}


def bests(column: Column, everyone: dict[str, list[Entry]]) -> list[Best]:
    found, title = [], column.title.split(" ↑")[0].split(" ↓")[0]
    for name, own in competitors(column, everyone):
        by_label = {e.label: e for e in distinct(own)}
        labels = best(list(by_label.values()), column.metric)
        if labels:
            head = by_label[labels[0]]
            where = f"{title}, {SUPPORTS[name]}" if name else title
            rivals, cell = enough(list(by_label.values()), column.metric), figure(head, column.metric, column.scale)
            found.append(Best(where, tuple(by_label[x] for x in labels), cell, len(rivals)))
    return found


def cells(
    e: Entry, group: str, columns: Sequence[Column], places: Sequence[Put | None], top: dict[tuple[str, str], set[str]]
) -> list[tuple[Cell, Bar | None]]:
    found = []
    for c, put in zip(columns, places, strict=True):
        value, among = e.interval(c.metric), top.get((group if c.unit in NATS else "", c.metric), set())
        leads = e.record.key in among and group not in (REFERENCE, FAILED)
        found.append((figure(e, c.metric, c.scale, leads), put(value) if put and value else None))
    return [*found, (seeds(e), None)]


def place(column: Column, rows: Sequence[Entry]) -> Put | None:
    """Where a value of this column is drawn, from the lowest mean to the highest with some room; None if all are the same.

    What spans decades is drawn by its logarithm. The interval of two seeds would hide everything else, and is not drawn; nor is what
    lies outside, as a reference may.
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
        drawn = found.low is not None and found.high is not None and found.n > 2
        ends = (found.low, found.high) if drawn else (found.mean, found.mean)
        return Bar(percent(ends[0] or 0.0), percent(found.mean), percent(ends[1] or 0.0))

    return put
