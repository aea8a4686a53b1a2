"""The same plan of equal runs by one and by two workers of a local Ray cluster; and what drives a sweep of so many made-up runs."""

import os
import resource
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch

from tests.made_up import fill, finished, grid
from vae_variants.harness import Store, cluster
from vae_variants.harness.plan import run_all

ray = pytest.importorskip("ray")


@pytest.mark.parametrize("jobs", ["1", "2"], ids=["1 worker", "2 workers"])
def test_eight_equal_runs(benchmark, jobs: str, tmp_path_factory) -> None:
    benchmark.group = "eight runs of equal length of one thread each, the whole command"
    grid = "|".join(f"0.00{10 + i}" for i in range(8))
    plan = [f"vae-bernoulli[lr={grid}]", "--dataset", "digits", "--seeds", "5", "--epochs", "40"]
    command = [sys.executable, "-m", "vae_variants", "run", *plan, "--engine", "ray", "--jobs", jobs, "--device", "cpu", "--runs"]

    def run() -> None:
        folder = str(tmp_path_factory.mktemp("runs"))
        subprocess.run([*command, folder], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

    benchmark.pedantic(run, rounds=1)


def test_a_thousand_tasks_that_do_nothing(benchmark) -> None:
    benchmark.group = "the scheduler of a local Ray cluster: 1000 streams of one message each"
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR", include_dashboard=False)

    @ray.remote(num_returns="streaming", max_retries=0)
    def nothing():
        yield None

    def run() -> None:
        for stream in [nothing.remote() for _ in range(1000)]:
            ray.get(next(stream))

    try:
        benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    finally:
        ray.shutdown()


@pytest.mark.parametrize("runs", [100, 1000, 10_000])
def test_a_sweep_of_made_up_runs(benchmark, runs: int, tmp_path, monkeypatch) -> None:
    """The whole command but its runs, which return at once: what it costs to find, send and keep each, and the driver's memory."""

    def made(task, images):
        yield finished(task.run.spec)

    monkeypatch.setattr(cluster, "make_remotely", made)
    benchmark.group = "a sweep of made-up runs on a local Ray cluster"
    plan, own = grid(runs), time.process_time()
    with closing(cluster.Cluster("2")) as engine:
        found = benchmark.pedantic(lambda: run_all(plan, Store(tmp_path), torch.device("cpu"), engine=engine), rounds=1)
    assert len(found) == runs
    benchmark.extra_info["driver's CPU ms per run"] = round((time.process_time() - own) / runs * 1e3, 2)
    benchmark.extra_info["driver's greatest memory (MB)"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("runs", [100, 1000])
def test_finding_the_records_of_a_suite(benchmark, runs: int, tmp_path) -> None:
    benchmark.group = "reading the records of a suite of made-up runs of five seeds"
    store, specs = Store(tmp_path), grid(runs)
    fill(store, specs)
    size = sum(path.stat().st_size for path in tmp_path.rglob("record.json"))
    benchmark.extra_info["bytes per record"] = size // runs
    found = benchmark.pedantic(lambda: store.newest(spec.identity for spec in specs), rounds=3)
    assert len(found) == runs
