"""Locks that let several commands share one folder of runs: each run is trained by one command at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from filelock import FileLock, Timeout

from vae_variants.harness.files import make_folder, store_errors
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.store import Store


class PendingRun(NamedTuple):
    """A run that has to be made.

    `replaces` is the start time of the stored record that it replaces, if there is one. The runs `beside` it may train in one stack with
    it; after that they are `ready`: if their models are there, they are those of this command.
    """

    spec: RunSpec
    key: str
    replaces: str = ""
    beside: tuple["PendingRun", ...] = ()
    ready: bool = False


def file_lock(store: Store, training_key: str) -> FileLock:
    """The lock of one training. The system releases it when the process ends, however it ends."""
    return FileLock(make_folder(store.root / "locks") / f"{training_key[:32]}.lock", fallback_to_soft=False)


@contextmanager
def training_lock(store: Store, training_key: str) -> Iterator[None]:
    """Waits until no other process trains the models of this key, and keeps others from it inside."""
    lock = file_lock(store, training_key)
    with store_errors("lock a run in", store.root):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Queue:
    """Hands out pending runs in order, and locks each one until it is done.

    It skips a run while a run with the same training is in progress, here or in another command. Its length is the number of
    runs not handed out yet. With a run it locks up to `most` - 1 others that may train in one stack with it.
    """

    def __init__(self, pending: Sequence[PendingRun], store: Store, most: int = 1) -> None:
        self.waiting, self.store, self.most, self.locks = list(pending), store, most, dict[str, FileLock]()
        self.training = {run.key: run.spec.training_key() for run in pending}
        self.beside, self.ready = dict[str, list[str]](), set[str]()  # keys

    def __len__(self) -> int:
        return len(self.waiting)

    def take(self) -> PendingRun | Record | None:
        """A run for the caller to make, the record of a run that another command has made, or None if others hold the rest."""
        for run in self.waiting:
            if not self.locked(run):
                continue
            self.waiting.remove(run)
            if (record := self.made(run)) is not None:
                self.locks.pop(self.training[run.key]).release()
                return record
            return run._replace(beside=self.stacked(run), ready=run.key in self.ready)
        return None

    def locked(self, run: PendingRun) -> bool:
        """Locks the training of a run, unless it is locked here or by another command; whether it did."""
        if (training_key := self.training[run.key]) in self.locks:
            return False
        lock = file_lock(self.store, training_key)
        with store_errors("lock a run in", self.store.root):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
        self.locks[training_key] = lock
        return True

    def made(self, run: PendingRun) -> Record | None:
        """The record of a run if it is another than the one to be replaced."""
        record = self.store.get(run.spec, run.key)
        return record if record is not None and record.started != run.replaces else None

    def stacked(self, run: PendingRun) -> tuple[PendingRun, ...]:
        """The runs that train in one stack with this one, locked. They are handed out later, by themselves."""
        if self.most == 1 or run.key in self.ready or not (stack := run.spec.stack):
            return ()
        options = run.spec.configuration.options
        such = [other for other in self.waiting if other.key not in self.ready and other.spec.stack == stack]
        such.sort(key=lambda other: other.spec.configuration.options != options)  # first those that can be stacked for certain
        found = tuple(islice((other for other in such if self.locked(other)), self.most - 1))
        self.beside[run.key] = [other.key for other in found]
        return found

    def done(self, key: str) -> None:
        """Releases the lock of a run, and of those that trained beside it."""
        beside = self.beside.pop(key, [])
        self.ready |= set(beside)
        for each in (key, *beside):
            self.locks.pop(self.training[each]).release()

    def close(self) -> None:
        """Releases every lock."""
        for lock in self.locks.values():
            lock.release()
        self.locks.clear()
