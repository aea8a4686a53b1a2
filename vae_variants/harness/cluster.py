"""Runs as tasks of a Ray cluster: each is made in a child process of a Ray worker, as on one machine, and its files come back."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vae_variants.harness.engines import TICK
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import Death, lost
from vae_variants.harness.limits import fitting
from vae_variants.harness.locks import Due, Queue
from vae_variants.harness.protocols import Terms, Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.remote import Flight, Task, make
from vae_variants.harness.spec import prepared
from vae_variants.harness.store import Store
from vae_variants.registry import UserError

__all__ = ["Cluster"]

SENT = 4  # times at most that one start sends a run whose Ray worker or machine is lost
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
LOST = Death("interrupted", f"the Ray worker of this run was lost {SENT} times")
TOO_LITTLE = Death("interrupted", "Ray ended the worker of this run: its machine ran out of memory", at_last="oom")


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
    auto: bool = False  # whether the ceiling of memory is each machine's own

    def __call__(self, due: Sequence[Due], terms: Terms, watcher: Watcher) -> Generator[Record]:
        if not due:
            return
        ray, queue, flying = self.start(), Queue(sorted(due, key=lambda one: -one.spec.work), terms.store), dict[Any, Flight]()
        gpus = self.gpus if terms.device.type == "cuda" else 0
        fitting([node["Resources"] for node in ray.nodes() if node["Alive"]], {"CPU": self.cpus, "GPU": gpus})
        most = int(self.jobs) if self.jobs != "auto" else max(1, int(ray.cluster_resources().get("CPU", 1)) // self.cpus)
        remote = ray.remote(num_returns="streaming", num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(make)
        images = {name: ray.put(prepared(*name)) for name in {(one.spec.dataset, one.spec.fidelity) for one in due}}
        texts = tuple(path.read_text(encoding="utf-8") for path in self.plugins)

        def send(flight: Flight) -> None:
            spec = flight.due.spec
            files = terms.store.packed(terms.store.folder(spec, flight.due.key), {})
            if terms.fresh:  # with nothing of before, which need not be said there
                files = {name: files[name] for name in flight.back & set(files)}
            flight.sent += 1
            task = Task(flight.due, terms._replace(store=Store(""), fresh=False), files, texts, most, self.cpus, self.auto)
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
                    if found is None and flight.sent < SENT:
                        del flying[stream]
                        send(flight)
                    elif isinstance(found, tuple) and not isinstance(found, Death):
                        terms.store.unpack(terms.store.folder(flight.due.spec, flight.due.key), found[1])
                        flight.back |= set(found[1])
                        if found[0]:
                            flight.epochs = found[0]
                            watcher.epoch(flight.due.spec, *found[0])
                    else:
                        del flying[stream]
                        if isinstance(found, Record):
                            terms.store.put(terms.store.folder(flight.due.spec, flight.due.key), record := found)
                        else:
                            where = environment(torch.device("cpu"), self.cpus, most)
                            record = lost(flight.due, terms, found or LOST, flight.started, flight.epochs, where)
                        queue.done(flight.due)
                        yield record
                if queue and not flying:
                    watcher.held(len(queue))
                    time.sleep(TICK)
        finally:
            for stream in flying:
                ray.cancel(stream, force=True)
            queue.close()

    def message(self, ray: Any, stream: Any) -> Any:
        """The next of what `make` yields; None where its Ray worker or machine is no more. Raises what `make` raises."""
        try:
            if isinstance(found := ray.get(next(stream)), UserError):
                raise found
            return found
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None
        except ray.exceptions.OutOfMemoryError:
            return TOO_LITTLE
        except (ray.exceptions.RayError, StopIteration):
            return None

    def start(self) -> Any:
        """The module ray, connected."""
        try:
            import ray
        except ImportError as error:
            raise UserError("--engine ray needs Ray: python -m pip install 'vae-variants[ray]'") from error
        most = int(self.jobs) if self.jobs != "auto" else os.cpu_count() or 1
        try:
            if self.address and (port := self.address.rpartition(":")[2]).isdecimal():  # Ray itself would try for minutes
                socket.create_connection((self.address.removesuffix(f":{port}"), int(port)), timeout=10).close()
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told
            if not ray.is_initialized():
                ray.init(self.address, num_cpus=None if self.address else self.cpus * most, **QUIET)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            raise UserError(f"no Ray cluster at {self.address!r}: {str(error).splitlines()[0]}") from error
        return ray

    def close(self) -> None:
        """Leaves the cluster, and ends it where it was started for this."""
        import ray

        ray.shutdown()
