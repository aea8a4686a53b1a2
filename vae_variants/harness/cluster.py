"""Runs as tasks of a Ray cluster: each is made in a child process of a Ray worker, as on one machine, and its files come back."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vae_variants.harness.away import Task, make
from vae_variants.harness.claims import Due, Queue
from vae_variants.harness.engines import TICK
from vae_variants.harness.environment import environment
from vae_variants.harness.record import Record
from vae_variants.harness.runner import lost
from vae_variants.harness.spec import prepared
from vae_variants.harness.store import Store
from vae_variants.harness.terms import Terms, Watcher
from vae_variants.harness.worker import Death
from vae_variants.registry import UserError

__all__ = ["Cluster"]

TRIES = 4  # of a run whose Ray worker or machine is lost


@dataclass
class Flight:
    """A run that is somewhere in the cluster."""

    due: Due
    tries: int = 0
    epochs: tuple[int, int] | None = None
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Cluster:
    """An engine of as many runs at a time as there are processors and GPUs for, at most `jobs`; without `address` on this machine.

    A run whose Ray worker is lost begins again on another, from the last checkpoint that came back.
    """

    jobs: str
    address: str | None = None
    plugins: tuple[Path, ...] = ()
    cpus: int = 1
    gpus: float = 1.0

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]:
        if not due:
            return
        ray, queue, flying = self.start(), Queue(sorted(due, key=lambda one: -one.spec.work), terms.store), dict[Any, Flight]()
        gpus = self.gpus if terms.device.type == "cuda" else 0
        most = int(self.jobs) if self.jobs != "auto" else max(1, int(ray.cluster_resources().get("CPU", 1)) // self.cpus)
        remote = ray.remote(num_returns="streaming", num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(make)
        images = {name: ray.put(prepared(*name)) for name in {(one.spec.dataset, one.spec.fidelity) for one in due}}
        texts = tuple(path.read_text(encoding="utf-8") for path in self.plugins)

        def send(flight: Flight) -> None:
            spec = flight.due.spec
            files = terms.store.packed(terms.store.folder(spec, flight.due.key), {})
            task = Task(flight.due, terms._replace(store=Store("")), files, texts, most, self.cpus)
            flying[remote.remote(task, images[spec.dataset, spec.fidelity])] = flight

        try:
            while queue or flying:
                if queue and len(flying) < most:
                    match queue.take():
                        case Record() as record:
                            yield record
                            continue
                        case Due() as one:
                            watcher.begin(one.spec)
                            send(Flight(one))
                            continue
                for stream in ray.wait(list(flying), timeout=TICK)[0] if flying else []:
                    flight = flying[stream]
                    found = self.message(ray, stream)
                    if found is None and (tries := flight.tries + 1) < TRIES:
                        del flying[stream]
                        send(Flight(flight.due, tries, flight.epochs, flight.started))
                    elif isinstance(found, tuple) and not isinstance(found, Death):
                        terms.store.unpack(terms.store.folder(flight.due.spec, flight.due.key), found[1])
                        if found[0]:
                            flight.epochs = found[0]
                            watcher.epoch(flight.due.spec, *found[0])
                    else:
                        del flying[stream]
                        if isinstance(found, Record):
                            terms.store.put(terms.store.folder(flight.due.spec, flight.due.key), record := found)
                        else:
                            how = found or Death("error", f"the Ray worker of this run was lost {TRIES} times")
                            record = lost(
                                flight.due, terms, how, flight.started, flight.epochs, environment(torch.device("cpu"), self.cpus, most)
                            )
                        queue.done(flight.due)
                        yield record
                if not flying:
                    time.sleep(TICK)
        finally:
            for stream in flying:
                ray.cancel(stream, force=True)
            queue.close()

    def message(self, ray: Any, stream: Any) -> Any:
        """The next of what `make` yields; None where its Ray worker or machine is no more. Raises what `make` raises."""
        try:
            found = ray.get(next(stream))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None
        except (ray.exceptions.RayError, StopIteration):
            return None
        if isinstance(found, UserError):
            raise found
        return found

    def start(self) -> Any:
        """The module ray, connected."""
        try:
            import ray
        except ImportError as error:
            raise UserError("--engine ray needs Ray: python -m pip install 'vae-variants[ray]'") from error
        here = {} if self.address else {"num_cpus": self.cpus * (int(self.jobs) if self.jobs != "auto" else os.cpu_count() or 1)}
        try:
            if self.address and (port := self.address.rpartition(":")[2]).isdecimal():  # Ray itself would try for minutes
                socket.create_connection((self.address.removesuffix(f":{port}"), int(port)), timeout=10).close()
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
            if not ray.is_initialized():
                ray.init(self.address, log_to_driver=False, logging_level="ERROR", include_dashboard=False, **here)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            raise UserError(f"no Ray cluster at {self.address!r}: {str(error).splitlines()[0]}") from error
        return ray

    def close(self) -> None:
        """Leaves the cluster, and ends it where it was started for this."""
        import ray

        ray.shutdown()
