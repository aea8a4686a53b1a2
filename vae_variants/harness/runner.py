"""Makes the runs that are missing and writes one record for each. A run that fails has a record too, and stops no other run."""

import copy
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import torch

from vae_variants.evaluation import METRICS, Evaluation, fidelity
from vae_variants.evaluation.metrics import evaluate_foreign
from vae_variants.evaluation.shelf import keeping
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import add_failure, classified, write_record
from vae_variants.harness.files import StoreError, save_tensors
from vae_variants.harness.limits import release_memory
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.measured import COSTS, allocated, evaluations, score
from vae_variants.harness.pictures import pictures
from vae_variants.harness.protocols import LastEpoch, Settings, Watcher, Watchers
from vae_variants.harness.record import Record
from vae_variants.harness.shelves import shelf_in
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.harness.store import CHECKPOINT, MODEL, PICTURES, Store
from vae_variants.harness.trainings import trained
from vae_variants.isolation import Changed, refuse_damage, unchanged
from vae_variants.training.loop import Training
from vae_variants.training.setup import set_up


def make_run(run: PendingRun, settings: Settings, watcher: Watcher, write: bool = True) -> Record:
    """Trains and evaluates one run in this process and writes its record, also if it fails.

    A run that uses a plug-in fails if it changes what runs share; see `isolation`.

    Args:
        run, settings, watcher: What to make, and how.
        write: Whether the record is written to the store. If not, a plug-in's metrics are still missing.

    Raises:
        StoreError: the record or the models cannot be written.
    """
    import sklearn.linear_model  # noqa: F401  (its import takes seconds, which would count for the first run)

    last, start, started = LastEpoch(), time.perf_counter(), datetime.now(UTC)
    folder = settings.store.folder(run.spec, run.key)
    for path in folder.glob("*.tmp"):  # left by a process that died
        path.unlink(missing_ok=True)
    if run.ready:
        settings = settings._replace(fresh=False)
    if settings.fresh:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    parts: dict[str, Any] = {"status": {}, "reason": {}}
    try:
        refuse_damage()
        with isolated(run.spec), shared(run.spec, settings.store):
            training = train_and_evaluate(run, settings, Watchers(last, watcher), parts)
        if METRICS.foreign:
            parts["rows"] = with_foreign(parts["rows"], training, run.spec, settings.device)
    except StoreError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, Changed):
            parts = {"status": {}, "reason": {}}
            for each in (run, *run.beside):
                for name in (MODEL, CHECKPOINT, PICTURES):
                    (settings.store.folder(each.spec, each.key) / name).unlink(missing_ok=True)
        add_failure(parts, run.spec, classified(error), last.epochs)
    where, seconds = environment(settings.device), time.perf_counter() - start + parts.pop("elsewhere", 0.0)
    try:
        return write_record(run, settings, parts, started, seconds, where, write)
    except (ValueError, TypeError) as error:  # a value that JSON cannot hold
        parts = {"status": {}, "reason": {}}
        add_failure(parts, run.spec, classified(error), last.epochs)
        return write_record(run, settings, parts, started, seconds, where, write)


def isolated(spec: RunSpec) -> AbstractContextManager[object]:
    """A context for a run. If it uses a plug-in, it raises `Changed` if the run changes what runs share."""
    if not spec.foreign:
        return nullcontext()
    prepared(spec.dataset, spec.fidelity).as_(spec.configuration.support)  # the images that it is going to use
    return unchanged("this run", "let its plug-in work on copies, and restore what it sets")


def shared(spec: RunSpec, store: Store) -> AbstractContextManager[object]:
    """A context in which what follows from the data is kept beside the runs. A run that uses a plug-in keeps nothing: it could spoil it."""
    return nullcontext() if spec.foreign else keeping(shelf_in(store))


def add_metrics(run: PendingRun, settings: Settings, record: Record) -> Record:
    """Measures a plug-in's metrics on the models of a record that lacks them, and writes it."""
    spec = run.spec
    training = set_up(spec.configuration, prepared(spec.dataset, spec.fidelity), spec.seeds, settings.device)
    trained(training, run, settings._replace(fresh=False, renew=False), Watcher())
    found = replace(record, rows=with_foreign(record.rows, training, spec, settings.device), code=spec.code)
    settings.store.put(settings.store.folder(spec, run.key), found)
    return found


def with_foreign(rows: list[dict[str, Any]], training: Training, spec: RunSpec, device: torch.device) -> list[dict[str, Any]]:
    """The rows of the trained models, and after those of each seed the values of a plug-in's metrics."""
    if fidelity(spec.fidelity).choosing:
        return rows
    found, members = [], dict(zip(spec.seeds, training.population.members(), strict=True))
    for seed in dict.fromkeys(row["seed"] for row in rows):
        own = [row for row in rows if row["seed"] == seed]
        cost = {row["metric"]: row["value"] for row in own if row["metric"] in COSTS and row["value"] is not None}

        def prepare(seed: int = seed, cost: dict[str, float] = cost) -> Evaluation:
            model, dataset = copy.deepcopy(members[seed]), prepared(spec.dataset, spec.fidelity)
            return Evaluation(model, dataset, seed, fidelity(spec.fidelity), device, cost)

        found += [*own, *({"seed": seed, **asdict(value)} for value in evaluate_foreign(prepare))]
    return found


def train_and_evaluate(run: PendingRun, settings: Settings, watcher: Watcher, parts: dict[str, Any]) -> Training:
    """Fills `parts` with the parts of a record as they become known, but for a plug-in's metrics. Returns the trained models.

    A run of a stack counts its own share of the training: `elsewhere` holds the seconds that this process did not spend for it, or
    spent for others if they are negative.
    """
    spec, device = run.spec, settings.device
    dataset, held = prepared(spec.dataset, spec.fidelity), allocated(device)
    training = set_up(spec.configuration, dataset, spec.seeds, device)
    begin = time.perf_counter()
    history = trained(training, run, settings, watcher)
    if run.beside or run.ready:
        parts["elsewhere"] = sum(history["epoch_seconds"]) - (time.perf_counter() - begin)
    parts["curves"], parts["epoch_seconds"], parts["trained"] = history["curves"], history["epoch_seconds"], history["trained"]
    diverged = {int(seed): epoch for seed, epoch in history["diverged"].items()}
    for seed, epoch in diverged.items():
        parts["status"][str(seed)], parts["reason"][str(seed)] = "diverged", f"the loss was not finite in epoch {epoch}"
    parts["rows"], parts["series"] = [], {}
    for e in evaluations(training, len(parts["epoch_seconds"]), dataset, spec.seeds, diverged, fidelity(spec.fidelity), device, held):
        release_memory()
        score(e, parts)
        if "ok" not in parts["status"].values() and not e.fidelity.choosing and (shown := pictures(e)):
            save_tensors(settings.store.folder(spec, run.key) / PICTURES, shown, key=run.key)
        parts["status"][str(e.seed)] = "ok"
    return training
