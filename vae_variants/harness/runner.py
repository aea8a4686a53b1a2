"""Makes the runs that are missing and writes one record for each. A run that fails has a record too, and stops no other run."""

import copy
import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vae_variants.evaluation import METRICS, Evaluation, fidelity
from vae_variants.evaluation.metrics import evaluate_foreign
from vae_variants.evaluation.shelf import keeping
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import TimedOut, add_failure, classified, write_record
from vae_variants.harness.files import StoreError, load_tensors, save_tensors
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.measured import COSTS, allocated, evaluations, score
from vae_variants.harness.members import History, joined, split
from vae_variants.harness.pictures import pictures
from vae_variants.harness.protocols import LastEpoch, Losses, Settings, Watcher, Watchers
from vae_variants.harness.record import Record
from vae_variants.harness.shelves import shelf_in
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.harness.store import CHECKPOINT, MODEL, PICTURES, Store
from vae_variants.isolation import Changed, refuse_damage, unchanged
from vae_variants.training.loop import Training
from vae_variants.training.setup import set_up

CHECKPOINT_SECONDS = 30.0


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
            for name in (MODEL, CHECKPOINT, PICTURES):
                (folder / name).unlink(missing_ok=True)
        add_failure(parts, run.spec, classified(error), last.epochs)
    where = environment(settings.device)
    try:
        return write_record(run, settings, parts, started, time.perf_counter() - start, where, write)
    except (ValueError, TypeError) as error:  # a value that JSON cannot hold
        parts = {"status": {}, "reason": {}}
        add_failure(parts, run.spec, classified(error), last.epochs)
        return write_record(run, settings, parts, started, time.perf_counter() - start, where, write)


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
    """Fills `parts` with the parts of a record as they become known, but for a plug-in's metrics. Returns the trained models."""
    spec, device = run.spec, settings.device
    dataset, held = prepared(spec.dataset, spec.fidelity), allocated(device)
    training = set_up(spec.configuration, dataset, spec.seeds, device)
    history = trained(training, run, settings, watcher)
    parts["curves"], parts["epoch_seconds"], parts["trained"] = history["curves"], history["epoch_seconds"], history["trained"]
    diverged = {int(seed): epoch for seed, epoch in history["diverged"].items()}
    for seed, epoch in diverged.items():
        parts["status"][str(seed)], parts["reason"][str(seed)] = "diverged", f"the loss was not finite in epoch {epoch}"
    parts["rows"], parts["series"] = [], {}
    for e in evaluations(training, len(parts["epoch_seconds"]), dataset, spec.seeds, diverged, fidelity(spec.fidelity), device, held):
        score(e, parts)
        if "ok" not in parts["status"].values() and not e.fidelity.choosing and (shown := pictures(e)):
            save_tensors(settings.store.folder(spec, run.key) / PICTURES, shown, key=run.key)
        parts["status"][str(e.seed)] = "ok"
    return training


def trained(training: Training, run: PendingRun, settings: Settings, watcher: Watcher) -> History:
    """Trains the population of `training`, or restores it from this run or others that share its training or seeds of it.

    Returns:
        The history of the training: `curves`, `epoch_seconds`, `diverged` and `trained` (where it was trained).
    """
    spec, key, store, population = run.spec, run.key, settings.store, training.population
    training_key, code = spec.training_key(), spec.training_code
    known = None if settings.fresh else store.trained(spec, key, training_key, code)
    if known is None and not settings.fresh and not settings.renew:
        known = store.trained(spec, key, training_key)
    if known is not None and shapes(known[0]) == shapes(population.state()):  # else the model's code has changed
        state, metadata = known
        population.restore({name: tensor.to(population.device) for name, tensor in state.items()})
        history: History = json.loads(metadata["history"])
        code = metadata.get("code", "")
        history.setdefault("trained", {})["code"] = code
        if metadata.get("key") == key:
            return history
    else:
        history = completed(training, run, settings, watcher)
    if state := population.state():
        path = store.folder(spec, key) / MODEL
        shared = spec.training_key(together=False)
        told = {"seeds": json.dumps(spec.seeds), "history": json.dumps(history)}
        save_tensors(path, state, key=key, training=training_key, shared=shared, code=code, **told)
    return history


def completed(training: Training, run: PendingRun, settings: Settings, watcher: Watcher) -> History:
    """Trains the seeds that no run has trained with this recipe and code, and takes the others from the runs that have.

    Returns:
        The history of all seeds; see `trained`.
    """
    spec, population, device = run.spec, training.population, training.population.device
    members = {} if settings.fresh else settings.store.members(spec, shared=spec.training_key(together=False), code=spec.training_code)
    wanted = {name: tensor.shape[1:] for name, tensor in population.state().items()}
    members = {seed: member for seed, member in members.items() if shapes(member.state) == wanted}
    rest, where = tuple(seed for seed in spec.seeds if seed not in members), dict[str, Any]()
    if rest:
        alone = not members
        part = training if alone else set_up(spec.configuration, prepared(spec.dataset, spec.fidelity), rest, device)
        curves = train(part, run, settings, watcher)
        part.population.finish(part.sample, part.diverged)
        history: History = {
            "curves": {name: by_seed(rows) for name, rows in curves.items()},
            "epoch_seconds": [round(s, 4) for s in part.seconds],
            "diverged": {str(seed): epoch for seed, epoch in part.diverged.items()},
            "trained": {**environment(device), "step": part.how, "lr": part.rate, "code": spec.training_code},
        }
        if alone:
            return history
        members |= split({name: tensor.cpu() for name, tensor in part.population.state().items()}, history, rest)
        where = history["trained"]
    state, history = joined(members, spec.seeds, where or members[spec.seeds[-1]].history["trained"])
    population.restore({name: tensor.to(device) for name, tensor in state.items()})
    return history


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def by_seed(rows: list[list[float]]) -> list[list[float | None]]:
    """Epoch -> seed becomes seed -> epoch, with None for NaN and infinity, which JSON lacks."""
    return [[value if math.isfinite(value) else None for value in seed] for seed in zip(*rows, strict=True)]


def train(training: Training, run: PendingRun, settings: Settings, watcher: Watcher) -> dict[str, list[list[float]]]:
    """Trains to the end, from the last checkpoint if there is one.

    Returns:
        The curves: name -> epoch -> seed.
    """
    spec, curves, epochs = run.spec, dict[str, list[list[float]]](), training.recipe.epochs
    path: Path = settings.store.folder(spec, run.key) / CHECKPOINT

    def tell(done: int, rows: dict[str, list[list[float]]]) -> None:
        if seeds == spec.seeds:  # else the record tells of all seeds at the end
            watcher.losses(spec, Losses(done, rows))

    seeds = training.population.seeds
    if (state := load_tensors(path, key=run.key, seeds=json.dumps(seeds))) is not None:
        curves = {name.removeprefix("curves/"): t.tolist() for name, t in state.items() if name.startswith("curves/")}
        training.restore({name: t for name, t in state.items() if not name.startswith("curves/")})
        watcher.epoch(spec, training.epoch, epochs)
        tell(training.epoch, curves)
    saved, pending = time.perf_counter(), dict[str, torch.Tensor]()
    end = math.inf if settings.timeout is None else saved + settings.timeout - sum(training.seconds)

    def keep(state: dict[str, torch.Tensor]) -> None:
        nonlocal saved, pending
        rows = {f"curves/{name}": torch.tensor(found[: int(state["epoch"])], dtype=torch.float64) for name, found in curves.items()}
        save_tensors(path, state | rows, key=run.key, identity=spec.identity, seeds=json.dumps(seeds))
        saved, pending = time.perf_counter(), {}

    def after_step() -> None:
        now = time.perf_counter()
        if now - saved > CHECKPOINT_SECONDS or now > end:
            keep(training.state())
        if now > end:
            raise TimedOut(f"training took longer than {settings.timeout:g} s")

    try:
        while not training.over and len(training.diverged) < len(seeds):
            found = training.run_epoch(after_step)
            for name, row in found.items():
                curves.setdefault(name, []).append(row)
            pending = {name: tensor.clone() for name, tensor in training.state().items()}
            watcher.epoch(spec, training.epoch, epochs)
            tell(training.epoch, {name: [row] for name, row in found.items()})
            age = time.perf_counter() - saved
            if age > (CHECKPOINT_SECONDS / 6 if training.over else CHECKPOINT_SECONDS):
                keep(pending)
    except (KeyboardInterrupt, TimedOut):
        if pending:
            keep(pending)
        raise
    return curves
