"""What stopped a run, in words, and the record that it leaves behind."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vae_variants.evaluation import fidelity
from vae_variants.harness.locks import Due
from vae_variants.harness.protocols import Terms
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.memory import exhausted
from vae_variants.registry import UserError

__all__ = ["TRIES", "Death", "TimedOut", "classified", "end_of", "failed", "lost", "written"]

LINES = 16  # of a traceback that are kept
TRIES = 3  # of a run that is killed from outside, each by a start of its own


class TimedOut(Exception):
    """Training took longer than the limit."""


class Death(NamedTuple):
    """How the process of a run ended before the run did. What is `interrupted` too often is `at_last` something else."""

    status: str
    reason: str
    traceback: str = ""
    at_last: str = "error"


def classified(error: BaseException) -> tuple[str, str]:
    """Status and reason of what stopped a run."""
    first = str(error).split("\n")[0]
    if exhausted(error):
        return "oom", first or "out of memory"
    if isinstance(error, UserError):
        return "error", first
    if isinstance(error, TimedOut):
        return "timeout", first
    where = traceback.extract_tb(error.__traceback__)[-1]
    return "error", f"{type(error).__name__}: {first} ({Path(where.filename).name}:{where.lineno})"


def end_of(error: BaseException) -> str:
    """The last lines of its traceback."""
    return "\n".join("".join(traceback.format_exception(error)).splitlines()[-LINES:])


def lost(due: Due, terms: Terms, how: Death, started: datetime, epochs: tuple[int, int] | None, where: dict[str, Any]) -> Record:
    """The record of a run whose process ended before it: the one that it had just written, if it had."""
    before = terms.store.get(due.spec, due.key)
    if before is not None and before.started != due.seen:
        return before
    found: dict[str, Any] = {"status": {}, "reason": {}}
    status, tries = how.status, 0
    if status == "interrupted":
        tries = 1 + (before.failure.get("tries", 0) if before is not None and before.interrupted else 0)
        status = status if tries < TRIES else how.at_last
    reason = how.reason if tries < TRIES else f"{how.reason}, as {TRIES - 1} times before"
    failed(found, due.spec, status, reason, epochs or (0, 0), how.traceback)
    found["failure"] |= {"tries": tries} if tries else {}
    return written(due, terms, found, started, max(0.0, (datetime.now(UTC) - started).total_seconds()), where)


def failed(found: dict[str, Any], spec: RunSpec, status: str, reason: str, epochs: tuple[int, int], trace: str) -> None:
    """Every seed that has no state yet gets this one."""
    done, of = epochs[0], epochs[1] or spec.configuration.values.get("epochs", 0)
    for seed in map(str, spec.seeds):
        if seed not in found["status"]:
            found["status"][seed], found["reason"][seed] = status, f"{reason[:450]} (after {done} of {of} epochs)" if of else reason[:500]
    found["failure"] = {"epoch": done, "traceback": trace}


def written(due: Due, terms: Terms, found: dict[str, Any], started: datetime, seconds: float, where: dict[str, Any]) -> Record:
    """The record with these parts, which is then in the store."""
    spec = due.spec
    record = Record(
        key=due.key,
        label=spec.label,
        values=dict(spec.configuration.values),
        dataset=prepared(spec.dataset, spec.fidelity).recorded(),
        support=spec.configuration.support.value,
        fidelity=fidelity(spec.fidelity).name,
        seeds=list(spec.seeds),
        environment=where,
        started=started.isoformat(timespec="microseconds"),  # two runs of a second have an order, too
        seconds=round(seconds, 3),
        code=spec.code,
        **found,
    )
    terms.store.put(terms.store.folder(spec, due.key), record)
    return record
