"""Runs on a Ray cluster of two workers on this machine, one of which is killed, and a hostile run: the records are those of one machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.faults.kills import processes
from tests.harness.test_engines import PLUGIN, gone, until
from tests.harness.test_isolation import EVERYTHING
from tests.harness.test_runner import CPU, figures, spec
from tests.trying import forget
from vae_variants.api import load
from vae_variants.cli.launch import Launch
from vae_variants.harness import Store, head, run_all
from vae_variants.harness.cluster import Cluster
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
METRIC = """
from vae_variants import metric

@metric(unit="grey", better="none")
def of_cluster_images(e):
    return e.test.mean().item()
"""
OWN = PLUGIN.replace("of_a_plugin", "of_a_cluster") + METRIC
SELECTORS = [
    "vae[hidden=8,latent=2,epochs=200,objective=elbo-of-a-cluster]",
    "vae[hidden=8,latent=3,epochs=150]",
    "vae[hidden=8,latent=2,epochs=9,objective=fatal-of-a-cluster]",
    "reference-pca-2",
    "vae[hidden=8,latent=2,epochs=250,objective=everything]",  # the longest, so that others come after it
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the command left, of which a Ray worker was killed while its run trained, and label -> record."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'vae-variants[ray]'")
    folder = tmp_path_factory.mktemp("cluster")
    np.savez(folder / "plain.npz", x=np.random.default_rng(0).random((200, 6, 6)))
    (folder / "own.py").write_text(OWN.replace('"begun"', repr(str(folder / "begun"))))
    (folder / "everything.py").write_text(EVERYTHING)
    options = ["--dataset", "npz:plain.npz", "--seeds", "2", "--fidelity", "smoke", "--engine", "ray", "--jobs", "2"]
    options += ["--plugin", "own.py", "--plugin", "everything.py"]
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
        assert until(worker, 240), "no run began"
        addresses = listening(processes(program.pid))
        os.kill(worker(), signal.SIGKILL)
        _, said = program.communicate(timeout=240)
        orphans = not until(lambda: gone(program.pid), 30)
    finally:
        for pid in processes(program.pid):
            os.kill(pid, signal.SIGKILL)
    store = Store(folder / "runs")
    load_plugins([folder / "own.py"])
    yield program.returncode, said, orphans, addresses, store, {record.label: record for _, record in store.records()}
    forget(folder)


def test_records_are_those_of_one_machine(made, monkeypatch):
    code, said, _, _, store, records = made
    assert code == 1, said
    assert set(records) == set(SELECTORS)
    folder = store.root.parent
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plan = [spec(selector, dataset="npz:plain.npz") for selector in (*SELECTORS[:2], SELECTORS[3])]
        with threadpool_limits(1):
            alone = run_all(plan, Store("alone"), CPU)
        for record in alone:
            assert record.ok
            assert figures(records[record.label]) == figures(record)
            assert records[record.label].current
            assert all(0 < record.value("of_cluster_images", seed) < 1 for seed in (0, 1))
    finally:
        torch.set_num_threads(threads)


def test_models_and_pictures_came_back(made):
    *_, store, records = made
    model = load(records[SELECTORS[0]], 1, runs=store.root)
    assert sum(p.numel() for p in model.parameters()) == records[SELECTORS[0]].value("parameters", 1)
    folder = next(path for path, record in store.records() if record.label == SELECTORS[0])
    assert store.pictures(folder)["samples"].shape == (36, 36)
    assert not list(store.root.rglob("training.safetensors"))


def listening(pids: Iterable[int]) -> set[str]:
    """The addresses at which these processes listen, as the system writes them (in hexadecimal)."""
    inodes = set()
    for file in (file for pid in pids for file in Path(f"/proc/{pid}/fd").glob("*")):
        with suppress(OSError):
            inodes |= {*re.findall(r"socket:\[(\d+)\]", os.readlink(file))}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_a_private_cluster_listens_on_this_machine_only(made):
    *_, addresses, _, _ = made
    assert addresses and addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_a_death_in_a_run_is_its_own_and_not_that_of_a_ray_worker(made):
    fatal = made[-1][SELECTORS[2]]
    assert set(fatal.status.values()) == {"interrupted"}
    assert "killed by SIGKILL (after 0 of 9 epochs)" in fatal.reason["0"]


def test_a_run_that_changes_what_runs_share_fails(made):
    hostile = made[-1][SELECTORS[4]]
    assert set(hostile.status.values()) == {"error"}
    assert "this run changes the default type of tensors" in hostile.reason["0"]


def test_progress_is_that_of_one_machine_and_no_process_stays(made):
    _, said, orphans, *_ = made
    first, *lines = said.splitlines()
    assert first.startswith("data npz:plain.npz: ")
    assert lines[0] == "5 runs"
    assert lines[1] == "the first of each process takes longer than the rest: PyTorch is loaded"
    assert [line.split(" ")[0] for line in lines[2:7]] == ["[1/5]", "[2/5]", "[3/5]", "[4/5]", "[5/5]"]
    assert not orphans


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's head on one machine, its command with a smaller preset, and one that lasts: (what both said, port, home)."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'vae-variants[ray]'")
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (block,) = [b for b in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if "--node-ip-address=127.0.0.1" in b]
    lines = [line for line in block.splitlines() if line != "ray stop"]  # which would end every Ray of this user
    block = (
        "\n".join(lines)
        .replace("6379", port)
        .replace("quick", "smoke")
        .replace("vae-bernoulli made", "reference-pca-2")
        .replace("ray start", "ray start --num-cpus=2")
    )
    long = "exec vae-variants run 'vae[epochs=1000000]' --seeds 1 --runs long --engine ray --address auto"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environ = kept | {"HOME": str(home), "TMPDIR": str(home), "PATH": path, "RAY_TMPDIR": "/tmp"}
    script = f"{block}\nexport RAY_ADDRESS=127.0.0.1:{port}\necho >&2 second; {long}"
    program = subprocess.Popen(["sh", "-ec", script], cwd=home, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(program.stderr), daemon=True)
    reader.start()

    def started() -> list[int]:
        """The processes of Ray with this home."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"HOME={home}\0".encode() in (place / "environ").read_bytes() and int(place.name) != program.pid:
                    found.append(int(place.name))
        return found

    def trains() -> bool:
        """Whether the second command's run is somewhere in the cluster, or there is no such command any more."""
        return program.poll() is not None or ("second\n" in said and any(b"ray::make_rem" in command(pid) for pid in started()))

    try:
        assert until(trains, 200), said
        reachable = outside(int(port))
        for pid in started():
            with suppress(ProcessLookupError):
                if not command(pid).startswith(b"sh\0"):  # the witness, and what removes a folder
                    os.kill(pid, signal.SIGKILL)
        program.wait(60)
        reader.join(10)
        program.stderr.close()
        yield said, reachable, home
    finally:
        for pid in [program.pid, *started()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def outside(port: int) -> bool:
    """Whether something listens at this port on another address than 127.0.0.1."""
    with socket.socket() as found:
        found.settimeout(5)
        return found.connect_ex(("127.0.0.2", port)) == 0


def test_the_page_works_as_it_stands(page):
    said, reachable, home = page
    assert not reachable
    assert len(list((home / "runs").glob("*/*/record.json"))) == 1
    assert sum(line.startswith("[1/1] reference-pca-2: ok") for line in said) == 1, said
    assert not any("waiting" in line for line in said)


def test_a_lost_head_is_a_line_and_nothing_stays(page):
    said, _, home = page
    assert any("was lost" in line for line in said), said  # by a record's reason, or by the witness if Ray ends the command
    assert until(lambda: not list(home.glob("vae-variants-*")), 20)


def test_what_is_not_there_is_one_line_in_seconds(monkeypatch):
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'vae-variants[ray]'")
    with pytest.raises(UserError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        Cluster("2", "127.0.0.1:1").connect()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # answers, and says nothing
        address, began = f"127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        with pytest.raises(UserError, match="what answers there is not Ray"):
            Cluster("2", address).connect()
        assert time.monotonic() - began < 15
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"vae-variants\[ray\]"):
        Cluster("2").connect()


def test_a_head_that_is_silent_for_long_is_lost(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(head, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    answers: list[None] = [None]  # then an error
    monkeypatch.setattr(head, "reach", lambda _: answers.pop(0) if answers else refuse())
    looked = head.Head("127.0.0.1:1")
    states = []
    for now in (1.0, 5.0, 10.0, 15.0, 21.0):
        clock[0] = now
        states.append(looked.lost)
    looked.leave()
    assert states == [False, False, False, False, True]


def refuse() -> None:
    raise ConnectionRefusedError


def test_without_ray_a_command_ends_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="--engine ray needs Ray"):
        Launch(tmp_path, kind="ray").execute([spec("reference-pca-2")])


def test_files_of_another_machine_go_nowhere_but_into_the_folder_of_their_run(tmp_path):
    store = Store(tmp_path)
    store.unpack(tmp_path, {"../outside": b"x", "record.json": b"x", "/etc/x": b"x", "model.safetensors": b"x"})
    assert [path.name for path in Path(tmp_path).iterdir()] == ["model.safetensors"]
    seen: dict[str, float] = {}
    assert store.packed(tmp_path, seen) == {"model.safetensors": b"x"}
    assert store.packed(tmp_path, seen) == {}
