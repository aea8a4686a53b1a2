"""A process that makes one run after the other, and how it is watched: whatever happens to it leaves a word behind."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from vae_variants.datasets import Dataset
from vae_variants.harness.claims import Due
from vae_variants.harness.environment import share
from vae_variants.harness.limits import kills, limit, resident, size
from vae_variants.harness.runner import run
from vae_variants.harness.spec import BROUGHT, RunSpec, prepared
from vae_variants.harness.terms import Losses, Quiet, Terms
from vae_variants.process import interrupt, prepare
from vae_variants.registry import UserError, load_plugins

__all__ = ["Death", "Worker", "death", "stop"]

SPAWN = multiprocessing.get_context("spawn")
GRACE = 10.0  # seconds that a process has to end by itself
FRAMES = 12  # of a traceback


class Death(NamedTuple):
    """How the process of a run ended before the run did."""

    status: str
    reason: str
    traceback: str = ""


class Job(NamedTuple):
    """What goes through the pipe: a run, its terms, the sources that it is to be made by, and how many share the machine how."""

    due: Due
    terms: Terms
    code: str
    jobs: int
    threads: int
    images: Dataset | None  # where the data have come from another machine


class Worker:
    """A process that makes one run after the other, this end of its pipe, and the run that it is at."""

    due: Due
    terms: Terms
    started: datetime

    def __init__(self, plugins: tuple[Path, ...] = ()) -> None:
        self.made, self.kills = 0, 0
        self.began: float | None = None
        self.epochs: tuple[int, int] | None = None
        self.pipe, other = SPAWN.Pipe()
        descriptor, name = tempfile.mkstemp(prefix="vae-variants-", suffix=".traceback")
        os.close(descriptor)
        self.last_words = Path(name)
        arguments = (other, Path.cwd(), plugins, self.last_words)
        self.process = SPAWN.Process(target=work, args=arguments, daemon=True)
        resource_tracker.ensure_running()  # else `start` does that, and unblocks signals (python/cpython#110844)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited: a terminal sends Ctrl-C to every process
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        other.close()

    def give(self, due: Due, terms: Terms, jobs: int, threads: int) -> None:
        self.due, self.terms, self.started, self.began, self.epochs = due, terms, datetime.now(UTC), None, None
        self.kills = kills()
        try:
            self.pipe.send(Job(due, terms, due.spec.code, jobs, threads, BROUGHT.get((due.spec.dataset, due.spec.fidelity))))
        except OSError:  # it died; `answer` says how
            return

    def answer(self) -> object:
        """None when the run begins, epochs done and planned, their losses, the record, an error of the user's, or the process's death."""
        try:
            found = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return self.died(death(self.process.exitcode or 0, kills() > self.kills))
        if found is None:
            self.began = time.monotonic()
        elif isinstance(found, Losses):
            return found
        elif isinstance(found, tuple):
            self.epochs = found
        else:
            self.made += 1
        return found

    def exceeded(self) -> Death | None:
        """Ends the process if the run takes more than it may."""
        timeout, memory = self.terms.timeout, self.terms.memory
        if timeout is not None and self.began is not None and time.monotonic() - self.began > timeout:
            os.kill(self.process.pid or 0, signal.SIGUSR1)  # it writes down where it is
            time.sleep(0.2)
            return self.end(Death("timeout", f"took longer than {timeout:g} s"))
        if memory is not None and (used := resident(self.process.pid or 0)) > memory:
            return self.end(Death("oom", f"took {size(used)} of memory; {size(memory)} are allowed"))
        return None

    def end(self, found: Death) -> Death:
        self.process.kill()
        self.process.join()
        return self.died(found)

    def died(self, found: Death) -> Death:
        traceback = frames(self.last_words.read_text(encoding="utf-8", errors="replace"))
        self.forget()
        return found._replace(traceback=traceback)

    def forget(self) -> None:
        self.pipe.close()
        self.last_words.unlink(missing_ok=True)


def death(code: int, memory: bool = False) -> Death:
    """In words; `memory` says that the system has killed processes for want of memory meanwhile."""
    names = {-s: s.name for s in signal.Signals}
    end = f"was killed by {names.get(code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL and memory:
        return Death("oom", f"the process of this run {end}: the machine ran out of memory")
    return Death("error", f"the process of this run {end}")


def frames(text: str) -> str:
    """The end of the traceback in what `faulthandler` wrote, in Python's usual order: the innermost call last."""
    parts = re.split(r"(?m)^(?:Current thread|Thread) ", text)
    stacks = [re.findall(r'^  File "(.*)", line (\d+) in (.*)$', part, re.MULTILINE) for part in parts]
    current = re.search(r"(?m)^Current thread ", text) is not None and "Fatal" in text
    found = [stack for stack in stacks if stack]
    if not found:
        return ""
    chosen = found[0] if current else found[-1]  # the one that failed, else the first thread of all, which is written last
    return "\n".join(f'File "{file}", line {line}, in {name}' for file, line, name in reversed(chosen[:FRAMES]))


def stop(workers: Sequence[Worker]) -> None:
    """Ends them as Ctrl-C ends a run; a second Ctrl-C does not wait for that, and nobody waits for ever."""
    for worker in workers:
        worker.process.terminate()
    try:
        until = time.monotonic() + GRACE
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.forget()


class Sender(Quiet):
    """The watcher of a worker."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        self.send((done, of))

    def losses(self, spec: RunSpec, found: Losses) -> None:
        self.send(found)

    def send(self, found: tuple[object, object]) -> None:
        try:
            self.pipe.send(found)
        except OSError:  # nobody listens any more
            raise KeyboardInterrupt from None


def work(pipe: Connection, folder: Path, plugins: tuple[Path, ...], last_words: Path) -> None:
    """In a process of its own: makes the runs that come through the pipe, until it is stopped or its parent is gone."""
    try:
        signal.signal(signal.SIGTERM, interrupt)
        end_with_parent()
        with open(last_words, "w", encoding="utf-8") as words:
            faulthandler.enable(words)
            faulthandler.register(signal.SIGUSR1, words, all_threads=True)
            prepare()
            import sklearn.linear_model  # noqa: F401  (brings what has threads of its own, and takes seconds)

            os.chdir(folder)
            load_plugins(plugins, quiet=True)
            while True:
                due, terms, code, jobs, threads, images = pipe.recv()
                if due.spec.code != code:
                    raise UserError("the program's files are not those that this command was started with; start it again")
                share(jobs, threads)
                if images is not None:
                    BROUGHT[due.spec.dataset, due.spec.fidelity] = images
                    prepared.cache_clear()
                limit(terms.memory, terms.device)
                pipe.send(None)
                pipe.send(run(due, terms, Sender(pipe)))
    except UserError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent says it as soon as it has read this
        with suppress(OSError):
            pipe.send(error)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        pass
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def end_with_parent() -> None:
    """Sees to it that this process does not outlive the one that started it, even where it does not run Python just now."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent.pid:  # it was gone before
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=follow, args=(parent,), daemon=True).start()


def follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
