"""What goes wrong in a run: each fault is one row with its state and reason, and the other runs are as they would have been."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness.test_runner import CPU, figures, spec
from tests.harness.test_store_bound import Backwards
from vae_variants.harness import Store, run_all, runner
from vae_variants.harness.engines import Workers
from vae_variants.harness.limits import ceiling, parse_memory
from vae_variants.harness.worker import innermost_frames
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

FAULTS = """
import ctypes, os, time
import torch
from vae_variants import OBJECTIVES

def faulty(name, fault):
    calls = []
    def objective(draws):
        calls.append(1)
        if len(calls) > 8:  # two steps are an epoch
            fault()
        return OBJECTIVES["elbo"](draws)
    objective.__doc__ = name
    OBJECTIVES.add(objective, name=name)

def raises():
    raise ArithmeticError("no such luck <b>`|")

def loops():
    while True:
        pass

faulty("raises", raises)
faulty("loops", loops)
faulty("takes", lambda: torch.ones(2**40))
faulty("exits", lambda: os._exit(3))
faulty("leaves", lambda: exit(4))
faulty("crashes", lambda: ctypes.string_at(0))
"""
SAYS = {  # objective -> state, reason, what the end of the traceback has
    "raises": ("error", "ArithmeticError: no such luck", "in raises"),
    "loops": ("timeout", "longer than 10 s", "in loops"),
    "takes": ("oom", "can't allocate memory", "torch.ones"),
    "exits": ("error", "exit code 3", ""),
    "leaves": ("error", "SystemExit: 4", "in <lambda>"),
    "crashes": ("error", "killed by SIGSEGV", "in string_at"),
}


def faulty(objective: str):
    return spec(f"vae[hidden=8,latent=2,epochs=9,objective={objective}]", dataset="npz:plain.npz")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """objective -> record, of a plan by one worker at a time, with an ordinary run at its end."""
    folder, before = tmp_path_factory.mktemp("faults"), Path.cwd()
    np.savez(folder / "plain.npz", x=np.random.default_rng(0).random((200, 6, 6)))
    (folder / "faulty.py").write_text(FAULTS)
    os.chdir(folder)
    try:
        load_plugins(["faulty.py"])
        engine = Workers(1, (Path("faulty.py"),))
        plan = [*map(faulty, SAYS), spec("vae[hidden=8,latent=2,epochs=2]", dataset="npz:plain.npz")]
        try:
            records = run_all(plan, Store("runs"), CPU, timeout=10.0, memory=parse_memory("8g"), engine=engine)
        finally:
            engine.close()
        assert run_all(plan, Store("runs"), CPU) == records  # they are there, and not made again
        return dict(zip([*SAYS, "elbo"], records, strict=True))
    finally:
        os.chdir(before)


@pytest.mark.parametrize("objective", SAYS)
def test_each_fault_is_one_row_with_its_state_reason_epoch_and_traceback(made, objective):
    record, (state, reason, where) = made[objective], SAYS[objective]
    assert record.status == {"0": state, "1": state}
    assert reason in record.reason["1"]
    assert "of 9 epochs)" in record.reason["1"]
    assert record.failure["epoch"] >= (0 if objective == "leaves" else 2)
    assert where in record.failure["traceback"].replace("\n", " ")
    assert bool(where) == bool(record.failure["traceback"])


def test_the_other_runs_are_made(made):
    assert made["elbo"].ok
    assert json.loads(json.dumps(made["elbo"].failure)) == {}


def test_a_seed_that_is_no_number_in_epoch_3_leaves_the_other_four_as_they_are(tmp_path, monkeypatch):
    chosen = spec("vae[hidden=8,latent=2,epochs=4]", seeds=(0, 1, 2, 3, 4))
    (whole,) = run_all([chosen], Store(tmp_path / "whole"), CPU)
    real = runner.Training.run_epoch

    def poisoned(self, *args):
        if self.epoch == 2:
            with torch.no_grad():
                next(iter(self.population.params.values()))[1] = math.nan
        return real(self, *args)

    monkeypatch.setattr(runner.Training, "run_epoch", poisoned)
    (record,) = run_all([chosen], Store(tmp_path / "poisoned"), CPU)
    assert record.status == {"0": "ok", "1": "diverged", "2": "ok", "3": "ok", "4": "ok"}
    assert "epoch 3" in record.reason["1"]
    assert figures(record)[0] == [row for row in figures(whole)[0] if row["seed"] != 1]


def test_a_clock_that_jumps_back_a_day_changes_nothing(tmp_path, monkeypatch):
    chosen = [spec(f"vae[hidden=8,latent={latent},epochs=2]") for latent in (2, 3)]
    before = run_all(chosen, Store(tmp_path / "before"), CPU)
    monkeypatch.setattr(runner, "datetime", Backwards)
    monkeypatch.setattr("time.time", lambda: 0.0)
    store = Store(tmp_path / "after")
    after = run_all(chosen, store, CPU, timeout=100.0)
    assert list(map(figures, after)) == list(map(figures, before))
    assert all(record.ok and record.seconds > 0 for record in after)
    again = run_all(chosen, store, CPU, retry="all")
    assert [record.started < earlier.started for record, earlier in zip(again, after, strict=True)] == [True, True]
    newest = store.newest(one.identity for one in chosen)
    assert [newest[one.identity][1] for one in chosen] == again


@pytest.mark.parametrize(("option", "says"), [("size=80k", "No space left"), ("ro", "Read-only file system")])
def test_a_full_disk_or_a_read_only_one_is_one_clear_line(tmp_path, option, says):
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs `unshare -rm`")
    command = [sys.executable, "-m", "vae_variants", "run", "vae[hidden=8,latent=2|3|4,epochs=2]", "--fidelity", "smoke", "--seeds", "1"]
    command += ["--jobs", "0", "--dataset", "npz:plain.npz"]
    np.savez(tmp_path / "plain.npz", x=np.random.default_rng(0).random((200, 6, 6)))
    mount = f'mkdir runs && mount -t tmpfs -o {option} none runs && shift 0 && "$@"; code=$?; find runs -name "*.tmp"; exit $code'
    found = subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 2, found.stderr
    (line,) = [line for line in found.stderr.splitlines() if not line.startswith(("data ", "3 runs", "the first takes", "["))]
    assert line.startswith("error: cannot ") and says in line
    assert found.stdout == ""


def test_a_store_that_cannot_be_written_stops_all_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("vae_variants.harness.files.os.fsync", full)
        with pytest.raises(UserError, match="No space left"):
            run_all([spec(), spec("reference-pca-2")], store, CPU)
    assert list(tmp_path.rglob("*.tmp")) == list(store.records()) == []
    assert all(record.ok for record in run_all([spec(), spec("reference-pca-2")], store, CPU))


@pytest.mark.parametrize("text", ["4", "x", "-4g", "0g", "100m", "4gg", "1e3g", ""])
def test_bad_memory_gets_one_clear_line(text):
    with pytest.raises(UserError, match=r"not a size|too little"):
        parse_memory(text)


def test_memory():
    assert parse_memory("4g") == 4 * 2**30
    assert parse_memory(" 1500 MiB ") == 1500 * 2**20
    assert parse_memory("none") is None
    assert parse_memory("auto") == ceiling() > 2**30


def test_what_a_process_holds_beyond_its_ceiling_ends_it(tmp_path, monkeypatch):
    """Where a limit of the system does not reach, on a GPU's machine, the parent looks."""
    monkeypatch.setattr("vae_variants.harness.worker.resident_bytes", lambda pid: 9 * 2**30)
    engine = Workers(1)
    (record,) = run_all([spec("vae[hidden=8,latent=2,epochs=2]")], Store(tmp_path), CPU, memory=8 * 2**30, engine=engine)
    engine.close()
    assert set(record.status.values()) == {"oom"}
    assert "9 GiB of memory; 8 GiB are allowed" in record.reason["0"]


def test_a_traceback_ends_with_the_innermost_call():
    written = "Fatal Python error: Aborted\n\nCurrent thread 0x2 (most recent call first):\n"
    written += '  File "b.py", line 2 in f\n  File "b.py", line 3 in g\n'
    assert innermost_frames(written).splitlines() == ['File "b.py", line 3, in g', 'File "b.py", line 2, in f']
    assert innermost_frames("") == ""
