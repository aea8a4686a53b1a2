"""Limits of runs, and processes that are watched: one that hangs, dies or does not begin; other commands on the same store."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.faults import ends
from tests.harness.test_engines import until
from tests.harness.test_runner import CPU, spec
from vae_variants import datasets
from vae_variants.datasets import load_dataset
from vae_variants.harness import Store, Watcher, locks, orphans, process, run_all, trainings, worker
from vae_variants.harness import spec as harness_spec
from vae_variants.harness.engines import Workers
from vae_variants.harness.failures import Failure
from vae_variants.harness.files import StoreError
from vae_variants.harness.limits import ceiling, require_machine, resident_bytes, set_memory_limit
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.progress import Log
from vae_variants.harness.protocols import Settings
from vae_variants.harness.worker import SPAWN
from vae_variants.memory import granted
from vae_variants.registry import UserError

SMALL = "vae[hidden=4,latent=2,epochs=4]"


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
        set_memory_limit(8 * 2**30, CPU)
        set_memory_limit(None, CPU)
    assert found == [(2**32, 2**32), (2**32, 2**32), (2**33, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)]


def test_what_no_machine_of_a_cluster_has_is_one_clear_line():
    machines = [{"CPU": 8.0, "memory": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    for needed in ({"CPU": 8, "GPU": 0}, {"CPU": 2, "GPU": 0.5}):
        require_machine(machines, needed)
    for needed in ({"CPU": 9, "GPU": 0}, {"CPU": 4, "GPU": 1}):
        with pytest.raises(UserError, match=r"no machine of the cluster has .* CPUs and . GPUs.*: there is 2 CPUs and 1 GPUs; 8"):
            require_machine(machines, needed)
    with pytest.raises(UserError, match="there is none"):
        require_machine([], {"CPU": 1, "GPU": 0})


# -- a process, watched ------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Makes a worker that does something else than work."""
    workers = []

    def start(target, timeout=None):
        monkeypatch.setattr(worker, "work", target)
        monkeypatch.setattr(worker, "GRACE", 1.0)
        workers.append(started := worker.Worker())
        started.give(PendingRun(spec(SMALL), "key"), Settings(Store(tmp_path), CPU, timeout), 1, 1)
        return started

    yield start
    for started in workers:
        started.end(Failure("", ""))


def looked_at(watched: worker.Worker) -> object:
    """What there is to be seen, as an engine looks for it."""
    for _ in range(200):
        found = watched.receive() if watched.pipe.poll(0.1) else watched.exceeded()
        if found is not None:
            return found
    return None


def test_a_process_that_closes_its_pipe_and_goes_on_is_ended(watched):
    started = watched(ends.closes)
    assert "closed its files" in looked_at(started).reason
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
    started.receive()
    started.began -= 100.0
    started.looked -= 100.0  # as if it had not run meanwhile
    assert started.exceeded() is None
    started.began -= 100.0
    assert started.exceeded().reason == "took longer than 5 s"


def test_a_limit_of_time_holds_although_there_is_always_news(watched, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda _: None))
    started, engine = watched(ends.floods, timeout=20.0), Workers(1)

    class Counted(Watcher):
        epochs = 0

        def epoch(self, spec, done, of):
            self.epochs = done
            clock[0] += 0.5  # in which an epoch is trained

    engine.settings, engine.watcher, engine.threads, engine.beside = started.job.settings, Counted(), 1, 1
    assert until(lambda: started.pipe.poll(), 20)
    record = next((record for _ in range(100) for _, record in engine.collect([started])), None)
    assert record is not None and record.reason["0"].startswith("took longer than 20 s (")
    assert engine.watcher.epochs == 41


def test_a_limit_of_time_in_one_process_is_looked_at_after_each_step(tmp_path, monkeypatch):
    clock, chosen = [0.0], spec("vae[hidden=4,latent=2,epochs=1000000,batch=50]")
    monkeypatch.setattr(trainings, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    real = trainings.Training.turn

    def turn(self, *args):
        clock[0] += 5.0
        return real(self, *args)

    monkeypatch.setattr(trainings.Training, "turn", turn)
    (record,) = run_all([chosen], Store(tmp_path), CPU, timeout=50.0)
    assert clock[0] == 55.0
    assert set(record.status.values()) == {"timeout"} and record.failure["epoch"] == 1
    (again,) = run_all([chosen], Store(tmp_path), CPU, timeout=99.0, retry="failed")
    assert again.failure["epoch"] > 1 and clock[0] < 60 + 99, "steps of the last epoch are kept"


def test_the_group_of_a_process_that_was_forgotten_is_let_alone(monkeypatch):
    """Once a dead child's exit code was asked for, its number may be another program's."""
    killed, real = [], os.killpg
    monkeypatch.setattr(os, "killpg", lambda pid, number: killed.append(pid) or real(pid, number))
    monkeypatch.setattr(worker, "work", ends.exits)
    for forgotten in (False, True):
        started = worker.Worker()
        assert until(started.died, 30)
        if forgotten:
            assert started.process not in multiprocessing.active_children()
        started.end(Failure("", ""))
        assert killed.count(started.process.pid) == (not forgotten)


def test_a_process_that_died_while_it_waited_costs_no_run(watched, monkeypatch):
    started = watched(ends.exits)
    first, started.runs_made = started.process, 1
    monkeypatch.setattr(worker, "work", ends.waits)
    for _ in range(200):
        assert (started.receive() if started.pipe.poll(0.1) else started.exceeded()) is None
        if started.began is not None:
            break
    assert started.process is not first and started.process.is_alive()
    assert (started.runs_made, started.began is None) == (0, False)


def test_processes_with_a_session_of_their_own_end_with_the_worker(monkeypatch):
    monkeypatch.setattr(worker, "work", ends.leaves)
    started = worker.Worker()
    left = started.pipe.recv()
    assert all(map(alive, left))
    started.end(Failure("", ""))
    assert until(lambda: not any(map(alive, left)), 10)


KILLED = """
import os, runpy, signal, subprocess, sys
orphans = runpy.run_path(sys.argv[1])
mark = orphans["driver"](os.getpid())
marked = os.environ | {orphans["MARK"]: mark + ".1."}
child = subprocess.Popen(["sleep", "120"], env=marked, start_new_session=True, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_of_a_run_end_when_the_driver_is_killed():
    done = subprocess.run([sys.executable, "-c", KILLED, orphans.__file__], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert until(lambda: not alive(int(done.stdout)), 20)


def test_the_memory_of_a_run_is_that_of_all_its_processes():
    alone = resident_bytes(os.getpid())
    holds = "x = bytearray(b'1') * 2**26; print(1, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", holds], stdin=-1, stdout=-1)
    try:
        child.stdout.readline()
        assert resident_bytes(os.getpid()) > alone + 2**26 - 2**24
    finally:
        child.communicate(b"\n")


def test_last_words_are_read_and_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(worker, "work", ends.crashes)
    started = worker.Worker()
    assert until(lambda: started.process.exitcode is not None, 30)
    assert started.end(Failure("error", "")).traceback.splitlines()[-1].endswith("in crashes")
    assert list(tmp_path.iterdir()) == []


def forget():
    harness_spec.forget()
    datasets.read.cache_clear()


def test_data_that_have_changed_since_the_start_stop_the_command(tmp_path, monkeypatch):
    """In a process of its own, which loads them anew."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).random((200, 6, 6))
    np.savez("plain.npz", x=images)
    chosen = spec("reference-pca-2", dataset="npz:plain.npz")
    run, digest = PendingRun(chosen, chosen.key()), load_dataset("npz:plain.npz").digest
    np.savez("plain.npz", x=1 - images)
    forget()
    pipe, other = SPAWN.Pipe()
    monkeypatch.setattr(worker, "set_memory_limit", lambda *_: None)
    monkeypatch.setattr(os, "setpgrp", lambda: None)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.signal, "raise_signal", lambda *_: None)
    monkeypatch.setattr(worker.faulthandler, "enable", lambda *_, **__: None)
    monkeypatch.setattr(worker.faulthandler, "register", lambda *_, **__: None)
    pipe.send(worker.Job(run, Settings(Store("runs"), CPU), chosen.code, digest, 1, torch.get_num_threads(), None))
    worker.work(other, tmp_path, (), other)
    assert pipe.poll(100)
    assert pipe.recv() is None
    assert pipe.poll(100)
    assert "plain.npz' has changed since this command was started" in str(pipe.recv())
    assert list(Store("runs").records()) == []
    forget()


# -- another invocation, and Ctrl-Z ------------------------------------------------------------------------------------


def test_whoever_waits_for_another_command_is_told_so_once(tmp_path, capsys):
    chosen, store = spec(SMALL), Store(tmp_path)
    (record,) = run_all([chosen], Store(tmp_path / "elsewhere"), CPU)
    held = locks.file_lock(store, chosen.training_key())
    held.acquire()

    class Once(Log):
        times = 0

        def waiting(self, runs):
            super().waiting(runs)
            Once.times += 1
            if Once.times == 2:
                store.put(store.folder(chosen, record.key), record)
                held.release()

    with Once([chosen]) as log:
        assert run_all([chosen], store, CPU, watcher=log) == [record]
    said = capsys.readouterr().err
    assert said.count("waiting: another command is making the remaining run") == 1
    assert Once.times == 2


def test_a_lock_ends_with_the_command_that_holds_it(tmp_path):
    """Nothing that the command starts, such as Ray's processes, which may outlive it, has the lock's file open."""
    with locks.training_lock(Store(tmp_path), "key"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            assert until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n", 10)
            opened = {os.readlink(file) for file in Path(f"/proc/{child.pid}/fd").iterdir()}
        finally:
            child.kill()
            child.wait()
        here = {os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
    assert str(tmp_path / "locks" / "key.lock") in here - opened


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
