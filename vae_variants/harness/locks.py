"""Locks that let several commands share one folder of runs: each run is trained by one command at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from filelock import FileLock, Timeout

from vae_variants.harness.files import make_folder, store_errors
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.store import Store

__all__ = ["PendingRun", "Queue", "file_lock", "training_lock"]


class PendingRun(NamedTuple):
    """A run that has to be made. `replaces` is the start time of the stored record that it replaces, if there is one."""

    spec: RunSpec
    key: str
    replaces: str = ""


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
    runs not handed out yet.
    """

    def __init__(self, pending: Sequence[PendingRun], store: Store) -> None:
        self.waiting, self.store, self.locks = list(pending), store, dict[str, FileLock]()
        self.training = {run.key: run.spec.training_key() for run in pending}

    def __len__(self) -> int:
        return len(self.waiting)

    def take(self) -> PendingRun | Record | None:
        """A run for the caller to make, the record of a run that another command has made, or None if others hold the rest."""
        for run in self.waiting:
            training_key = self.training[run.key]
            if training_key in self.locks:
                continue
            lock = file_lock(self.store, training_key)
            with store_errors("lock a run in", self.store.root):
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
            self.waiting.remove(run)
            record = self.store.get(run.spec, run.key)
            if record is not None and record.started != run.replaces:
                lock.release()
                return record
            self.locks[training_key] = lock
            return run
        return None

    def done(self, key: str) -> None:
        """Releases the lock of a run."""
        self.locks.pop(self.training[key]).release()

    def close(self) -> None:
        """Releases every lock."""
        for lock in self.locks.values():
            lock.release()
        self.locks.clear()
