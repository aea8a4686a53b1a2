"""The summary of the page: the main metrics of every variant, by pixel type."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vae_variants.analysis.entries import SUPPORTS, TIMINGS, Entry, best, distinct, enough, trained
from vae_variants.analysis.questions import noisy
from vae_variants.analysis.statistics import Interval
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.content import Cell, Content, figure, seeds
from vae_variants.report.sections import LIKELIHOOD, OVERVIEW, SECTIONS, SHARP

NATS = ("nats", "bits")
NO_LIKELIHOOD, REFERENCE, FAILED = "none", "reference", "failed"
GROUPS = {**SUPPORTS, NO_LIKELIHOOD: "no likelihood", REFERENCE: "baselines, not trained", FAILED: "no values"}


class Bar(NamedTuple):
    """Places of an interval and its mean in a cell, in percent; without an interval both ends are the mean."""

    low: float
    mean: float
    high: float


Put = Callable[[Interval], Bar | None]


class Column(NamedTuple):
    title: str
    metric: str
    better: str
    unit: str


class Group(NamedTuple):
    """Rows whose nats compare."""

    name: str
    title: str
    rows: list[tuple[Entry, list[tuple[Cell, Bar | None]]]]


class Best(NamedTuple):
    """The best of a column, then those statistically tied with it; `of` counts the competitors with enough seeds.

    `group` is one of `GROUPS`, or empty if the metric compares between them.
    """

    title: str
    metric: str
    group: str
    entries: list[Entry]
    cell: Cell
    of: int

    @property
    def all(self) -> bool:
        return len(self.entries) == self.of


class Overview(NamedTuple):
    columns: list[Column]
    groups: list[Group]
    best: list[Best]


def group_of(entry: Entry) -> str:
    if not entry.rows:
        return FAILED
    if not trained(entry):
        return REFERENCE
    return entry.record.support if entry.interval("log_likelihood") else NO_LIKELIHOOD


def overview(found: Content) -> Overview:
    """The summary. Its rows are those that the report shows; all trained variants compete, for nats those of one pixel type."""
    data, columns = data_name(found.runs["data"]), []
    titles = LIKELIHOOD | {metric: header for _, _, section in SECTIONS for header, metric, _ in section}
    for pattern in OVERVIEW:
        metric = pattern.replace("{data}", data)
        row = next((e.rows[metric][0] for e in found.entries if metric in e.rows), None)
        if row is not None and any(e.interval(metric) for e in found.shown):
            columns.append(Column(titles[pattern].replace("{data}", data), metric, row["better"], row["unit"]))
    everyone = {name: [e for e in found.entries if group_of(e) == name] for name in GROUPS}
    top = [b for c in columns for b in bests(c, everyone)]
    first = {(b.group, b.metric, b.entries[0].record.key) for b in top if not b.all}
    level = {(b.group, b.metric, e.record.key) for b in top if not b.all for e in b.entries} - first
    rivals, groups = [e for e in found.shown if trained(e)] or found.shown, []
    for name, title in GROUPS.items():
        own = [e for e in found.shown if group_of(e) == name]
        places = [place(c, own if c.unit in NATS else rivals) for c in columns]
        rows = []
        for e in own:
            cells = []
            for c, put in zip(columns, places, strict=True):
                value, group = e.interval(c.metric), name if c.unit in NATS or name in (REFERENCE, FAILED) else ""
                own_ = (group, c.metric, e.record.key)
                cell = figure(e, c.metric, best=own_ in first, tied=own_ in level)
                cells.append((cell, put(value) if put and value else None))
            rows.append((e, [*cells, (seeds(e), None)]))
        groups.append(Group(name, title, rows))
    return Overview(columns, [group for group in groups if group.rows], top)


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
            found.append(Best(title, column.metric, name, [own[x] for x in labels], figure(first, column.metric), of))
    return found


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
