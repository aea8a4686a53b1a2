from __future__ import annotations

import json
import math
import mmap
from dataclasses import replace

import pytest
import torch

from vae_variants.analysis.statistics import interval
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.harness import Record, RunSpec, Store, Watcher, load_suite, parse_seeds, run_all, suite_files, unique
from vae_variants.harness.environment import choose_device
from vae_variants.harness.files import load_tensors, save_tensors, seal, unseal
from vae_variants.harness.measured import peak_memory, reset_peak_memory
from vae_variants.models.vae import VAE
from vae_variants.registry import UserError
from vae_variants.variants import configure

pytestmark = pytest.mark.usefixtures("smaller_smoke")

CPU = torch.device("cpu")


def spec(selector: str = "vae[hidden=8,latent=2,epochs=2]", seeds=(0, 1), dataset="digits", level="smoke") -> RunSpec:
    (chosen,) = configure(selector)
    return RunSpec(chosen, dataset, tuple(seeds), level)


def figures(record: Record) -> list:
    """Everything but clocks and memory."""
    rows = [row for row in record.rows if not row["metric"].endswith(TIMINGS)]
    return [rows, record.curves, record.status, record.key]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Record, Store]:
    store = Store(tmp_path_factory.mktemp("runs"))
    return run_all([spec()], store, device=CPU)[0], store


def test_a_record_comes_back_from_disk_as_it_was(done):
    record, store = done
    assert record.ok
    assert [found for _, found in store.records()] == [record]
    assert Record.from_json(record.to_json()) == record
    assert record.identity == spec().identity
    assert {"elbo", "log_likelihood", "probe_accuracy", "peak_memory_bytes"} <= {row["metric"] for row in record.rows}
    assert [len(c) for c in record.curves["train_loss"]] == [2, 2]


def test_what_is_there_is_not_made_again(done, monkeypatch):
    record, store = done
    monkeypatch.setattr(VAE, "loss", lambda *_: pytest.fail("trained again"))
    assert run_all([spec()], store, device=CPU) == [record]


def test_the_same_run_gives_the_same_figures(done, tmp_path):
    again = run_all([spec()], Store(tmp_path), device=CPU)[0]
    assert figures(again) == figures(done[0])


def test_the_key_depends_on_what_decides_the_numbers_alone():
    base = spec()
    renamed = replace(base, configuration=replace(base.configuration, label="another name"))
    assert renamed.key() == base.key()
    others = [
        spec(seeds=(0, 2)), spec(seeds=(1, 0)), spec(dataset="digits?static=true"),
        spec("vae[hidden=8,latent=3,epochs=2]"), replace(base, fidelity="quick"),
    ]  # fmt: skip
    assert len({base.key(), *(other.key() for other in others)}) == 6
    assert [s.label for s in unique([base, renamed, *others[:1]])] == [base.label, others[0].label]


@pytest.mark.parametrize("seconds", [0.0, 1000.0], ids=["every epoch is kept", "kept when interrupted"])
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(tmp_path, monkeypatch, seconds):
    from vae_variants.harness import trainings

    monkeypatch.setattr(trainings, "CHECKPOINT_SECONDS", seconds)
    chosen = spec("vae[hidden=8,latent=2,epochs=6]", level="quick")
    whole = run_all([chosen], Store(tmp_path / "whole"), device=CPU)[0]

    class Interrupt(Watcher):
        def epoch(self, spec, done, of):
            if done == 4:
                raise KeyboardInterrupt

    store = Store(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run_all([chosen], store, device=CPU, watcher=Interrupt())
    assert list(store.records()) == []
    assert store.epochs_done([chosen])[chosen.identity] == 4

    told = []

    class Listen(Watcher):
        def epoch(self, spec, done, of):
            told.append(done)

    resumed = run_all([chosen], store, device=CPU, watcher=Listen())[0]
    assert told == [4, 5, 6]
    assert figures(resumed) == figures(whole)
    assert store.epochs_done([chosen])[chosen.identity] == 0


def test_damaged_files_are_set_aside_and_the_run_is_made_again(done, tmp_path, capsys):
    store = Store(tmp_path)
    record = run_all([spec()], store, device=CPU)[0]
    path = store.locate(spec(), record.key) / "record.json"
    path.write_text(path.read_text()[:500])
    again = run_all([spec()], store, device=CPU)[0]
    assert figures(again) == figures(record)
    assert "damaged" in capsys.readouterr().err
    assert path.with_name("record.json.damaged").is_file()
    model = path.with_name("model.safetensors")
    model.write_bytes(model.read_bytes()[:100])
    assert load_tensors(model) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema=99),
        lambda d: d.pop("rows") and d.pop("key"),
        lambda d: d.update(unknown=1),
        lambda d: d["status"].pop("0"),
        lambda d: d["status"].update({"0": "splendid"}),
    ],
)
def test_what_is_not_a_record_is_refused(change, done):
    content = json.loads(unseal(done[0].to_json()))
    change(content)
    with pytest.raises(ValueError, match="a record"):
        Record.from_json(seal(json.dumps(content, indent=1)))


def test_a_failure_is_a_record_with_its_reason_and_stops_nothing(tmp_path, monkeypatch):
    original = VAE.loss

    def loss(self, x, t):
        if self.latent == 3:
            raise RuntimeError("no such luck")
        if self.latent == 4:
            raise MemoryError
        return original(self, x, t)

    monkeypatch.setattr(VAE, "loss", loss)
    specs = [spec(f"vae[hidden=8,latent={latent},epochs=1]", (0, 1)) for latent in (3, 4, 2)]
    error, oom, fine = run_all(specs, Store(tmp_path), device=CPU)
    assert set(error.status.values()) == {"error"}
    assert "no such luck" in error.reason["1"]
    assert set(oom.status.values()) == {"oom"}
    assert fine.ok
    assert run_all(specs, Store(tmp_path), device=CPU)[0] == error
    monkeypatch.setattr(VAE, "loss", original)
    assert all(r.ok for r in run_all(specs, Store(tmp_path), device=CPU, retry="failed"))


def test_a_seed_that_diverges_is_one_failed_row(tmp_path, monkeypatch):
    from vae_variants.harness import trainings

    original = trainings.train

    def poisoned(training, *args):
        with torch.no_grad():
            next(iter(training.population.params.values()))[1] = math.nan
        return original(training, *args)

    monkeypatch.setattr(trainings, "train", poisoned)
    record = run_all([spec(seeds=(4, 7, 9))], Store(tmp_path), device=CPU)[0]
    assert record.status == {"4": "ok", "7": "diverged", "9": "ok"}
    assert "epoch 1" in record.reason["7"]
    assert {row["seed"] for row in record.rows} == {4, 9}
    assert record.curves["train_loss"][1] == [None, None]


def test_a_run_over_its_time_is_a_timeout(tmp_path):
    record = run_all([spec("vae[hidden=8,epochs=2]")], Store(tmp_path), device=CPU, timeout=1e-6)[0]
    assert set(record.status.values()) == {"timeout"}
    assert "0 of 2 epochs" in record.reason["0"]  # it is looked at after each step


def test_a_model_can_be_loaded_and_gives_the_figures_of_its_record(done, digits):
    import vae_variants as vv
    from vae_variants.evaluation import FIDELITIES, Evaluation
    from vae_variants.evaluation.likelihood import log_likelihood
    from vae_variants.harness.spec import prepared

    record, store = done
    for seed in (0, 1):
        model = vv.load(record, seed, runs=store.root)
        e = Evaluation(model, prepared("digits", "smoke"), seed, FIDELITIES["smoke"])
        assert log_likelihood(e) == record.value("log_likelihood", seed)
        folder = store.locate(spec(), record.key)
        assert torch.equal(vv.load(folder, seed).encoder[0].weight, model.encoder[0].weight)
    with pytest.raises(UserError, match="seed 5"):
        vv.load(record, 5, runs=store.root)


def test_tensors_with_other_metadata_are_not_taken(tmp_path):
    save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, key="one")
    assert load_tensors(tmp_path / "a.safetensors", key="two") is None
    assert load_tensors(tmp_path / "a.safetensors", key="one")["x"].tolist() == [1, 1]


@pytest.mark.parametrize("text", ["", "0", "x", "1,1", "-3", "1,-2"])
def test_bad_seeds_get_one_clear_line(text):
    with pytest.raises(UserError, match="neither a count"):
        parse_seeds(text)


def test_seeds():
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("0,3,7") == (0, 3, 7)
    assert parse_seeds("3,") == (3,)


@pytest.mark.parametrize("name", suite_files())
def test_every_suite_can_be_planned(name):
    plan = load_suite(name).plan()
    assert plan
    assert len({s.label for s in plan}) == len(plan)
    assert all(s.configuration.values.get("epochs", 30) >= 10 for s in plan)


@pytest.mark.parametrize("text", ["dataset = 'digits'", "dataset = 'digits'\nseeds = 1\n[[runs]]\nvariant = ['ae']", "= 1"])
def test_bad_suites_get_one_clear_line(text, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"seeds is missing|unknown key 'variant'|cannot be read"):
        load_suite(str(path))
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load_suite("digit")


def test_a_t_interval_is_the_textbooks():
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.half == pytest.approx(2.7764451051977987 * math.sqrt(2.5 / 5))
    assert interval([4.0]) == (4.0, None, None, 1)


def test_peak_memory_sees_what_was_taken():
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    block = torch.frombuffer(mmap.mmap(-1, 160_000_000), dtype=torch.float32).fill_(1)  # new pages, not ones that were given back
    assert peak_memory(CPU) >= before + 100e6
    assert block[-1] == 1
    with pytest.raises(UserError, match="unknown device"):
        choose_device("gpu")
