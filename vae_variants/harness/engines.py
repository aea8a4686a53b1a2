"""Runs side by side: processes that share this one's threads, each of which takes the next run that is due."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

import torch

from vae_variants.harness.environment import environment, share
from vae_variants.harness.record import Record
from vae_variants.harness.runner import Due, Engine, Quiet, Terms, Watcher, lost, run
from vae_variants.harness.spec import RunSpec
from vae_variants.process import prepare
from vae_variants.registry import UserError, load_plugins

__all__ = ["Workers", "choose_engine"]

SPAWN = multiprocessing.get_context("spawn")


def choose_engine(jobs: str, device: torch.device, plugins: Iterable[Path] = ()) -> Engine | None:
    """What makes `jobs` runs side by side; None, where that is one, is this process. `auto` is one for each thread of a CPU."""
    if jobs != "auto" and not (jobs.isdecimal() and int(jobs) > 0):
        raise UserError(f"jobs {jobs!r} is neither a count such as 2 nor auto")
    count = int(jobs) if jobs != "auto" else torch.get_num_threads() if device.type == "cpu" else 1
    return None if count == 1 else Workers(count, tuple(plugins))


@dataclass(frozen=True)
class Workers:
    """An engine of at most `jobs` processes. One that dies is a failed run, and another goes on with the rest.

    The longest runs begin first, so that the end does not wait for one of them; runs that share a training are made one after the other.
    """

    jobs: int
    plugins: tuple[Path, ...] = ()

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]:
        waiting = sorted(due, key=lambda one: one.spec.work, reverse=True)
        training = {one.key: one.spec.training_key() for one in due}
        jobs, threads = min(self.jobs, len(set(training.values()))), max(1, torch.get_num_threads() // self.jobs)
        idle: list[Worker] = []
        busy: list[Worker] = []
        try:
            while waiting or busy:
                taken = {training[worker.due.key] for worker in busy}
                free = [one for one in waiting if training[one.key] not in taken]
                if free and len(busy) < jobs:
                    worker = idle.pop() if idle else Worker(terms, self.plugins, jobs, threads)
                    waiting.remove(free[0])
                    busy.append(worker)
                    watcher.begin(free[0].spec)
                    worker.give(free[0])
                    continue
                ready = wait([worker.pipe for worker in busy])
                for worker in [worker for worker in busy if worker.pipe in ready]:
                    match worker.answer():
                        case (int(done), int(of)):
                            watcher.epoch(worker.due.spec, done, of)
                        case Record() as record:
                            busy.remove(worker)
                            idle.append(worker)
                            yield record
                        case UserError() as error:
                            raise error
                        case reason:
                            busy.remove(worker)
                            yield lost(worker.due, terms, str(reason), worker.began, environment(terms.device, threads, jobs))
        finally:
            stop([*idle, *busy])


class Worker:
    """A process that makes one run after the other, this end of its pipe, and the run that it is at."""

    due: Due
    began: datetime

    def __init__(self, terms: Terms, plugins: tuple[Path, ...], jobs: int, threads: int) -> None:
        self.pipe, other = SPAWN.Pipe()
        self.process = SPAWN.Process(target=work, args=(other, Path.cwd(), terms, plugins, jobs, threads), daemon=True)
        resource_tracker.ensure_running()  # else `start` does that, and unblocks signals (python/cpython#110844)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited: a terminal sends Ctrl-C to every process
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        other.close()

    def give(self, due: Due) -> None:
        self.due, self.began = due, datetime.now(UTC)
        try:
            self.pipe.send(due)
        except OSError:  # it died; `answer` says how
            return

    def answer(self) -> object:
        """Epochs done and planned, the record, an error of the user's, or how the process died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return death(self.process.exitcode or 0)


def death(code: int) -> str:
    names = {-s: s.name for s in signal.Signals}
    end = f"was killed by {names.get(code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    memory = ", as a system does that runs out of memory" if code == -signal.SIGKILL else ""
    return f"the process of this run {end}{memory}"


def stop(workers: Sequence[Worker]) -> None:
    """Ends them as Ctrl-C ends a run; a second Ctrl-C does not wait for that."""
    for worker in workers:
        worker.process.terminate()
    try:
        for worker in workers:
            worker.process.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
        raise


class Sender(Quiet):
    """The watcher of a worker."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        try:
            self.pipe.send((done, of))
        except OSError:  # nobody listens any more
            raise KeyboardInterrupt from None


def work(pipe: Connection, folder: Path, terms: Terms, plugins: tuple[Path, ...], jobs: int, threads: int) -> None:
    """In a process of its own: makes the runs that come through the pipe, until it is stopped or its parent is gone."""
    try:
        signal.signal(signal.SIGTERM, interrupt)
        threading.Thread(target=follow, daemon=True).start()
        prepare()
        import sklearn.linear_model  # noqa: F401  (brings what has threads of its own, and takes seconds)

        share(jobs, threads)
        os.chdir(folder)
        load_plugins(plugins)
        while True:
            pipe.send(run(pipe.recv(), terms, Sender(pipe)))
    except UserError as error:
        pipe.send(error)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        pass
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def follow() -> None:
    """Stops this process when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def interrupt(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
