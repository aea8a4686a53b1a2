"""Runs on a Ray cluster of two workers on this machine, one of which is killed: the records are those of one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.faults.kills import processes
from tests.harness.test_engines import PLUGIN, gone, until
from tests.harness.test_runner import CPU, figures, spec
from vae_variants.api import load
from vae_variants.harness import Store, run_all
from vae_variants.harness.cluster import Cluster
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

OWN = PLUGIN.replace("of_a_plugin", "of_a_cluster")
SELECTORS = [
    "vae[hidden=8,latent=2,epochs=200,objective=elbo-of-a-cluster]",
    "vae[hidden=8,latent=3,epochs=150]",
    "vae[hidden=8,latent=2,epochs=9,objective=fatal-of-a-cluster]",
    "reference-pca-2",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the command left, of which a Ray worker was killed while its run trained, and label -> record."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'vae-variants[ray]'")
    folder = tmp_path_factory.mktemp("cluster")
    np.savez(folder / "plain.npz", x=np.random.default_rng(0).random((200, 6, 6)))
    (folder / "own.py").write_text(OWN.replace('"begun"', repr(str(folder / "begun"))))
    options = ["--dataset", "npz:plain.npz", "--seeds", "2", "--fidelity", "smoke", "--plugin", "own.py", "--engine", "ray", "--jobs", "2"]
    program = subprocess.Popen(
        [sys.executable, "-m", "vae_variants", "run", *SELECTORS, *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def worker() -> int | None:
        """A Ray worker, once a run trains."""
        if not (folder / "begun").exists():
            return None
        return next((pid for pid, command in processes(program.pid).items() if command[0].startswith("ray::make_remotely")), None)

    try:
        assert until(worker, 120), "no run began"
        os.kill(worker(), signal.SIGKILL)
        _, said = program.communicate(timeout=240)
        orphans = not until(lambda: gone(program.pid), 30)
    finally:
        for pid in processes(program.pid):
            os.kill(pid, signal.SIGKILL)
    store = Store(folder / "runs")
    return program.returncode, said, orphans, store, {record.label: record for _, record in store.records()}


def test_records_are_those_of_one_machine(made, monkeypatch):
    code, said, _, store, records = made
    assert code == 1, said
    assert set(records) == set(SELECTORS)
    folder = store.root.parent
    monkeypatch.chdir(folder)
    load_plugins(["own.py"])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plan = [spec(selector, dataset="npz:plain.npz") for selector in SELECTORS if "fatal" not in selector]
        with threadpool_limits(1):
            alone = run_all(plan, Store("alone"), CPU)
        for record in alone:
            assert record.ok
            assert figures(records[record.label]) == figures(record)
            assert records[record.label].current
    finally:
        torch.set_num_threads(threads)


def test_models_and_pictures_came_back(made):
    *_, store, records = made
    model = load(records[SELECTORS[0]], 1, runs=store.root)
    assert sum(p.numel() for p in model.parameters()) == records[SELECTORS[0]].value("parameters", 1)
    folder = next(path for path, record in store.records() if record.label == SELECTORS[0])
    assert store.pictures(folder)["samples"].shape == (36, 36)
    assert not list(store.root.rglob("training.safetensors"))


def test_a_death_in_a_run_is_its_own_and_not_that_of_a_ray_worker(made):
    fatal = made[-1][SELECTORS[2]]
    assert set(fatal.status.values()) == {"interrupted"}
    assert "killed by SIGKILL (after 0 of 9 epochs)" in fatal.reason["0"]


def test_progress_is_that_of_one_machine_and_no_process_stays(made):
    _, said, orphans, *_ = made
    first, *lines = said.splitlines()
    assert first.startswith("data npz:plain.npz: ")
    assert lines[0] == "4 runs"
    assert lines[1] == "the first of each process takes longer than the rest: PyTorch is loaded"
    assert [line.split(" ")[0] for line in lines[2:6]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert not orphans


def test_what_is_not_there_is_one_line(monkeypatch):
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'vae-variants[ray]'")
    with pytest.raises(UserError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        Cluster("2", "127.0.0.1:1").connect()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"vae-variants\[ray\]"):
        Cluster("2").connect()


def test_files_of_another_machine_go_nowhere_but_into_the_folder_of_their_run(tmp_path):
    store = Store(tmp_path)
    store.unpack(tmp_path, {"../outside": b"x", "record.json": b"x", "/etc/x": b"x", "model.safetensors": b"x"})
    assert [path.name for path in Path(tmp_path).iterdir()] == ["model.safetensors"]
    seen: dict[str, float] = {}
    assert store.packed(tmp_path, seen) == {"model.safetensors": b"x"}
    assert store.packed(tmp_path, seen) == {}
