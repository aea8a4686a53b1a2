"""A stack of seeds takes no more memory than there is."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vae_variants as vv
from vae_variants.datasets import Dataset
from vae_variants.memory import allocations
from vae_variants.training.batches import batches
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.training.traced import SHARE, Gradient
from vae_variants.variants import build, configure


@pytest.mark.parametrize("name", ["ae", "made", "vae", "gan"])
def test_a_stack_that_memory_does_not_hold_goes_in_parts(name: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    small = digits.subset(60, 20)
    (chosen,) = configure(name)
    data = small.as_(chosen.support)
    seeds, t = (0, 1, 2, 3, 4), torch.tensor(0.5, dtype=torch.float64)
    population = Population(lambda: build(chosen, small).double(), seeds)
    player = population.template.players[0]
    x = next(batches(data.train, data.dynamic, seeds, 10, "key", 0)).double()
    whole, parts = Gradient(population, player), Gradient(population, player)
    one, mine, rest = whole.loss(slice(0, 1))
    needed = allocations(lambda: one(mine, rest, x[:1], t))
    population.reseed()
    expected, wanted = whole(x, t)
    monkeypatch.setattr("vae_variants.training.traced.available", lambda device: 2.9 * needed / SHARE)
    population.reseed()
    values, slopes = parts(x, t)
    assert (whole.how, parts.how) == ("traced", "traced, 2 of 5 at a time to fit into memory")
    torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-10)
    for found, slope in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-11)
    monkeypatch.setattr("vae_variants.training.traced.available", lambda device: 0)
    least = Gradient(population, player)
    least(x, t)
    assert least.how == "traced, 1 of 5 at a time to fit into memory"


def test_allocations_are_what_is_made_and_no_views() -> None:
    a = torch.zeros(1000)

    def work() -> Tensor:
        b = a.view(10, 100)[3:] + 1
        b.mul_(2)
        return b.double().t()

    assert allocations(work) == 700 * 4 + 700 * 8


def test_what_is_available_ends_at_the_limit_of_the_process() -> None:
    program = (
        "import resource, torch; from vae_variants.memory import available; cpu = torch.device('cpu'); free = available(cpu);"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**40, resource.RLIM_INFINITY)); assert available(cpu) > free / 2;"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, resource.RLIM_INFINITY)); assert 0 <= available(cpu) < 2**30"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def tensors() -> int:
    gc.collect()
    return sum(type(each) in (Tensor, torch.nn.Parameter) for each in gc.get_objects())


def test_runs_in_one_process_leave_no_tensors_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, and some of them failed, which keeps a traceback."""

    def run(i: int) -> str:
        selector = f"vae[hidden=8,latent=2,epochs=30,lr={i}e-3]"
        (record,) = vv.run(selector, seeds=(0,), fidelity="smoke", epochs=30, runs=tmp_path)
        return record.status["0"]

    def fail(i: int) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(Training, "validate", lambda training: 1 // 0)
            return run(i)

    assert (run(1), fail(2)) == ("ok", "error")
    before = tensors()
    assert (run(3), run(4), fail(5)) == ("ok", "ok", "error")
    assert tensors() <= before
