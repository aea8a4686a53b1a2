"""Push and pull through `huggingface_hub`, against a server on this machine that speaks its protocol."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("huggingface_hub")
import yaml
from typer.testing import CliRunner

from tests.hub_stub import Hub, served
from tests.made_up import fill, grid, made_up
from vae_variants.cli.app import app
from vae_variants.cli.reporting import make_report
from vae_variants.harness import Store
from vae_variants.harness.files import save_tensors
from vae_variants.harness.sources import read_source
from vae_variants.harness.store import MODEL, RECORD
from vae_variants.integrations.hub import pulled, push
from vae_variants.registry import UserError
from vae_variants.report import figures

PLAN = grid(3, (0, 1, 2))
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub 2.4 to its HTTP library


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with served() as server:
        yield server


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with one figure, and the records that it is made from."""
    path: Path = tmp_path_factory.mktemp("hub")
    fill(Store(path / "runs"), PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", {"likelihood": figures.FIGURES["likelihood"]})
        make_report("digits", PLAN, path / "runs", path, {})
    return path


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"likelihood": figures.FIGURES["likelihood"]})


def call(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout + result.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def front_matter(card: bytes) -> tuple[dict[str, object], str]:
    _, meta, text = card.decode().split("---\n", 2)
    return yaml.safe_load(meta), text


@pytest.mark.usefixtures("one_figure")
def test_a_report_that_was_pushed_is_pulled_byte_for_byte(hub, reports):
    code, said = call("push", reports / "digits", "me/vae-digits", "--private")
    assert code == 0 and f"{hub.address}/datasets/me/vae-digits" in said and hub.private == {"me/vae-digits"} and hub.commits == 1
    stored = hub.repos["dataset", "me/vae-digits"]
    assert {name.removeprefix("results/"): c for name, c in stored.items() if name != "README.md"} == contents(reports / "digits")
    meta, text = front_matter(stored["README.md"])
    assert "vae-variants" in meta["tags"] and "vae-variants pull me/vae-digits" in text
    assert all(f"| `{spec.label}" in text for spec in PLAN)
    code, said = call("pull", "me/vae-digits")
    assert (code, said) == (0, "pulled 3 runs of me/vae-digits to vae-digits\n")
    assert contents(Path("vae-digits")) == contents(reports / "digits")
    code, said = call("pull", "me/vae-digits")
    assert code == 2 and "--output" in said


def test_pushing_again_removes_what_is_gone(hub, reports, tmp_path):
    shutil.copytree(reports / "digits", tmp_path / "mine")
    (tmp_path / "mine" / "figures" / "old.png").write_bytes(b"x")
    push(tmp_path / "mine", "me/x")
    (tmp_path / "mine" / "figures" / "old.png").unlink()
    assert "results/figures/old.png" in hub.repos["dataset", "me/x"]
    push(tmp_path / "mine", "me/x")
    assert set(hub.repos["dataset", "me/x"]) == {"README.md", *(f"results/{name}" for name in contents(reports / "digits"))}


def test_a_folder_of_records_keeps_its_records_and_nothing_else(hub, reports):
    assert push(reports / "runs", "me/runs").endswith("/datasets/me/runs")
    code, _ = call("pull", "me/runs", "--output", "theirs")
    assert code == 0
    theirs = contents(Path("theirs"))
    assert theirs == {name: c for name, c in contents(reports / "runs").items() if name.endswith(RECORD)} and len(theirs) == 3
    assert read_source(Path("theirs")).runs == read_source(reports / "runs").runs


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with models."""
    fill(Store(tmp_path / "runs"), PLAN[:1])
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    save_tensors(folder / MODEL, {"w": torch.zeros(3, 2)}, key=made_up(PLAN[0]).key)
    (folder / "pictures.safetensors").unlink()  # which made-up runs do not seal
    return folder


def test_a_run_becomes_a_model_with_its_card(hub, run):
    assert push(run, "me/model") == f"{hub.address}/me/model"
    meta, text = front_matter(hub.repos["model", "me/model"]["README.md"])
    record = made_up(PLAN[0])
    (index,) = meta["model-index"]
    values = {m["type"]: m["value"] for result in index["results"] for m in result["metrics"]}
    assert values["elbo"] == pytest.approx(sum(record.value("elbo", s) for s in (0, 1, 2)) / 3)
    assert meta["library_name"] == "vae-variants" and 'vv.load("model", seed=0)' in text and "`latent=2`" in text
    code, _ = call("pull", "me/model")
    assert code == 0 and contents(Path("model")) == contents(run)


@pytest.mark.parametrize("name", ["archive.json", "records.json.gz", RECORD, MODEL])
def test_a_byte_that_changed_on_the_way_is_refused(hub, reports, run, name):
    push(run if name in (RECORD, MODEL) else reports / "digits", "me/x")
    (stored,) = hub.repos.values()
    content = stored[f"results/{name}"]
    place = len(content) // 2
    stored[f"results/{name}"] = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    code, said = call("pull", "me/x", "--output", "theirs")
    assert code == 2 and len(said.splitlines()) == 1 and "changed or damaged" in said
    assert not Path("theirs").exists()


def test_what_no_digest_vouches_for_is_not_fetched(hub, reports):
    push(reports / "runs", "me/x")
    stored = hub.repos["dataset", "me/x"]
    stored |= {"results/report.html": b"<script>", "setup.py": b"x", "results/../../record.json": b"x", "record.json": b"x"}
    with pulled("me/x") as (folder, what):
        assert all(name.endswith(RECORD) and name.count("/") == 2 for name in contents(folder)) and len(what.source.runs) == 3


def test_what_cannot_be_pushed_or_pulled_is_said_in_one_line(hub, reports, run, monkeypatch):
    changed = run / RECORD
    changed.write_text(changed.read_text(encoding="utf-8").replace("digits", "digitz", 1), encoding="utf-8")
    hub.repos["dataset", "me/empty"] = {"README.md": b"x"}
    cases = {
        ("push", run, "me/x"): "changed or damaged",
        ("push", run.parents[2] / "nothing", "me/x"): "neither an archive",
        ("push", reports / "runs", "not a name"): "the Hub refused",
        ("pull", "me/none"): "the Hub refused",
        ("pull", "me/empty"): "no results",
    }
    for words, wanted in cases.items():
        code, said = call(*words)
        assert code == 2 and wanted in said and len(said.splitlines()) == 1, (words, said)
    assert set(hub.repos) == {("dataset", "me/empty")}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub refused" in call("push", reports / "runs", "me/x")[1]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in call("pull", "me/x")[1]


def test_without_the_package_it_says_what_to_install(reports, monkeypatch):
    monkeypatch.setattr("vae_variants.integrations.hub.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"vae-variants\[hub\]"), pulled("me/x"):
        pass
