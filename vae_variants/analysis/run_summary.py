"""Where the figures of a report come from, and which runs and values are missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vae_variants.analysis.entries import Entry, distinct
from vae_variants.analysis.formatting import grouped


@dataclass(frozen=True)
class Failure:
    """A seed of a run, or a metric of a seed, that has no value, and why."""

    label: str
    seed: str
    status: str
    reason: str
    metric: str = ""
    epoch: int | None = None
    traceback: str = ""


def run_summary(entries: Sequence[Entry]) -> dict[str, Any]:
    """Newest day, machines, software, data, most seeds, presets and the number of runs; a commit with + had local changes."""
    records = [e.record for e in entries]
    data, newest = records[0].dataset, max(records, key=lambda r: r.age)
    versions = newest.environment.get("versions", {})
    states = [e.record.ok for e in distinct(entries)]
    return {
        "day": newest.started[:10],
        "devices": sorted({r.environment.get("device", "?") for r in records}),
        "python": newest.environment.get("python", "?"),
        "packages": [f"{k} {versions[k]}" for k in ("torch", "scikit-learn") if versions.get(k)],
        "commits": sorted({c for r in records if (c := r.environment.get("commit"))}),
        "data": data["name"],
        "digest": data["digest"][:12],
        "described": data.get("described", ""),
        "shape": "×".join(map(str, data["shape"])),
        "sizes": " / ".join(map(grouped, data["sizes"].values())),
        "seeds": max(len(r.seeds) for r in records),
        "fidelities": list(dict.fromkeys(r.fidelity for r in records)),
        "ok": states.count(True),
        "failed": states.count(False),
    }


def same_runs(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(label, label of the first entry with the same run)."""
    first = {e.record.key: e.label for e in reversed(entries)}
    return [(e.label, first[e.record.key]) for e in entries if first[e.record.key] != e.label]


def failed_runs(entries: Sequence[Entry]) -> list[Failure]:
    """Seeds without any value."""
    found = []
    for e in distinct(entries):
        r, epoch, end = e.record, e.record.failure.get("epoch"), str(e.record.failure.get("traceback") or "")
        lost = {seed: status for seed, status in r.status.items() if status != "ok"}
        found += [Failure(e.label, seed, status, r.reason.get(seed, ""), "", epoch, end) for seed, status in lost.items()]
    return found


def failed_values(entries: Sequence[Entry]) -> list[Failure]:
    """Metrics without a value for a seed, though the model is capable of them."""
    rows = [(e.label, r) for e in distinct(entries) for r in e.record.rows if r["status"] != "ok"]
    return [Failure(label, str(r["seed"]), r["status"], r["reason"], r["metric"]) for label, r in rows]
