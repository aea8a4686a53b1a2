"""Runs what is missing, one record per run; a run that fails is a record too, and stops nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vae_variants.evaluation import fidelity
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import TimedOut, classified, end_of, failed, written
from vae_variants.harness.files import StoreError, sweep
from vae_variants.harness.locks import Due, Queue
from vae_variants.harness.measured import allocated, evaluations, score
from vae_variants.harness.pictures import pictures
from vae_variants.harness.protocols import Engine, Losses, Quiet, Retry, Terms, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.harness.store import CHECKPOINT, MODEL, PICTURES, Store, finite, load_tensors, save_tensors
from vae_variants.training.loop import Training
from vae_variants.training.setup import set_up

__all__ = ["Here", "is_due", "run", "run_all", "trained"]

CHECKPOINT_SECONDS = 30.0
HELD_SECONDS = 1.0  # between two looks at runs that another invocation is at


class Reached(Quiet):
    """A watcher that keeps how far training is, and passes on what it is told."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher, self.epochs = watcher, (0, 0)

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        self.epochs = (done, of)
        self.watcher.epoch(spec, done, of)

    def losses(self, spec: RunSpec, found: Losses) -> None:
        self.watcher.losses(spec, found)


def is_due(record: Record | None, retry: Retry) -> bool:
    """Whether a run is to be made, given what there is; `scores` makes figures again, from the models that were kept."""
    if record is None or record.interrupted or retry in ("all", "scores"):
        return True
    return (retry == "failed" and not record.ok) or (retry == "older" and not record.current)


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
    """A record for each of `specs`, in their order; `timeout` is in seconds per run, `memory` in bytes.

    Without an engine, runs are made here, one after the other, where no more than the time of training can be limited. A record of older
    code does, unless `retry` says `older`. Ctrl-C is passed on, with what was done so far on disk. Raises `UserError` for data that
    cannot be had, and for a store that cannot be written.
    """
    watcher = watcher or Quiet()
    keys = [spec.key() for spec in specs]  # for which data are loaded: what has to be downloaded then is there for all
    found, due = dict[str, Record](), dict[str, Due]()
    there = {key: store.get(spec, key) for spec, key in zip(specs, keys, strict=True)}
    lacking = {spec.identity: prepared(spec.dataset, spec.fidelity).digest for spec, key in zip(specs, keys, strict=True) if not there[key]}
    older = store.newest(lacking, lacking) if lacking else {}
    for spec, key in zip(specs, keys, strict=True):
        record = there[key] or (older[spec.identity][1] if spec.identity in older else None)
        if record is None or is_due(record, retry):
            due.setdefault(key, Due(spec, key, there[key].started if there[key] else ""))  # type: ignore[union-attr]
        elif key not in found:
            found[key] = record
            watcher.end(spec, record, True)
    if due:
        store.plan([planned(one) for one in due.values()])
    terms = Terms(store, device, timeout, fresh=retry == "all", renew=retry == "older", memory=memory)
    with closing((engine or Here())(list(due.values()), terms, watcher)) as records:
        for record in records:
            found[record.key] = record
            watcher.end(due[record.key].spec, record, False)
    return [found[key] for key in keys]


def planned(due: Due) -> dict[str, Any]:
    """What a manifest says of a run."""
    spec = due.spec
    known: dict[str, Any] = {
        "key": due.key,
        "label": spec.label,
        "dataset": spec.dataset,
        "digest": prepared(spec.dataset, spec.fidelity).digest,
    }
    return {
        **known,
        "seeds": list(spec.seeds),
        "fidelity": fidelity(spec.fidelity).name,
        "code": spec.code,
        "values": dict(spec.configuration.values),
    }


class Here:
    """The engine that makes runs in this process, one after the other."""

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]:
        import sklearn.linear_model  # noqa: F401  (the seconds that its import takes are not those of the first run)

        queue = Queue(due, terms.store)
        try:
            while queue:
                match queue.take():
                    case Record() as record:
                        yield record
                    case Due() as one:
                        watcher.begin(one.spec)
                        record = run(one, terms, watcher)
                        queue.done(one)
                        yield record
                    case None:
                        watcher.held(len(queue))
                        time.sleep(HELD_SECONDS)
        finally:
            queue.close()

    def close(self) -> None:
        """Has nothing to leave behind."""


def run(due: Due, terms: Terms, watcher: Watcher) -> Record:
    """Trains, evaluates and writes one run; whatever goes wrong is classified."""
    spec, reached, begin = due.spec, Reached(watcher), time.perf_counter()
    folder = terms.store.folder(spec, due.key)
    found: dict[str, Any] = {"status": {}, "reason": {}}
    started = datetime.now(UTC)
    sweep(folder)
    if terms.fresh:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    try:
        train_and_evaluate(spec, due.key, terms, reached, found)
    except StoreError:
        raise
    except (Exception, SystemExit) as error:
        failed(found, spec, *classified(error), reached.epochs, end_of(error))
    where = environment(terms.device)
    try:
        return written(due, terms, found, started, time.perf_counter() - begin, where)
    except (ValueError, TypeError) as error:  # something in it that JSON has not
        found = {"status": {}, "reason": {}}
        failed(found, spec, *classified(error), reached.epochs, end_of(error))
        return written(due, terms, found, started, time.perf_counter() - begin, where)


def train_and_evaluate(spec: RunSpec, key: str, terms: Terms, watcher: Watcher, found: dict[str, Any]) -> None:
    """Fills `found` with the parts of a record as they come to be known."""
    store, device, level = terms.store, terms.device, fidelity(spec.fidelity)
    dataset, held = prepared(spec.dataset, spec.fidelity), allocated(device)
    training = set_up(spec.configuration, dataset, spec.seeds, device)
    history = trained(training, spec, key, store, terms.timeout, watcher, terms.fresh, terms.renew)
    found["curves"], found["epoch_seconds"] = history["curves"], history["epoch_seconds"]
    found["trained"] = history.get("trained", {})
    diverged = {int(seed): epoch for seed, epoch in history["diverged"].items()}
    for seed, epoch in diverged.items():
        found["status"][str(seed)], found["reason"][str(seed)] = "diverged", f"the loss was not finite in epoch {epoch}"
    found["rows"], found["series"] = [], {}
    for e in evaluations(training, dataset, spec.seeds, diverged, level, device, held):
        score(e, found)
        if "ok" not in found["status"].values() and (shown := pictures(e)):
            save_tensors(store.folder(spec, key) / PICTURES, shown)
        found["status"][str(e.seed)] = "ok"


def fits(state: dict[str, torch.Tensor], like: dict[str, torch.Tensor]) -> bool:
    """Whether a kept state is one of this very model: code may have changed since."""
    return {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in like.items()}


def trained(
    training: Training,
    spec: RunSpec,
    key: str,
    store: Store,
    timeout: float | None,
    watcher: Watcher,
    fresh: bool,
    renew: bool = False,
) -> dict[str, Any]:
    """Leaves the population of `training` trained, here or by a run that shares its training -> curves, epoch_seconds, diverged."""
    folder, training_key, code = store.folder(spec, key), spec.training_key(), spec.training_code
    known = None if fresh else store.trained(spec, key, training_key, code)
    if known is None and not fresh and not renew:
        known = store.trained(spec, key, training_key)
    if known is not None and fits(known[0], training.population.state()):
        state, metadata = known
        training.population.restore({name: tensor.to(training.population.device) for name, tensor in state.items()})
        history: dict[str, Any] = json.loads(metadata["history"])
        code = metadata.get("code", "")
        history.setdefault("trained", {})["code"] = code
        if metadata.get("key") == key:
            return history
    else:
        curves = train(training, spec, key, folder, timeout, watcher)
        training.population.finish(training.train, training.diverged)
        history = {
            "curves": {name: finite([list(seed) for seed in zip(*rows, strict=True)]) for name, rows in curves.items()},
            "epoch_seconds": [round(s, 4) for s in training.seconds],
            "diverged": {str(seed): epoch for seed, epoch in training.diverged.items()},
            "trained": {**environment(training.population.device), "step": training.how, "code": code},
        }
    if state := training.population.state():
        save_tensors(folder / MODEL, state, key=key, training=training_key, code=code, history=json.dumps(history))
    return history


def train(
    training: Training, spec: RunSpec, key: str, folder: Path, timeout: float | None, watcher: Watcher
) -> dict[str, list[list[float]]]:
    """To the end, from the last checkpoint if there is one -> curves: name -> epoch -> seed."""
    curves: dict[str, list[list[float]]] = {}
    epochs = training.recipe.epochs
    if (state := load_tensors(folder / CHECKPOINT, key=key)) is not None:
        curves = {name.removeprefix("curves/"): t.tolist() for name, t in state.items() if name.startswith("curves/")}
        training.restore({name: t for name, t in state.items() if not name.startswith("curves/")})
        watcher.epoch(spec, training.epoch, epochs)
        watcher.losses(spec, Losses(training.epoch, curves))
    saved, pending = time.perf_counter(), dict[str, torch.Tensor]()

    def state_now() -> dict[str, torch.Tensor]:
        return training.state() | {f"curves/{name}": torch.tensor(rows, dtype=torch.float64) for name, rows in curves.items()}

    def keep(state: dict[str, torch.Tensor]) -> None:
        nonlocal saved, pending
        save_tensors(folder / CHECKPOINT, state, key=key, identity=spec.identity)
        saved, pending = time.perf_counter(), {}

    def after_step() -> None:
        if time.perf_counter() - saved > CHECKPOINT_SECONDS:
            keep(state_now())

    try:
        while training.players and training.epoch < epochs and len(training.diverged) < len(spec.seeds):
            found = training.run_epoch(after_step)
            for name, row in found.items():
                curves.setdefault(name, []).append(row)
            pending = {name: tensor.clone() for name, tensor in state_now().items()}
            watcher.epoch(spec, training.epoch, epochs)
            watcher.losses(spec, Losses(training.epoch, {name: [row] for name, row in found.items()}))
            if timeout is not None and sum(training.seconds) > timeout:
                raise TimedOut(f"training took longer than {timeout:g} s")
            now, last = time.perf_counter(), training.epoch == epochs
            if now - saved > (CHECKPOINT_SECONDS / 6 if last else CHECKPOINT_SECONDS):
                keep(pending)
    except (KeyboardInterrupt, TimedOut):
        if pending:
            keep(pending)
        raise
    return curves
