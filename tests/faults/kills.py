"""Kills a suite at random moments, goes on with it, and compares its results with those of one that nobody killed.

    python tests/faults/kills.py --kills 100                   # of the driver and of the processes that make runs
    python tests/faults/kills.py --kills 10 --engine ray       # and of Ray's workers

In each round a fresh store is killed a few times, each time a moment after some files more are there than before, and then started once
more: `results.csv`, timings aside, has to be byte for byte that of the uninterrupted suite. (With more than one job the name of the device
says how many runs were made beside each other, which is another number where few are left.) A run that is killed at three starts has
failed, and stays so: before that, the driver alone is killed.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from vae_variants.evaluation.speed import TIMINGS

__all__ = ["kill_and_compare"]

SUITE = """
dataset = "digits"
seeds = 2
fidelity = "smoke"
[defaults]
hidden = [16]
latent = 2
epochs = {epochs}
[[runs]]
variants = {variants}
"""
VARIANTS = ["vae-bernoulli", "vae-gaussian", "made", "gan", "reference-pca-2", "ae", "iwae-8", "fvbn", "vae-free-bits", "vae-categorical"]
FILES = 10  # new in the store between two kills, at most; a run makes some five
LONGEST = 60.0  # seconds that these are waited for: Ray needs some twenty before it has a worker, a driver five before it has a child
AFTER = 0.5  # seconds, at most, from there to the kill
ROUND = 12  # kills of one store


def processes(group: int) -> dict[int, list[str]]:
    """pid -> command, of those of a session."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == group:
                found[int(path.name)] = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ProcessLookupError):
            continue
    return found


class Suite:
    """A suite in a folder of its own, and how it is started; without a report and on data without labels if it is not to be `whole`."""

    def __init__(self, folder: Path, engine: list[str], variants: list[str], epochs: int, whole: bool) -> None:
        self.folder, self.engine, self.whole = folder, engine, whole
        self.selectors = [f"{name}[epochs={epochs}]" if "reference" not in name else name for name in variants]
        (folder / "mine.toml").write_text(SUITE.format(variants=variants, epochs=epochs).replace("'", '"'))

    def start(self, store: str) -> subprocess.Popen[str]:
        plan = ["bench", "mine.toml", "--reports", f"reports-{store}"]
        if not self.whole:
            np.savez(self.folder / "plain.npz", x=np.random.default_rng(0).random((200, 6, 6)))
            plan = ["run", *self.selectors, "--dataset", "npz:plain.npz", "--seeds", "2", "--fidelity", "smoke"]
        self.program = subprocess.Popen(
            [sys.executable, "-m", "vae_variants", *plan, "--runs", store, *self.engine],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        return self.program

    def end(self) -> None:
        """Leaves no process behind, when this script is ended early."""
        for pid in processes(self.program.pid) if hasattr(self, "program") else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def finish(self, store: str) -> str:
        """Starts it, lets it end, and gives what is in its table but for timings."""
        program = self.start(store)
        _, said = program.communicate(timeout=600)
        if program.returncode != 0:
            raise SystemExit(f"the last start of {store} ended with {program.returncode}:\n{said}")
        if not self.whole:
            return "".join(sorted(line for path in (self.folder / store).glob("*/*/record.json") for line in lines_of(path)))
        with open(self.folder / f"reports-{store}" / "mine" / "results.csv", newline="") as file:
            lines = [line for line in file.read().splitlines(keepends=True) if not next(csv.reader([line]))[4].endswith(TIMINGS)]
        return "".join(lines)


def lines_of(path: Path) -> list[str]:
    """One for each row of a record, but for timings."""
    record = json.loads(path.read_text())
    return [f"{record['label']} {json.dumps(row)}\n" for row in record["rows"] if not row["metric"].endswith(TIMINGS)]


def victims(driver: int) -> dict[str, list[int]]:
    """Kind -> processes: the driver, those that make runs, Ray's workers."""
    kinds: dict[str, list[int]] = {"driver": [driver], "child": [], "ray worker": []}
    for pid, command in processes(driver).items():
        if any("spawn_main" in part for part in command):
            kinds["child"].append(pid)
        elif command[0].startswith("ray::"):
            kinds["ray worker"].append(pid)
    return {kind: pids for kind, pids in kinds.items() if pids}


def goes_on(program: subprocess.Popen[str], folder: Path, files: int) -> bool:
    """Waits until so many files more are in the store, or for long -> whether the program is still there."""
    before, until = set(folder.rglob("*")), time.monotonic() + LONGEST
    while program.poll() is None and time.monotonic() < until and len(set(folder.rglob("*")) - before) < files:
        time.sleep(0.01)
    return program.poll() is None


def kill_some(suite: Suite, store: str, most: int, chance: random.Random) -> list[str]:
    """Starts the suite and kills a process now and then, at most so many, until the driver is gone -> their kinds; none if it was done."""
    program, killed, folder = suite.start(store), list[str](), suite.folder / store
    while len(killed) < most and goes_on(program, folder, chance.randint(1, FILES)):
        time.sleep(chance.uniform(0, AFTER))
        found = victims(program.pid)
        last = any('"tries": 2' in path.read_text() for path in folder.glob("*/*/record.json"))
        kind = "driver" if last else chance.choice(sorted(set(found) - {"driver"}) * 3 + ["driver"])
        with suppress(ProcessLookupError):
            os.kill(chance.choice(found[kind]), signal.SIGKILL)
            killed.append(kind)
        if kind == "driver":
            break
    program.communicate(timeout=600)
    until = time.monotonic() + 20
    while (left := processes(program.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in left:  # Ray ends its own in its own time
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return killed


def kill_and_compare(
    kills: int, engine: list[str], variants: list[str] = VARIANTS, epochs: int = 12, seed: int = 0, whole: bool = True
) -> Counter[str]:
    """Raises SystemExit where a round does not end as the uninterrupted suite -> how many of each kind were killed."""
    chance, killed, round_ = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(Path(folder), engine, variants, epochs, whole)
        atexit.register(suite.end)
        expected = suite.finish("whole")
        while killed.total() < kills:
            store, before = f"killed-{round_}", killed.total()
            round_ += 1
            while (left := min(kills, before + ROUND) - killed.total()) > 0:
                kinds = kill_some(suite, store, left, chance)
                if not kinds:  # it came to its end: the next round begins afresh
                    break
                killed.update(kinds)
            found = suite.finish(store)
            if found != expected:
                Path("expected.csv").write_text(expected)
                Path("found.csv").write_text(found)
                raise SystemExit(f"round {round_} after {dict(killed)}: results differ; see expected.csv and found.csv")
            print(f"round {round_}: {dict(killed)} killed so far; {len(found.splitlines()) - whole} rows as expected", flush=True)
    return killed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--jobs", default="1")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    done = kill_and_compare(given.kills, ["--engine", given.engine, "--jobs", given.jobs], seed=given.seed)
    print(f"{done.total()} kills ({', '.join(f'{n} of a {kind}' for kind, n in sorted(done.items()))}): nothing lost, nothing double")
