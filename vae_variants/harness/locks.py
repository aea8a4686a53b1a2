"""Runs that wait to be made, of which each is made by one invocation at a time, however many there are on one store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from filelock import FileLock, Timeout

from vae_variants.harness.files import StoreError, make_folder
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.store import Store

__all__ = ["Due", "Queue", "claimed"]

LOCKS = "locks"


class Due(NamedTuple):
    """A run that is to be made, its key, and when the record began that is there and does not do, if one is."""

    spec: RunSpec
    key: str
    seen: str = ""


def lock(store: Store, training_key: str) -> FileLock:
    """The system lets go of it when the process ends, however that happens; where it cannot, nothing else takes its place."""
    return FileLock(make_folder(store.root / LOCKS) / f"{training_key[:32]}.lock", fallback_to_soft=False)


@contextmanager
def claimed(store: Store, training_key: str) -> Iterator[None]:
    """Inside nobody else trains what has this key; waits for whoever does."""
    try:
        with lock(store, training_key):
            yield
    except OSError as error:
        raise StoreError(f"cannot lock a run in {str(store.root)!r}: {error.strerror or error}") from error


class Queue:
    """Gives out runs in their order: of those that share a training one at a time, and none that another invocation is at.

    As long as the runs that wait.
    """

    def __init__(self, due: Sequence[Due], store: Store) -> None:
        self.waiting, self.store, self.held = list(due), store, dict[str, FileLock]()
        self.training = {one.key: one.spec.training_key() for one in due}

    def __len__(self) -> int:
        return len(self.waiting)

    def take(self) -> Due | Record | None:
        """A run that is now this invocation's; the record of one that another invocation has made; None while others are at all of them."""
        for one in self.waiting:
            claim = self.claim(self.training[one.key])
            if claim is None:
                continue
            self.waiting.remove(one)
            record = self.store.get(one.spec, one.key)
            if record is not None and record.started != one.seen:
                claim.release()
                return record
            self.held[self.training[one.key]] = claim
            return one
        return None

    def claim(self, training_key: str) -> FileLock | None:
        if training_key in self.held:
            return None
        found = lock(self.store, training_key)
        try:
            found.acquire(timeout=0)
        except Timeout:
            return None
        except OSError as error:
            raise StoreError(f"cannot lock a run in {str(self.store.root)!r}: {error.strerror or error}") from error
        return found

    def put_back(self, one: Due) -> None:
        self.waiting.insert(0, one)
        self.done(one)

    def done(self, one: Due) -> None:
        self.held.pop(self.training[one.key]).release()

    def close(self) -> None:
        """Lets go of everything."""
        for claim in self.held.values():
            claim.release()
        self.held.clear()
