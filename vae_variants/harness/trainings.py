"""The models of runs: taken from runs that have trained them, or trained here, several runs as one stack if they may."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vae_variants.harness.environment import environment
from vae_variants.harness.failures import TimedOut, classified
from vae_variants.harness.files import StoreError, load_tensors, load_with_metadata, save_tensors
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.members import History, Member, joined, split
from vae_variants.harness.protocols import Losses, Settings, Watcher
from vae_variants.harness.spec import prepared
from vae_variants.harness.store import CHECKPOINT, MODEL, Store
from vae_variants.memory import available
from vae_variants.training import stack
from vae_variants.training.loop import Training
from vae_variants.training.setup import set_up
from vae_variants.training.stack import State, place
from vae_variants.variants import canonical

CHECKPOINT_SECONDS = 30.0
COPIES, SHARE = 9, 0.25  # of a run's state: weights, gradients, Adam's two means, best, average, and those of a checkpoint; of memory

Curves = dict[str, list[list[float]]]  # name -> epoch -> member


def trained(training: Training, run: PendingRun, settings: Settings, watcher: Watcher) -> History:
    """Trains the population of `training`, or restores it from this run or others that share its training or seeds of it.

    If the run may train with others `beside` it, the models of those are kept for their turn.

    Returns:
        The history of the training: `curves`, `epoch_seconds`, `diverged` and `trained` (where it was trained).
    """
    spec, key, store, population = run.spec, run.key, settings.store, training.population
    known, code, failed = already(run, settings), spec.training_code, ""
    if known is None and run.beside and not members_of(run, training, settings):
        failed = train_stacks([run, *run.beside], training, settings, watcher)
        known = load_with_metadata(store.folder(spec, key) / MODEL, key=key, training=spec.training_key(), code=code)
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
        history["trained"]["step"] += failed
    if state := population.state():
        keep_models(store, run, state, history, code)
    return history


def already(run: PendingRun, settings: Settings) -> tuple[State, dict[str, str]] | None:
    """The models of a run if it or another has trained them: those of today's code, else if the settings allow it the latest."""
    if settings.fresh:
        return None
    codes = (run.spec.training_code, *([] if settings.renew else [""]))
    return settings.store.trained(run.spec, run.key, run.spec.training_key(), *codes)


def members_of(run: PendingRun, training: Training, settings: Settings) -> dict[int, Member]:
    """The seeds of a run that others have trained with this recipe and code."""
    if settings.fresh:
        return {}
    spec, wanted = run.spec, {name: tensor.shape[1:] for name, tensor in training.population.state().items()}
    members = settings.store.members(spec, shared=spec.training_key(together=False), code=spec.training_code)
    return {seed: member for seed, member in members.items() if shapes(member.state) == wanted}


def keep_models(store: Store, run: PendingRun, state: State, history: History, code: str) -> None:
    """Writes the models of a run into its folder."""
    spec = run.spec
    told = {"seeds": json.dumps(spec.seeds), "history": json.dumps(history), "shared": spec.training_key(together=False)}
    save_tensors(store.folder(spec, run.key) / MODEL, state, key=run.key, training=spec.training_key(), code=code, **told)


def completed(training: Training, run: PendingRun, settings: Settings, watcher: Watcher) -> History:
    """Trains the seeds that no run has trained with this recipe and code, and takes the others from the runs that have.

    Returns:
        The history of all seeds; see `trained`.
    """
    spec, population, device = run.spec, training.population, training.population.device
    members = members_of(run, training, settings)
    rest, where = tuple(seed for seed in spec.seeds if seed not in members), dict[str, Any]()
    if rest:
        alone = not members
        part = training if alone else set_up(spec.configuration, prepared(spec.dataset, spec.fidelity), rest, device)
        curves = train(part, [run], [checkpoint(settings.store, run, rest)], settings, watcher)
        part.population.finish(part.sample, part.diverged)
        where = {**environment(device), "step": part.how, "lr": part.rate, "code": spec.training_code}
        history = history_of(part.state() | curves_state(curves), rest, where)
        if alone:
            return history
        members |= split({name: tensor.cpu() for name, tensor in part.population.state().items()}, history, rest)
    state, history = joined(members, spec.seeds, where or members[spec.seeds[-1]].history["trained"])
    population.restore({name: tensor.to(device) for name, tensor in state.items()})
    return history


def history_of(state: State, seeds: Sequence[int], where: Mapping[str, Any]) -> History:
    """The history of a training that is over, from its state with its curves; `where` is the entry `trained`."""
    return {
        "curves": {name: by_seed(rows) for name, rows in curves_of(state).items()},
        "epoch_seconds": [round(s, 4) for s in state["seconds"].tolist()],
        "diverged": {str(seed): epoch for seed, epoch in zip(seeds, state["diverged"].tolist(), strict=True) if epoch},
        "trained": dict(where),
    }


def train_stacks(runs: Sequence[PendingRun], training: Training, settings: Settings, watcher: Watcher) -> str:
    """Trains runs of one `RunSpec.stack`, as many in one stack as memory holds, and keeps the models of each.

    If their models cannot be stacked because of an option that differs, those that differ in the learning rate alone still are.
    Runs whose models, or some of whose seeds, others have trained are left out, as are those that were interrupted at another step.

    Args:
        runs: The first has not been trained.
        training: Of the first run, untrained; it stays as it is.
        settings, watcher: How they are made. The watcher is told of the first run.

    Returns:
        Why it failed, or nothing: then each run can still be trained alone.
    """
    first, *others = runs
    for name in (MODEL, CHECKPOINT) if settings.fresh else ():
        for run in runs:
            (settings.store.folder(run.spec, run.key) / name).unlink(missing_ok=True)
    left = [first, *(run for run in others if already(run, settings) is None and not members_of(run, training, settings))]
    states = {run.key: checkpoint(settings.store, run, run.spec.seeds) for run in left}
    chosen = by_rate([run for run in left if place(states[run.key]) == place(states[first.key])])
    size = COPIES * sum(tensor.numel() * tensor.element_size() for tensor in training.population.state().values())
    most, done = max(1, int(SHARE * available(training.population.device) // max(1, size))), set[str]()

    def failure(runs: list[PendingRun]) -> str:
        try:
            for i in range(0, len(runs), most) if len(runs) > 1 and most > 1 else ():
                part = runs[i : i + most]
                train_stack(part, [states[run.key] for run in part], settings, watcher if part[0] is first else Watcher())
                done.update(run.key for run in part)
        except (StoreError, TimedOut):
            raise
        except (Exception, SystemExit) as error:
            return f"; not stacked: {classified(error).reason[:200]}"
        return ""

    failed = failure(chosen)
    if failed and len(groups := alike(chosen)) > 1:
        for group in groups:
            failure([run for run in group if run.key not in done])
    return failed


def by_rate(runs: Sequence[PendingRun]) -> list[PendingRun]:
    """Runs in the order of their learning rates, that of the first run first: neighbours of one rate share an optimizer."""
    rates = [run.spec.configuration.recipe.lr for run in runs]
    order = sorted(range(len(runs)), key=lambda i: (rates[i] != rates[0], str(rates[i]), i))
    return [runs[i] for i in order]


def alike(runs: Sequence[PendingRun]) -> list[list[PendingRun]]:
    """Runs in groups that differ in the recipe alone."""
    groups = dict[str, list[PendingRun]]()
    for run in runs:
        groups.setdefault(canonical(run.spec.configuration.options), []).append(run)
    return list(groups.values())


def train_stack(runs: list[PendingRun], states: list[State | None], settings: Settings, watcher: Watcher) -> None:
    """Trains runs as one stack. A run that needs no more epochs, though others do, leaves it."""
    device, how = settings.device, f"in a stack of {len(runs)} runs"
    while runs:
        (first, *others), seeds = runs, runs[0].spec.seeds
        dataset = prepared(first.spec.dataset, first.spec.fidelity)
        training = set_up(first.spec.configuration, dataset, seeds, device, [run.spec.configuration for run in others])
        curves = train(training, runs, states, settings, watcher)
        rest = {name: tensor.clone() for name, tensor in (training.state() | curves_state(curves)).items()}
        parts, members = stack.split(rest, len(runs)), of_runs(training, len(runs))
        ended = [i for i, mine in enumerate(members) if training.ended(mine)]
        training.finish([s for i in ended for s in range(len(training.population))[members[i]]])
        models, where = stack.split(training.population.state(), len(runs)), environment(device)
        for i in ended:
            code, rate = runs[i].spec.training_code, runs[i].spec.configuration.recipe.rate(training.train.shape[1])
            history = history_of(parts[i], seeds, where | {"step": f"{training.how}; {how}", "lr": rate, "code": code})
            keep_models(settings.store, runs[i], models[i], history, code)
        watcher = Watcher() if 0 in ended else watcher  # it is told of the first run
        runs = [run for i, run in enumerate(runs) if i not in ended]
        states = [part for i, part in enumerate(parts) if i not in ended]


def of_runs(training: Training, runs: int) -> list[slice]:
    """The members of each of several runs, of which all have as many."""
    n = len(training.population) // runs
    return [slice(i * n, (i + 1) * n) for i in range(runs)]


def checkpoint(store: Store, run: PendingRun, seeds: Sequence[int]) -> State | None:
    """The state that these seeds of a run resume from."""
    return load_tensors(store.folder(run.spec, run.key) / CHECKPOINT, key=run.key, seeds=json.dumps(seeds))


def curves_of(state: State) -> Curves:
    return {name.removeprefix("curves/"): t.tolist() for name, t in state.items() if name.startswith("curves/")}


def curves_state(curves: Curves, epochs: int | None = None) -> State:
    return {f"curves/{name}": torch.tensor(found[:epochs], dtype=torch.float64) for name, found in curves.items()}


def shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def by_seed(rows: list[list[float]]) -> list[list[float | None]]:
    """Epoch -> seed becomes seed -> epoch, with None for NaN and infinity, which JSON lacks."""
    return [[value if math.isfinite(value) else None for value in seed] for seed in zip(*rows, strict=True)]


def train(training: Training, runs: Sequence[PendingRun], states: Sequence[State | None], settings: Settings, watcher: Watcher) -> Curves:
    """Trains to the end, or until one of several runs needs no more epochs.

    Args:
        training: Untrained, of runs that are equal parts of its members.
        runs: They have a checkpoint each.
        states: What they resume from, all at the same step; None begins.
        settings, watcher: How. The watcher is told of the first run.
    """
    spec, epochs, parts = runs[0].spec, training.recipe.epochs, of_runs(training, len(runs))
    seeds = training.population.seeds[parts[0]]
    paths: list[Path] = [settings.store.folder(run.spec, run.key) / CHECKPOINT for run in runs]
    curves = Curves()

    def tell(done: int, rows: Curves) -> None:
        if seeds == spec.seeds:  # else the record tells of all seeds at the end
            watcher.losses(spec, Losses(done, {name: [row[parts[0]] for row in found] for name, found in rows.items()}))

    if found := [state for state in states if state is not None]:
        whole = stack.joined(found)
        curves = curves_of(whole)
        training.restore({name: t for name, t in whole.items() if not name.startswith("curves/")})
        watcher.epoch(spec, training.epoch, epochs)
        tell(training.epoch, curves)
    saved, pending = time.perf_counter(), State()
    end = math.inf if settings.timeout is None else saved + len(runs) * settings.timeout - sum(training.seconds)

    def keep(state: State) -> None:
        nonlocal saved, pending
        mine = stack.split(state | curves_state(curves, int(state["epoch"])), len(runs))
        for run, path, part in zip(runs, paths, mine, strict=True):
            save_tensors(path, part, key=run.key, identity=run.spec.identity, seeds=json.dumps(seeds))
        saved, pending = time.perf_counter(), {}

    def after_step() -> None:
        now = time.perf_counter()
        if now - saved > CHECKPOINT_SECONDS or now > end:
            keep(training.state())
        if now > end:
            raise TimedOut(f"training took longer than {settings.timeout:g} s")

    try:
        while not any(map(training.ended, parts)):
            row_of = training.run_epoch(after_step)
            for name, row in row_of.items():
                curves.setdefault(name, []).append(row)
            pending = {name: tensor.clone() for name, tensor in training.state().items()}
            watcher.epoch(spec, training.epoch, epochs)
            tell(training.epoch, {name: [row] for name, row in row_of.items()})
            age = time.perf_counter() - saved
            if age > (CHECKPOINT_SECONDS / 6 if training.over else CHECKPOINT_SECONDS):
                keep(pending)
    except (KeyboardInterrupt, TimedOut):
        if pending:
            keep(pending)
        raise
    return curves
