"""Where runs are made: in this process, or in others, side by side, each of which takes the next run that is due."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import torch

from vae_variants.harness.environment import environment
from vae_variants.harness.failures import Death, lost
from vae_variants.harness.limits import resident
from vae_variants.harness.locks import Due, Queue
from vae_variants.harness.protocols import Engine, Losses, Terms, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.runner import Here
from vae_variants.harness.worker import Worker, stop
from vae_variants.registry import UserError

__all__ = ["Workers", "choose_engine"]

TICK = 0.5  # seconds between two looks at what workers take


def choose_engine(jobs: str, device: torch.device, plugins: Iterable[Path] = ()) -> Engine:
    """What makes `jobs` runs side by side; 0 is this process, without protection. `auto` is one for each thread of a CPU."""
    if jobs != "auto" and not (jobs.isdecimal() and jobs.isascii() and len(jobs) < 5):
        raise UserError(f"jobs {jobs!r} is neither a count such as 2 nor auto")
    count = int(jobs) if jobs != "auto" else torch.get_num_threads() if device.type == "cpu" else 1
    return Workers(count, tuple(plugins)) if count else Here()


@dataclass(frozen=True)
class Workers:
    """An engine of at most `jobs` processes. One that dies, hangs or takes too much is a failed run, and another goes on with the rest.

    The longest runs begin first, so that the end does not wait for one of them; runs that share a training are made one after the other.
    """

    jobs: int
    plugins: tuple[Path, ...] = ()
    idle: list[Worker] = field(default_factory=list, init=False, compare=False, repr=False)

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]:
        queue = Queue(sorted(due, key=lambda one: one.spec.work, reverse=True), terms.store)
        jobs, threads = min(self.jobs, len(set(queue.training.values()))), max(1, torch.get_num_threads() // self.jobs)
        busy: list[Worker] = []
        try:
            while queue or busy:
                if queue and len(busy) < jobs:
                    match queue.take():
                        case Record() as record:
                            yield record
                            continue
                        case Due() as one:
                            worker = self.idle.pop() if self.idle else Worker(self.plugins)
                            busy.append(worker)
                            watcher.begin(one.spec)
                            worker.give(one, terms, jobs, threads)
                            continue
                if not busy:
                    watcher.held(len(queue))
                    time.sleep(TICK)
                    continue
                ready = wait([worker.pipe for worker in busy], TICK)
                for worker in list(busy):
                    match worker.answer() if worker.pipe in ready else worker.exceeded():
                        case None:
                            continue
                        case Losses() as found:
                            watcher.losses(worker.due.spec, found)
                        case (int(done), int(of)):
                            watcher.epoch(worker.due.spec, done, of)
                        case UserError() as error:
                            raise error
                        case Record() as record:
                            busy.remove(worker)
                            self.keep(worker)
                            queue.done(worker.due)
                            yield record
                        case Death() as how:
                            busy.remove(worker)
                            if worker.made and worker.began is None:  # it was no more when the run came
                                queue.put_back(worker.due)
                                continue
                            record = lost(worker.due, terms, how, worker.started, worker.epochs, environment(terms.device, threads, jobs))
                            queue.done(worker.due)
                            yield record
        except BaseException:
            self.close()
            raise
        finally:
            stop(busy)
            queue.close()

    def keep(self, worker: Worker) -> None:
        """For the next run, unless what the last one took is not given back."""
        memory = worker.terms.memory
        if memory is not None and resident(worker.process.pid or 0) > memory / 2:
            stop([worker])
        else:
            self.idle.append(worker)

    def close(self) -> None:
        """Leaves no process behind."""
        stop(self.idle)
        self.idle.clear()
