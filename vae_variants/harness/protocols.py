"""What the runner, the engines and the watchers of a run share: settings of a call, and who is told of its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch

from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.store import Store

__all__ = ["LastEpoch", "Losses", "Retry", "Settings", "Watcher", "Watchers"]

Retry = Literal["never", "failed", "older", "scores", "all"]


class Losses(NamedTuple):
    """Rows of the training curves up to epoch `done` that were not reported yet: name -> epoch -> seed."""

    done: int
    rows: Mapping[str, Sequence[Sequence[float]]]


class Settings(NamedTuple):
    """How the runs of one call are made. `timeout` is in seconds and `memory` in bytes, both for each run.

    `fresh` ignores everything that was trained before, `renew` only what other code trained.
    """

    store: Store
    device: torch.device
    timeout: float | None = None
    fresh: bool = False
    renew: bool = False
    memory: int | None = None


class Watcher:
    """Is told of the progress of runs. This one ignores it; subclasses override what they need."""

    def begin(self, spec: RunSpec) -> None:
        """A run starts."""

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        """`done` of `of` epochs are trained."""

    def losses(self, spec: RunSpec, found: Losses) -> None:
        """Curves of the last epoch, or of all epochs so far when a run resumes. A cluster does not report them."""

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        """There is a record; if `reused`, it had been there before."""

    def waiting(self, runs: int) -> None:
        """Other commands hold the remaining runs. Repeated as long as that is so."""


class Watchers(Watcher):
    """Several watchers, told one after the other."""

    def __init__(self, *watchers: Watcher) -> None:
        for name in ("begin", "epoch", "losses", "end", "waiting"):
            methods = [getattr(watcher, name) for watcher in watchers]
            setattr(self, name, lambda *args, methods=methods: [tell(*args) for tell in methods])


class LastEpoch(Watcher):
    """Remembers how far training is: epochs done and planned."""

    epochs = (0, 0)

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        self.epochs = (done, of)
