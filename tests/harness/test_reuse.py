"""What a fidelity may say, and trained models that serve more than one run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.harness.test_runner import CPU, figures, spec
from vae_variants.evaluation import FIDELITIES, METRICS, fidelity, metric
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.harness import RunSpec, Store, run_all, trainings
from vae_variants.harness.files import save_tensors
from vae_variants.harness.members import joined, split
from vae_variants.harness.store import load_with_metadata
from vae_variants.registry import UserError
from vae_variants.training.loop import Training
from vae_variants.variants import build

pytestmark = pytest.mark.usefixtures("smaller_smoke")


def test_a_fidelity_with_options_has_one_spelling() -> None:
    found = fidelity(" thorough[ start=prior , temperatures=200, schedule=linear,annealed_images=3]")
    assert (found.start, found.temperatures, found.schedule, found.annealed_images) == ("prior", 200, "linear", 3)
    assert found.name == "thorough[annealed_images=3,schedule=linear,start=prior,temperatures=200]"
    assert fidelity(found.name) == found
    assert fidelity("thorough[start=encoder]") is FIDELITIES["thorough"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("thoroug", "did you mean 'thorough'"),
        ("thorough[epochs=3]", "unknown option 'epochs'.*temperatures"),
        ("thorough[start=q]", "encoder, prior"),
        ("thorough[schedule=cosine]", "linear, sigmoid"),
        ("thorough[bound_samples=1]", "2 or more"),
        ("thorough[elbo_samples=1]", "2 or more"),
        ("thorough[temperatures=0]", "positive whole number"),
        ("thorough[temperatures=1|2]", "spans 2"),
    ],
)
def test_a_fidelity_that_is_not_there_gets_one_clear_line(text, message) -> None:
    with pytest.raises(UserError, match=message):
        fidelity(text)


def without_loss(*_):
    pytest.fail("trained again")


def test_runs_that_share_their_training_share_their_models(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    (first,) = run_all([spec()], store, device=CPU)
    monkeypatch.setattr("vae_variants.harness.trainings.train", without_loss)
    (second,) = run_all([spec(level="smoke[bound_samples=20]")], store, device=CPU)
    assert second.key != first.key
    assert second.fidelity == "smoke[bound_samples=20]"
    assert second.curves == first.curves
    assert second.epoch_seconds == first.epoch_seconds
    for seed in (0, 1):
        assert second.value("elbo", seed) == first.value("elbo", seed)
        assert second.value("bound_samples", seed) == 20
    with pytest.raises(pytest.fail.Exception):
        run_all([spec(seeds=(1, 2))], store, device=CPU)


def values(record) -> dict[tuple[str, int], float]:
    return {(r["metric"], r["seed"]): r["value"] for r in record.rows if not r["metric"].endswith(TIMINGS) and r["value"] is not None}


@pytest.mark.parametrize(
    "selector", ["vae[hidden=8,latent=2,epochs=2]", "gan[hidden=8,latent=2,epochs=2]", "ae-gmm[hidden=8,latent=2,epochs=2]"]
)
def test_seeds_that_come_later_are_trained_alone_and_give_what_all_together_give(tmp_path, monkeypatch, selector) -> None:
    store, trained, real = Store(tmp_path / "a"), list[tuple[int, ...]](), trainings.train

    def train(training, *args):
        trained.append(training.population.seeds)
        return real(training, *args)

    monkeypatch.setattr(trainings, "train", train)
    run_all([spec(selector, seeds=(0, 1, 2))], store, device=CPU)
    (grown,) = run_all([spec(selector, seeds=(0, 1, 2, 3, 4))], store, device=CPU)
    (fewer,) = run_all([spec(selector, seeds=(4, 0))], store, device=CPU)
    assert trained == [(0, 1, 2), (3, 4)]
    (whole,) = run_all([spec(selector, seeds=(0, 1, 2, 3, 4))], Store(tmp_path / "b"), device=CPU)
    assert grown.key == whole.key
    assert grown.trained["code"] == whole.trained["code"]
    assert len(grown.epoch_seconds) == 2
    wanted = values(whole)
    assert values(grown) == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    assert values(fewer) == pytest.approx({k: v for k, v in wanted.items() if k[1] in (4, 0)}, rel=1e-3, abs=1e-3)
    for name, rows in whole.curves.items():
        torch.testing.assert_close(torch.tensor(grown.curves[name]), torch.tensor(rows), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(fewer.curves[name]), torch.tensor(rows)[[4, 0]], rtol=1e-4, atol=1e-5)


def test_seeds_of_another_recipe_are_trained(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    run_all([spec()], store, device=CPU)
    monkeypatch.setattr(trainings, "train", without_loss)
    with pytest.raises(pytest.fail.Exception):
        run_all([spec("vae[hidden=8,latent=2,epochs=2,lr=0.1]", seeds=(0,))], store, device=CPU)


def test_seeds_that_come_later_are_resumed_where_they_were_interrupted(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    run_all([spec()], store, device=CPU)
    epochs, real = list[int](), Training.run_epoch

    def run_epoch(self, *args):
        if epochs == [0]:
            raise KeyboardInterrupt
        epochs.append(self.epoch)
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", run_epoch)
        with pytest.raises(KeyboardInterrupt):
            run_all([spec(seeds=(0, 1, 2))], store, device=CPU)
        epochs.clear()
        epochs.append(-1)
        (resumed,) = run_all([spec(seeds=(0, 1, 2))], store, device=CPU)
    assert epochs == [-1, 1]
    assert [len(rows) for rows in resumed.curves["train_loss"]] == [2, 2, 2]


def test_curves_of_a_training_that_ended_early_are_filled_up() -> None:
    early = {"curves": {"train_loss": [[None]]}, "epoch_seconds": [1.0], "diverged": {"5": 1}, "trained": {}}
    late = {"curves": {"train_loss": [[3.0, 2.0], [1.0, 0.0]]}, "epoch_seconds": [2.0, 2.5], "diverged": {}, "trained": {}}
    members = split({"w": torch.tensor([[5.0]])}, early, [5]) | split({"w": torch.tensor([[7.0], [8.0]])}, late, [7, 8])
    state, history = joined(members, [8, 5], {"code": "c"})
    assert state["w"].tolist() == [[8], [5]]
    wanted = {
        "curves": {"train_loss": [[1.0, 0.0], [None, None]]},
        "epoch_seconds": [3.0, 2.5],
        "diverged": {"5": 1},
        "trained": {"code": "c"},
    }
    assert history == wanted


def test_a_metric_that_came_later_is_measured_on_the_models_that_there_are(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    (first,) = run_all([spec()], store, device=CPU)

    @metric(unit="numbers", better="none")
    def newcomer(e):
        """a metric that was not there before"""
        return 7.0

    try:
        monkeypatch.setattr("vae_variants.harness.trainings.train", without_loss)
        (kept,) = run_all([spec()], store, device=CPU)
        assert kept.value("newcomer", 0) is None
        (again,) = run_all([spec()], store, device=CPU, retry="scores")
        assert again.value("newcomer", 1) == 7
        assert again.key != first.key, "what is measured is part of a key, and the metric is measured by code of somebody else"
        rows = [row for row in figures(again)[0] if row["metric"] != "newcomer"]
        assert rows == figures(first)[0]
        with pytest.raises(pytest.fail.Exception):
            run_all([spec()], store, device=CPU, retry="all")
    finally:
        METRICS.pop("newcomer")


def test_a_model_is_kept_before_it_is_scored(tmp_path, monkeypatch) -> None:
    store, whole = Store(tmp_path / "a"), Store(tmp_path / "b")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vae_variants.harness.measured.evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_all([spec()], store, device=CPU)
    with monkeypatch.context() as patch:
        patch.setattr("vae_variants.harness.trainings.train", without_loss)
        (resumed,) = run_all([spec()], store, device=CPU)
    assert figures(resumed) == figures(run_all([spec()], whole, device=CPU)[0])


def test_a_run_prefers_its_own_models_to_those_of_another(tmp_path) -> None:
    store, level = Store(tmp_path), "smoke[bound_samples=20]"
    run_all([spec(), spec(level=level)], store, device=CPU)
    paths = {s: store.locate(spec(level=s), spec(level=s).key()) / "model.safetensors" for s in ("smoke", level)}
    for path, value in zip(paths.values(), (1.0, 2.0), strict=True):
        state, metadata = load_with_metadata(path)
        save_tensors(path, {name: torch.full_like(t, value) for name, t in state.items()}, **metadata)
    for s, value in zip(paths, (1.0, 2.0), strict=True):
        state, _ = store.trained(spec(level=s), spec(level=s).key(), spec(level=s).training_key())
        assert all((t == value).all() for t in state.values())
        run_all([spec(level=s)], store, device=CPU, retry="scores")
    first, second = (load_with_metadata(path)[0] for path in paths.values())
    assert all((first[name] == 1).all() and (second[name] == 2).all() for name in first)


def test_a_model_whose_code_has_changed_since_is_trained_again(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    run_all([spec()], store, device=CPU)
    calls = []

    def wider(configuration, dataset):
        model = build(configuration, dataset)
        model.extra = torch.nn.Parameter(torch.zeros(3))
        return model

    monkeypatch.setattr("vae_variants.training.setup.build_model", wider)
    monkeypatch.setattr("vae_variants.harness.trainings.train", lambda *_: calls.append(1) or {})
    run_all([spec()], store, device=CPU, retry="scores")
    assert calls == [1]


def test_a_failed_scoring_does_not_cost_the_training(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("vae_variants.harness.measured.evaluate", lambda *_: 1 / 0)
        (failed,) = run_all([spec()], store, device=CPU)
    assert set(failed.status.values()) == {"error"}
    monkeypatch.setattr("vae_variants.harness.trainings.train", without_loss)
    (again,) = run_all([spec()], store, device=CPU, retry="failed")
    assert again.ok
    assert again.trained["threads"] == again.environment["threads"]


def test_a_record_of_a_schema_to_come_is_left_alone(tmp_path, capsys) -> None:
    store = Store(tmp_path)
    (record,) = run_all([spec()], store, device=CPU)
    path = store.locate(spec(), record.key) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99, "new": []}))
    assert list(store.records()) == []
    assert path.is_file()
    assert capsys.readouterr().err == ""


def test_records_carry_the_kl_of_each_unit_and_the_classifier(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(FIDELITIES, "smoke", replace(FIDELITIES["smoke"], classifier_steps=60))
    chosen: RunSpec = spec("vae[hidden=8,latent=3,epochs=1]")
    (record,) = run_all([chosen], Store(tmp_path), device=CPU)
    for seed in (0, 1):
        units = record.series["kl_units"][str(seed)]
        assert len(units) == 3
        assert sum(units) == pytest.approx(record.value("rate", seed), abs=1e-4)
    assert len(record.classifier["digest"]) == 64
    assert 0.3 < record.classifier["test_accuracy"] <= 1
