"""A child process that makes one run after the other, and its parent's side, which watches it.

The parent sends a `Job` through a pipe. The child answers with None when the run begins, then (epochs done, planned) and `Losses`,
and at last a `Record`, a `UserError` or a `Failure`. The parent kills a child that takes too long or too much memory. A child that
dies writes a traceback into a nameless file that both have open.
"""

import ctypes
import faulthandler
import itertools
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
from typing import Literal, NamedTuple

from vae_variants import isolation
from vae_variants.datasets import Dataset
from vae_variants.harness.environment import share
from vae_variants.harness.failures import Failure, classified
from vae_variants.harness.fingerprint import fingerprint, foreign_metrics
from vae_variants.harness.limits import format_bytes, out_of_memory_kills, resident_bytes, set_memory_limit
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.orphans import MARK, driver, end_marked
from vae_variants.harness.process import interrupt, prepare
from vae_variants.harness.protocols import Losses, Settings, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.runner import add_metrics, make_run
from vae_variants.harness.spec import RunSpec, digest_of, prepared, receive_dataset, received
from vae_variants.plugins import SEARCHED, built_in, load_plugins
from vae_variants.registry import UserError

SPAWN = multiprocessing.get_context("spawn")
NUMBERS = itertools.count()
GRACE = 10.0  # seconds that a process has to end by itself
PAUSE = 0.1  # seconds between two looks at the memory of a run
FRAMES = 12  # of a traceback
START = 120.0  # seconds that a run has to begin, at least, if its time is limited
OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}  # signals that others send


class Job(NamedTuple):
    """A run for a child: with the fingerprint of the sources and the digest of the data it must have, and its share of the machine."""

    run: PendingRun
    settings: Settings
    code: str
    data: str
    jobs: int
    threads: int
    images: Dataset | None  # data that came from another machine
    partial: bool = False  # whether another child adds a plug-in's metrics to the record
    record: Record | None = None  # that lacks a plug-in's metrics, which this child adds


class Worker:
    """The parent's side of a child process: its pipe, its clock, and the run that it makes.

    Args:
        plugins: Plug-ins that the child loads after the installed ones; None for no plug-in at all. Such a child makes runs that use
            none, and leaves out a plug-in's metrics.
    """

    job: Job
    started: datetime

    def __init__(self, plugins: tuple[Path, ...] | None = None) -> None:
        self.plugins = plugins
        self.spawn()

    def spawn(self) -> None:
        self.runs_made = 0
        self.pipe, other = SPAWN.Pipe()
        self.last_words = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        resource_tracker.ensure_running()  # else `start` does that, and unblocks signals (python/cpython#110844)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: a terminal sends Ctrl-C to every process
        path, sys.path[:] = sys.path[:], [place for place in sys.path if place in SEARCHED]  # the child gets it as well
        os.environ[MARK] = self.mark = f"{driver(os.getpid())}.{next(NUMBERS)}."
        try:
            with Connection(os.dup(self.last_words.fileno())) as words:  # pickles a file descriptor
                self.process = SPAWN.Process(target=work, args=(other, Path.cwd(), self.plugins, words), daemon=True)
                self.process.start()
        finally:
            del os.environ[MARK]
            sys.path[:] = path
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        other.close()

    @property
    def run(self) -> PendingRun:
        return self.job.run

    def give(self, run: PendingRun, settings: Settings, jobs: int, threads: int, record: Record | None = None) -> None:
        """Sends a run to the child, or a record that lacks a plug-in's metrics."""
        spec, images = run.spec, received.get((run.spec.dataset, run.spec.fidelity))
        code = fingerprint(spec.configuration.values, foreign=self.plugins is not None)
        partial = self.plugins is None and bool(foreign_metrics(spec.configuration.values))
        self.job = Job(run, settings, code, digest_of(spec.dataset, spec.fidelity), jobs, threads, images, partial, record)
        self.started, self.epochs, self.kills = datetime.now(UTC), (0, 0), out_of_memory_kills()
        self.began: float | None = None
        self.given = self.looked = self.weighed = time.monotonic()
        with suppress(OSError):  # the child is dead; `receive` says how it died
            self.pipe.send(self.job)

    def receive(self) -> object:
        """The child's next message, or a `Failure` if it is dead."""
        self.now()
        try:
            found = self.pipe.recv()
        except (EOFError, OSError):
            return self.gone()
        if found is None:
            self.began = time.monotonic()
        elif isinstance(found, Failure):
            return self.end(found)
        elif not isinstance(found, tuple):
            self.runs_made += 1
        elif not isinstance(found, Losses):
            self.epochs = found
        return found

    def now(self) -> float:
        """The time. If this process was stopped (Ctrl-Z, a sleeping machine), that time does not count for the run."""
        now, before = time.monotonic(), self.looked
        if now - before > GRACE:
            self.given += now - before
            self.began = None if self.began is None else self.began + now - before
        self.looked = now
        return now

    def exceeded(self) -> Failure | None:
        """Ends a child that takes more than it may; also notices one that died while a process it started holds the pipe."""
        now, timeout, memory = self.now(), self.job.settings.timeout, self.job.settings.memory
        if self.died() and not self.pipe.poll():
            return self.gone()
        if timeout is not None:
            timeout *= 1 + len(self.run.beside)
            least = max(timeout, START)
            if self.began is None and now - self.given > least:
                return self.too_long(f"did not begin within {least:g} s")
            if self.began is not None and now - self.began > timeout:
                return self.too_long(f"took longer than {timeout:g} s")
        if memory is not None and now >= self.weighed + PAUSE:
            self.weighed = now
            if (used := resident_bytes(self.process.pid or 0)) > memory:
                return self.end(Failure("oom", f"took {format_bytes(used)} of memory; {format_bytes(memory)} are allowed"))
        return None

    def too_long(self, reason: str) -> Failure:
        if self.known():
            os.kill(self.process.pid or 0, signal.SIGUSR1)  # the child writes its traceback
            time.sleep(0.2)
        return self.end(Failure("timeout", reason))

    def gone(self) -> Failure | None:
        """How a child ended that closed its pipe. One that had died before it began this run is replaced without a failure."""
        died = self.wait(time.monotonic() + GRACE)
        self.kill()
        if self.runs_made and self.began is None:
            self.end(Failure("", ""))
            self.spawn()
            self.give(self.run, self.job.settings, self.job.jobs, self.job.threads, self.job.record)
            return None
        if not died or (code := self.process.exitcode) is None:
            return self.end(Failure("error", "the process of this run closed its files and went on"))
        return self.end(failure_of_exit(code, out_of_memory_kills() > self.kills))

    def known(self) -> bool:
        """Whether the process id is still that of the child: it runs, or nobody has asked how it ended."""
        return state(self.process) != "forgotten"

    def died(self) -> bool:
        """Whether the child has ended. Does not ask how, so that its process id stays its own."""
        return state(self.process) != "runs"

    def wait(self, until: float) -> bool:
        """Whether the child has ended by the time `until`. (`Process.join` hangs if the child has closed its descriptors.)"""
        while not (died := self.died()) and time.monotonic() < until:
            time.sleep(0.01)
        return died

    def kill(self) -> None:
        """Kills the child and what it has started."""
        if self.known():  # else another program may have the number by now
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        end_marked(self.mark)

    def end(self, failure: Failure) -> Failure:
        """Kills the child and what it has started, and adds its last words to the failure."""
        self.kill()
        self.process.join()
        self.pipe.close()
        if self.last_words.closed:  # it was ended before
            return failure
        with self.last_words as words:
            words.seek(0)
            return failure._replace(traceback=failure.traceback or innermost_frames(words.read()))


def state(process: multiprocessing.process.BaseProcess) -> Literal["runs", "ended", "forgotten"]:
    """Whether a child runs, has ended, or has also been asked how: then the system may give its number to another program."""
    if (peek := getattr(os, "waitid", None)) is None:  # macOS before Python 3.13
        return "runs" if process.exitcode is None else "forgotten"
    try:
        found = peek(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "forgotten"
    return "runs" if found is None else "ended"


def failure_of_exit(code: int, memory: bool = False) -> Failure:
    """The failure of a process with this exit code; `memory` says that the system ran out of memory meanwhile."""
    names = {-s: s.name for s in signal.Signals}
    end = f"was killed by {names.get(code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL and memory:
        return Failure("interrupted", f"the process of this run {end}: the machine ran out of memory", finally_="oom")
    return Failure("interrupted" if -code in OUTSIDE else "error", f"the process of this run {end}")


def innermost_frames(text: str) -> str:
    """The frames of one thread in the output of `faulthandler`, in Python's usual order: the innermost call last.

    The thread is the one that crashed, or else the main thread, which `faulthandler` writes last.
    """
    chosen: list[tuple[str, str]] = []
    for part in re.split(r"^(?=(?:Current thread|Thread) )", text, flags=re.MULTILINE):
        if frames := re.findall(r'^  (File ".*", line \d+) (in .*)$', part, re.MULTILINE):
            chosen = frames
            if part.startswith("Current") and "Fatal" in text:
                break
    return "\n".join(", ".join(frame) for frame in reversed(chosen[:FRAMES]))


def stop(workers: Sequence[Worker]) -> None:
    """Ends children as Ctrl-C ends a run, and kills them after `GRACE` seconds or a second Ctrl-C."""
    for worker in workers:
        worker.process.terminate()
    try:
        until = time.monotonic() + GRACE
        for worker in workers:
            worker.wait(until)
    finally:
        for worker in workers:
            worker.end(Failure("", ""))


class Sender(Watcher):
    """The child's watcher: sends progress to the parent."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.process = pipe, os.getpid()

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        self.send((done, of))

    def losses(self, spec: RunSpec, found: Losses) -> None:
        self.send(found)

    def send(self, message: object) -> None:
        if os.getpid() != self.process:  # a copy that a fork in a plug-in left
            os._exit(1)
        try:
            self.pipe.send(message)
        except OSError:  # the parent is gone
            raise KeyboardInterrupt from None


def work(pipe: Connection, folder: Path, plugins: tuple[Path, ...] | None, last_words: Connection) -> None:
    """The child: makes the runs that come through the pipe until it is stopped, its parent is gone, or a run changed what runs share."""
    try:
        signal.signal(signal.SIGTERM, interrupt)
        os.setpgrp()  # one group with what a run may start, so that all of it can be killed
        end_with_parent()
        faulthandler.enable(last_words.fileno())  # all threads: a native one that crashes has no frames
        faulthandler.register(signal.SIGUSR1, last_words.fileno())
        prepare()
        import sklearn.linear_model  # noqa: F401  (takes seconds, and brings threads that `share` limits)

        os.chdir(folder)
        built_in() if plugins is None else load_plugins(plugins, quiet=True)
        while not isolation.changed:
            answer(pipe, pipe.recv())
    except UserError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent stops as soon as it has read this
        with suppress(OSError):
            pipe.send(error)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):
        pass
    except (Exception, SystemExit) as error:  # outside of what `make_run` handles
        with suppress(OSError):
            pipe.send(classified(error))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)


def answer(pipe: Connection, job: Job) -> None:
    """Makes a run and sends its record. Raises `UserError` if the sources or the data are not those of the parent."""
    spec = job.run.spec
    if spec.code != job.code:  # without a plug-in, its metrics count neither here nor there
        raise UserError("the program's files are not those that this command was started with; start it again")
    share(job.jobs, job.threads)
    if job.images is not None:
        receive_dataset(spec, job.images)
    set_memory_limit(job.settings.memory, job.settings.device)
    pipe.send(None)
    if prepared(spec.dataset, spec.fidelity).digest != job.data:
        raise UserError(f"the data set {spec.dataset!r} has changed since this command was started; start it again")
    if job.record is not None:
        pipe.send(add_metrics(job.run, job.settings, job.record))
    else:
        pipe.send(make_run(job.run, job.settings, Sender(pipe), write=not job.partial))


def end_with_parent() -> None:
    """Has Linux kill this process with the one that started it; elsewhere a thread waits for that."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent.pid:  # the parent ended before
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=follow, args=(parent,), daemon=True).start()


def follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
