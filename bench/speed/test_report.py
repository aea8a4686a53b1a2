"""Reports of many runs: of suites of so many variants, and of one suite of 30 in a store of so many runs. Nothing is trained."""

from pathlib import Path

import pytest

from tests.made_up import fill, grid
from vae_variants.cli.reporting import make_report
from vae_variants.harness import Store

SIZES = {50: 5, 500: 3, 5000: 1}  # runs -> rounds


@pytest.mark.parametrize("runs", SIZES)
def test_a_suite_of_many_variants(benchmark, runs: int, tmp_path: Path) -> None:
    benchmark.group = "report of a suite of that many variants, five seeds each"
    plan = grid(runs)
    fill(Store(tmp_path / "runs"), plan)
    benchmark.pedantic(make_report, args=("digits", plan, tmp_path / "runs", tmp_path / "reports", {}), rounds=SIZES[runs])


@pytest.mark.parametrize("runs", SIZES)
def test_a_small_suite_in_a_large_store(benchmark, runs: int, tmp_path: Path) -> None:
    benchmark.group = "report of 30 variants, five seeds each, in a store of that many runs"
    for first in range(0, runs, 30):
        fill(Store(tmp_path / "runs"), grid(min(30, runs - first), tuple(range(first, first + 5))))
    benchmark.pedantic(make_report, args=("digits", grid(30), tmp_path / "runs", tmp_path / "reports", {}), rounds=SIZES[runs])
