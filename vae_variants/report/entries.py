"""What a report is made of: labelled records with their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vae_variants.harness.record import Record
from vae_variants.harness.statistics import Comparison, Interval, compare, interval, rank_intervals, top_group
from vae_variants.registry import UserError

__all__ = ["COLOURS", "LINES", "SUPPORTS", "Entry", "best", "distinct", "rankable", "ranks", "style"]

SUPPORTS = {
    "binary": "binary pixels",
    "byte": "stored grey levels",
    "unit": "grey pixels as a density on [0, 1]",
    "real": "grey pixels as a density on the real line",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")  # Okabe & Ito, but the yellow
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RANK_SEEDS = 5
TIMINGS = ("images/s", "s")  # units
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))


@dataclass(frozen=True)
class Entry:
    """A variant's row; `index` fixes its colour in every figure."""

    label: str
    record: Record
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    index: int = 0

    def values(self, metric: str) -> dict[int, float]:
        """seed -> value, of the seeds that have one."""
        rows = self.record.rows
        return {row["seed"]: row["value"] for row in rows if row["metric"] == metric and row["value"] is not None}

    def interval(self, metric: str) -> Interval | None:
        """Mean over seeds with its 95 % interval; of a timing, which other programs can only make worse, the median with the quartiles."""
        values = list(self.values(metric).values())
        if values and self.unit(metric) in TIMINGS:
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
            return Interval(middle, low, high, len(values)) if len(values) > 1 else Interval(middle, None, None, 1)
        return interval(values) if values else None

    def compared(self, metric: str, baseline: Entry) -> Comparison | None:
        """This with the baseline, seed by seed: over the seeds that both have."""
        return compare(self.values(metric), baseline.values(metric))

    def kind(self, metric: str) -> str:
        return next((row["kind"] for row in self.record.rows if row["metric"] == metric), "")

    def unit(self, metric: str) -> str:
        return next((row["unit"] for row in self.record.rows if row["metric"] == metric), "")


def rankable(entries: Sequence[Entry], metric: str) -> str:
    """The better direction of `metric`.

    Raises `UserError` where it has none, or is in nats or bits of different kinds of pixels, or no record has it.
    """
    rows = [row for e in entries for row in e.record.rows if row["metric"] == metric]
    supports = {e.record.support for e in entries if e.values(metric)}
    if not rows:
        raise UserError(f"no record has a metric {metric!r}")
    if rows[0]["better"] == "none":
        raise UserError(f"{metric!r} has no better direction, so that nothing can be ranked by it")
    if rows[0]["unit"] in ("nats", "bits") and len(supports) > 1:
        raise UserError(
            f"{metric!r} is in {rows[0]['unit']} of different kinds of pixels ({', '.join(sorted(supports))}): rank within one of them"
        )
    return str(rows[0]["better"])


def best(entries: Sequence[Entry], metric: str) -> list[str]:
    """Labels of the best by `metric`, and of those that cannot be told from it: see `top_group`. Raises as `rankable` does."""
    better = rankable(entries, metric)
    return top_group({e.label: e.values(metric) for e in entries}, better)


def ranks(entries: Sequence[Entry], metric: str) -> dict[str, tuple[int, int]]:
    """label -> the ranks that are plausible, of those with at least five seeds: see `rank_intervals`. Raises as `rankable` does.

    A bootstrap of fewer is too sure of itself: two seeds can only be drawn in three ways.
    """
    better = rankable(entries, metric)
    return rank_intervals({e.label: found for e in entries if len(found := e.values(metric)) >= RANK_SEEDS}, better)


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """One entry for each run: the first of those labels that name the same one."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry.record.key, entry)
    return list(found.values())


def style(entry: Entry) -> dict[str, object]:
    """Colour, marker and line that belong to a variant throughout a report."""
    cycle, turn = entry.index % len(COLOURS), entry.index // len(COLOURS)
    return {"color": COLOURS[cycle], "marker": MARKERS[turn % len(MARKERS)], "linestyle": LINES[turn % len(LINES)]}
