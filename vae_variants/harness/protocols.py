"""What whoever makes runs is given: the terms of a call, somebody to tell how they go on, and what an engine promises."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import torch

from vae_variants.harness.locks import Due
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.store import Store

__all__ = ["Engine", "Losses", "Quiet", "Retry", "Terms", "Together", "Watcher"]

Retry = Literal["never", "failed", "older", "scores", "all"]


class Losses(NamedTuple):
    """Values of the curves in the epochs up to `done` that were not told yet: name -> epoch -> seed."""

    done: int
    rows: Mapping[str, Sequence[Sequence[float]]]


class Watcher(Protocol):
    """Is told how the runs go on."""

    def begin(self, spec: RunSpec) -> None: ...
    def epoch(self, spec: RunSpec, done: int, of: int) -> None: ...
    def losses(self, spec: RunSpec, found: Losses) -> None: ...
    def end(self, spec: RunSpec, record: Record, reused: bool) -> None: ...
    def held(self, runs: int) -> None: ...


class Quiet:
    """A watcher that says nothing."""

    def begin(self, spec: RunSpec) -> None:
        """A run starts."""

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        """`done` of `of` epochs are trained."""

    def losses(self, spec: RunSpec, found: Losses) -> None:
        """What came of the last epoch, or of all before it where a run goes on; not told by a cluster."""

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        """There is a record; `reused` says that it had been there before."""

    def held(self, runs: int) -> None:
        """So many are left, and another invocation is at all of them; is said again and again while that is so."""


class Together(Quiet):
    """Several watchers, told one after the other."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def begin(self, spec: RunSpec) -> None:
        for watcher in self.watchers:
            watcher.begin(spec)

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        for watcher in self.watchers:
            watcher.epoch(spec, done, of)

    def losses(self, spec: RunSpec, found: Losses) -> None:
        for watcher in self.watchers:
            watcher.losses(spec, found)

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        for watcher in self.watchers:
            watcher.end(spec, record, reused)


class Terms(NamedTuple):
    """On which every run of a call is made; `timeout` is in seconds and `memory` in bytes.

    `fresh` ignores what was trained before, `renew` what was trained by other code.
    """

    store: Store
    device: torch.device
    timeout: float | None = None
    fresh: bool = False
    renew: bool = False
    memory: int | None = None


class Engine(Protocol):
    """Makes runs somewhere else, all of them different, and yields their records as they come, in any order.

    The watcher is told of beginnings and epochs, and when all that is left is another invocation's. Closed early, it leaves no
    process behind; else processes may stay for the next call, until `close`.
    """

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]: ...
    def close(self) -> None: ...
