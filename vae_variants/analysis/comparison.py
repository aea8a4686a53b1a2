"""Two reports compared: what was added, removed or failed, and what moved by more than the seeds explain."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vae_variants.analysis.entries import TIMINGS, Entry
from vae_variants.analysis.formatting import short
from vae_variants.analysis.soundness import Flaw, flaws, spoilt
from vae_variants.analysis.statistics import LEAST_SEEDS, Interval, holm, interval, paired, t_test, welch
from vae_variants.analysis.tables import COLUMNS, results
from vae_variants.evaluation.speed import TIMINGS as CLOCKED
from vae_variants.harness.spec import added

# of results.csv, and what is known beside it, or "": digest of the data, options as `options_of`, fingerprint of the sources
COMPARED = [*COLUMNS, "fidelity", "data", "options", "code"]
KINDS = {  # kind -> its title and meaning, in the order in which they are shown
    "failed": "Failed: a run, or a metric, that was ok before",
    "flagged": "Flagged: a run with a flaw, such as collapse, that it did not have before",
    "worse": "Worse: significantly, after adjustment for all tests",
    "mended": "Fixed: a run that failed before",
    "better": "Better: significantly, after adjustment for all tests",
    "changed": "Changed: significantly, in a metric without a better direction",
    "added": "Added: only in the second",
    "removed": "Removed: only in the first",
    "not compared": "Not compared: different images, pixel types, presets, kinds of value or devices",
    "altered": "Altered: another run under the same name, compared all the same",
    "perhaps": "Perhaps: outside its own interval, but not significant after adjustment for all tests; or better, but flagged",
    "cannot tell": f"Cannot tell: fewer than {LEAST_SEEDS} seeds",
    "advice": "Advice: timings and memory, which other programs affect as well; never a verdict",
    "unchanged": "Unchanged: equal, or within the interval",
}
COSTS = (*TIMINGS, "bytes")  # units of what the machine spends
LEVEL = 0.05  # of all tests together, by Holm
SOURCES, FEW = "other sources", 3  # runs with other sources that get a line each
ROUNDING = 1e-6  # relative: smaller differences are those of float32


class Change(NamedTuple):
    """One metric of one variant, or its whole run if `metric` is empty; before and after are means over the compared seeds."""

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
    """All changes in the order of `KINDS`; `tests` counts the tests that were adjusted together."""

    rows: tuple[Change, ...]
    tests: int

    def of(self, *kinds: str) -> list[Change]:
        return [row for row in self.rows if row.kind in kinds]

    @property
    def worse(self) -> bool:
        """Whether something got worse or is flagged, or failed that was ok."""
        return bool(self.of("failed", "flagged", "worse"))


@dataclass
class Run:
    """One variant on one data set: its first row, seed -> status, and metric -> seed -> row."""

    about: dict[Any, Any]
    status: dict[int, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, dict[Any, Any]]] = field(default_factory=dict)

    def values(self, metric: str) -> dict[int, float]:
        """Seed -> value, for the seeds that have one."""
        return {seed: float(row["value"]) for seed, row in self.metrics.get(metric, {}).items() if not pd.isna(row["value"])}

    @cached_property
    def flaws(self) -> tuple[Flaw, ...]:
        return flaws(self.values, options(self.about["options"]), {str(seed): state for seed, state in self.status.items()})

    def change(self, kind: str, note: str = "") -> Change:
        return Change(kind, self.about["dataset"], self.about["variant"], note=note)


def runs(frame: pd.DataFrame) -> dict[tuple[str, str, str], Run]:
    """(data set, variant, fidelity) -> run."""
    texts = [name for name in COMPARED if name not in ("seed", "value")]
    table, found = frame.reindex(columns=COMPARED, fill_value=""), dict[tuple[str, str, str], Run]()
    table[texts] = table[texts].fillna("").astype(str)
    for row in table.to_dict("records"):
        run, seed = found.setdefault((row["dataset"], row["variant"], row["fidelity"]), Run(row)), int(row["seed"])
        if row["metric"]:
            run.status.setdefault(seed, "ok")
            run.metrics.setdefault(row["metric"], {})[seed] = row
        else:
            run.status[seed] = row["status"]
    return found


def pairs(before: pd.DataFrame, after: pd.DataFrame) -> Iterator[tuple[Run | None, Run | None]]:
    """Runs of the same name and fidelity; without one, of the same name; the rest alone."""
    old, new = runs(before), runs(after)
    yield from ((old.pop(key), new.pop(key)) for key in [key for key in old if key in new])
    for key, run in old.items():
        other = next((k for k in new if k[:2] == key[:2]), None)
        yield run, None if other is None else new.pop(other)
    yield from ((None, run) for run in new.values())


def compare(before: pd.DataFrame, after: pd.DataFrame) -> Changes:
    """Compare two tidy tables with the columns `COMPARED`; the last four may be missing.

    Values of the same seeds are tested by Student's paired t-test, without a common seed by Welch's. All p-values of metrics with a
    better direction are Holm-adjusted together at 5 %, the others apart. Equal values need no test. Fewer than three seeds give no
    verdict, only the difference of means. Timings and memory are advice, for the same device.
    """
    rows, devices = list[Change](), set[str]()
    tests: dict[bool, list[tuple[Change, str, str]]] = {True: [], False: []}
    for a, b in pairs(before, after):
        if a is None or b is None:
            kind, there = ("removed", a) if a else ("added", b)
            assert there is not None
            bad = sum(state != "ok" for state in there.status.values())
            rows.append(there.change(kind, f"{len(there.status)} seeds{f', {bad} of them failed' if bad else ''}"))
        elif reason := differing(a, b):
            rows.append(a.change("not compared", reason))
        else:
            rows += [*fates(a, b), *flagged(a, b), *altered(a, b)]
            for metric in dict.fromkeys([*a.metrics, *b.metrics]):
                change = judged(a, b, metric, devices)
                if change and change.p is not None:
                    better = next(iter(b.metrics[metric].values()))["better"]
                    flaw = next((flaw.what for flaw in b.flaws if spoilt([flaw], metric)), "")
                    tests[better != "none"].append((change, better, flaw))
                elif change:
                    rows.append(change)
    for directed, group in tests.items():
        for (change, better, flaw), p in zip(group, holm([change.p or 0.0 for change, _, _ in group]), strict=True):
            mean, low, high, _ = change.difference or Interval(0.0, None, None, 0)
            moved = "changed" if not directed else "better" if (mean > 0) == (better == "higher") else "worse"
            apart = low is not None and high is not None and not low <= 0 <= high
            if moved == "better" and flaw:
                moved, change = "perhaps", change._replace(note=flaw)
            rows.append(change._replace(kind=moved if p < LEVEL else "perhaps" if apart else "unchanged", p=p))
    rows += [Change("not compared", "", "", "timings and memory", note=place) for place in sorted(devices)]
    order = list(KINDS)
    return Changes(tuple(sorted(rows, key=lambda row: order.index(row.kind))), len(tests[True]) + len(tests[False]))


def differing(a: Run, b: Run) -> str:
    """Why two runs of one name cannot be compared; empty if they can."""
    for what, name in (("preset", "fidelity"), ("pixel type", "support")):
        x, y = a.about[name], b.about[name]
        if x and y and x != y:
            return f"different {what}: {x} before, {y} after"
    x, y = a.about["data"], b.about["data"]
    n = min(len(x), len(y))  # a report shows the beginning of a digest
    return f"different images: digest {x[:12]} before, {y[:12]} after" if x[:n] != y[:n] else ""


def fates(a: Run, b: Run) -> Iterator[Change]:
    """Seeds that failed in one of the two."""
    for kind, ok, bad in (("failed", a, b), ("mended", b, a)):
        seeds = [seed for seed in bad.status if bad.status[seed] != "ok" == ok.status.get(seed)]
        if seeds:
            yield a.change(kind, ", ".join(f"seed {seed}: {bad.status[seed]}" for seed in seeds))


def flagged(a: Run, b: Run) -> Iterator[Change]:
    """Flaws of the second run that spoil figures and that the first did not have."""
    known = {flaw.what.partition(" in ")[0] for flaw in a.flaws}
    for flaw in b.flaws:
        if flaw.spoils != "nothing" and flaw.what.partition(" in ")[0] not in known:
            yield b.change("flagged", str(flaw))


def altered(a: Run, b: Run) -> Iterator[Change]:
    """Differences between two runs of one name: options, seeds, and the sources if neither explains another key."""
    notes = []
    x, y = options(a.about["options"]), options(b.about["options"])
    if x and y:
        notes += [f"{key}: {x.get(key, 'unset')} before, {y.get(key, 'unset')} after" for key in {**x, **y} if x.get(key) != y.get(key)]
    if a.status.keys() != b.status.keys():
        old, new = (", ".join(map(str, sorted(run.status))) for run in (a, b))
        notes.append(f"seeds: {old} before, {new} after")
    (old, key), (new, other) = ((run.about["code"], run.about["run"]) for run in (a, b))
    if old and new and old != new:
        notes.append(f"{SOURCES}: fingerprint {old[:12]} before, {new[:12]} after")
    elif not notes and key and other and key != other:
        notes.append(f"{SOURCES}{'' if x and y else ' or options'}: run {key} before, {other} after")
    yield from (a.change("altered", note) for note in notes)


def options(text: str) -> dict[str, str]:
    """Name -> value as text; a trained run gets the defaults of options that are younger than it."""
    found = dict(part.split("=", 1) for part in text.split(", ") if "=" in part)
    return {key: short(value) for key, value in added(found).items()} | found


def judged(a: Run, b: Run, metric: str, devices: set[str]) -> Change | None:
    """The change of one metric, with the p of its test if there is one; None if another change says it. Adds to `devices` that differ."""
    x, y = a.values(metric), b.values(metric)
    first, last = (next(iter(run.metrics[metric].values())) if metric in run.metrics else {} for run in (a, b))
    change = a.change("unchanged")._replace(metric=metric, unit=(first or last)["unit"])
    if broken := [seed for seed, row in b.metrics.get(metric, {}).items() if seed not in y and row["status"] == "error" and seed in x]:
        return change._replace(kind="failed", before=fmean(x.values()), note=f"error at {len(broken)} seed{'s' * (len(broken) > 1)}")
    if not x or not y:
        if not (x or y) or not all("ok" in run.status.values() for run in (a, b)):
            return None
        return change._replace(kind="removed", before=fmean(x.values())) if x else change._replace(kind="added", after=fmean(y.values()))
    if (first["kind"], first["unit"]) != (last["kind"], last["unit"]):
        note = f"{first['kind']} in {first['unit']} before, {last['kind']} in {last['unit']} after"
        return change._replace(kind="not compared", note=note)
    if first["unit"] in COSTS or metric.endswith(CLOCKED):
        if a.about["device"] == b.about["device"]:
            return advice(change, x, y)
        devices.add(f"another device: {a.about['device'] or 'unknown'} before, {b.about['device'] or 'unknown'} after")
        return None
    common = [seed for seed in x if seed in y]
    old, new = [x[seed] for seed in common or x], [y[seed] for seed in common or y]
    change = change._replace(before=fmean(old), after=fmean(new))
    if common and all(math.isclose(p, q, rel_tol=ROUNDING) for p, q in zip(old, new, strict=True)):
        return change
    if (n := min(len(old), len(new))) < LEAST_SEEDS:
        note = f"no verdict under {LEAST_SEEDS} seeds: {f'{n} in common' if common else f'{len(old)} and {len(new)}, none in common'}"
        return change._replace(kind="cannot tell", difference=Interval(fmean(new) - fmean(old), None, None, n), note=note)
    if common:
        d = paired(y, x)
        return change._replace(difference=interval(d), p=t_test(d))
    difference, p = welch(new, old)
    return change._replace(difference=difference, p=p, note="unpaired: no seed in common")


def advice(change: Change, x: Mapping[int, float], y: Mapping[int, float]) -> Change:
    """Medians before and after, and their ratio if the quartiles do not overlap."""
    old, new = (np.quantile(list(values.values()), (0.25, 0.5, 0.75)).tolist() for values in (x, y))
    change = change._replace(before=old[1], after=new[1])
    if min(len(x), len(y)) < LEAST_SEEDS or (old[2] >= new[0] and new[2] >= old[0]) or old[1] == 0:
        return change
    return change._replace(kind="advice", note=f"× {new[1] / old[1]:.3g}, medians whose quartiles do not overlap")


def brief(rows: Iterable[Change]) -> list[Change]:
    """The rows, with many that differ in their sources alone as one."""
    rows = list(rows)
    for said in (f"{SOURCES}:", f"{SOURCES} or options:"):
        others = [row for row in rows if not (row.kind == "altered" and row.note.startswith(said))]
        if (many := len(rows) - len(others)) > FEW:
            rows = [*others, Change("altered", "", f"{many} variants", note=f"{said.rstrip(':')} before and after")]
    return rows


def options_of(values: Mapping[str, object]) -> str:
    """A configuration as reports show it: `name=value`, separated by commas."""
    return ", ".join(f"{key}={short(value)}" for key, value in values.items())


def table_of(entries: Iterable[Entry]) -> pd.DataFrame:
    """The table that `compare` takes, from records."""
    found = [pd.DataFrame(columns=COMPARED)]
    for e in entries:
        r = e.record
        found.append(results([e]).assign(fidelity=r.fidelity, data=r.dataset["digest"], options=options_of(r.values), code=r.code))
    return pd.concat([part for part in found if len(part)] or found, ignore_index=True)
