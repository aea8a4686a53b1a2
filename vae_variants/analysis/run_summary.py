"""What a report is about, which runs are in it, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vae_variants.analysis.entries import Entry, distinct
from vae_variants.analysis.formatting import grouped

__all__ = ["Facts", "Failure", "collapsed", "facts", "failed_runs", "failed_values", "same_runs"]


@dataclass(frozen=True)
class Facts:
    """Where the figures come from. `day` is that of the newest record, `ok` and `failed` count runs."""

    day: str
    devices: tuple[str, ...]
    python: str
    packages: tuple[str, ...]
    commits: tuple[str, ...]  # of the sources, with a + where they were changed; none of an installed package
    data: str
    digest: str
    shape: str
    sizes: str
    seeds: int  # at most, of a run
    fidelities: tuple[str, ...]
    ok: int
    failed: int


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


def facts(entries: Sequence[Entry]) -> Facts:
    records = [e.record for e in entries]
    data, newest = records[0].dataset, max(records, key=lambda r: r.started)
    versions = newest.environment.get("versions", {})
    states = [e.record.ok for e in distinct(entries)]
    return Facts(
        day=newest.started[:10],
        devices=tuple(sorted({r.environment.get("device", "?") for r in records})),
        python=newest.environment.get("python", "?"),
        packages=tuple(f"{k} {versions[k]}" for k in ("torch", "scikit-learn") if versions.get(k)),
        commits=tuple(sorted({c for r in records if (c := r.environment.get("commit"))})),
        data=data["name"],
        digest=data["digest"][:12],
        shape="×".join(map(str, data["shape"])),
        sizes=" / ".join(map(grouped, data["sizes"].values())),
        seeds=max(len(r.seeds) for r in records),
        fidelities=tuple(dict.fromkeys(r.fidelity for r in records)),
        ok=states.count(True),
        failed=states.count(False),
    )


def same_runs(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """(label, that of the entry before it which is the same run)."""
    first = {e.record.key: e.label for e in reversed(entries)}
    return [(e.label, first[e.record.key]) for e in entries if first[e.record.key] != e.label]


def collapsed(entry: Entry) -> str:
    """Of a model with latent units none of which is active, in how many seeds if not in all; nothing of others."""
    units = list(entry.values("active_units").values())
    silent = sum(n < 1 for n in units)
    return "" if not silent else "no active unit" + ("" if silent == len(units) else f" in {silent} of {len(units)} seeds")


def failed_runs(entries: Sequence[Entry]) -> list[Failure]:
    """Seeds that have no figures at all."""
    found = []
    for e in distinct(entries):
        for seed, status in e.record.status.items():
            if status != "ok":
                why, epoch = e.record.failure, e.record.failure.get("epoch")
                reason, end = e.record.reason.get(seed, ""), str(why.get("traceback") or "")
                found.append(Failure(e.label, seed, status, reason, epoch=epoch, traceback=end))
    return found


def failed_values(entries: Sequence[Entry]) -> list[Failure]:
    """Metrics that a seed has no value of, though its model could."""
    rows = [(e.label, r) for e in distinct(entries) for r in e.record.rows if r["status"] != "ok"]
    return [Failure(label, str(r["seed"]), r["status"], r["reason"], r["metric"]) for label, r in rows]
