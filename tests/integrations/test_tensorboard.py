"""Event files, read back as TensorBoard reads them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vae_variants.cli.app import app
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.harness import Record, RunSpec, Store, run_all
from vae_variants.harness.engines import Workers
from vae_variants.harness.protocols import Watcher, Watchers
from vae_variants.integrations.tensorboard import FOLDER, Events
from vae_variants.variants import configure

pytest.importorskip("tensorboard", reason="tensorboard is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of other people's modules
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

CPU = torch.device("cpu")
SMALL = "vae[hidden=8,latent=2,epochs=4]"


def spec(selector: str = SMALL, seeds: tuple[int, ...] = (0, 3)) -> RunSpec:
    (configuration,) = configure(selector)
    return RunSpec(configuration, "digits", seeds, "smoke")


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    return found.Reload()


def agrees(store: Store, record: Record) -> None:
    """One file for each seed, with every point of the record's curves and every figure, once."""
    folder = store.locate(spec_of(record), record.key) / FOLDER
    assert {path.name for path in folder.iterdir()} == {f"seed-{seed}" for seed in record.seeds}
    for s, seed in enumerate(record.seeds):
        (file,) = (folder / f"seed-{seed}").iterdir()
        assert file.name.startswith("events.out.tfevents.")
        found = read(folder / f"seed-{seed}")
        curves = {name: rows[s] for name, rows in record.curves.items()}
        figures = {r["metric"]: r["value"] for r in record.rows if r["seed"] == seed and r["value"] is not None}
        assert set(found.Tags()["scalars"]) == {f"curves/{name}" for name in curves} | {f"metrics/{name}" for name in figures}
        for name, row in curves.items():
            points = found.Scalars(f"curves/{name}")
            assert [p.step for p in points] == list(range(1, len(row) + 1))
            assert [p.value for p in points] == pytest.approx(row, rel=1e-6)
        for name, value in figures.items():
            (point,) = found.Scalars(f"metrics/{name}")
            assert point.value == pytest.approx(value, rel=1e-6)
        assert {"_hparams_/session_start_info", "_hparams_/experiment", "_hparams_/session_end_info"} <= set(
            found.SummaryMetadata if isinstance(found.SummaryMetadata, dict) else found.summary_metadata
        )


def spec_of(record: Record) -> RunSpec:
    return RunSpec(record.configuration, record.dataset["name"], tuple(record.seeds), record.fidelity)


def logged(store: Store, *specs: RunSpec, **options) -> list[Record]:
    events = Events(store)
    try:
        return run_all(list(specs), store, CPU, watcher=events, **options)
    finally:
        events.close()


@pytest.mark.parametrize("selector", [SMALL, "gan[hidden=8,epochs=2]", "reference-pca-2"])
def test_curves_and_figures_of_each_seed_are_what_the_record_has(selector, tmp_path):
    (record,) = logged(Store(tmp_path), spec(selector))
    agrees(Store(tmp_path), record)


def test_they_come_from_processes_epoch_by_epoch(tmp_path):
    store, seen = Store(tmp_path), []

    class Look(Watcher):
        def losses(self, spec, found):
            seen.append((found.done, {name: len(rows) for name, rows in found.rows.items()}))

    engine, events = Workers(1), Events(store)
    try:
        (record,) = run_all([spec()], store, CPU, watcher=Watchers(events, Look()), engine=engine)
    finally:
        engine.close()
        events.close()
    assert seen == [(n, {"train_loss": 1, "validation_log_prob": 1}) for n in (1, 2, 3, 4)]
    agrees(store, record)


def test_a_run_that_goes_on_has_all_its_epochs_once(tmp_path, monkeypatch):
    from vae_variants.harness import trainings

    monkeypatch.setattr(trainings, "CHECKPOINT_SECONDS", 0.0)
    store = Store(tmp_path)

    class Interrupt(Watcher):
        def epoch(self, spec, done, of):
            if done == 3:
                raise KeyboardInterrupt

    events = Events(store)
    with pytest.raises(KeyboardInterrupt):
        run_all([spec()], store, CPU, watcher=Watchers(events, Interrupt()))
    events.close()
    (folder,) = tmp_path.glob(f"*/*/{FOLDER}/seed-3")
    assert [p.step for p in read(folder).Scalars("curves/train_loss")] == [1, 2]  # what was told is there
    (record,) = logged(store, spec())
    agrees(store, record)


def test_what_was_there_before_is_taken_from_its_record_and_only_once(tmp_path):
    store = Store(tmp_path)
    (record,) = run_all([spec()], store, CPU)
    assert not list(tmp_path.glob(f"*/*/{FOLDER}"))
    logged(store, spec())
    agrees(store, record)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events.*")}
    logged(store, spec())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("events.*")} == files
    (again,) = logged(store, spec(), retry="scores")  # a model that is there tells no epochs
    agrees(store, again)


def test_a_seed_that_diverges_and_a_run_that_fails_leave_what_there_was(tmp_path, monkeypatch):
    from vae_variants.models.vae import VAE

    (record,) = logged(Store(tmp_path / "a"), spec("vae[hidden=8,latent=2,epochs=4,lr=1000000]"))
    assert set(record.status.values()) == {"diverged"}
    (folder,) = (tmp_path / "a").glob(f"*/*/{FOLDER}/seed-0")
    assert len(read(folder).Scalars("curves/train_loss")) == len(record.curves["train_loss"][0])
    monkeypatch.setattr(VAE, "loss", lambda *_: 1 / 0)
    (record,) = logged(Store(tmp_path / "b"), spec())
    assert set(record.status.values()) == {"error"}
    (folder,) = (tmp_path / "b").glob(f"*/*/{FOLDER}/seed-0")
    assert read(folder).Tags()["scalars"] == []


def test_it_does_not_enter_the_key_nor_any_number(tmp_path):
    (with_log,) = logged(Store(tmp_path / "a"), spec())
    (without,) = run_all([spec()], Store(tmp_path / "b"), CPU)
    assert with_log.key == without.key
    assert with_log.curves == without.curves
    found, expected = ([r for r in record.rows if not r["metric"].endswith(TIMINGS)] for record in (with_log, without))
    assert len(found) > 20
    assert found == expected


def test_the_option_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "vae[hidden=8,latent=2]", "--seeds", "1", "--fidelity", "smoke", "--jobs", "0"]
    result = CliRunner().invoke(app, [*arguments, "--log", "tensorboard"])
    assert result.exit_code == 0, result.output
    ((_, record),) = Store("runs").records()
    agrees(Store("runs"), record)
    assert all(math.isfinite(p.value) for p in read(next(tmp_path.glob(f"runs/*/*/{FOLDER}/seed-0"))).Scalars("metrics/elbo"))
    (tmp_path / "mine.toml").write_text('dataset = "digits"\nseeds = 1\nfidelity = "smoke"\n[[runs]]\nvariants = ["reference-pca-2"]\n')
    assert CliRunner().invoke(app, ["bench", "mine.toml", "--jobs", "0", "--log", "tensorboard"]).exit_code == 0
    assert len(list(tmp_path.glob(f"runs/*/*/{FOLDER}/seed-0/events.*"))) == 2


@pytest.mark.parametrize(("log", "missing", "says"), [("tensorbord", False, "did you mean"), ("tensorboard", True, "pip install")])
def test_a_wrong_or_absent_one_gets_one_clear_line(log, missing, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if missing:
        monkeypatch.setattr("vae_variants.integrations.tensorboard.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["run", "ae", "--log", log, "--dry-run"])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert says in line


def test_a_folder_that_cannot_be_written_gets_one_clear_line(tmp_path):
    from vae_variants.harness.files import StoreError

    store = Store(tmp_path)
    (record,) = run_all([spec()], store, CPU)
    (store.locate(spec(), record.key) / FOLDER).write_text("in the way")
    with pytest.raises(StoreError, match="cannot write event files"):
        logged(store, spec())
