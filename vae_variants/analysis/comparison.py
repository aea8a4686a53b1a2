"""Two reports beside each other: what came, went, failed, got better or worse beyond what seeds explain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from vae_variants.analysis.entries import TIMINGS, Entry
from vae_variants.analysis.formatting import short
from vae_variants.analysis.statistics import LEAST_SEEDS, Interval, holm, interval, paired, t_test, welch
from vae_variants.analysis.tables import COLUMNS, results
from vae_variants.evaluation.speed import TIMINGS as CLOCKED
from vae_variants.harness.spec import ADDED_OPTIONS

__all__ = ["COMPARED", "KINDS", "Change", "Changes", "brief", "compare", "options_of", "table_of"]

# of results.csv, and what is known beside it, or nothing: digest of the data, options as `options_of`, fingerprint of the sources
COMPARED = [*COLUMNS, "fidelity", "data", "options", "code"]
KINDS = {  # in the order in which they are shown
    "failed": "a run, or a metric, that was ok before",
    "worse": "beyond the interval",
    "mended": "a run that had failed before",
    "better": "beyond the interval",
    "changed": "beyond the interval, of a metric without a better direction",
    "added": "not there before",
    "removed": "not there any more",
    "not compared": "not the same thing before and after",
    "altered": "another run under the same name, which is compared all the same",
    "perhaps": "beyond its own interval, but no further than chance goes among so many tests",
    "cannot tell": f"too few seeds: no verdict under {LEAST_SEEDS}",
    "advice": "timings and memory, which other programs move as well: never a verdict",
    "unchanged": "the same, or within the interval",
}
BAD = ("failed", "worse")
COSTS = (*TIMINGS, "bytes")  # units of what the machine takes
LEVEL = 0.05  # of all tests together, by Holm
PARTS = ("dataset", "variant", "support", "fidelity", "data", "device", "run", "options", "code")
SOURCES, FEW = "other sources", 3  # runs of which each has a line
ROUNDING = 1e-6  # of a value: differences below are those of float32


class Change(NamedTuple):
    """Of one metric of one variant, or of the whole run where `metric` is empty; before and after are means over the seeds compared."""

    kind: str  # of `KINDS`
    dataset: str
    variant: str
    metric: str = ""
    before: float | None = None
    after: float | None = None
    unit: str = ""
    difference: Interval | None = None  # after less before
    p: float | None = None  # adjusted
    note: str = ""


@dataclass(frozen=True)
class Changes:
    """All of them, in the order of `KINDS`; `tests` is how many were looked at together."""

    rows: tuple[Change, ...]
    tests: int

    def of(self, *kinds: str) -> list[Change]:
        return [row for row in self.rows if row.kind in kinds]

    @property
    def worse(self) -> bool:
        """Whether something got worse, or failed that was ok."""
        return bool(self.of(*BAD))


@dataclass
class Figure:
    """One metric of one run: seed -> value, and the seeds at which it failed."""

    unit: str
    better: str
    kind: str
    values: dict[int, float] = field(default_factory=dict)
    errors: set[int] = field(default_factory=set)


@dataclass
class Run:
    """The rows of one variant on one data set."""

    dataset: str
    variant: str
    support: str
    fidelity: str
    data: str
    device: str
    run: str  # the beginning of its key
    options: str
    code: str
    status: dict[int, str] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)


def runs(frame: pd.DataFrame) -> dict[tuple[str, str, str], Run]:
    """(data set, variant, fidelity) -> run."""
    texts = [name for name in COMPARED if name not in ("seed", "value")]
    table, found = frame.reindex(columns=COMPARED, fill_value=""), dict[tuple[str, str, str], Run]()
    table[texts] = table[texts].fillna("").astype(str)
    for row in table.to_dict("records"):
        key, seed, metric = (row["dataset"], row["variant"], row["fidelity"]), int(row["seed"]), row["metric"]
        run = found.setdefault(key, Run(*(row[name] for name in PARTS)))
        if not metric:
            run.status[seed] = row["status"]
            continue
        run.status.setdefault(seed, "ok")
        figure = run.figures.setdefault(metric, Figure(row["unit"], row["better"], row["kind"]))
        if not pd.isna(row["value"]):
            figure.values[seed] = float(row["value"])
        elif row["status"] == "error":
            figure.errors.add(seed)
    return found


def pairs(before: dict[tuple[str, str, str], Run], after: dict[tuple[str, str, str], Run]) -> Iterator[tuple[Run | None, Run | None]]:
    """Those of the same name and fidelity; then what is left, where a fidelity is not known or is another."""
    left = {key: run for key, run in before.items() if key not in after}
    new = {key: run for key, run in after.items() if key not in before}
    yield from ((before[key], after[key]) for key in before if key in after)
    for key, run in left.items():
        other = next((k for k in new if k[:2] == key[:2]), None)
        yield run, None if other is None else new.pop(other)
    yield from ((None, run) for run in new.values())


def differing(a: Run, b: Run) -> str:
    """Why two runs of one name are not to be compared, or nothing."""
    for what, x, y in (("fidelity", a.fidelity, b.fidelity), ("kind of pixels", a.support, b.support)):
        if x and y and x != y:
            return f"another {what}: {x} before, {y} after"
    n = min(len(a.data), len(b.data))  # pages show the beginning of a digest
    return f"other images: digest {a.data[:12]} before, {b.data[:12]} after" if a.data[:n] != b.data[:n] else ""


def altered(a: Run, b: Run) -> Iterator[Change]:
    """What is not the same of two runs of one name: options, seeds, and where neither explains another key, the sources."""
    parts = []
    x, y = options(a), options(b)
    if x and y:
        parts += [f"{key}: {x.get(key, 'unset')} before, {y.get(key, 'unset')} after" for key in {**x, **y} if x.get(key) != y.get(key)]
    if a.status.keys() != b.status.keys():
        parts.append(f"seeds: {spans(a.status)} before, {spans(b.status)} after")
    if a.code and b.code and a.code != b.code:
        parts.append(f"{SOURCES}: fingerprint {a.code[:12]} before, {b.code[:12]} after")
    elif not parts and a.run and b.run and a.run != b.run:
        parts.append(f"{SOURCES}{'' if x and y else ' or options'}: run {a.run} before, {b.run} after")
    yield from (Change("altered", a.dataset, a.variant, note=part) for part in parts)


def options(run: Run) -> dict[str, str]:
    """Name -> value as text, of a run that was trained also of those options that there were not yet."""
    found = dict(part.split("=", 1) for part in run.options.split(", ") if "=" in part)
    return {**{key: short(value) for key, value in ADDED_OPTIONS.items()}, **found} if "epochs" in found else found


def brief(rows: Iterable[Change]) -> list[Change]:
    """Many that are altered in their sources alone as one line, for the eye."""
    rows = list(rows)
    for said in (f"{SOURCES}:", f"{SOURCES} or options:"):
        others = [row for row in rows if not (row.kind == "altered" and row.note.startswith(said))]
        if (many := len(rows) - len(others)) > FEW:
            rows = [*others, Change("altered", "", f"{many} variants", note=f"{said.rstrip(':')} before and after")]
    return rows


def spans(seeds: Iterable[int]) -> str:
    """0–4, 7."""
    found = list[list[int]]()
    for seed in sorted(seeds):
        if found and seed == found[-1][-1] + 1:
            found[-1] = [found[-1][0], seed]
        else:
            found.append([seed])
    return ", ".join("–".join(map(str, part)) for part in found)


def options_of(values: Mapping[str, object]) -> str:
    """A configuration as reports have it: `name=value`, with commas between."""
    return ", ".join(f"{key}={short(value)}" for key, value in values.items())


def table_of(entries: Iterable[Entry]) -> pd.DataFrame:
    """What `compare` takes, of records."""
    parts = [
        results([e]).assign(fidelity=r.fidelity, data=r.dataset["digest"], options=options_of(r.values), code=r.code)
        for e in entries
        for r in [e.record]
    ]
    return pd.concat([part for part in parts if len(part)] or [pd.DataFrame(columns=COMPARED)], ignore_index=True)


def compare(before: pd.DataFrame, after: pd.DataFrame) -> Changes:
    """Both tidy, as `COMPARED`, of which the last four columns may be missing.

    Of each metric with a better direction: Student's t-test of the differences over the seeds that both have, or Welch's where they have
    none in common, all of them adjusted together (Holm), at 5 %; those without a direction apart from these. Values that are the same
    need no test. Fewer than three seeds cannot tell: of them there is the plain difference of means. Timings and memory are advice, and of
    one device alone. What is `altered` under the same name is said, and compared.
    """
    rows, tests, places = list[Change](), {True: list[tuple[Change, float, str]](), False: list[tuple[Change, float, str]]()}, set[str]()
    for a, b in pairs(runs(before), runs(after)):
        if a is None or b is None:
            there = a or b
            assert there is not None
            rows.append(Change("removed" if b is None else "added", there.dataset, there.variant, note=states(there)))
        elif reason := differing(a, b):
            rows.append(Change("not compared", a.dataset, a.variant, note=reason))
        else:
            rows += [*fates(a, b), *altered(a, b)]
            for metric in dict.fromkeys([*a.figures, *b.figures]):
                change, p = judged(a, b, metric, places)
                if change is not None and p is not None:
                    better = b.figures[metric].better
                    tests[better != "none"].append((change, p, better))
                elif change is not None:
                    rows.append(change)
    for directed, group in tests.items():
        for (change, _, better), p in zip(group, holm([p for _, p, _ in group]), strict=True):
            assert change.difference is not None
            rise = (change.difference.mean > 0) == (better == "higher")
            moved = ("better" if rise else "worse") if directed else "changed"
            apart = change.difference.low is not None and not change.difference.low <= 0 <= change.difference.high  # type: ignore[operator]
            rows.append(change._replace(kind=moved if p < LEVEL else "perhaps" if apart else "unchanged", p=p))
    rows += [Change("not compared", "", "", "timings and memory", note=place) for place in sorted(places)]
    order = list(KINDS)
    return Changes(tuple(sorted(rows, key=lambda row: order.index(row.kind))), len(tests[True]) + len(tests[False]))


def states(run: Run) -> str:
    bad = [state for state in run.status.values() if state != "ok"]
    return f"{len(run.status)} seeds" + (f", of which {len(bad)} failed" if bad else "")


def fates(a: Run, b: Run) -> Iterator[Change]:
    """Seeds that failed before or after."""
    both = [seed for seed in a.status if seed in b.status]
    now = {seed: b.status[seed] for seed in both if a.status[seed] == "ok" != b.status[seed]}
    once = {seed: a.status[seed] for seed in both if b.status[seed] == "ok" != a.status[seed]}
    for kind, seeds in (("failed", now), ("mended", once)):
        if seeds:
            yield Change(kind, a.dataset, a.variant, note=", ".join(f"seed {seed}: {state}" for seed, state in seeds.items()))


def judged(a: Run, b: Run, metric: str, places: set[str]) -> tuple[Change | None, float | None]:
    """What there is to say of one metric, and the p of its test if there is one; devices that differ are added to `places`."""
    x, y = a.figures.get(metric), b.figures.get(metric)
    change = Change("unchanged", a.dataset, a.variant, metric, unit=(x or y or Figure("", "", "")).unit)
    if y is not None and x is not None and (broken := [seed for seed in y.errors if seed in x.values]):
        return change._replace(kind="failed", before=mean(list(x.values.values())), note=f"error at {len(broken)} seeds"), None
    if x is None or not x.values or y is None or not y.values:
        if not ({*a.status.values()} & {"ok"} and {*b.status.values()} & {"ok"}) or not ((x and x.values) or (y and y.values)):
            return None, None  # the run failed, which is said already; or it was skipped both times
        gone = x is not None and bool(x.values)
        values = list((x if gone else y).values.values())  # type: ignore[union-attr]
        side = {"before": mean(values)} if gone else {"after": mean(values)}
        return change._replace(kind="removed" if gone else "added", **side), None  # type: ignore[arg-type]
    if (x.kind, x.unit) != (y.kind, y.unit):
        return change._replace(kind="not compared", note=f"{x.kind} in {x.unit} before, {y.kind} in {y.unit} after"), None
    if x.unit in COSTS or metric.endswith(CLOCKED):
        return advice(a, b, change, places), None
    common = [seed for seed in x.values if seed in y.values]
    old = [x.values[seed] for seed in common] or list(x.values.values())
    new = [y.values[seed] for seed in common] or list(y.values.values())
    change = change._replace(before=mean(old), after=mean(new))
    if common and all(math.isclose(p, q, rel_tol=ROUNDING) for p, q in zip(old, new, strict=True)):
        return change, None
    n = min(len(old), len(new))
    if n < LEAST_SEEDS:
        missing = f"no verdict under {LEAST_SEEDS} seeds: {f'{n} in common' if common else f'{len(old)} and {len(new)}, none in common'}"
        return change._replace(kind="cannot tell", difference=Interval(mean(new) - mean(old), None, None, n), note=missing), None
    if common:
        d = paired(y.values, x.values)
        return change._replace(difference=interval(d)), t_test(d)
    difference, p = welch(new, old)
    return change._replace(difference=difference, note="not paired: no seed in common"), p


def advice(a: Run, b: Run, change: Change, places: set[str]) -> Change | None:
    """Of medians whose quartiles are apart, on one device."""
    if a.device != b.device:
        places.add(f"another device: {a.device or 'not known'} before, {b.device or 'not known'} after")
        return None
    old, new = (np.quantile(list(run.figures[change.metric].values.values()), (0.25, 0.5, 0.75)).tolist() for run in (a, b))
    n = min(len(run.figures[change.metric].values) for run in (a, b))
    if n < LEAST_SEEDS or (old[2] >= new[0] and new[2] >= old[0]) or old[1] == 0:
        return change._replace(before=old[1], after=new[1])
    return change._replace(kind="advice", before=old[1], after=new[1], note=f"× {new[1] / old[1]:.3g}, medians whose quartiles are apart")


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
