"""Trials that differ in the learning rate or in real numbers of the model train in one stack, and are the runs that they are alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.harness.test_runner import CPU
from vae_variants.evaluation.fidelities import VALIDATION
from vae_variants.harness import RunSpec, Store, Watcher, run_all, trainings
from vae_variants.harness.engines import InProcess, Workers
from vae_variants.harness.failures import Failure
from vae_variants.harness.locks import PendingRun, Queue, training_lock
from vae_variants.harness.protocols import Settings
from vae_variants.harness.record import Record
from vae_variants.harness.tuning import Tuning, tune
from vae_variants.training.loop import Training
from vae_variants.variants import configure

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SMALL = "hidden=8,latent=2,batch=400"


def trial(rate: float, options: str = "epochs=4,keep=best", level: str = VALIDATION.name, seeds: Sequence[int] = (1000, 1001)) -> RunSpec:
    return RunSpec(configure(f"vae[{SMALL},lr={rate},{options}]")[0], "digits", tuple(seeds), level)


TRIALS = [trial(rate) for rate in RATES]
SHORT = [trial(rate, "epochs=1") for rate in RATES]


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each training that begins or resumes has."""
    found, real = list[int](), trainings.train

    def train(training: Training, runs: Sequence[PendingRun], *args: Any) -> Any:
        found.append(len(runs))
        return real(training, runs, *args)

    monkeypatch.setattr(trainings, "train", train)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    store = Store(tmp_path_factory.mktemp("alone"))
    return [run_all([each], store, CPU)[0] for each in TRIALS]


def same(found: Record, expected: Record) -> None:
    """Figures alike to the digits that may depend on the size of a stack, and all else equal."""
    assert (found.key, found.status, found.reason) == (expected.key, expected.status, expected.reason)
    assert found.trained["lr"] == expected.trained["lr"]
    assert [{**row, "value": 0} for row in found.rows] == [{**row, "value": 0} for row in expected.rows]
    assert [row["value"] for row in found.rows] == pytest.approx([row["value"] for row in expected.rows], rel=1e-4)
    assert found.curves.keys() == expected.curves.keys()
    for name, rows in expected.curves.items():
        for mine, theirs in zip(found.curves[name], rows, strict=True):
            assert [v is None for v in mine] == [v is None for v in theirs]
            assert [v for v in mine if v is not None] == pytest.approx([v for v in theirs if v is not None], rel=1e-4)


def test_trials_of_four_rates_train_at_once_and_give_the_records_of_four_runs(tmp_path, stacks, alone) -> None:
    store, began = Store(tmp_path), list[str]()

    class Begun(Watcher):
        def begin(self, spec: RunSpec) -> None:
            began.append(spec.label)

    found = run_all([*TRIALS, other := trial(1e-2, "epochs=3")], store, CPU, watcher=Begun())
    assert stacks == [4, 1] and began == [each.label for each in (*TRIALS, other)]
    for mine, expected in zip(found, alone, strict=False):
        same(mine, expected)
        assert mine.trained["step"] == f"{expected.trained['step']}; in a stack of 4 runs"
        assert mine.seconds > sum(mine.epoch_seconds) > 0
    assert run_all(TRIALS, store, CPU) == found[:4] and len(stacks) == 2, "finished trials are reused"
    run_all([*TRIALS, trial(0.1)], store, CPU)
    assert stacks[2:] == [1], "a further rate trains alone"
    run_all(TRIALS, store, CPU, retry="all")
    assert stacks[3:] == [4]


def test_a_grid_of_an_option_and_the_rate_trains_in_one_stack(tmp_path, stacks, smaller_smoke) -> None:
    """As a suite's `[tuning]` makes its trials; their models are those of separate runs."""
    stacked, alone, found = Store(tmp_path / "stack"), Store(tmp_path / "alone"), dict[str, Record]()
    final = RunSpec(configure(f"vae[{SMALL},objective=beta]", {"epochs": 6})[0], "digits", (0,), "smoke")

    def execute(specs: list[RunSpec]) -> list[Record]:
        records = run_all(specs, stacked, CPU)
        found.update({spec.label: record for spec, record in zip(specs, records, strict=True)})
        trials.extend(spec for spec in specs if spec.fidelity == VALIDATION.name)
        return records

    trials = list[RunSpec]()
    (chosen,) = tune([final], Tuning({"beta": [0.5, 4.0], "lr": [3e-3, 1e-2]}, share=0.5), {}, execute)
    assert stacks == [4, 1] and chosen.configuration.values["beta"] == 0.5
    for each in trials:
        (expected,) = run_all([each], alone, CPU)
        same(found[each.label], expected)
        assert found[each.label].trained["step"] == f"{expected.trained['step']}; in a stack of 4 runs"
        (mine, told), (weights, _) = (store.trained(each, each.key(), each.training_key()) for store in (stacked, alone))
        assert told["key"] == each.key() and mine.keys() == weights.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-5)


def test_rates_still_train_in_one_stack_if_an_option_cannot(tmp_path, stacks) -> None:
    """Renyi's alpha decides which way its code takes."""
    trials = [trial(rate, f"epochs=1,objective=renyi,alpha={alpha}") for alpha in (0.2, 0.5) for rate in RATES[:2]]
    found = run_all(trials, Store(tmp_path), CPU)
    assert stacks == [4, 2, 2] and all(record.ok for record in found)
    assert ["in a stack of 2 runs" in record.trained["step"] for record in found] == [True] * 4


def test_runs_that_are_reported_train_as_ever(tmp_path, stacks, smaller_smoke) -> None:
    run_all([trial(rate, "epochs=1", "smoke", (0,)) for rate in RATES[:2]], Store(tmp_path), CPU)
    assert stacks == [1, 1]


def test_what_else_differs_trains_apart() -> None:
    one = trial(1e-3)
    assert one.stack == trial(1e-2).stack != ""
    others = [trial(1e-3, "epochs=5,keep=best"), trial(1e-3, "epochs=4"), trial(1e-3, "epochs=4,keep=best,likelihood=gaussian")]
    others += [trial(1e-3, seeds=(1000,)), replace(one, dataset="mnist")]
    others += [trial(1e-3, "epochs=4,keep=best,clip=1"), trial(1e-3, "epochs=4,keep=best,samples=2")]
    assert len({each.stack for each in (one, *others)}) == 8
    assert trial(1e-3, "objective=beta,beta=2").stack == trial(1e-2, "objective=beta,beta=3").stack != one.stack
    assert RunSpec(configure("reference-pca-2")[0], "digits", (1000,), VALIDATION.name).stack == ""


def test_an_interrupted_stack_resumes_also_in_other_company(tmp_path, stacks, alone, monkeypatch) -> None:
    store = Store(tmp_path)

    class Interrupt(Watcher):
        def epoch(self, spec: RunSpec, done: int, of: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(TRIALS, store, CPU, watcher=Interrupt())
    assert store.epochs_done(TRIALS).total() == 8
    done, real = list[int](), Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda self, after: done.append(self.epoch) or real(self, after))
    (second,) = run_all(TRIALS[1:2], store, CPU)
    found = run_all(TRIALS, store, CPU)
    assert stacks == [4, 1, 3] and done == [2, 3, 2, 3]
    assert found[1] == second
    for mine, expected in zip(found, alone, strict=True):
        same(mine, expected)


def test_a_trial_that_has_nothing_left_to_train_leaves_the_stack(tmp_path, stacks) -> None:
    """One diverges in the first epochs, one has no patience any more, and both end with the curves and weights that they have alone."""
    trials = [trial(rate, "epochs=14,patience=2,average=0.5,clip=1") for rate in (1e6, 1e-2, 0.5)]
    found = run_all(trials, Store(tmp_path / "stack"), CPU)
    assert stacks[0] == 3 and stacks[1] < 3, "as soon as one has ended"
    for mine, each in zip(found, trials, strict=True):
        same(mine, run_all([each], Store(tmp_path / "alone"), CPU)[0])
    lengths = [len(record.epoch_seconds) for record in found]
    assert len(set(lengths)) > 1 and {status for record in found for status in record.status.values()} == {"ok", "diverged"}


@pytest.mark.parametrize("way", ["it fails", "memory is short"])
def test_trials_train_alone_if_a_stack_cannot_be(way, tmp_path, stacks, monkeypatch) -> None:
    if way == "it fails":
        monkeypatch.setattr(trainings, "train_stack", lambda *_: 1 // 0)
    else:
        monkeypatch.setattr(trainings, "available", lambda device: 0)
    found = run_all(SHORT[:2], Store(tmp_path), CPU)
    assert stacks == [1, 1] and all(record.ok for record in found)
    assert [("; not stacked: ZeroDivisionError" in record.trained["step"]) for record in found] == [way == "it fails", False]


def test_memory_for_two_makes_stacks_of_two(tmp_path, stacks, monkeypatch) -> None:
    store = Store(tmp_path)
    run_all(SHORT[:1], store, CPU)
    (state, _) = store.trained(SHORT[0], SHORT[0].key(), SHORT[0].training_key())
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    monkeypatch.setattr(trainings, "available", lambda device: 2.5 * size * trainings.COPIES / trainings.SHARE)
    run_all([*SHORT, trial(0.1, "epochs=1")], store, CPU)
    assert stacks == [1, 2, 2]


def test_a_stack_is_locked_as_a_whole_without_the_runs_of_another_command(tmp_path) -> None:
    store, pending = Store(tmp_path), [PendingRun(each, each.key()) for each in TRIALS]
    with training_lock(store, TRIALS[1].training_key()):
        mine, theirs = Queue(pending, store, 4), Queue(pending, store, 4)
        first = mine.take()
        assert isinstance(first, PendingRun) and [run.key for run in first.beside] == [pending[2].key, pending[3].key]
        assert theirs.take() is None and mine.take() is None
        mine.done(first.key)
    later = [mine.take() for _ in range(3)]
    assert [(run.key, run.beside, run.ready) for run in later if isinstance(run, PendingRun)] == [
        (pending[1].key, (), False), (pending[2].key, (), True), (pending[3].key, (), True)
    ]  # fmt: skip
    mine.close()
    assert isinstance(again := theirs.take(), PendingRun) and len(again.beside) == 3
    theirs.close()


def test_trials_of_the_same_options_are_stacked_first(tmp_path) -> None:
    """If a part of the trials is stacked, and an option turns out to prevent that, those of several rates still are."""
    trials = [trial(rate, f"objective=beta,beta={beta}") for rate in RATES[:3] for beta in (1.0, 2.0)]
    queue = Queue([PendingRun(each, each.key()) for each in trials], Store(tmp_path), 4)
    assert isinstance(first := queue.take(), PendingRun) and [run.spec for run in first.beside] == [trials[2], trials[4], trials[1]]
    queue.close()


def test_processes_share_the_trials_of_one_variant(tmp_path, stacks) -> None:
    class Two(InProcess):
        capacity = 2

    run_all(SHORT, Store(tmp_path), CPU, engine=Two())
    assert stacks == [2, 2]


def test_a_process_that_dies_with_a_stack_costs_no_trial(tmp_path, monkeypatch) -> None:
    """Its run is made again alone. Only if that dies too, it has failed."""
    first, second = (PendingRun(each, each.key()) for each in TRIALS[:2])
    pipe, _ = multiprocessing.Pipe()

    def dying(run: PendingRun, *_: object) -> Any:
        failure = Failure("oom", "was killed")
        found = SimpleNamespace(pipe=pipe, run=run, exceeded=lambda: failure, started=datetime.now(UTC), epochs=(0, 4))
        engine.busy[id(found)] = frozenset()
        return found

    engine = Workers(1)
    engine.settings, engine.watcher, engine.beside, engine.threads = Settings(Store(tmp_path), CPU), Watcher(), 1, 1
    monkeypatch.setattr(engine, "give", dying)
    tasks = [dying(first._replace(beside=(second,)))]
    assert list(engine.collect(tasks)) == [] and tasks[0].run == first
    ((_, record),) = engine.collect(tasks)
    assert record.key == first.key and set(record.status.values()) == {"oom"}
