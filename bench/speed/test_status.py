"""What commands say of stores of so many finished runs: status of all and of a few, and resume. Nothing is trained."""

from pathlib import Path

import pytest

from tests.made_up import fill, finished, grid
from vae_variants.cli.launch import Launch
from vae_variants.cli.status import show, suite_rows
from vae_variants.harness import RunSpec, Store

SIZES = {100: 5, 1000: 5, 10_000: 3}  # runs -> rounds
FEW = 30


@pytest.fixture(scope="module", params=SIZES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunSpec], int]:
    root, plan = tmp_path_factory.mktemp("runs"), grid(request.param)
    fill(Store(root), plan, finished)
    return root, plan, SIZES[request.param]


@pytest.mark.parametrize("part", [None, FEW], ids=["all", f"{FEW} of them"])
def test_status(benchmark, store: tuple[Path, list[RunSpec], int], part: int | None) -> None:
    root, plan, rounds = store
    benchmark.group = f"status of {part or 'all'} runs in a store of {len(plan)}"
    benchmark.pedantic(lambda: show(suite_rows(plan[:part], Store(root)), "epochs"), rounds=rounds)


@pytest.mark.parametrize("part", [None, FEW], ids=["all", f"{FEW} of them"])
def test_resume(benchmark, store: tuple[Path, list[RunSpec], int], part: int | None) -> None:
    root, plan, rounds = store
    benchmark.group = f"{part or 'all'} finished runs are found again in a store of {len(plan)}"
    found = benchmark.pedantic(lambda: Launch(root, device="cpu", jobs="0").execute(plan[:part]), rounds=rounds)
    assert all(record.ok and record.current for record in found)
