"""Kills `report` at random moments, and fills its disk: what is there afterwards is the former report or the new one, all of it.

python tests/faults/reports.py --kills 20 --disks 20
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import sklearn.linear_model  # noqa: F401  (before the first fork: it takes long)
from typer.testing import CliRunner

from tests.made_up import fill
from vae_variants.cli.app import app
from vae_variants.harness import Store, load_suite

__all__ = ["kills"]

REPORT, OTHER = ["report", "small.toml", "--runs", "runs"], ["report", "small.toml", "--runs", "later"]
SUITE = 'dataset = "digits"\nseeds = {}\nfidelity = "full"\n[[runs]]\nvariants = ["vae-bernoulli", "made", "ae"]\n'


def state(folder: Path) -> str:
    """Digest of the names and contents of a report."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(repr((str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b"")).encode())
    return found.hexdigest()


def make(words: list[str]) -> int:
    """Exit code of a command, with whatever it says."""
    result = CliRunner().invoke(app, words)
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    return result.exit_code


def forked(words: list[str]) -> int:
    """Process id of a child that runs a command."""
    if (child := os.fork()) == 0:
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            code = make(words)
        os._exit(code)
    return child


def prepare(folder: Path) -> tuple[Path, list[str], float]:
    """Two stores whose reports differ -> the report's folder with the first one, digests of both, and seconds that one takes."""
    os.chdir(folder)
    Path("small.toml").write_text(SUITE.format(2))
    fill(Store("runs"), load_suite("small.toml").plan())
    shutil.copytree("runs", "later")
    plan, report = load_suite("small.toml").plan(), Path("reports/small")
    shutil.rmtree(next(Path("later/digits").glob("ae-*")))
    assert len(plan) == 3
    states = []
    for words in (OTHER, REPORT):
        begin = time.perf_counter()
        assert make(words) == 0
        states.append(state(report))
    assert states[0] != states[1]
    return report, states, time.perf_counter() - begin


def kills(times: int, seed: int = 0) -> int:
    """Raises AssertionError where a kill leaves a mixture -> how many were killed before their end."""
    chance, killed = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as place:
        report, states, seconds = prepare(Path(place))
        for turn in range(times):
            child = forked((OTHER, REPORT)[turn % 2])
            time.sleep(chance.uniform(0, 1.1 * seconds))
            os.kill(child, signal.SIGKILL)
            killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            assert state(report) in states, f"kill {turn} left a mixture"
        for left in report.parent.glob(".*"):
            os.utime(left, (0, 0))
        assert make(REPORT) == 0
        assert not list(report.parent.glob(".*")), "what was left behind is not removed"
        os.chdir("/")
    return killed


def disks(times: int, seed: int = 0) -> None:
    """Raises AssertionError where a full disk leaves a mixture. Runs where it may mount."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        report, states, _ = prepare(Path(place))
        shutil.move("reports", "kept")
        Path("reports").mkdir()
        size = sum(path.stat().st_size for path in Path("kept").rglob("*") if path.is_file())
        for turn in range(times):
            room = size + int(chance.uniform(0.05, 0.9) * size)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", "reports"], check=True)
            shutil.copytree("kept", "reports", dirs_exist_ok=True)
            child = forked(OTHER)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2, f"disk {turn} was not full"
            assert state(report) == states[1], f"disk {turn} left a mixture"
            assert not list(report.parent.glob(".*"))
            subprocess.run(["umount", "reports"], check=True)
        os.chdir("/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--disks", type=int, default=20)
    given = parser.parse_args()
    if given.kills:
        print(f"{given.kills} kills of report, {kills(given.kills)} before its end: always one of the two reports", flush=True)
    if given.disks and os.geteuid() != 0:
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv, "--kills", "0"])
    if given.disks:
        disks(given.disks)
        print(f"{given.disks} full disks: always the former report", flush=True)
