"""Do the tests bite? Puts each bug of `mutants.toml` into a copy of the project and runs the tests that are there to catch it.

python tests/mutate.py [--jobs N] [WORDS...]: all mutants, or those whose bug or file has one of the words in it. The exit code is 1
where a mutant survives, where a named test fails without it, or where a text to be replaced is not there exactly once.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("vae_variants", "tests", "bench", "pyproject.toml")
# an editable install points at the checkout: that it is the copy which is tested is not left to the order of the path
RUN = """
import os, sys, pytest, vae_variants
if not os.path.realpath(vae_variants.__file__).startswith(os.path.realpath(os.getcwd()) + os.sep):
    sys.exit(f"{vae_variants.__file__} would be tested and not the copy")
sys.exit(pytest.main(sys.argv[1:]))
"""
# only a comparison that came out wrong counts: a mutant that raises something else says nothing about the test
CAUGHT = r"^FAILED {}(\[.*)? - (assert |AssertionError|Failed: DID NOT )"


def copied(source: Path, target: Path) -> None:
    for part in COPIED:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / part, target / part)


def run(source: Path, tests: list[str], mutant: dict | None = None) -> tuple[int, str]:
    """Exit code and output of the tests on a fresh copy of `source`, with the mutant in it if there is one."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        copied(source, copy)
        if mutant:
            path = copy / mutant["file"]
            text = path.read_text()
            if (found := text.count(mutant["old"])) != 1:
                return -1, f"{mutant['old']!r} is {found} times in {mutant['file']}"
            path.write_text(text.replace(mutant["old"], mutant["new"]))
        wanted = {"PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        command = [sys.executable, "-c", RUN, "-p", "no:cacheprovider", "--tb=short", "-rfE", *tests]
        done = subprocess.run(command, cwd=copy, env=os.environ | threads | wanted, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def verdicts(source: Path, mutant: dict) -> list[tuple[str, str]]:
    """(test, what became of the mutant) for each test that is named."""
    code, output = run(source, mutant["tests"], mutant)
    if code not in (0, 1):
        return [(test, f"broken: {output.strip().splitlines()[-1]}") for test in mutant["tests"]]
    found = []
    for test in mutant["tests"]:
        if re.search(CAUGHT.format(re.escape(test)), output, re.MULTILINE):
            found.append((test, "caught"))
        else:
            other = re.search(rf"^(FAILED|ERROR) {re.escape(test)}.*$", output, re.MULTILINE)
            found.append((test, f"survived ({other[0]})" if other else "survived"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("words", nargs="*")
    options, begin = parser.parse_args(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        source = Path(name)  # the working tree as it is now, whatever becomes of it meanwhile
        copied(ROOT, source)
        mutants = tomllib.loads((source / "tests" / "mutants.toml").read_text())["mutants"]
        mutants = [m for m in mutants if not options.words or any(word in m["bug"] + m["file"] for word in options.words)]
        code, output = run(source, sorted({test for m in mutants for test in m["tests"]}))
        if code or "skipped" in output.splitlines()[-1]:
            print(output, "\nA test that is named fails, or is skipped, without any mutant.")
            return 1
        missed = 0
        print("| mutant | test | |\n|---|---|---|")
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, found in zip(mutants, pool.map(partial(verdicts, source), mutants), strict=True):
                for test, verdict in found:
                    print(f"| {mutant['bug']} | `{test.removeprefix('tests/')}` | {verdict} |", flush=True)
                    missed += verdict != "caught"
    print(f"\n{len(mutants)} mutants, {missed} times not caught, {time.perf_counter() - begin:.0f} s")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
