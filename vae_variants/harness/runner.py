"""Runs what is missing, one record per run; a run that fails is a record too, and stops nothing."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch

from vae_variants.evaluation import Evaluation, evaluate, fidelity
from vae_variants.evaluation.features import classifier
from vae_variants.harness.environment import allocated, environment, peak_memory, reset_peak_memory
from vae_variants.harness.pictures import pictures
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.harness.store import CHECKPOINT, MODEL, PICTURES, Store, finite, load_tensors, save_tensors
from vae_variants.model import LatentVariable, MeanSampler
from vae_variants.registry import UserError
from vae_variants.training import Population, Training
from vae_variants.variants import build

__all__ = ["Due", "Engine", "Quiet", "Retry", "Terms", "Watcher", "is_due", "lost", "run", "run_all"]

Retry = Literal["never", "failed", "scores", "all"]
CHECKPOINT_SECONDS = 30.0
MEASUREMENT_SECONDS = 4  # times what the fidelity gives to a throughput: a training step is slower than a sample


class Watcher(Protocol):
    """Is told how the runs go on."""

    def begin(self, spec: RunSpec) -> None: ...
    def epoch(self, spec: RunSpec, done: int, of: int) -> None: ...
    def end(self, spec: RunSpec, record: Record, reused: bool) -> None: ...


class Quiet:
    """A watcher that says nothing."""

    def begin(self, spec: RunSpec) -> None:
        """A run starts."""

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        """`done` of `of` epochs are trained."""

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        """There is a record; `reused` says that it had been there before."""


class Due(NamedTuple):
    """A run that is to be made, and its key."""

    spec: RunSpec
    key: str


class Terms(NamedTuple):
    """On which every run of a call is made; `timeout` is in seconds, `fresh` ignores what was trained before."""

    store: Store
    device: torch.device
    timeout: float | None
    fresh: bool


class Engine(Protocol):
    """Makes runs somewhere else, all of them different, and yields their records as they come, in any order.

    The watcher is told of beginnings and epochs. Closed early, it leaves no process behind.
    """

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]: ...


class TimedOut(Exception):
    """Training took longer than the limit."""


def is_due(record: Record | None, retry: Retry) -> bool:
    """Whether a run is to be made, given what there is; `scores` makes figures again, from the models that were kept."""
    if record is None or retry in ("all", "scores"):
        return True
    return retry == "failed" and not record.ok


def run_all(
    specs: Sequence[RunSpec],
    store: Store,
    *,
    device: torch.device,
    retry: Retry = "never",
    timeout: float | None = None,
    watcher: Watcher | None = None,
    engine: Engine | None = None,
) -> list[Record]:
    """A record for each of `specs`, in their order; `timeout` is in seconds of training per run.

    Without an engine, runs are made here, one after the other. Ctrl-C is passed on, with what was done so far on disk.
    Raises `UserError` for data that cannot be had.
    """
    watcher, terms = watcher or Quiet(), Terms(store, device, timeout, fresh=retry == "all")
    if engine is not None:
        return run_elsewhere(specs, terms, retry, watcher, engine)
    import sklearn.linear_model  # noqa: F401  (the seconds that its import takes are not those of the first run)

    records = []
    for spec in specs:
        key = spec.key()
        record = store.get(spec, key)
        reused = not is_due(record, retry)
        if not reused or record is None:
            watcher.begin(spec)
            record = run(Due(spec, key), terms, watcher)
        watcher.end(spec, record, reused)
        records.append(record)
    return records


def run_elsewhere(specs: Sequence[RunSpec], terms: Terms, retry: Retry, watcher: Watcher, engine: Engine) -> list[Record]:
    """`run_all` by an engine. Keys are found here first, for which data are loaded: what has to be downloaded then is there for all."""
    keys = [spec.key() for spec in specs]
    found: dict[str, Record] = {}
    due: dict[str, RunSpec] = {}
    for spec, key in zip(specs, keys, strict=True):
        record = terms.store.get(spec, key)
        if record is None or is_due(record, retry):
            due.setdefault(key, spec)
        else:
            found[key] = record
            watcher.end(spec, record, True)
    with closing(engine([Due(spec, key) for key, spec in due.items()], terms, watcher)) as records:
        for record in records:
            found[record.key] = record
            watcher.end(due[record.key], record, False)
    return [found[key] for key in keys]


def run(due: Due, terms: Terms, watcher: Watcher) -> Record:
    """Trains, evaluates and writes one run; whatever goes wrong is classified."""
    (spec, key), (store, device, timeout, fresh) = due, terms
    folder, begin = store.folder(spec, key), time.perf_counter()
    found: dict[str, Any] = {"status": {}, "reason": {}}
    started = datetime.now(UTC)
    if fresh:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    try:
        train_and_evaluate(spec, key, store, device, timeout, watcher, found, fresh)
    except UserError as error:
        failed(found, spec, "error", str(error))
    except TimedOut as error:
        failed(found, spec, "timeout", str(error))
    except (torch.OutOfMemoryError, MemoryError) as error:
        failed(found, spec, "oom", str(error).split("\n")[0] or "out of memory")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {error}".split("\n")[0]
        memory = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        failed(found, spec, "oom" if memory else "error", f"{line} ({Path(where.filename).name}:{where.lineno})")
    return written(due, terms, found, started, time.perf_counter() - begin, environment(device))


def lost(due: Due, terms: Terms, reason: str, started: datetime, where: dict[str, Any]) -> Record:
    """The record of a run whose process died."""
    found: dict[str, Any] = {"status": {}, "reason": {}}
    failed(found, due.spec, "error", reason)
    return written(due, terms, found, started, (datetime.now(UTC) - started).total_seconds(), where)


def written(due: Due, terms: Terms, found: dict[str, Any], started: datetime, seconds: float, where: dict[str, Any]) -> Record:
    spec, key = due
    record = Record(
        key=key,
        label=spec.label,
        values=dict(spec.configuration.values),
        dataset=prepared(spec.dataset, spec.fidelity).recorded(),
        support=spec.configuration.support.value,
        fidelity=fidelity(spec.fidelity).name,
        seeds=list(spec.seeds),
        environment=where,
        started=started.isoformat(timespec="microseconds"),  # two runs of a second have an order, too
        seconds=round(seconds, 3),
        **found,
    )
    terms.store.put(terms.store.folder(spec, key), record)
    return record


def failed(found: dict[str, Any], spec: RunSpec, status: str, reason: str) -> None:
    """Every seed that has no state yet gets this one."""
    for seed in map(str, spec.seeds):
        if seed not in found["status"]:
            found["status"][seed], found["reason"][seed] = status, reason[:500]


def train_and_evaluate(
    spec: RunSpec, key: str, store: Store, device: torch.device, timeout: float | None, watcher: Watcher, found: dict[str, Any], fresh: bool
) -> None:
    """Fills `found` with the parts of a record as they come to be known."""
    dataset, level, folder = prepared(spec.dataset, spec.fidelity), fidelity(spec.fidelity), store.folder(spec, key)
    recipe, data = spec.configuration.recipe, dataset.as_(spec.configuration.support)

    held = allocated(device)
    population = Population(lambda: build(spec.configuration, dataset), spec.seeds, device)
    training = Training(population, data, recipe, dataset.digest)
    history = trained(training, spec, key, store, timeout, watcher, fresh)
    found["curves"], found["epoch_seconds"] = history["curves"], history["epoch_seconds"]
    found["trained"] = history.get("trained", {})
    diverged = {int(seed): epoch for seed, epoch in history["diverged"].items()}
    for seed, epoch in diverged.items():
        found["status"][str(seed)], found["reason"][str(seed)] = "diverged", f"the loss was not finite in epoch {epoch}"
    alive = [seed for seed in spec.seeds if seed not in diverged]
    cost = costs(training, level.timing_seconds * MEASUREMENT_SECONDS, held) if alive and training.players else {}
    rows: list[dict[str, Any]] = []
    found["rows"], found["series"] = rows, {}
    for seed, member in zip(spec.seeds, training.population.members(), strict=True):
        if seed in diverged:
            continue
        e = Evaluation(member, dataset, seed, level, device, cost)
        rows += [{"seed": seed, **asdict(value)} for value in evaluate(e)]
        if isinstance(member, LatentVariable):
            found["series"].setdefault("kl_units", {})[str(seed)] = [round(v, 6) for v in e.elbo.rate_units.tolist()]
        if isinstance(member, MeanSampler) and dataset.labels is not None:
            model, accuracy = classifier(dataset)
            found["classifier"] = {"digest": model.digest, "test_accuracy": accuracy}
        if seed == alive[0] and (shown := pictures(e)):
            save_tensors(folder / PICTURES, shown)
        found["status"][str(seed)] = "ok"


def fits(state: dict[str, torch.Tensor], like: dict[str, torch.Tensor]) -> bool:
    """Whether a kept state is one of this very model: code may have changed since."""
    return {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in like.items()}


def trained(
    training: Training, spec: RunSpec, key: str, store: Store, timeout: float | None, watcher: Watcher, fresh: bool
) -> dict[str, Any]:
    """Leaves the population of `training` trained, here or by a run that shares its training -> curves, epoch_seconds, diverged."""
    folder, training_key = store.folder(spec, key), spec.training_key()
    known = None if fresh else store.trained(spec, key, training_key)
    if known is not None and fits(known[0], training.population.state()):
        state, metadata = known
        training.population.restore({name: tensor.to(training.population.device) for name, tensor in state.items()})
        history: dict[str, Any] = json.loads(metadata["history"])
        if metadata.get("key") == key:
            return history
    else:
        curves = train(training, spec, key, folder, timeout, watcher)
        training.population.finish(training.train, training.diverged)
        history = {
            "curves": {name: finite([list(seed) for seed in zip(*rows, strict=True)]) for name, rows in curves.items()},
            "epoch_seconds": [round(s, 4) for s in training.seconds],
            "diverged": {str(seed): epoch for seed, epoch in training.diverged.items()},
            "trained": {**environment(training.population.device), "step": training.how},
        }
    if state := training.population.state():
        save_tensors(folder / MODEL, state, key=key, training=training_key, history=json.dumps(history))
    return history


def costs(training: Training, budget: float, held: int) -> dict[str, float]:
    """Throughput and peak memory of single steps, less the `held` bytes, and what the whole training takes at that throughput.

    Leaves the population as it was.
    """
    population, trained = training.population, {name: tensor.clone() for name, tensor in training.population.state().items()}
    reset_peak_memory(population.device)
    throughput = training.images_per_second(budget)
    peak = peak_memory(population.device) - held
    population.restore(trained)
    images = training.recipe.epochs * training.steps * training.batch * len(population)
    return {"train_images_per_second": throughput, "train_seconds": images / throughput, "peak_memory_bytes": float(peak)}


def train(
    training: Training, spec: RunSpec, key: str, folder: Path, timeout: float | None, watcher: Watcher
) -> dict[str, list[list[float]]]:
    """To the end, from the last checkpoint if there is one -> curves: name -> epoch -> seed."""
    curves: dict[str, list[list[float]]] = {}
    if (state := load_tensors(folder / CHECKPOINT, key=key)) is not None:
        curves = {name.removeprefix("curves/"): t.tolist() for name, t in state.items() if name.startswith("curves/")}
        training.restore({name: t for name, t in state.items() if not name.startswith("curves/")})
    epochs, saved, pending = training.recipe.epochs, time.perf_counter(), dict[str, torch.Tensor]()
    try:
        while training.players and training.epoch < epochs and len(training.diverged) < len(spec.seeds):
            for name, row in training.run_epoch().items():
                curves.setdefault(name, []).append(row)
            kept = {f"curves/{name}": torch.tensor(rows, dtype=torch.float64) for name, rows in curves.items()}
            pending = {name: tensor.clone() for name, tensor in training.state().items()} | kept
            watcher.epoch(spec, training.epoch, epochs)
            if timeout is not None and sum(training.seconds) > timeout:
                raise TimedOut(f"training took longer than {timeout:g} s: {training.epoch} of {epochs} epochs were done")
            now, last = time.perf_counter(), training.epoch == epochs
            if now - saved > (CHECKPOINT_SECONDS / 6 if last else CHECKPOINT_SECONDS):
                save_tensors(folder / CHECKPOINT, pending, key=key, identity=spec.identity)
                saved, pending = time.perf_counter(), {}
    except KeyboardInterrupt:
        if pending:
            save_tensors(folder / CHECKPOINT, pending, key=key, identity=spec.identity)
        raise
    return curves


def headline(record: Record) -> str:
    """The figure that one would look at first, averaged over seeds, for a line of log."""
    for metric in ("log_likelihood", "reconstruction_mse", "sharpness_ratio", "probe_accuracy"):
        values = [v for s in record.seeds if (v := record.value(metric, s)) is not None]
        if values:
            return f"{metric} {math.fsum(values) / len(values):.4g}"
    return ""
