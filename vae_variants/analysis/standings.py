"""One metric on every task: the value of each variant, and its rank among those that may be ranked."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vae_variants.analysis.entries import TIMINGS, Entry, distinct, trained
from vae_variants.analysis.statistics import LEAST_SEEDS, Interval
from vae_variants.analysis.tasks import Task
from vae_variants.evaluation.metrics import data_name

WITHIN = ("nats", "bits")  # units that compare within one pixel type only


class Standing(NamedTuple):
    """A value, its rank if it has one, of how many, whether the row is flagged, and `≥` or `≤` if the value is a bound."""

    value: Interval
    rank: int | None
    of: int
    flagged: bool
    bound: str = ""


def pattern(metric: str, task: Task) -> str:
    """The metric's name without that of the data set: `fd-mnistcnn` -> `fd-{data}cnn`."""
    return metric.replace(f"{data_name(task.data)}cnn", "{data}cnn")


def shared_metrics(tasks: Sequence[Task]) -> list[str]:
    """Patterns of all metrics with a better direction and a value, but timings, which compare on one machine only."""
    found = dict[str, None]()
    for task in tasks:
        for e in task.entries:
            for metric, rows in e.rows.items():
                name = pattern(metric, task)
                if name not in found and rows[0]["better"] != "none" and rows[0]["unit"] not in TIMINGS and e.values(metric):
                    found[name] = None
    return list(found)


def standings(task: Task, name: str) -> dict[str, Standing]:
    """Label -> standing by the metric with this pattern, of all that have a value. Equal values share the better rank,
    and a run that has two labels counts once.

    A rank needs `LEAST_SEEDS` seeds, training, a preset that is long enough, and no flaw. Nats and bits rank within one pixel type.
    """
    metric = name.replace("{data}", data_name(task.data))
    having = [e for e in task.entries if e.values(metric)]
    pools = dict[str, list[Entry]]()
    for e in having:
        if task.judges and trained(e) and e.sound(metric) and len(e.values(metric)) >= LEAST_SEEDS:
            pools.setdefault(e.record.support if e.unit(metric) in WITHIN else "", []).append(e)
    places = dict[str, tuple[int, int]]()
    for pool in pools.values():
        sign = {"higher": -1.0, "lower": 1.0}[pool[0].rows[metric][0]["better"]]
        runs = np.sort([sign * e.mean(metric) for e in distinct(pool)])
        places |= {e.label: (int(np.searchsorted(runs, sign * e.mean(metric))) + 1, len(runs)) for e in pool}
    found = dict[str, Standing]()
    for e in having:
        interval = e.interval(metric)
        assert interval is not None
        rank, of = places.get(e.label, (None, 0))
        found[e.label] = Standing(interval, rank, of, trained(e) and not e.sound(metric), bound(e, metric))
    return found


def bound(entry: Entry, metric: str) -> str:
    """Bits per dimension are at most what a lower bound of log p(x) gives."""
    above = metric == "bits_per_dim" and entry.kind("log_likelihood") == "lower-bound"
    return "≤" if above else "≥" if entry.kind(metric) == "lower-bound" else ""
