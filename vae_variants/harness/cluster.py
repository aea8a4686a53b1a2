"""The engine for a Ray cluster: each run is made in a child process of a Ray worker, and its files come back as bytes."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vae_variants.harness.engines import TICK, Engine
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import Failure, record_of_lost_run
from vae_variants.harness.head import Head, imported, reach
from vae_variants.harness.limits import require_machine
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.record import Record
from vae_variants.harness.remote import RemoteTask, make_remotely
from vae_variants.harness.spec import prepared
from vae_variants.harness.store import Store
from vae_variants.registry import UserError

MOST_SENDS = 4  # times that one command sends a run whose Ray worker or machine is lost
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
HEAD_LOST = Failure("interrupted", "the head of the Ray cluster was lost")
LOST = Failure("interrupted", f"the Ray worker of this run was lost {MOST_SENDS} times")
OUT_OF_MEMORY = Failure("interrupted", "Ray ended the worker of this run: its machine ran out of memory", finally_="oom")


@dataclass
class Sent:
    """A run somewhere in the cluster, and the stream of its messages."""

    run: PendingRun
    stream: Any = None
    times: int = 0
    epochs: tuple[int, int] = (0, 0)
    returned: set[str] = field(default_factory=set)  # names of the files that came back
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Cluster(Engine):
    """Makes as many runs at a time as there are CPUs and GPUs for, at most `jobs`.

    Without `address` it starts a cluster of its own that listens on 127.0.0.1 only. If a Ray worker is lost, its run starts again on
    another one, from the last checkpoint that came back. `auto_memory` gives each run its share of the machine that makes it.
    """

    jobs: str
    address: str | None = None
    plugins: tuple[Path, ...] = ()
    cpus: int = 1
    gpus: float = 1.0
    auto_memory: bool = False
    head: Head | None = field(default=None, init=False)
    folder: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)  # of the cluster that it starts
    stacks = False

    def prepare(self, pending: Sequence[PendingRun]) -> Sequence[PendingRun]:
        if package := next((path for path in self.plugins if path.name == "__init__.py"), None):
            raise UserError(
                f"plug-in {str(package)!r} is a package, and Ray gets single files; install it on each machine as an entry point"
            )
        self.ray = ray = self.connect()
        gpus = self.gpus if self.settings.device.type == "cuda" else 0
        require_machine([node["Resources"] for node in ray.nodes() if node["Alive"]], {"CPU": self.cpus, "GPU": gpus})
        self.capacity = int(self.jobs) if self.jobs != "auto" else max(1, int(ray.cluster_resources().get("CPU", 1)) // self.cpus)
        self.remote = ray.remote(num_returns="streaming", num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(make_remotely)
        self.images = {name: ray.put(prepared(*name)) for name in {(run.spec.dataset, run.spec.fidelity) for run in pending}}
        self.plugin_texts = tuple(path.read_text(encoding="utf-8") for path in self.plugins)
        return sorted(pending, key=lambda run: -run.spec.work)

    def start(self, run: PendingRun) -> Sent:
        if self.head is not None and self.head.lost:
            raise UserError(f"{HEAD_LOST.reason}; start the same command again once it runs")
        return self.send(Sent(run))

    def send(self, task: Sent) -> Sent:
        run, store = task.run, self.settings.store
        files, before = store.packed(store.folder(run.spec, run.key), {}), store.get(run.spec, run.key)
        if self.settings.fresh:  # only with files of this attempt
            files = {name: files[name] for name in task.returned & set(files)}
        settings = self.settings._replace(store=Store("", self.settings.store.latest), fresh=False)
        remote = RemoteTask(run, settings, files, before, self.plugin_texts, self.capacity, self.cpus, self.auto_memory, run.spec.code)
        task.times += 1
        task.stream = self.remote.remote(remote, self.images[run.spec.dataset, run.spec.fidelity])
        return task

    def collect(self, tasks: Sequence[Sent]) -> Iterator[tuple[Sent, Record]]:
        if self.head is not None and self.head.lost:
            where = environment(torch.device("cpu"), self.cpus, self.capacity)
            for task in list(tasks):
                yield task, record_of_lost_run(task.run, self.settings, HEAD_LOST, task.started, task.epochs, where)
            return
        streams = {task.stream: task for task in tasks}
        for stream in self.ray.wait(list(streams), timeout=TICK)[0]:
            task, message = streams[stream], self.message(stream)
            folder = self.settings.store.folder(task.run.spec, task.run.key)
            match message:
                case Record() as record:
                    self.settings.store.put(folder, record)
                    yield task, record
                case None if task.times < MOST_SENDS:
                    self.send(task)
                case Failure() | None:
                    where = environment(torch.device("cpu"), self.cpus, self.capacity)
                    yield task, record_of_lost_run(task.run, self.settings, message or LOST, task.started, task.epochs, where)
                case (epochs, files):
                    self.settings.store.unpack(folder, files)
                    task.returned |= set(files)
                    if epochs[1] and epochs != task.epochs:
                        task.epochs = epochs
                        self.watcher.epoch(task.run.spec, *epochs)

    def message(self, stream: Any) -> Any:
        """The next message of a task: what `make_remotely` yields, or raises; None if its Ray worker or machine is lost."""
        try:
            return self.ray.get(next(stream))
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None
        except self.ray.exceptions.OutOfMemoryError:
            return OUT_OF_MEMORY
        except (self.ray.exceptions.RayError, StopIteration):
            return None

    def connect(self) -> Any:
        """The module ray, connected to the cluster. Raises `UserError`."""
        address = os.environ.get("RAY_ADDRESS", "auto") if self.address == "auto" else self.address
        try:
            if address is not None:
                reach(address)
            ray = imported(address)
            if not ray.is_initialized():
                self.start_ray(ray) if address is None else ray.init(address, **QUIET)
        except (OSError, OverflowError, ValueError, RuntimeError) as error:
            hint = "" if address is None else "; if Ray runs there, check RAY_AUTH_MODE and the token (docs/cluster.md)"
            raise UserError(f"no Ray cluster at {address or 'this machine'!r}: {str(error).splitlines()[0]}{hint}") from error
        self.head = Head(ray.get_runtime_context().gcs_address)
        return ray

    def start_ray(self, ray: Any) -> None:
        """Starts a cluster for this engine alone. It keeps all its files in a folder that `close` removes."""
        most = int(self.jobs) if self.jobs != "auto" else os.cpu_count() or 1
        self.folder = tempfile.TemporaryDirectory(prefix="vv-", dir=os.environ.get("RAY_TMPDIR", "/tmp"))  # sockets need a short path
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = self.folder.name  # of the workers
        try:
            ray.init("local", num_cpus=self.cpus * most, _temp_dir=self.folder.name, include_dashboard=False, **QUIET)
        finally:
            del os.environ["TMPDIR"]
            os.environ.update({} if before is None else {"TMPDIR": before})

    def cancel(self, tasks: Sequence[Sent]) -> None:
        for task in tasks:
            self.ray.cancel(task.stream, force=True)

    def close(self) -> None:
        """Leaves the cluster, and ends it if it was started for this engine."""
        if self.head is not None:
            self.head.leave()
            self.ray.shutdown()
        if self.folder is not None:
            self.folder.cleanup()
