"""Runs on other machines, with neither a process nor Ray: what is sent, what comes back, and what is left where something dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.harness.test_engines import until
from tests.harness.test_runner import CPU, spec
from tests.made_up import made_up
from vae_variants.datasets import load_dataset
from vae_variants.harness import Store, Watcher, engines, remote, run_all, worker
from vae_variants.harness.cluster import MOST_SENDS, Cluster
from vae_variants.harness.failures import Failure
from vae_variants.harness.limits import ceiling
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.protocols import Settings
from vae_variants.harness.remote import RemoteTask
from vae_variants.harness.spec import forget, received
from vae_variants.harness.store import CHECKPOINT, MODEL
from vae_variants.registry import UserError

CHOSEN = spec("vae[hidden=4,latent=2,epochs=4]")
PENDING = PendingRun(CHOSEN, CHOSEN.key())
RECORD = replace(made_up(CHOSEN), key=PENDING.key)
GONE = Failure("interrupted", "the process of this run was killed by SIGKILL")


class Pretended:
    """A worker without a process that gives the next of `answers`."""

    made: list[Pretended]
    answers: list[object]

    def __init__(self, paths):
        self.paths, self.epochs, self.pipe, self.process = paths or (), (0, 0), None, SimpleNamespace(pid=0, terminate=lambda: None)
        self.wait = self.end = lambda _: None
        self.made.append(self)

    def give(self, run, settings, jobs, threads):
        self.run, self.settings, self.share, self.started = run, settings, (jobs, threads), datetime.now(UTC)
        assert all(path.is_file() for path in self.paths)

    def receive(self):
        found = self.answers.pop(0)
        return found(self) if callable(found) else found


@pytest.fixture(autouse=True)
def pretended(monkeypatch):
    Pretended.made, Pretended.answers = [], []
    monkeypatch.setattr(engines, "Worker", Pretended)
    monkeypatch.setattr(engines, "wait", lambda pipes, _: pipes)
    remote.engines.clear()
    yield
    remote.engines.clear()
    remote.plugin_folders.clear()
    received.clear()
    forget()


def made(settings: Settings | None = None, plugins: tuple[str, ...] = (), auto: bool = False, before=None, code=CHOSEN.code) -> object:
    """The last message of a task."""
    task = RemoteTask(PENDING, settings or Settings(Store(""), CPU), {}, before, plugins, 4, 1, auto, code)
    return list(remote.make_remotely(task, load_dataset("digits")))[-1]


def test_plugins_stay_where_a_process_that_waits_can_read_them():
    Pretended.answers = [RECORD, RECORD]
    for _ in range(2):
        assert made(plugins=("FIRST = 1", "SECOND = 2")) is RECORD
    (worker,) = Pretended.made
    assert worker.paths == ()  # its run uses no plug-in
    (engine,) = remote.engines.values()
    assert [path.read_text() for path in engine.plugins] == ["FIRST = 1", "SECOND = 2"]


def test_a_machine_with_other_files_says_so():
    Pretended.answers = [RECORD]
    with pytest.raises(UserError, match=r"code differs on .*: install the same"):
        made(code="0" * 16)


def test_a_process_that_is_killed_leaves_no_folder(tmp_path):
    text = "import os; from vae_variants.harness.remote import scratch; print(scratch(), flush=True); os.kill(os.getpid(), 9)"
    ended = subprocess.run([sys.executable, "-c", text], env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    folder = Path(ended.stdout.strip())
    assert folder.parent == tmp_path
    assert until(lambda: not folder.exists(), 20)


def test_a_process_stays_with_its_gpu(monkeypatch):
    Pretended.answers = [RECORD] * 3
    for visible in ("0", "1", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        made()
    assert len(Pretended.made) == 2


def test_a_record_that_was_there_before_its_process_died_comes_back():
    def puts(worker):
        worker.settings.store.put(worker.settings.store.folder(CHOSEN, PENDING.key), RECORD)
        return GONE

    Pretended.answers = [puts]
    assert made() == RECORD
    Pretended.answers = [GONE]
    assert made().interrupted


def test_interruptions_on_other_machines_are_counted():
    Pretended.answers = [GONE] * 3
    states, before = [], None
    for _ in range(3):
        pending = PENDING._replace(replaces=before.started if before else "")
        task = RemoteTask(pending, Settings(Store(""), CPU), {}, before, (), 4, 1, False, CHOSEN.code)
        before = list(remote.make_remotely(task, load_dataset("digits")))[-1]
        states.append(before.status["0"])
    assert states == ["interrupted", "interrupted", "error"]


def test_each_machine_shares_out_its_own_memory(monkeypatch):
    monkeypatch.setattr(remote.os, "cpu_count", lambda: 2)
    Pretended.answers = [RECORD, RECORD]
    made(auto=True)
    (worker,) = Pretended.made
    assert (worker.settings.memory, worker.share) == (ceiling(2), (2, 1))
    made(Settings(Store(""), CPU, memory=2**30))
    assert worker.settings.memory == 2**30


class Lost(Exception):
    """What Ray says of a worker that is no more."""


class OutOfMemory(Lost):
    """What it says where it ended it."""


class PretendedRay:
    """A cluster of one machine; each task is the next of `streams`, and what is an error there is raised."""

    exceptions = SimpleNamespace(RayTaskError=ZeroDivisionError, OutOfMemoryError=OutOfMemory, RayError=Lost)

    def __init__(self, *streams):
        self.streams, self.tasks = list(streams), []

    def remote(self, **_):
        return lambda _: SimpleNamespace(remote=self.send)

    def send(self, task, images):
        self.tasks.append(task)
        return (found for found in self.streams.pop(0))

    def get(self, found):
        if isinstance(found, Exception):
            raise found
        return found

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}]

    put = staticmethod(lambda images: images)
    wait = staticmethod(lambda streams, timeout: (streams, []))
    cluster_resources = staticmethod(lambda: {"CPU": 4.0})
    cancel = staticmethod(lambda stream, force: None)


def sent(ray: PretendedRay, monkeypatch, store: Store, retry="never", **options):
    monkeypatch.setattr(Cluster, "connect", lambda _: ray)
    return run_all([CHOSEN], store, CPU, retry, engine=Cluster("auto", **options), watcher=Watcher())[0]


def test_what_is_to_be_made_afresh_is_sent_again_with_its_own_checkpoint_and_nothing_of_before(tmp_path, monkeypatch):
    store = Store(tmp_path)
    for name in (MODEL, CHECKPOINT):
        (store.folder(CHOSEN, PENDING.key) / name).write_bytes(b"before")
    ray = PretendedRay([((2, 4), {CHECKPOINT: b"now"}), Lost()], [RECORD])
    assert sent(ray, monkeypatch, store, "all") == RECORD
    assert [task.files for task in ray.tasks] == [{}, {CHECKPOINT: b"now"}]
    assert not any(task.settings.fresh for task in ray.tasks)


def test_workers_that_are_lost_again_and_again_are_an_interruption(tmp_path, monkeypatch):
    ray = PretendedRay(*[[Lost()] for _ in range(MOST_SENDS)])
    record = sent(ray, monkeypatch, Store(tmp_path))
    assert record.interrupted
    assert len(ray.tasks) == MOST_SENDS
    assert sent(PretendedRay([RECORD]), monkeypatch, Store(tmp_path)) == RECORD


def test_what_ray_ends_for_want_of_memory_is_that_at_last(tmp_path, monkeypatch):
    states = [sent(PretendedRay([OutOfMemory()]), monkeypatch, Store(tmp_path)).status["0"] for _ in range(3)]
    assert states == ["interrupted", "interrupted", "oom"]


@pytest.mark.parametrize(("cpus", "device"), [(5, "cpu"), (1, "cuda")])
def test_what_no_machine_has_is_not_waited_for(tmp_path, monkeypatch, cpus, device):
    monkeypatch.setattr(Cluster, "connect", lambda _: PretendedRay())
    settings = Settings(Store(tmp_path), SimpleNamespace(type=device))
    with pytest.raises(UserError, match=r"no machine of the cluster has .* there is 4 CPUs and 0 GPUs"):
        next(Cluster("auto", cpus=cpus)([PENDING], settings, Watcher()))


def test_a_plug_in_that_is_a_package_is_refused_before_the_cluster_is_asked() -> None:
    with pytest.raises(UserError, match="entry point"):
        Cluster("1", plugins=(Path("mine/__init__.py"),)).prepare([])


def test_off_linux_a_worker_is_told_to_end_once_its_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    told, gone = threading.Event(), threading.Event()
    monkeypatch.setattr(worker.sys, "platform", "darwin")
    monkeypatch.setattr(worker.multiprocessing, "parent_process", lambda: SimpleNamespace(join=gone.wait))
    monkeypatch.setattr(worker.os, "kill", lambda *_: told.set())
    worker.end_with_parent()
    assert not told.wait(0.05)
    gone.set()
    assert told.wait(5)
