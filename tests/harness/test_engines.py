"""Runs in processes of their own: the same records as in one, whatever happens to a process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.faults.kills import processes
from vae_variants.datasets.dataset import Dataset, in_use
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.harness import Record, RunSpec, Store, engines, run_all, worker
from vae_variants.harness.engines import InProcess, Workers, choose_engine
from vae_variants.harness.environment import environment
from vae_variants.harness.protocols import Watcher
from vae_variants.harness.runner import make_run
from vae_variants.harness.worker import failure_of_exit
from vae_variants.registry import UserError
from vae_variants.variants import configure

CPU = torch.device("cpu")
PLUGIN = """
import os, signal
from pathlib import Path
from vae_variants import OBJECTIVES

@OBJECTIVES.add
def elbo_of_a_plugin(draws):
    Path("begun").touch()
    return OBJECTIVES["elbo"](draws)

@OBJECTIVES.add
def fatal_of_a_plugin(draws):
    os.kill(os.getpid(), signal.SIGKILL)
"""
ENDLESS = "vae[hidden=8,latent=2,epochs=1000000,objective=elbo-of-a-plugin]"
FATAL = "vae[hidden=8,latent=2,epochs=9,objective=fatal-of-a-plugin]"
ORDINARY = ("reference-pca-2", "vae[hidden=8,latent=2,epochs=6]")


def spec(selector: str, level: str = "smoke") -> RunSpec:
    return RunSpec(configure(selector)[0], "npz:plain.npz", (0, 1), level)


def figures(record: Record) -> list:
    """Everything but clocks and memory."""
    rows = [row for row in record.rows if not row["metric"].endswith(TIMINGS)]
    return [rows, record.curves, record.series, record.status, record.reason, record.key, record.label]


def gone(session: int) -> bool:
    """Whether no process is left of it: runs are made in groups of their own."""
    return not processes(session)


def until(condition, seconds: float) -> bool:
    for _ in range(int(seconds / 0.05)):  # not by the clock: a machine may sleep, or hold its programs
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("engines")
    np.savez(path / "plain.npz", x=np.random.default_rng(0).random((200, 6, 6)))
    (path / "own.py").write_text(PLUGIN)
    return path


@dataclass
class Stopped:
    code: int
    said: list[str]
    orphans: bool
    records: dict[str, Record]
    kept: list[Path]
    pressed: float


@pytest.fixture(scope="module")
def stopped(folder):
    """A plan by two processes: one trains without end until Ctrl-C; one is killed by its run, and another makes the rest."""
    command = [sys.executable, "-m", "vae_variants", "run", FATAL, *ORDINARY, ENDLESS, "--dataset", "npz:plain.npz", "--seeds", "2"]
    with (folder / "said.txt").open("w") as said:
        program = subprocess.Popen(
            [*command, "--fidelity", "smoke", "--jobs", "2", "--plugin", "own.py"],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "2"},
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which what runs in the background of a shell has ignored
        )
    try:
        done = lambda: (folder / "begun").exists() and "[3/4]" in (folder / "said.txt").read_text()  # noqa: E731
        until(lambda: done() or program.poll() is not None, 300)
        pressed = time.time()
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to every process
        program.wait(timeout=60)
        orphans = not until(lambda: gone(program.pid), 10)
    finally:
        for pid in processes(program.pid):
            os.kill(pid, signal.SIGKILL)
    records = {record.label: record for _, record in Store(folder / "runs").records()}
    return Stopped(
        program.returncode,
        (folder / "said.txt").read_text().splitlines(),
        orphans,
        records,
        list(folder.glob("runs/*/*/training.safetensors")),
        pressed,
    )


@pytest.fixture(scope="module")
def alone(folder):
    """label -> record of the same runs in this process, by one thread."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return {r.label: r for r in run_all([spec(selector) for selector in ORDINARY], Store("alone"), device=CPU)}
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)


def test_records_are_those_of_one_process(stopped, alone):
    for label, record in alone.items():
        assert record.ok
        assert figures(stopped.records[label]) == figures(record)


def test_a_process_that_dies_is_one_failed_run(stopped):
    fatal = stopped.records[FATAL]
    assert fatal.status == {"0": "interrupted", "1": "interrupted"}
    assert "killed by SIGKILL" in fatal.reason["1"]
    assert fatal.failure["tries"] == 1
    assert set(stopped.records) == {*ORDINARY, FATAL}


def test_one_press_of_ctrl_c_stops_all_keeps_epochs_and_leaves_no_process(stopped):
    assert stopped.code == 130, stopped.said
    assert [line.split(" ")[0] for line in stopped.said] == ["data", "4", "the", "[1/4]", "[2/4]", "[3/4]", "interrupted;"]
    assert not stopped.orphans
    (checkpoint,) = stopped.kept
    assert checkpoint.stat().st_mtime >= stopped.pressed - 1


def test_a_record_says_how_many_runs_shared_the_machine(stopped, alone):
    for record in stopped.records.values():
        assert (record.environment["threads"], record.environment["jobs"]) == (1, 2)
        assert record.environment["device"].endswith("(1 thread, 2 runs side by side)")
    assert stopped.records[ORDINARY[1]].trained["jobs"] == 2
    assert alone[ORDINARY[1]].environment["jobs"] == 1
    assert alone[ORDINARY[1]].environment["device"].endswith("(1 thread)")


@dataclass
class Told(Watcher):
    """A watcher that keeps what it is told."""

    begun: list[RunSpec] = field(default_factory=list)
    ended: list[tuple[str, bool]] = field(default_factory=list)

    def begin(self, spec):
        self.begun.append(spec)

    def epoch(self, spec, done, of):
        assert done <= of == spec.configuration.values["epochs"]

    def waiting(self, runs):
        pytest.fail("nobody else is at them")

    def end(self, spec, record, reused):
        assert record.identity == spec.identity
        self.ended.append((spec.identity, reused))


class Pretended:
    """A worker without a process: its run is made when one asks."""

    most, at_once = 0, set[str]()

    def __init__(self, plugins):
        self.pipe, self.other = worker.SPAWN.Pipe()
        self.process = type("Process", (), {"pid": 0, "terminate": lambda _: None})()
        self.wait = self.end = lambda *_: None

    def give(self, run, settings, jobs, threads):
        self.run, self.settings = run, settings
        assert run.spec.training_key() not in self.at_once
        self.at_once.add(run.spec.training_key())
        Pretended.most = max(self.most, len(self.at_once))
        self.other.send(None)

    def receive(self):
        self.pipe.recv()
        self.at_once.remove(self.run.spec.training_key())
        return make_run(self.run, self.settings, Told())


def test_records_come_in_the_order_of_the_plan_longest_first_and_no_training_twice_at_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(engines, "Worker", Pretended)
    once, twice = spec("vae[hidden=8,latent=2,epochs=3]"), spec("vae[hidden=8,latent=2,epochs=3]", "smoke[bound_samples=20]")
    plan, told, store = [spec("reference-pca-2"), once, twice, spec("ae[hidden=8,latent=2,epochs=1]")], Told(), Store("planned")
    records = run_all(plan, store, device=CPU, watcher=told, engine=Workers(2))
    assert [record.identity for record in records] == [one.identity for one in plan]
    assert records[1].epoch_seconds == records[2].epoch_seconds
    assert Pretended.most == 2
    assert told.begun[0].work == max(one.work for one in plan)
    assert sorted(told.ended) == sorted((one.identity, False) for one in plan)
    again = Told()
    monkeypatch.setattr(engines, "Worker", None)
    assert run_all(plan, store, device=CPU, watcher=again, engine=Workers(2)) == records
    assert again.ended == [(one.identity, True) for one in plan]


@pytest.mark.parametrize(("many", "kept"), [(0, False), (2**28, True)])
def test_only_the_process_that_trains_keeps_many_images(many, kept, folder, monkeypatch):
    held = []

    class Watched(Pretended):
        def receive(self):
            gc.collect()
            held.append([data for data in in_use.values() if isinstance(data, Dataset) and data.name == f"npz:{many}.npz"])
            return super().receive()

    monkeypatch.chdir(folder)
    monkeypatch.setattr(engines, "Worker", Watched)
    monkeypatch.setattr("vae_variants.harness.spec.MANY", many)
    np.savez(f"{many}.npz", x=np.random.default_rng(0).random((60, 6, 6)))
    plan = [RunSpec(configure("reference-pca-2")[0], f"npz:{many}.npz", (0,), "smoke")]
    records = run_all(plan, Store(f"held-{many}"), device=CPU, engine=Workers(1))
    assert records[0].ok
    assert bool(held[0]) == kept


@pytest.mark.parametrize("jobs", ["-1", "many", "1.5", ""])
def test_bad_jobs_get_one_clear_line(jobs):
    with pytest.raises(UserError, match="neither a count such as 2 nor auto"):
        choose_engine(jobs, CPU)


def test_jobs():
    assert isinstance(choose_engine("0", CPU), InProcess)
    assert choose_engine("1", CPU) == Workers(1)
    assert choose_engine("3", CPU, [Path("own.py")]) == Workers(3, (Path("own.py"),))
    assert choose_engine("auto", torch.device("cuda")) == Workers(1)
    assert choose_engine("auto", CPU) == Workers(torch.get_num_threads())


def test_a_death_is_named():
    assert "SIGSEGV" in failure_of_exit(-signal.SIGSEGV).reason
    assert "signal 63" in failure_of_exit(-63).reason
    assert "exit code 3" in failure_of_exit(3).reason
    assert environment(CPU, threads=4, jobs=3)["device"].endswith("(4 threads, 3 runs side by side)")
