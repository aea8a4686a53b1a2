"""What a process holds of the machine."""

import os
import sys

import pytest
import torch

from vae_variants.harness import RunSpec, Store, run_all, runner, shelves
from vae_variants.harness.limits import release_memory, resident_bytes
from vae_variants.variants import configure

SIZE, COUNT = 2**16, 2000  # bytes of a small tensor, and how many


@pytest.mark.skipif(sys.platform != "linux", reason="allocates with glibc")
def test_freed_memory_returns_to_the_system():
    release_memory()
    held = [torch.ones(SIZE // 4) for _ in range(COUNT)]
    last = held.pop()  # lies above the others, so that they are not returned of themselves
    full = resident_bytes(os.getpid())
    held.clear()
    release_memory()
    assert resident_bytes(os.getpid()) < full - 0.8 * SIZE * COUNT
    assert last[0] == 1


def test_what_is_put_on_a_shelf_is_computed_without_memory_that_was_freed(tmp_path, monkeypatch):
    seen = list[str]()
    monkeypatch.setattr(shelves, "release_memory", lambda: seen.append("release"))

    def compute() -> dict[str, torch.Tensor]:
        seen.append("compute")
        return {"x": torch.ones(2)}

    shelf = shelves.shelf_in(Store(tmp_path))
    assert [shelf("this", compute)["x"].tolist() for _ in range(2)] == [[1, 1], [1, 1]]
    assert seen == ["release", "compute"]


@pytest.mark.usefixtures("smaller_smoke")
def test_a_run_returns_what_training_has_freed_before_it_scores_a_seed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runner, "release_memory", lambda: seen.append("release"))
    monkeypatch.setattr(runner, "score", lambda e, _: seen.append(e.seed))
    (chosen,) = configure("vae[hidden=8,latent=2,epochs=1]")
    (record,) = run_all([RunSpec(chosen, "digits", (0, 1), "smoke")], Store(tmp_path), device=torch.device("cpu"))
    assert record.ok and seen == ["release", 0, "release", 1]
