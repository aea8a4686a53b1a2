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
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any, NamedTuple

from vae_variants.datasets import Dataset
from vae_variants.harness.environment import share
from vae_variants.harness.failures import Death, classified, end_of
from vae_variants.harness.limits import kills, limit, resident, size
from vae_variants.harness.locks import Due
from vae_variants.harness.protocols import Losses, Quiet, Terms
from vae_variants.harness.runner import run
from vae_variants.harness.spec import BROUGHT, RunSpec, prepared
from vae_variants.plugins import load_plugins
from vae_variants.process import interrupt, prepare
from vae_variants.registry import UserError

__all__ = ["Worker", "death", "stop"]

SPAWN = multiprocessing.get_context("spawn")
GRACE = 10.0  # seconds that a process has to end by itself
FRAMES = 12  # of a traceback
START = 120.0  # seconds that a run has to begin, at least, if its time is limited at all
OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}  # what others send, and no fault of a run's


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
        self.given = self.looked = time.monotonic()
        self.last_words = Words(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))  # noqa: SIM115
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
        self.kills, self.given, self.looked = kills(), time.monotonic(), time.monotonic()
        try:
            self.pipe.send(Job(due, terms, due.spec.code, jobs, threads, BROUGHT.get((due.spec.dataset, due.spec.fidelity))))
        except OSError:  # it died; `answer` says how
            return

    def answer(self) -> object:
        """None when the run begins, epochs done and planned, their losses, the record, an error of the user's, or the process's death."""
        self.look()
        try:
            found = self.pipe.recv()
        except (EOFError, OSError):
            return self.gone()
        if found is None:
            self.began = time.monotonic()
        elif isinstance(found, Losses):
            return found
        elif isinstance(found, Death):
            return self.end(found)
        elif isinstance(found, tuple):
            self.epochs = found
        else:
            self.made += 1
        return found

    def look(self) -> float:
        """The time; what this process was stopped for, by Ctrl-Z or with its machine, its runs were stopped for as well."""
        now, before = time.monotonic(), self.looked
        if now - before > GRACE:
            self.given += now - before
            self.began = None if self.began is None else self.began + now - before
        self.looked = now
        return now

    def exceeded(self) -> Death | None:
        """Ends the process if the run takes more than it may, or if the process is no more, though others hold its end of the pipe."""
        now, timeout, memory = self.look(), self.terms.timeout, self.terms.memory
        if self.process.exitcode is not None and not self.pipe.poll():
            return self.gone()
        if timeout is not None and self.began is None and now - self.given > (least := max(timeout, START)):
            return self.too_long(f"did not begin within {least:g} s")
        if timeout is not None and self.began is not None and now - self.began > timeout:
            return self.too_long(f"took longer than {timeout:g} s")
        if memory is not None and (used := resident(self.process.pid or 0)) > memory:
            return self.end(Death("oom", f"took {size(used)} of memory; {size(memory)} are allowed"))
        return None

    def too_long(self, reason: str) -> Death:
        os.kill(self.process.pid or 0, signal.SIGUSR1)  # it writes down where it is
        time.sleep(0.2)
        return self.end(Death("timeout", reason))

    def gone(self) -> Death:
        """How it ended, if it did: one that has but closed its end of the pipe is ended."""
        if (code := self.ended(time.monotonic() + GRACE)) is None:
            return self.end(Death("error", "the process of this run closed what it had open, and went on"))
        return self.end(death(code, kills() > self.kills))

    def ended(self, until: float) -> int | None:
        """The exit code, waited for at most until then. (`Process.join` waits for ever for one that has closed its descriptors.)"""
        while self.process.exitcode is None and time.monotonic() < until:
            time.sleep(0.01)
        return self.process.exitcode

    def end(self, found: Death) -> Death:
        """Nothing of it stays, nor of what it has started."""
        self.kill()
        return found._replace(traceback=found.traceback or frames(self.forget()))

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()

    def forget(self) -> str:
        """Its last words."""
        self.pipe.close()
        return self.last_words.read()


class Words:
    """A file without a name, that this process has open and one that it starts."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return received, (DupFd(self.file.fileno()),)

    def read(self) -> str:
        with self.file:
            self.file.seek(0)
            return self.file.read()


def received(descriptor: Any) -> Words:
    return Words(os.fdopen(descriptor.detach(), "w"))


def death(code: int, memory: bool = False) -> Death:
    """In words; `memory` says that the system has killed processes for want of memory meanwhile."""
    names = {-s: s.name for s in signal.Signals}
    end = f"was killed by {names.get(code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL and memory:
        return Death("interrupted", f"the process of this run {end}: the machine ran out of memory", at_last="oom")
    return Death("interrupted" if -code in OUTSIDE else "error", f"the process of this run {end}")


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
            worker.ended(until)
    finally:
        for worker in workers:
            worker.kill()
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


def work(pipe: Connection, folder: Path, plugins: tuple[Path, ...], last_words: Words) -> None:
    """In a process of its own: makes the runs that come through the pipe, until it is stopped or its parent is gone."""
    try:
        signal.signal(signal.SIGTERM, interrupt)
        os.setpgrp()  # with what a run may start, so that all of it can be ended
        end_with_parent()
        with last_words.file as words:
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
                if due.spec.key() != due.key:
                    raise UserError(f"the data set {due.spec.dataset!r} has changed since this command was started; start it again")
                pipe.send(run(due, terms, Sender(pipe)))
    except UserError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent says it as soon as it has read this
        with suppress(OSError):
            pipe.send(error)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        pass
    except (Exception, SystemExit) as error:  # outside of what `run` sees to
        with suppress(OSError):
            pipe.send(Death(*classified(error), end_of(error)))
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
