"""Ways out: what leaves as safetensors, ONNX or codes does what the model does."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import vae_variants as vv
from tests.trying import forget
from vae_variants.cli.app import app
from vae_variants.datasets import Dataset
from vae_variants.harness import Record, Store
from vae_variants.integrations.export import find_run, read_model, told_apart, write_model
from vae_variants.models.base import MODELS, DataDependent, Encoder, Model
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, build, complete, configure

pytestmark = pytest.mark.usefixtures("smaller_smoke")

SMALL = {"hidden": [8], "latent": 3, "categories": 3, "components": 2}


def small(name: str, tiny: Dataset, **options) -> tuple[Model, dict]:
    (chosen,) = configure(name)
    values = complete({**chosen.values, **{k: v for k, v in SMALL.items() if k in chosen.values}, **options})
    model = build(Configuration(name, values), tiny)
    if isinstance(model, DataDependent):
        model.initialise(tiny.grey("train"))
    return model.eval().requires_grad_(False), values


def recorded(name: str, values: dict, tiny: Dataset) -> Record:
    return Record("0" * 64, name, values, tiny.recorded(), "unit", "smoke", [4], {"4": "ok"})


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_from_its_file(name, tiny, tmp_path):
    model, values = small(name, tiny)
    if name == "real-data":
        return  # keeps nothing but the images
    path = tmp_path / "a.safetensors"
    write_model(model, recorded(name, values, tiny), 4, path)
    again = vv.load(path)
    assert type(again) is type(model)
    assert not again.training
    assert {k: v.tolist() for k, v in again.state_dict().items()} == {k: v.tolist() for k, v in model.state_dict().items()}
    if isinstance(model, Encoder):
        torch.testing.assert_close(again.encode(tiny.grey()), model.encode(tiny.grey()), atol=0, rtol=0)
    with safe_open(path, "pt") as file:  # as any other program reads it
        found = json.loads(file.metadata()["configuration"])
        assert sorted(file.keys()) == sorted(model.state_dict())
    assert (found["values"], found["seed"], found["dataset"]["shape"]) == (values, 4, [1, 2, 5])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `runs`, of own labelled data and of digits."""
    root = tmp_path_factory.mktemp("exports")
    x = np.arange(70, dtype=np.uint8)[:, None, None] + np.zeros((70, 3, 4), np.uint8)
    np.savez(root / "mine.npz", x=x, y=np.array(["cat", "dog"])[np.arange(70) % 2])
    selector = "vae[likelihood=gaussian,hidden=8,latent=2]"
    for dataset, seeds in ((f"npz:{root}/mine.npz", (3, 5)), ("digits", (0,))):
        vv.run(selector, dataset=dataset, seeds=seeds, fidelity="smoke", runs=root / "runs")
    vv.run("made[hidden=8]", seeds=(0,), fidelity="smoke", runs=root / "runs")
    return root


@pytest.fixture
def call(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["export", *map(str, args), "--runs", str(trained / "runs")])


def mine(trained: Path) -> tuple[Path, Record]:
    ((folder, record),) = [(f, r) for f, r in Store(trained / "runs").records() if r.dataset["name"].startswith("npz")]
    return folder, record


@pytest.mark.parametrize("seed", [None, 5])
def test_the_command_writes_the_model_of_a_seed(seed, trained, call, tmp_path):
    folder, record = mine(trained)
    result = call(folder, *(["--seed", seed] if seed else []))
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.glob("*.safetensors")
    assert f"wrote {path.name}" in result.stdout
    assert f"seed-{seed or 3}" in path.name
    x = torch.rand(5, 12)
    expected = vv.load(record, seed or 3, trained / "runs").encode(x)
    assert torch.equal(vv.load(path).encode(x), expected)
    assert torch.equal(vv.load(path, seed or 3).encode(x), expected)
    with pytest.raises(UserError, match="not of 9"):
        vv.load(path, 9)


@pytest.mark.parametrize("suffix", ["npz", "csv"])
def test_codes_come_with_labels_and_with_the_names_of_images(suffix, trained, call, tmp_path):
    _, record = mine(trained)
    result = call(record.key[:8], "--to", "codes", "--seed", 5, "--output", f"out/codes.{suffix}")
    assert result.exit_code == 0, result.output
    dataset = vv.load_dataset(record.dataset["name"])
    model = vv.load(record, 5, trained / "runs")
    expected = {part: model.encode(dataset.grey(part)).numpy() for part in dataset.sizes}
    if suffix == "npz":
        with np.load(tmp_path / "out" / "codes.npz") as archive:
            found = dict(archive)
        assert found["classes"].tolist() == ["cat", "dog"]
        for part, codes in expected.items():
            np.testing.assert_allclose(found[part], codes, atol=1e-6)
            assert found[f"{part}_labels"].tolist() == [int(i) % 2 for i in found[f"{part}_ids"]]
            assert [int(i) for i in found[f"{part}_ids"]] == getattr(dataset, part)[:, 0].tolist()
        return
    rows = list(csv.DictReader((tmp_path / "out" / "codes.csv").read_text().splitlines()))
    assert list(rows[0]) == ["split", "id", "label", "z0", "z1"]
    assert sorted(int(row["id"]) for row in rows) == list(range(70))
    assert all(row["label"] == ("cat", "dog")[int(row["id"]) % 2] for row in rows)
    for part, codes in expected.items():
        values = [[float(row["z0"]), float(row["z1"])] for row in rows if row["split"] == part]
        np.testing.assert_allclose(values, codes, atol=1e-6)


def test_the_command_writes_onnx(trained, call, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    result = call(mine(trained)[0], "--to", "onnx", "--output", "there")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("wrote there/") == 2
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"encoder.onnx", "decoder.onnx"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nothing",), "labels: made"),
        (("vae[likelihood=gaussian,hidden=8,latent=2]",), "name one by its key"),
        (("made[hidden=8]", "--to", "onnx"), "neither an encoder nor a decoder"),
        (("made[hidden=8]", "--to", "codes"), "has no encoder"),
        (("made[hidden=8]", "--to", "onyx"), "did you mean 'onnx'"),
        (("made[hidden=8]", "--seed", "7"), "its seeds are [0]"),
        (("made[hidden=8]", "--dataset", "mnist"), "was made with --dataset digits, not mnist"),
        (("made[hidden=8]", "--output", "/dev/null/a.safetensors"), "cannot make the folder"),
    ],
)
def test_bad_usage_gets_one_clear_line(args, says, call):
    result = call(*args)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert says in line


def test_runs_of_one_name_are_told_apart_and_chosen_by_their_data(trained, call, tmp_path):
    name = "vae[likelihood=gaussian,hidden=8,latent=2]"
    (line,) = call(name).stderr.strip().splitlines()
    for _, record in Store(trained / "runs").records():
        if record.label == name:
            seeds = "1 seed" if len(record.seeds) == 1 else "2 seeds"
            when = record.started[:16].replace("T", " ")
            assert f"{record.key[:12]} ({record.dataset['name']}, smoke, {seeds}, {when})" in line
    assert "choose by --dataset, or name one by its key" in line
    assert call(name, "--dataset", "digits", "--output", "a.safetensors").exit_code == 0
    assert vv.load("a.safetensors").shape == (1, 8, 8)
    assert call(name, "--seed", 5, "--output", "b.safetensors").exit_code == 0, "one of them has that seed"
    assert vv.load("b.safetensors").shape == (1, 3, 4)


def test_runs_of_one_name_and_data_are_told_apart_by_their_options(tiny):
    records = [recorded("vae", small("vae", tiny, latent=n)[1], tiny) for n in (3, 4)]
    for n, said in zip((3, 4), told_apart(records), strict=True):
        assert f"latent={n}" in said and "hidden" not in said


def test_codes_of_other_images_have_to_fit(trained, call):
    folder, _ = mine(trained)
    assert "takes images of (1, 3, 4)" in call(folder, "--to", "codes", "--dataset", "digits").stderr
    assert ".npz or .csv" in call(folder, "--to", "codes", "--output", "codes.json").stderr


PLUGIN = """
from vae_variants.models.likelihoods import LIKELIHOODS, Gaussian

@LIKELIHOODS.add
class OfAPlugin(Gaussian):
    \"\"\"A Gaussian by another name.\"\"\"
"""


def test_a_model_with_a_part_of_a_plugin_asks_for_its_file(tiny, tmp_path):
    path, plugin = tmp_path / "a.safetensors", tmp_path / "of_a_plugin.py"
    plugin.write_text(PLUGIN)
    model, values = small("vae-gaussian", tiny)
    write_model(model, recorded("mine", {**values, "likelihood": "of-a-plugin"}, tiny), 4, path)
    with pytest.raises(UserError, match=r"trained with the likelihood 'of-a-plugin', which is not reg.*plugin=FILE.*--plugin FILE"):
        vv.load(path)
    try:
        for given in (plugin, [str(plugin)]):
            x = tiny.grey()
            assert torch.equal(vv.load(path, plugin=given).encode(x), model.encode(x))
    finally:
        forget(tmp_path)


def test_what_is_no_exported_model_gets_one_clear_line(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="no file"):
        vv.load(path)
    model, values = small("vae", tiny)
    write_model(model, recorded("vae", values, tiny), 4, path)
    content = path.read_bytes()
    for damaged in (content[:100], content[:-3], b"", content[:-1] + bytes([content[-1] ^ 1]), b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"not a model that can be read|did not write|no format") as error:
            read_model(path)
        assert "\n" not in str(error.value)
        assert path.is_file()  # it is the user's, and stays where it is
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(UserError, match="no format"):
        read_model(path)


def test_of_the_same_run_twice_the_newest_is_taken(tmp_path):
    from dataclasses import replace

    (record,) = vv.run(["reference-pca-2"], seeds=(0,), fidelity="smoke", runs=tmp_path)
    store = Store(tmp_path)
    (folder, _) = next(store.records())
    later = folder.with_name("later")
    later.mkdir()
    store.put(later, replace(record, key="1" * 64, started="9" + record.started[1:]))
    assert find_run("reference-pca-2", store)[0] == later
    assert find_run(record.key[:6], store)[0] == folder
    assert find_run(str(folder), store)[0] == folder


def test_the_examples_of_its_help_run(tmp_path, monkeypatch):
    import shlex

    from vae_variants.cli.examples import EXAMPLES

    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    monkeypatch.chdir(tmp_path)
    lines = EXAMPLES["export"]
    assert len(lines) == 3
    vv.run("vae-bernoulli", seeds=2, fidelity="smoke")
    help_text = CliRunner().invoke(app, ["export", "--help"], terminal_width=200).stdout
    for line in lines:
        assert line in help_text
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "codes.csv", "onnx", "vae-bernoulli-seed-0.safetensors"}
    assert math.isfinite(float((tmp_path / "codes.csv").read_text().splitlines()[1].split(",")[-1]))
