"""Finds which runs of a plan are missing, and has an engine make them."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from vae_variants.evaluation import fidelity
from vae_variants.harness.engines import Engine, InProcess
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.protocols import Retry, Settings, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, digest_of, look_again
from vae_variants.harness.store import Store
from vae_variants.isolation import refuse_damage


def run_all(
    specs: Sequence[RunSpec],
    store: Store,
    device: torch.device,
    retry: Retry = "never",
    timeout: float | None = None,
    memory: int | None = None,
    *,
    watcher: Watcher | None = None,
    engine: Engine | None = None,
) -> list[Record]:
    """Makes the runs that are missing in the store. Interrupted ones resume; records made by older code are reused.

    Args:
        specs: the plan.
        store: where records are read and written.
        device: where models are trained.
        retry: which existing runs to make again: `failed` ones, those of `older` code, `all`, or only the `scores` of all.
        timeout: limit for each run, in seconds. Without an engine it limits the training time only.
        memory: limit for each run, in bytes. Needs an engine.
        watcher: is told of the progress.
        engine: where runs are made; None is this process.

    Returns:
        A record for each spec, in their order. A failed run has a record too.

    Raises:
        UserError: the data cannot be loaded, or the store cannot be written.
        KeyboardInterrupt: passed on after the finished epochs are on disk.
    """
    refuse_damage()
    look_again(spec.dataset for spec in specs)
    watcher = watcher or Watcher()
    keys = [spec.key() for spec in specs]  # loads the data: a download happens once, before any child process
    exact = {key: store.get(spec, key) for spec, key in zip(specs, keys, strict=True)}
    missing = {spec.identity: digest_of(spec.dataset, spec.fidelity) for spec, key in zip(specs, keys, strict=True) if not exact[key]}
    due = missing or any(is_due(record, retry) for record in exact.values() if record)
    of_older_code = store.newest(missing, missing) if due else {}  # which also tells the order of new records
    records, pending = dict[str, Record](), dict[str, PendingRun]()
    for spec, key in zip(specs, keys, strict=True):
        own = exact[key]
        folder, record = (store.locate(spec, key), own) if own else of_older_code.get(spec.identity, (None, None))
        if record is None or folder is None or is_due(record, retry):
            pending.setdefault(key, PendingRun(spec, key, own.started if own else ""))
        elif key not in records:
            if spec.tuning and record.tuning != spec.tuning:
                store.put(folder, record := replace(record, tuning=dict(spec.tuning)))
            records[key] = record
            watcher.end(spec, record, True)
    if pending:
        store.plan([manifest_entry(run) for run in pending.values()])
    settings = Settings(store, device, timeout, fresh=retry == "all", renew=retry == "older", memory=memory)
    with closing((engine or InProcess())(list(pending.values()), settings, watcher)) as made:
        for found in made:
            if found is not None:
                records[found.key] = found
                store.latest = max(store.latest, found.order)
                watcher.end(pending[found.key].spec, found, False)
    return [records[key] for key in keys]


def due(specs: Sequence[RunSpec], store: Store, retry: Retry) -> list[RunSpec]:
    """Those that `run_all` will make, as far as the newest records tell."""
    digests = {spec.identity: digest_of(spec.dataset, spec.fidelity) for spec in specs}
    records = store.newest(digests, digests, brief=True)
    return [spec for spec in specs if spec.identity not in records or is_due(records[spec.identity][1], retry)]


def is_due(record: Record, retry: Retry) -> bool:
    """Whether a run has to be made although it has this record."""
    if record.interrupted or retry in ("all", "scores"):
        return True
    return (retry == "failed" and not record.ok) or (retry == "older" and not record.current)


def manifest_entry(run: PendingRun) -> dict[str, Any]:
    """What a manifest says of a run."""
    spec = run.spec
    return {
        "key": run.key,
        "label": spec.label,
        "dataset": spec.dataset,
        "digest": digest_of(spec.dataset, spec.fidelity),
        "seeds": list(spec.seeds),
        "fidelity": fidelity(spec.fidelity).name,
        "code": spec.code,
        "values": dict(spec.configuration.values),
    }
