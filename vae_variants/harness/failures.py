"""Why a run failed, in words, and the record that it leaves."""

import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vae_variants.evaluation import fidelity
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.protocols import Settings
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.memory import exhausted
from vae_variants.registry import UserError

TRACEBACK_LINES = 16
MOST_TRIES = 3  # starts of a run that is killed from outside each time


class TimedOut(Exception):
    """Training took longer than the limit."""


class Failure(NamedTuple):
    """How a run ended early. An `interrupted` run has the status `finally_` after `MOST_TRIES` starts."""

    status: str
    reason: str
    traceback: str = ""
    finally_: str = "error"


def classified(error: BaseException) -> Failure:
    """The status, reason and traceback of an error in a run."""
    first = str(error).split("\n")[0]
    last_lines = "\n".join("".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:])
    if exhausted(error):
        return Failure("oom", first or "out of memory", last_lines)
    if isinstance(error, UserError):
        return Failure("error", first, last_lines)
    if isinstance(error, TimedOut):
        return Failure("timeout", first, last_lines)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return Failure("error", f"{type(error).__name__}: {first} ({Path(where.filename).name}:{where.lineno})", last_lines)


def record_of_lost_run(
    run: PendingRun, settings: Settings, failure: Failure, started: datetime, epochs: tuple[int, int], where: dict[str, Any]
) -> Record:
    """Writes the record of a run whose process ended before it. If the run wrote one just before, returns that."""
    before = settings.store.get(run.spec, run.key)
    if before is not None and before.started != run.replaces:
        return before
    tries = 0
    if failure.status == "interrupted":
        tries = 1 + (before.failure.get("tries", 0) if before is not None and before.interrupted else 0)
        if tries >= MOST_TRIES:
            failure = failure._replace(status=failure.finally_, reason=f"{failure.reason}, as {MOST_TRIES - 1} times before")
    parts: dict[str, Any] = {"status": {}, "reason": {}}
    add_failure(parts, run.spec, failure, epochs)
    parts["failure"] |= {"tries": tries} if tries else {}
    return write_record(run, settings, parts, started, max(0.0, (datetime.now(UTC) - started).total_seconds()), where)


def add_failure(parts: dict[str, Any], spec: RunSpec, failure: Failure, epochs: tuple[int, int]) -> None:
    """Gives every seed that has no status yet the status and reason of the failure."""
    done, of = epochs[0], epochs[1] or spec.configuration.values.get("epochs", 0)
    text = failure.reason.encode(errors="replace").decode()  # a name of a file may be no Unicode
    for seed in map(str, spec.seeds):
        if seed not in parts["status"]:
            parts["status"][seed] = failure.status
            parts["reason"][seed] = f"{text[:450]} (after {done} of {of} epochs)" if of else text[:500]
    parts["failure"] = {"epoch": done, "traceback": failure.traceback.encode(errors="replace").decode()}


def write_record(
    run: PendingRun,
    settings: Settings,
    parts: dict[str, Any],
    started: datetime,
    seconds: float,
    where: dict[str, Any],
    write: bool = True,
) -> Record:
    """Returns the record with these parts, and writes it to the store."""
    spec = run.spec
    record = Record(
        key=run.key,
        label=spec.label,
        values=dict(spec.configuration.values),
        dataset=prepared(spec.dataset, spec.fidelity).recorded(),
        support=spec.configuration.support.value,
        fidelity=fidelity(spec.fidelity).name,
        seeds=list(spec.seeds),
        environment=where,
        started=started.isoformat(timespec="microseconds"),  # orders two runs of the same second
        seconds=round(seconds, 3),
        code=spec.code,
        tuning=dict(spec.tuning),
        **parts,
    ).after(settings.store.latest)
    if write:
        settings.store.put(settings.store.folder(spec, run.key), record)
    else:
        record.to_json()  # which raises what writing would
    return record
