"""What stops a run: in which state it is left, what is kept, and what the next start makes of it."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import signal
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.faults import ends
from tests.test_engines import until
from tests.test_harness import CPU, figures, spec
from vae_variants import process
from vae_variants.datasets import load_dataset
from vae_variants.evaluation import METRICS
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.harness import Store, claims, run_all, runner, worker
from vae_variants.harness.claims import Due
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import TRIES, Death, classified, lost
from vae_variants.harness.files import StoreError, make_folder, unseal
from vae_variants.harness.limits import ceiling, fitting, granted, limit
from vae_variants.harness.spec import prepared
from vae_variants.harness.store import CHECKPOINT, MODEL, RECORD
from vae_variants.harness.terms import Quiet, Terms
from vae_variants.harness.worker import SPAWN, death
from vae_variants.progress import Log, plan_table
from vae_variants.registry import UserError

SMALL = "vae[hidden=4,latent=2,epochs=4]"
KILLED = death(-signal.SIGKILL)


def ended(store: Store, how: Death, seen: str = "") -> object:
    """The record that is there after the process of the run has ended so."""
    chosen = spec(SMALL)
    return lost(Due(chosen, chosen.key(), seen), Terms(store, CPU), how, datetime.now(UTC), (1, 4), environment(CPU))


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Store:
    """A store with a run that has trained one epoch of four, and with its checkpoint."""
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)

    class Power(Quiet):
        def epoch(self, spec, done, of):
            if done == 2:
                raise KeyboardInterrupt

    store = Store(tmp_path / "begun")
    with pytest.raises(KeyboardInterrupt):
        run_all([spec(SMALL)], store, CPU, watcher=Power())
    assert store.epochs_done(spec(SMALL)) == 2
    return store


class Told(Quiet):
    """Keeps the epochs that it is told of."""

    def __init__(self):
        self.epochs = []

    def epoch(self, spec, done, of):
        self.epochs.append(done)


# -- what a death leaves -----------------------------------------------------------------------------------------------


def test_a_kill_from_outside_is_an_interruption_and_a_fault_of_the_runs_own_is_not():
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        assert death(-number).status == "interrupted"
    for code in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -63, 1, 3):
        assert death(code).status == "error"
    assert death(-signal.SIGKILL, memory=True)[::3] == ("interrupted", "oom")
    assert "the machine ran out of memory" in death(-signal.SIGKILL, memory=True).reason


def test_the_next_start_goes_on_with_a_run_that_was_killed_from_its_checkpoint(begun, tmp_path):
    (whole,) = run_all([spec(SMALL)], Store(tmp_path / "whole"), CPU)
    record = ended(begun, KILLED)
    assert record.status == {"0": "interrupted", "1": "interrupted"}
    assert (record.failure["tries"], record.failure["epoch"]) == (1, 1)
    assert begun.epochs_done(spec(SMALL)) == 2
    assert list(plan_table([spec(SMALL)], begun).columns[-1].cells) == ["interrupted, 2 epochs done"]
    (again,) = run_all([spec(SMALL)], begun, CPU, watcher=(told := Told()))
    assert told.epochs == [2, 3, 4]
    assert figures(again) == figures(whole)
    assert again.failure == {}
    assert begun.epochs_done(spec(SMALL)) == 0


@pytest.mark.parametrize(("memory", "at_last"), [(False, "error"), (True, "oom")])
def test_what_is_killed_at_every_start_is_a_failed_run_at_last(begun, memory, at_last, monkeypatch):
    states, seen = [], ""
    for _ in range(TRIES):
        record = ended(begun, death(-signal.SIGKILL, memory), seen)
        seen, _ = record.started, states.append(record.status["0"])
    assert states == ["interrupted"] * (TRIES - 1) + [at_last]
    assert "as 2 times before" in record.reason["0"]
    with monkeypatch.context() as patch:
        patch.setattr(runner, "train", lambda *_: pytest.fail("trained again"))
        assert run_all([spec(SMALL)], begun, CPU) == [record]
    assert run_all([spec(SMALL)], begun, CPU, retry="failed", watcher=(told := Told()))[0].ok
    assert told.epochs == [2, 3, 4]


def test_a_record_that_was_written_before_the_process_died_is_the_record(tmp_path):
    (done,) = run_all([spec(SMALL)], Store(tmp_path), CPU)
    assert ended(Store(tmp_path), KILLED) == done
    assert run_all([spec(SMALL)], Store(tmp_path), CPU) == [done]
    assert ended(Store(tmp_path), KILLED, done.started).interrupted, "that record was to be replaced"


@pytest.mark.parametrize("status", ["error", "timeout", "oom"])
def test_a_failed_run_keeps_its_checkpoint(begun, status):
    assert set(ended(begun, Death(status, "")).status.values()) == {status}
    assert begun.epochs_done(spec(SMALL)) == 2


def test_a_training_that_takes_too_long_keeps_what_it_has(tmp_path):
    store = Store(tmp_path)
    (record,) = run_all([spec(SMALL)], store, CPU, timeout=1e-9)
    assert record.status == {"0": "timeout", "1": "timeout"}
    assert store.epochs_done(spec(SMALL)) == 1
    (again,) = run_all([spec(SMALL)], store, CPU, retry="failed", timeout=100.0, watcher=(told := Told()))
    assert again.ok
    assert told.epochs == [1, 2, 3, 4]


# -- classification ----------------------------------------------------------------------------------------------------


def raised(error: Exception) -> Exception:
    """With a traceback."""
    with pytest.raises(type(error)) as found:
        raise error
    return found.value


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:30],
)
def test_want_of_memory_is_seen_in_whatever_it_is_said(error):
    assert classified(raised(error))[0] == "oom"


def test_other_errors_are_errors():
    for error in (OSError(errno.ENOSPC, "No space left"), RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory")):
        assert classified(raised(error))[0] == "error"


def test_want_of_memory_in_a_metric_is_a_run_that_failed(tmp_path, monkeypatch):
    def hungry(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setitem(METRICS, "log_likelihood", replace(METRICS["log_likelihood"], fn=hungry))
        (record,) = run_all([spec(SMALL)], Store(tmp_path), CPU)
    assert set(record.status.values()) == {"oom"}
    assert "in hungry" in record.failure["traceback"]
    monkeypatch.setattr(runner, "train", lambda *_: pytest.fail("trained again"))
    (again,) = run_all([spec(SMALL)], Store(tmp_path), CPU, retry="failed")
    assert again.ok


def test_a_figure_that_json_has_not_harms_its_own_run_alone(tmp_path, monkeypatch):
    whole = Evaluation.elbo.func
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "elbo", property(lambda e: replace(whole(e), rate_units=torch.full((2,), math.inf))))
        (record,) = run_all([spec(SMALL)], Store(tmp_path / "infinite"), CPU)
    assert record.ok
    assert record.series == {}

    def spoilt(*args):
        real(*args)
        args[-1]["series"] = {"kl_units": {"0": [math.inf]}}

    real = runner.train_and_evaluate
    monkeypatch.setattr(runner, "train_and_evaluate", spoilt)
    (record,) = run_all([spec(SMALL)], Store(tmp_path / "spoilt"), CPU)
    assert set(record.status.values()) == {"error"}
    assert "Out of range float" in record.reason["0"]


# -- records and files that are not to be written over -----------------------------------------------------------------


def test_a_record_of_a_younger_version_stays(tmp_path):
    store = Store(tmp_path)
    (record,) = run_all([spec(SMALL)], store, CPU)
    path = store.locate(spec(SMALL), record.key) / RECORD
    path.write_text(younger := json.dumps({**json.loads(unseal(path.read_text())), "schema": 99}))
    with pytest.raises(UserError, match=r"younger than .*: update vae-variants"):
        run_all([spec(SMALL)], store, CPU)
    assert path.read_text() == younger
    assert list(store.records()) == []


@pytest.mark.parametrize("name", [RECORD, MODEL])
def test_a_file_that_cannot_be_read_is_not_damaged(tmp_path, name, monkeypatch):
    store = Store(tmp_path)
    (record,) = run_all([spec(SMALL)], store, CPU)
    path, real = store.locate(spec(SMALL), record.key) / name, Path.read_bytes

    def failing(self):
        if self == path:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(StoreError, match=f"cannot read .*{name}.*Too many open files"):
            run_all([spec(SMALL)], store, CPU, retry="scores")
    assert run_all([spec(SMALL)], store, CPU) == [record]
    assert not list(tmp_path.rglob("*.damaged"))


def test_what_is_removed_while_it_is_packed_is_left_out(begun, monkeypatch):
    chosen, real = spec(SMALL), Path.is_file
    folder = begun.locate(chosen, chosen.key())

    def then_removed(self):
        there = real(self)
        if self.name == CHECKPOINT:
            self.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(Path, "is_file", then_removed)
    assert begun.packed(folder, {}) == {}


def test_names_are_on_disk_before_anything_goes_on(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    make_folder(tmp_path / "a" / "b")
    assert synced == [str(tmp_path / "a"), str(tmp_path)]
    synced.clear()
    (record,) = run_all([spec(SMALL)], Store(tmp_path / "runs"), CPU)
    folder = Store(tmp_path / "runs").locate(spec(SMALL), record.key)
    for name in (MODEL, RECORD):
        written = next(i for i, path in enumerate(synced) if path.startswith(str(folder / name)))
        assert synced[written + 1] == str(folder)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_machines_memory_is_shared_by_the_runs_beside_each_other():
    assert ceiling(1) == ceiling()
    assert ceiling(2) == pytest.approx(ceiling() / 2, abs=1) or ceiling(2) == 2**30
    assert ceiling(10**6) == 2**30


def test_a_limit_of_a_scheduler_or_of_systemd_is_found_above_the_process(tmp_path):
    (tmp_path / "slurm/job_1/step_0").mkdir(parents=True)
    (tmp_path / "slurm/job_1/step_0/memory.max").write_text("max\n")
    (tmp_path / "slurm/job_1/memory.max").write_text("5000000000\n")
    (tmp_path / "memory/user").mkdir(parents=True)
    (tmp_path / "memory/user/memory.limit_in_bytes").write_text("7000000000\n")
    (tmp_path / "proc").write_text("0::/slurm/job_1/step_0\n3:cpu,memory:/user\n2:cpu:/slurm\n")
    assert sorted(granted(tmp_path / "proc", tmp_path)) == [5 * 10**9, 7 * 10**9]
    assert granted(tmp_path / "none", tmp_path) == []


def test_a_hard_limit_below_the_ceiling_is_kept(monkeypatch):
    import resource

    found = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: found.append(limits))
    for hard in (4 * 2**30, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda which, hard=hard: (hard, hard))
        limit(8 * 2**30, CPU)
        limit(None, CPU)
    assert found == [(2**32, 2**32), (2**32, 2**32), (2**33, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)]


def test_what_no_machine_of_a_cluster_has_is_one_clear_line():
    machines = [{"CPU": 8.0, "memory": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    for needed in ({"CPU": 8, "GPU": 0}, {"CPU": 2, "GPU": 0.5}):
        fitting(machines, needed)
    for needed in ({"CPU": 9, "GPU": 0}, {"CPU": 4, "GPU": 1}):
        with pytest.raises(UserError, match=r"no machine of the cluster has .* CPUs and . GPUs.*: there is 2 CPUs and 1 GPUs; 8"):
            fitting(machines, needed)
    with pytest.raises(UserError, match="there is none"):
        fitting([], {"CPU": 1, "GPU": 0})


# -- a process, watched ------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Makes a worker that does something else than work."""
    workers = []

    def start(target, timeout=None):
        monkeypatch.setattr(worker, "work", target)
        monkeypatch.setattr(worker, "Words", ends.Silent)
        monkeypatch.setattr(worker, "GRACE", 1.0)
        workers.append(started := worker.Worker())
        started.give(Due(spec(SMALL), "key"), Terms(Store(tmp_path), CPU, timeout), 1, 1)
        return started

    yield start
    for started in workers:
        started.kill()


def looked_at(watched: worker.Worker) -> object:
    """What there is to be seen, as an engine looks for it."""
    for _ in range(200):
        found = watched.answer() if watched.pipe.poll(0.1) else watched.exceeded()
        if found is not None:
            return found
    return None


def test_a_process_that_closes_its_pipe_and_goes_on_is_ended(watched):
    started = watched(ends.closes)
    assert "closed what it had open" in looked_at(started).reason
    assert not started.process.is_alive()


def test_a_process_that_dies_is_seen_though_what_it_started_lives_and_that_is_ended_too(watched):
    started = watched(ends.forks)
    child, _ = looked_at(started)
    found = looked_at(started)
    assert (found.status, found.reason) == ("error", "the process of this run ended with exit code 3")
    assert until(lambda: not alive(child), 10)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_run_that_does_not_begin_is_ended(watched, monkeypatch):
    monkeypatch.setattr(worker, "START", 0.5)
    found = looked_at(watched(ends.sleeps, timeout=0.1))
    assert (found.status, found.reason) == ("timeout", "did not begin within 0.5 s")


def test_time_that_the_command_was_stopped_for_is_not_the_runs(watched):
    started = watched(ends.waits, timeout=5.0)
    assert until(lambda: started.pipe.poll(), 20)
    started.answer()
    started.began -= 100.0
    started.looked -= 100.0  # as if it had not run meanwhile
    assert started.exceeded() is None
    started.began -= 100.0
    assert started.exceeded().reason == "took longer than 5 s"


def test_nothing_is_left_where_last_words_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = worker.Words(tempfile.TemporaryFile("w+"))  # noqa: SIM115
    print("where it was", file=words.file, flush=True)
    assert list(tmp_path.iterdir()) == []
    assert words.read() == "where it was\n"


def forget():
    prepared.cache_clear()
    load_dataset.cache_clear()


def test_data_that_have_changed_since_the_start_stop_the_command(tmp_path, monkeypatch):
    """In a process of its own, which loads them anew."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).random((200, 6, 6))
    np.savez("plain.npz", x=images)
    chosen = spec("reference-pca-2", dataset="npz:plain.npz")
    due = Due(chosen, chosen.key())
    np.savez("plain.npz", x=1 - images)
    forget()
    pipe, other = SPAWN.Pipe()
    monkeypatch.setattr(worker, "limit", lambda *_: None)
    monkeypatch.setattr(os, "setpgrp", lambda: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.signal, "raise_signal", lambda *_: None)
    monkeypatch.setattr(worker.faulthandler, "enable", lambda *_: None)
    monkeypatch.setattr(worker.faulthandler, "register", lambda *_, **__: None)
    pipe.send(worker.Job(due, Terms(Store("runs"), CPU), chosen.code, 1, torch.get_num_threads(), None))
    worker.work(other, tmp_path, (), worker.Words(tempfile.TemporaryFile("w+")))  # noqa: SIM115
    assert pipe.recv() is None
    assert "plain.npz' has changed since this command was started" in str(pipe.recv())
    assert list(Store("runs").records()) == []
    forget()


# -- another invocation, and Ctrl-Z ------------------------------------------------------------------------------------


def test_whoever_waits_for_another_command_is_told_so_once(tmp_path, capsys):
    chosen, store = spec(SMALL), Store(tmp_path)
    (record,) = run_all([chosen], Store(tmp_path / "elsewhere"), CPU)
    held = claims.lock(store, chosen.training_key())
    held.acquire()

    class Once(Log):
        times = 0

        def held(self, runs):
            super().held(runs)
            Once.times += 1
            if Once.times == 2:
                store.put(store.folder(chosen, record.key), record)
                held.release()

    with Once([chosen]) as log:
        assert run_all([chosen], store, CPU, watcher=log) == [record]
    said = capsys.readouterr().err
    assert said.count("waiting for another command on this folder, which is at the run left") == 1
    assert Once.times == 2


def test_a_file_system_without_locks_is_one_clear_line(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StoreError, match="cannot lock"):
        run_all([spec(SMALL)], Store(tmp_path), CPU)


def test_ctrl_z_stops_the_processes_of_runs_as_well(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [SimpleNamespace(pid=7)])
    process.suspend(signal.SIGTSTP, None)
    assert sent == [(7, signal.SIGSTOP), (os.getpid(), signal.SIGSTOP), (7, signal.SIGCONT)]
