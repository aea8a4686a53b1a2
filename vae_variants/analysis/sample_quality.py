"""Samples judged by distance, precision and coverage together: the place of a variant among the others, averaged over the three."""

import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from vae_variants.analysis.entries import Entry

PLACE = "sample_place"  # metric of the entries that `placed` returns
QUALITIES = ("precision", "coverage")  # of samples, beside their distance


def placed(entries: Sequence[Entry], distance: str) -> list[Entry]:
    """The entries that have all three metrics, each with the further metric `PLACE`: seed -> place, the lower the better.

    The place of an entry at a seed is 1 + (number of better others) + (number of equal others) / 2, a mean over `distance` and
    `QUALITIES`. The others are sound entries with that seed, so that a flawed entry changes no place but its own.
    """
    metrics = (distance, *QUALITIES)
    having = [e for e in entries if all(e.values(m) for m in metrics)]
    signs = [-1.0 if m == distance else 1.0 for m in metrics]
    tables = [
        {e.label: {seed: sign * v for seed, v in e.values(m).items()} for e in having} for m, sign in zip(metrics, signs, strict=True)
    ]
    sound = {e.label for e in having if e.sound(distance)}
    orders = [in_order([own for label, own in table.items() if label in sound]) for table in tables]
    found = []
    for e in having:
        seeds = sorted(set.intersection(*(set(table[e.label]) for table in tables)))
        own = [(table[e.label], order) for table, order in zip(tables, orders, strict=True)]
        places = {s: fmean(place(values[s], order[s], e.label in sound) for values, order in own) for s in seeds}
        rows = [
            {"seed": s, "metric": PLACE, "value": v, "unit": "places", "better": "lower", "kind": "exact", "status": "ok", "reason": ""}
            for s, v in places.items()
        ]
        found.append(replace(e, record=replace(e.record, rows=[*e.record.rows, *rows])))
        found[-1].known.update(e.known)
    return found


def in_order(values: Sequence[dict[int, float]]) -> dict[int, list[float]]:
    """Seed -> the values that any has at it, in order."""
    found = defaultdict[int, list[float]](list)
    for own in values:
        for seed, value in own.items():
            bisect.insort(found[seed], value)
    return found


def place(value: float, held: Sequence[float], among: bool) -> float:
    """The place of a value by those `held`, higher being better; it is one of them if it is `among` them."""
    left, right = bisect.bisect_left(held, value), bisect.bisect_right(held, value)
    return 1 + len(held) - right + 0.5 * (right - left - among)
