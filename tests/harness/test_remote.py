"""Runs on other machines, with neither a process nor Ray: what is sent, what comes back, and what is left where something dies."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.harness.test_runner import CPU, spec
from tests.made_up import made_up
from vae_variants.harness import Quiet, Store, remote, run_all
from vae_variants.harness.cluster import SENT, Cluster
from vae_variants.harness.failures import Death
from vae_variants.harness.limits import ceiling
from vae_variants.harness.locks import Due
from vae_variants.harness.protocols import Terms
from vae_variants.harness.remote import Task
from vae_variants.harness.store import CHECKPOINT, MODEL
from vae_variants.registry import UserError

CHOSEN = spec("vae[hidden=4,latent=2,epochs=4]")
DUE = Due(CHOSEN, CHOSEN.key())
RECORD = replace(made_up(CHOSEN), key=DUE.key)
GONE = Death("interrupted", "the process of this run was killed by SIGKILL")


class Pretended:
    """A worker without a process, that gives what is next of `answers`."""

    started: list[Pretended]
    answers: list[object]

    def __init__(self, paths):
        self.paths, self.made, self.began, self.pipe = paths, 0, None, SimpleNamespace(poll=lambda _: True)
        self.started.append(self)

    def give(self, due, terms, jobs, threads):
        self.terms, self.began = terms, None
        assert all(path.is_file() for path in self.paths)

    def answer(self):
        found = self.answers.pop(0)
        if callable(found):
            found = found(self)
        self.began = None if isinstance(found, Death) else 1.0
        self.made += found is RECORD
        return found


@pytest.fixture(autouse=True)
def pretended(monkeypatch, tmp_path):
    Pretended.started, Pretended.answers = [], []
    monkeypatch.setattr(remote, "Worker", Pretended)
    monkeypatch.setattr(remote, "BROUGHT", {})
    remote.idle.clear()
    yield
    remote.idle.clear()
    for kept in remote.places.values():
        kept.cleanup()
    remote.places.clear()


def made(terms: Terms | None = None, plugins: tuple[str, ...] = (), auto: bool = False) -> object:
    """The last of what a task gives."""
    task = Task(DUE, terms or Terms(Store(""), CPU), {}, plugins, 4, 1, auto)
    return list(remote.make(task, None))[-1]


def test_plugins_stay_where_a_process_that_waits_can_read_them():
    Pretended.answers = [RECORD, RECORD]
    for _ in range(2):
        assert made(plugins=("FIRST = 1", "SECOND = 2")) is RECORD
    (worker,) = Pretended.started
    assert [path.read_text() for path in worker.paths] == ["FIRST = 1", "SECOND = 2"]


def test_a_process_that_died_while_it_waited_costs_no_run():
    Pretended.answers = [RECORD, GONE, RECORD]
    assert [made(), made()] == [RECORD, RECORD]
    assert len(Pretended.started) == 2


def test_a_process_stays_with_its_gpu(monkeypatch):
    Pretended.answers = [RECORD] * 3
    for visible in ("0", "1", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        made()
    assert len(Pretended.started) == 2


def test_a_record_that_was_there_before_its_process_died_comes_back():
    def puts(worker):
        worker.terms.store.put(worker.terms.store.folder(CHOSEN, DUE.key), RECORD)
        worker.began = 1.0

    Pretended.answers = [puts, GONE]
    assert made() == RECORD
    Pretended.answers = [GONE]
    assert made() == GONE


def test_each_machine_shares_out_its_own_memory(monkeypatch):
    monkeypatch.setattr(remote.os, "cpu_count", lambda: 2)
    Pretended.answers = [RECORD, RECORD]
    made(auto=True)
    assert Pretended.started[0].terms.memory == ceiling(2)
    made(Terms(Store(""), CPU, memory=2**30))
    assert Pretended.started[0].terms.memory == 2**30


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
        return lambda make: SimpleNamespace(remote=self.send)

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
    monkeypatch.setattr(Cluster, "start", lambda _: ray)
    return run_all([CHOSEN], store, CPU, retry, engine=Cluster("auto", **options), watcher=Quiet())[0]


def test_what_is_to_be_made_afresh_is_sent_again_with_its_own_checkpoint_and_nothing_of_before(tmp_path, monkeypatch):
    store = Store(tmp_path)
    for name in (MODEL, CHECKPOINT):
        (store.folder(CHOSEN, DUE.key) / name).write_bytes(b"before")
    ray = PretendedRay([((2, 4), {CHECKPOINT: b"now"}), Lost()], [RECORD])
    assert sent(ray, monkeypatch, store, "all") == RECORD
    assert [task.files for task in ray.tasks] == [{}, {CHECKPOINT: b"now"}]
    assert not any(task.terms.fresh for task in ray.tasks)


def test_workers_that_are_lost_again_and_again_are_an_interruption(tmp_path, monkeypatch):
    ray = PretendedRay(*[[Lost()] for _ in range(SENT)])
    record = sent(ray, monkeypatch, Store(tmp_path))
    assert record.interrupted
    assert len(ray.tasks) == SENT
    assert sent(PretendedRay([RECORD]), monkeypatch, Store(tmp_path)) == RECORD


def test_what_ray_ends_for_want_of_memory_is_that_at_last(tmp_path, monkeypatch):
    states = [sent(PretendedRay([OutOfMemory()]), monkeypatch, Store(tmp_path)).status["0"] for _ in range(3)]
    assert states == ["interrupted", "interrupted", "oom"]


@pytest.mark.parametrize(("cpus", "device"), [(5, "cpu"), (1, "cuda")])
def test_what_no_machine_has_is_not_waited_for(tmp_path, monkeypatch, cpus, device):
    monkeypatch.setattr(Cluster, "start", lambda _: PretendedRay())
    terms = Terms(Store(tmp_path), SimpleNamespace(type=device))
    with pytest.raises(UserError, match=r"no machine of the cluster has .* there is 4 CPUs and 0 GPUs"):
        next(Cluster("auto", cpus=cpus)([DUE], terms, Quiet()))
