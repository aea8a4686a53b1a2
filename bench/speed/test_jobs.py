"""The same plan by one process with two threads, and by two processes with one each: the whole command, imports included."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("jobs", ["1", "2"], ids=["1 job, 2 threads", "2 jobs, 1 thread each"])
@pytest.mark.parametrize("variant", ["vae-bernoulli", "iwae-8"])
def test_four_runs(benchmark, variant: str, jobs: str, tmp_path_factory) -> None:
    benchmark.group = f"four runs of equal length, five seeds each, 30 epochs of digits: {variant}"
    plan = [f"{variant}[lr=0.001|0.0011|0.0012|0.0013]", "--dataset", "digits", "--seeds", "5"]
    command = [sys.executable, "-m", "vae_variants", "run", *plan, "--jobs", jobs, "--device", "cpu", "--runs"]

    def run() -> None:
        folder = str(tmp_path_factory.mktemp("runs"))
        subprocess.run([*command, folder], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "2"})

    benchmark.pedantic(run, rounds=3)
