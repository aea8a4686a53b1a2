"""Where runs are made: in this process, or in child processes side by side. `cluster` has the engine for Ray."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from vae_variants.evaluation import METRICS
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import Failure, record_of_lost_run
from vae_variants.harness.fingerprint import foreign_metrics
from vae_variants.harness.limits import resident_bytes
from vae_variants.harness.locks import PendingRun, Queue
from vae_variants.harness.protocols import Losses, Settings, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.runner import make_run
from vae_variants.harness.spec import lay_aside
from vae_variants.harness.worker import Worker, stop
from vae_variants.registry import UserError

TICK = 0.5  # seconds between two looks at running tasks


class Engine(ABC):
    """Makes pending runs, `capacity` at a time. A subclass says how a run is started and which runs have ended.

    Calling an engine yields records as they come, in any order, and None at least every `TICK` seconds or so, so that the caller
    can do something else. If the caller closes the generator early, no run goes on. Processes may stay for the next call until
    `close`.
    """

    capacity = 1
    stacks = True  # whether the models that a run trains for others reach the store
    settings: Settings
    watcher: Watcher

    def __call__(self, pending: Sequence[PendingRun], settings: Settings, watcher: Watcher) -> Generator[Record | None]:
        if not pending:
            return
        self.settings, self.watcher = settings, watcher
        pending = self.prepare(pending)
        most = math.ceil(len(pending) / self.capacity) if self.stacks else 1  # else some processes would have nothing to do
        queue, tasks = Queue(pending, settings.store, most), list[Any]()
        try:
            while queue or tasks:
                found = queue.take() if queue and len(tasks) < self.capacity else None
                if isinstance(found, Record):
                    yield found
                elif found is not None:
                    watcher.begin(found.spec)
                    tasks.append(self.start(found))
                elif tasks:
                    for task, record in self.collect(tasks):
                        tasks.remove(task)
                        queue.done(record.key)
                        yield record
                    yield None
                else:
                    watcher.waiting(len(queue))
                    time.sleep(TICK)
        finally:
            self.cancel(tasks)
            queue.close()

    def prepare(self, pending: Sequence[PendingRun]) -> Sequence[PendingRun]:
        """Gets ready for these runs, and returns them in the order in which they are to start."""
        return pending

    @abstractmethod
    def start(self, run: PendingRun) -> Any:
        """Starts a run and returns a task for it."""

    @abstractmethod
    def collect(self, tasks: list[Any]) -> Iterator[tuple[Any, Record]]:
        """Waits at most `TICK` seconds, passes news to the watcher, and yields the tasks that have ended. It may replace tasks."""

    def cancel(self, tasks: Sequence[Any]) -> None:  # noqa: B027
        """Stops these tasks."""

    def close(self) -> None:  # noqa: B027
        """Leaves no process behind."""


class InProcess(Engine):
    """Makes runs in this process, one after the other and without protection."""

    def start(self, run: PendingRun) -> PendingRun:
        return run

    def collect(self, tasks: Sequence[PendingRun]) -> Iterator[tuple[PendingRun, Record]]:
        yield tasks[0], make_run(tasks[0], self.settings, self.watcher)


@dataclass
class Workers(Engine):
    """Makes runs in at most `jobs` child processes. A process that dies, hangs or takes too much memory is one failed run.

    The longest runs start first, so that the end does not wait for one of them. `share` says how many runs this machine makes
    at a time and how many threads each has, if that is not for this engine to decide. After an exception no process stays.

    A run that uses no plug-in is made in a process that has loaded none, and runs that use other plug-ins in other processes. If a
    plug-in's metrics measure a run that uses none, another process adds them to its record.
    """

    jobs: int
    plugins: tuple[Path, ...] = ()
    share: tuple[int, int] | None = None
    idle: list[tuple[frozenset[str], Worker]] = field(default_factory=list, init=False, compare=False, repr=False)
    busy: dict[int, frozenset[str]] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.capacity = self.jobs

    def __call__(self, pending: Sequence[PendingRun], settings: Settings, watcher: Watcher) -> Generator[Record | None]:
        try:
            yield from super().__call__(pending, settings, watcher)
        except BaseException:
            self.close()
            raise

    def prepare(self, pending: Sequence[PendingRun]) -> Sequence[PendingRun]:
        self.capacity = min(self.jobs, len({run.spec.training_key() for run in pending}))
        self.beside, self.threads = self.share or (self.capacity, max(1, torch.get_num_threads() // self.jobs))
        return sorted(pending, key=lambda run: -run.spec.work)

    def start(self, run: PendingRun) -> Worker:
        return self.give(run, run.spec.foreign)

    def give(self, run: PendingRun, uses: frozenset[str], record: Record | None = None) -> Worker:
        """Has a process make a run, or add a plug-in's metrics to its record. `uses` are the plug-ins that it has run before."""
        found = next((kept for kept in self.idle if kept[0] == uses), None)
        if found is not None:
            self.idle.remove(found)
        elif len(self.idle) >= 2 * self.jobs:
            stop([self.idle.pop(0)[1]])
        worker = found[1] if found else Worker(self.plugins if uses else None)
        self.busy[id(worker)] = uses
        worker.give(run, self.settings, self.beside, self.threads, *([record] if record else []))
        lay_aside()
        return worker

    def collect(self, tasks: list[Worker]) -> Iterator[tuple[Worker, Record]]:
        ready = wait([worker.pipe for worker in tasks], TICK)
        for worker in list(tasks):
            found = worker.receive() if worker.pipe in ready else None
            if isinstance(found, Losses):
                self.watcher.losses(worker.run.spec, found)
                found = None
            elif isinstance(found, tuple) and not isinstance(found, Failure):
                self.watcher.epoch(worker.run.spec, *found)
                found = None
            match found or worker.exceeded():  # a limit holds although there is always news
                case UserError() as error:
                    raise error
                case Record() as record:
                    uses = self.busy[id(worker)]
                    self.keep(worker)
                    metrics = [] if uses else foreign_metrics(worker.run.spec.configuration.values)
                    if metrics and "ok" in record.status.values():
                        files = frozenset(METRICS.places[m.name].file for m in metrics)
                        tasks[tasks.index(worker)] = self.give(worker.run, files, record)
                        continue
                    if metrics:
                        record = replace(record, code=worker.run.spec.code)
                        self.settings.store.put(self.settings.store.folder(worker.run.spec, record.key), record)
                    yield worker, record
                case Failure() if worker.run.beside:  # alone, it may not fail
                    tasks[tasks.index(worker)] = self.give(worker.run._replace(beside=()), self.busy[id(worker)])
                case Failure() as failure:
                    where = environment(self.settings.device, self.threads, self.beside)
                    yield worker, record_of_lost_run(worker.run, self.settings, failure, worker.started, worker.epochs, where)

    def keep(self, worker: Worker) -> None:
        """Keeps a process for the next run, unless it still holds half of the memory that a run may take."""
        memory = self.settings.memory
        if memory is not None and resident_bytes(worker.process.pid or 0) > memory / 2:
            stop([worker])
        else:
            self.idle.append((self.busy[id(worker)], worker))

    def cancel(self, tasks: Sequence[Worker]) -> None:
        stop(tasks)

    def close(self) -> None:
        stop([worker for _, worker in self.idle])
        self.idle.clear()


def choose_engine(jobs: str, device: torch.device, plugins: Iterable[Path] = ()) -> Engine:
    """The engine for `jobs` runs side by side: 0 is this process, `auto` one run for each CPU thread. Raises `UserError`."""
    if jobs != "auto" and not (jobs.isdecimal() and jobs.isascii() and len(jobs) < 5):
        raise UserError(f"jobs {jobs!r} is neither a count such as 2 nor auto")
    count = int(jobs) if jobs != "auto" else torch.get_num_threads() if device.type == "cpu" else 1
    return Workers(count, tuple(plugins)) if count else InProcess()
