"""Labelled records with their pictures: what a report shows, and which of them it may call best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
from torch import Tensor

from vae_variants.analysis.soundness import Flaw, flaws, spoilt
from vae_variants.analysis.statistics import LEAST_SEEDS, Comparison, Interval, behind_best, compare, interval, rank_intervals, top_group
from vae_variants.harness.record import Record
from vae_variants.registry import UserError
from vae_variants.variants import VARIANTS

SUPPORTS = {  # pixel types; nats are compared within one of them
    "binary": "binary pixels",
    "byte": "8-bit pixels",
    "unit": "continuous pixels in [0, 1]",
    "real": "continuous pixels on the real line",
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")  # Okabe & Ito, but the yellow
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RANK_SEEDS = 5  # a bootstrap of fewer is too sure of itself: two seeds can only be drawn in three ways
TIMINGS = ("images/s", "s", "ms")  # units
TRIALS = ("smoke", "quick")  # presets that train and measure too little for a verdict
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))
LOOKS = len(COLOURS) * len(LINES)  # how many variants can be told apart by their `style`


@dataclass(frozen=True)
class Entry:
    """A variant's row. `load` reads its pictures, `index` fixes its colour in every figure, `terms` are those of `entries_of`."""

    label: str
    record: Record
    load: Callable[[], Mapping[str, Tensor]] = dict
    index: int = 0
    terms: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False, compare=False)
    known: dict[str, Interval | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def pictures(self) -> Mapping[str, Tensor]:
        """Name -> images, read when a figure first asks for them."""
        return self.load()

    @cached_property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Metric -> its rows in the terms of the report."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.record.rows:
            if self.terms.get(row["metric"], terms_of(row)) == terms_of(row):
                found.setdefault(row["metric"], []).append(row)
        return found

    @cached_property
    def flaws(self) -> tuple[Flaw, ...]:
        """What is wrong with the row."""
        r = self.record
        used = {"lr": lr} if (lr := r.trained.get("lr")) is not None else {}
        return flaws(self.values, r.values | used, r.status, r.curves, math.prod(r.dataset["shape"]), r.tuning)

    @property
    def marked(self) -> str:
        """The label, with a dagger if the row is flagged."""
        return f"{self.label}{' †' if self.flaws else ''}"

    @property
    def collapsed(self) -> bool:
        """Whether training went so wrong that the row would stretch every axis."""
        return any(flaw.collapse for flaw in self.flaws)

    def sound(self, metric: str) -> bool:
        """Whether the row may be best by `metric`."""
        return not spoilt(self.flaws, metric)

    def values(self, metric: str) -> dict[int, float]:
        """Seed -> value, for the seeds that have one."""
        return {row["seed"]: row["value"] for row in self.rows.get(metric, ()) if row["value"] is not None}

    def interval(self, metric: str) -> Interval | None:
        """Mean over seeds with its 95 % interval; of a timing, which other programs can only slow down, median and quartiles."""
        if metric not in self.known:
            values = list(self.values(metric).values())
            if len(values) > 1 and self.unit(metric) in TIMINGS:
                low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
                self.known[metric] = Interval(middle, low, high, len(values))
            else:
                self.known[metric] = interval(values) if values else None
        return self.known[metric]

    def mean(self, metric: str) -> float:
        """That of `interval`, for a metric that has a value."""
        found = self.interval(metric)
        assert found is not None
        return found.mean

    def compared(self, metric: str, baseline: Entry) -> Comparison | None:
        """The paired comparison with the baseline, over the seeds that both have."""
        return compare(self.values(metric), baseline.values(metric))

    def kind(self, metric: str) -> str:
        return str(self.rows[metric][0]["kind"]) if metric in self.rows else ""

    def unit(self, metric: str) -> str:
        return str(self.rows[metric][0]["unit"]) if metric in self.rows else ""


def terms_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Unit and better direction."""
    return row.get("unit", ""), row.get("better", "")


def entries_of(runs: Iterable[tuple[str, Record, Callable[[], Mapping[str, Tensor]]]]) -> list[Entry]:
    """The entries of labelled records with their pictures, in this order.

    A metric has one unit and one better direction, those of most rows. A row in other terms, which a stranger's record or a plug-in that
    changed may have, is left out, since it cannot be compared.
    """
    kept, counts = list(runs), dict[str, Counter[tuple[str, str]]]()
    for _, record, _ in kept:
        for row in record.rows:
            counts.setdefault(row["metric"], Counter())[terms_of(row)] += 1
    terms = {metric: count.most_common(1)[0][0] for metric, count in counts.items()}
    indices = looks_of([label for label, _, _ in kept])
    return [Entry(label, record, load, index, terms) for index, (label, record, load) in zip(indices, kept, strict=True)]


def rankable(entries: Sequence[Entry], metric: str) -> str:
    """The better direction of `metric`.

    Raises:
        UserError: if no record has the metric, it has no better direction, or it is in nats or bits of different pixel types.
    """
    rows = [row for e in entries for row in e.rows.get(metric, ())]
    supports = {e.record.support for e in entries if e.values(metric)}
    if not rows:
        raise UserError(f"no record has a metric {metric!r}")
    if rows[0]["better"] == "none":
        raise UserError(f"{metric!r} has no better direction, so nothing can be ranked by it")
    if rows[0]["unit"] in ("nats", "bits") and len(supports) > 1:
        raise UserError(
            f"{metric!r} is in {rows[0]['unit']} of different pixel types ({', '.join(sorted(supports))}): rank within one of them"
        )
    return str(rows[0]["better"])


def trained(entry: Entry) -> bool:
    """False for a baseline."""
    return "epochs" in entry.record.values


def trials(entries: Iterable[Entry]) -> list[str]:
    """Those presets of the runs that train and measure too little for a verdict."""
    return sorted({name for e in entries if (name := e.record.fidelity.partition("[")[0]) in TRIALS})


def enough(entries: Sequence[Entry], metric: str) -> list[Entry]:
    """Entries that may be best: sound ones with as many seeds as a verdict needs."""
    return [e for e in entries if len(e.values(metric)) >= LEAST_SEEDS and e.sound(metric)]


def judges(entries: Sequence[Entry]) -> bool:
    """Whether two trained runs have as many seeds as a verdict needs; else a report calls nothing best."""
    return sum(list(e.record.status.values()).count("ok") >= LEAST_SEEDS for e in distinct(entries) if trained(e)) > 1


def best(entries: Sequence[Entry], metric: str) -> list[str]:
    """Labels of the best by `metric`, then of those statistically tied with it (`top_group`). Raises as `rankable` does.

    Empty if fewer than two have `enough` seeds, if a preset is one of `trials`, or if common seeds do not show one that is best.
    """
    better, rivals = rankable(entries, metric), enough(entries, metric)
    return top_group({e.label: e.values(metric) for e in rivals}, better) if len(rivals) > 1 and not trials(rivals) else []


def unclear(entries: Sequence[Entry], metric: str) -> list[str]:
    """Labels behind those of `best` that are not significantly worse by their own test, because their seeds differ much."""
    top, table = best(entries, metric), {e.label: e.values(metric) for e in enough(entries, metric)}
    found = behind_best(table, rankable(entries, metric)) if top else None
    return [label for label, p in found[1].items() if label not in top and p > 0.05] if found else []


def ranks(entries: Sequence[Entry], metric: str) -> dict[str, tuple[int, int]]:
    """Label -> 95 % interval of its rank, among sound entries of five seeds or more (`rank_intervals`). Raises as `rankable` does."""
    better = rankable(entries, metric)
    return rank_intervals({e.label: v for e in entries if len(v := e.values(metric)) >= RANK_SEEDS and e.sound(metric)}, better)


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """One entry for each run: the first of the labels that name it."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry.record.key, entry)
    return list(found.values())


def twins(entries: Sequence[Entry], metric: str) -> dict[str, str]:
    """Label -> an earlier label with the same values, errors and options as far as both have them.

    It is one model under two names, or with two samplers, which take no part in training.
    """
    found, alike = dict[str, str](), dict[tuple[tuple[str, int, float], ...], list[Entry]]()
    for e in entries:
        mine = {k: v for k, v in e.record.values.items() if k not in ("model", "sampler")}
        fine = (metric, "reconstruction_mse", "log_likelihood")  # an accuracy may be the same by chance
        earlier = alike.setdefault(tuple((m, *pair) for m in fine for pair in sorted(e.values(m).items())), [])
        same = (o.label for o in earlier if all(o.record.values[k] == v for k, v in mine.items() if k in o.record.values))
        if e.values(metric) and (label := next(same, None)) is not None:
            found[e.label] = label
        earlier.append(e)
    return found


def busy(entry: Entry, metric: str) -> bool:
    """Whether a throughput is under that of single images, by its latency: another program ran while it was measured."""
    method, throughput, _ = metric.partition("_images_per_second")
    rate, latency = entry.interval(metric), entry.interval(f"{method}_latency")
    return bool(throughput) and rate is not None and latency is not None and rate.mean * latency.mean < 1000


def looks_of(labels: Sequence[str]) -> list[int]:
    """The index of each label for `style`: the colour is its own in every report, marker and line tell one colour apart."""
    places, taken, found = {name: place for place, name in enumerate(VARIANTS)}, Counter[int](), []
    for label in labels:
        colour = places.get(label, crc32(label.encode(errors="backslashreplace"))) % len(COLOURS)
        found.append(colour + len(COLOURS) * taken[colour])
        taken[colour] += 1
    return found


def style(entry: Entry) -> dict[str, object]:
    """Colour, marker and line of a variant, the same in every figure."""
    cycle, turn = entry.index % len(COLOURS), entry.index // len(COLOURS)
    return {"color": COLOURS[cycle], "marker": MARKERS[turn % len(MARKERS)], "linestyle": LINES[turn % len(LINES)]}
