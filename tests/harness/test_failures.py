"""What stops a run: in which state it is left, what is kept, and what the next start makes of it."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from tests.harness.test_runner import CPU, figures, spec
from vae_variants.cli.status import suite_rows
from vae_variants.evaluation import METRICS
from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.harness import Store, run_all, runner, trainings
from vae_variants.harness.environment import environment
from vae_variants.harness.failures import MOST_TRIES, Failure, classified, record_of_lost_run
from vae_variants.harness.files import StoreError, load_tensors, make_folder, unseal
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.protocols import Settings, Watcher
from vae_variants.harness.store import CHECKPOINT, MODEL, RECORD
from vae_variants.harness.worker import failure_of_exit
from vae_variants.registry import UserError

SMALL = "vae[hidden=4,latent=2,epochs=4]"
KILLED = failure_of_exit(-signal.SIGKILL)


def ended(store: Store, how: Failure, seen: str = "") -> object:
    """The record that is there after the process of the run has ended so."""
    chosen = spec(SMALL)
    run = PendingRun(chosen, chosen.key(), seen)
    return record_of_lost_run(run, Settings(store, CPU), how, datetime.now(UTC), (1, 4), environment(CPU))


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Store:
    """A store with a run that has trained one epoch of four, and with its checkpoint."""
    monkeypatch.setattr(trainings, "CHECKPOINT_SECONDS", 0.0)

    class Power(Watcher):
        def epoch(self, spec, done, of):
            if done == 2:
                raise KeyboardInterrupt

    store = Store(tmp_path / "begun")
    with pytest.raises(KeyboardInterrupt):
        run_all([spec(SMALL)], store, CPU, watcher=Power())
    assert store.epochs_done([spec(SMALL)])[spec(SMALL).identity] == 2
    return store


class Told(Watcher):
    """Keeps the epochs that it is told of."""

    def __init__(self):
        self.epochs = []

    def epoch(self, spec, done, of):
        self.epochs.append(done)


# -- what a death leaves -----------------------------------------------------------------------------------------------


def test_a_kill_from_outside_is_an_interruption_and_a_fault_of_the_runs_own_is_not():
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        assert failure_of_exit(-number).status == "interrupted"
    for code in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -63, 1, 3):
        assert failure_of_exit(code).status == "error"
    assert failure_of_exit(-signal.SIGKILL, memory=True)[::3] == ("interrupted", "oom")
    assert "the machine ran out of memory" in failure_of_exit(-signal.SIGKILL, memory=True).reason


def test_the_next_start_goes_on_with_a_run_that_was_killed_from_its_checkpoint(begun, tmp_path):
    (whole,) = run_all([spec(SMALL)], Store(tmp_path / "whole"), CPU)
    record = ended(begun, KILLED)
    assert record.status == {"0": "interrupted", "1": "interrupted"}
    assert (record.failure["tries"], record.failure["epoch"]) == (1, 1)
    assert begun.epochs_done([spec(SMALL)])[spec(SMALL).identity] == 2
    assert [row["state"] for row in suite_rows([spec(SMALL)], begun)] == ["interrupted, 2 epochs done"]
    (again,) = run_all([spec(SMALL)], begun, CPU, watcher=(told := Told()))
    assert told.epochs == [2, 3, 4]
    assert figures(again) == figures(whole)
    assert again.failure == {}
    assert begun.epochs_done([spec(SMALL)])[spec(SMALL).identity] == 0


@pytest.mark.parametrize(("memory", "at_last"), [(False, "error"), (True, "oom")])
def test_what_is_killed_at_every_start_is_a_failed_run_at_last(begun, memory, at_last, monkeypatch):
    states, seen = [], ""
    for _ in range(MOST_TRIES):
        record = ended(begun, failure_of_exit(-signal.SIGKILL, memory), seen)
        seen, _ = record.started, states.append(record.status["0"])
    assert states == ["interrupted"] * (MOST_TRIES - 1) + [at_last]
    assert "as 2 times before" in record.reason["0"]
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "train", lambda *_: pytest.fail("trained again"))
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
    assert set(ended(begun, Failure(status, "")).status.values()) == {status}
    assert begun.epochs_done([spec(SMALL)])[spec(SMALL).identity] == 2


def test_a_training_that_takes_too_long_keeps_what_it_has(tmp_path):
    store = Store(tmp_path)
    (record,) = run_all([spec(SMALL)], store, CPU, timeout=1e-9)
    assert record.status == {"0": "timeout", "1": "timeout"}
    kept = load_tensors(store.locate(spec(SMALL), record.key) / CHECKPOINT)
    assert (int(kept["epoch"]), len(kept["losses"])) == (0, 1), "one step"
    (again,) = run_all([spec(SMALL)], store, CPU, retry="failed", timeout=100.0, watcher=(told := Told()))
    assert again.ok
    assert told.epochs == [0, 1, 2, 3, 4]


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
    monkeypatch.setattr(trainings, "train", lambda *_: pytest.fail("trained again"))
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
    with pytest.raises(UserError, match=r"newer than .*: update vae-variants"):
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
    chosen, real = spec(SMALL), Path.read_bytes
    folder = begun.locate(chosen, chosen.key())

    def removed_before(self):
        if self.name == CHECKPOINT:
            self.unlink(missing_ok=True)
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", removed_before)
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
