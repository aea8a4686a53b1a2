"""What every command has: -h, brackets in help, -q, -v, completion, and errors in one line; and --version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.made_up import fill, made_up
from vae_variants.cli.app import app
from vae_variants.cli.bench import last_lines
from vae_variants.cli.list import NARROW, PLURALS
from vae_variants.cli.reporting import called
from vae_variants.harness import RunSpec, Store, load_suite, unique
from vae_variants.harness.spec import prepared
from vae_variants.studies.page import stem
from vae_variants.variants import configure

pytestmark = pytest.mark.usefixtures("smaller_smoke")

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SMOKE = ("--fidelity", "smoke", "--seeds", "1", "--jobs", "0")
SMALL = "vae[hidden=8,latent=2,epochs=1]"


def call(*words: str) -> Result:
    return CliRunner().invoke(app, words)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vae_variants.harness.progress.Log.quiet", False)  # which --quiet sets for the whole process
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["60", "80"])
def test_help_shows_brackets_and_every_option_within_the_width(command: str, columns: str) -> None:
    result = CliRunner().invoke(app, [command, "-h"], env={"COLUMNS": columns})
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= int(columns)
    options = {name for parameter in COMMANDS[command].params for name in (*parameter.opts, "-q", "-v", "-h") if name.startswith("-")}
    assert options <= {word for line in result.stdout.splitlines() for word in line.split()}
    texts = [COMMANDS[command].help, *(parameter.help for parameter in COMMANDS[command].params)]
    bracketed = [word for text in texts for word in (text or "").replace("\\[", "[").split() if "[" in word]
    assert all(word in result.stdout for word in bracketed), bracketed


@pytest.mark.parametrize("command", COMMANDS)
def test_a_summary_is_one_short_sentence(command: str) -> None:
    summary = COMMANDS[command].help.split("\n\n")[0]
    assert len(summary) <= 100 and summary.endswith("."), summary


def test_the_version_needs_no_torch() -> None:
    script = "import sys; from vae_variants.cli.app import app; app(['--version'], standalone_mode=False); print(*sys.modules)"
    shown, modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert shown == f"vae-variants {project['version']}"
    assert not {"torch", "numpy", "pandas"} & set(modules.split())


def test_a_shell_completes_commands_options_and_choices() -> None:
    for words, expected in (("ben", "bench"), ("run --dry", "--dry-run"), ("run ae --retry sc", "scores"), ("list metr", "metrics")):
        env = {**os.environ, "_VAE_VARIANTS_COMPLETE": "complete_bash", "COMP_WORDS": f"vae-variants {words}"}
        program = Path(sys.executable).with_name("vae-variants")
        done = subprocess.run([program], env={**env, "COMP_CWORD": str(len(words.split()))}, capture_output=True, text=True, check=False)
        assert done.stdout.split() == [expected], done.stderr
    assert "--install-completion" in call("-h").stdout


def test_quiet_leaves_results_their_paths_and_errors() -> None:
    plain, quiet = call("list", "models"), call("list", "models", "--quiet")
    assert quiet.stdout.split() == [line.split()[0] for line in plain.stdout.splitlines()[1:] if line[0] != " "]
    result = call("-q", "run", SMALL, *SMOKE)
    assert (result.exit_code, result.stderr) == (0, "")
    assert Path(result.stdout.strip(), "record.json").is_file()
    loud = call("run", SMALL, *SMOKE)
    assert loud.stderr and SMALL in loud.stdout, "it holds for one command"
    assert "did you mean 'ae'" in call("run", "aee", "-q").stderr


def test_a_quiet_study_shows_its_verdict_alone() -> None:
    result = call("study", "sampling-speed", "-q", "--fidelity", "smoke", "--seeds", "2", "--jobs", "0")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "It would be:" in result.stdout and "wrote" in result.stdout


def test_verbose_shows_versions_and_the_traceback_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    result = call("run", "aee", "--verbose")
    assert result.exit_code == 2
    first, *trace, last = result.stderr.splitlines()
    assert first.startswith("vae-variants ") and "torch" in first and "Traceback" in trace[0] and last.startswith("error: ")
    from vae_variants.models.autoencoder import Autoencoder

    monkeypatch.setattr(Autoencoder, "loss", lambda *_: 1 / 0)
    result = call("run", "ae[hidden=8]", *SMOKE, "-v")
    assert result.exit_code == 1 and "ae[hidden=8]:" in result.stderr.splitlines()
    assert result.stderr.splitlines()[-1].startswith("ZeroDivisionError")


PARTS = ("variant", "dataset", "seeds", "fidelity", "state", "status", "stale", "epochs_done", "epochs", "key", "folder")


def test_status_for_programs_has_the_same_parts_for_each_run() -> None:
    plan = unique(load_suite("digits").plan())
    fill(Store("runs"), plan[:3])
    runs = json.loads(call("status", "digits", "--json").stdout)["runs"]
    assert all(set(run) == set(PARTS) for run in runs)
    for run, spec in zip(runs, plan, strict=True):
        assert (run["variant"], tuple(run["seeds"])) == (spec.label, spec.seeds)
    for run in runs[:3]:
        assert run["status"] == {str(seed): "ok" for seed in run["seeds"]} and Path(run["folder"], "record.json").is_file()
    assert {run["state"] for run in runs[3:]} == {"missing"} and {run["key"] for run in runs[3:]} == {None}
    call("run", SMALL, *SMOKE)
    (planned,) = json.loads(call("status", "--planned", "--json").stdout)["runs"]
    assert set(planned) == set(PARTS) and planned["state"] == "ok"


def test_a_dry_run_says_which_data_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset, says in (
        ("npz:absent.npz", "there is no file 'absent.npz'"),
        ("images:absent", "there is no folder, archive or Parquet file 'absent'"),
    ):
        for command in (("run", "ae"), ("bench", "digits")):
            result = call(*command, "--dataset", dataset, "--dry-run")
            assert result.exit_code == 2 and says in result.stderr
    monkeypatch.setenv("VAE_VARIANTS_DATA", "nowhere")
    result = call("run", "ae", "--dataset", "mnist?static=true", "--dry-run")
    assert result.exit_code == 0 and "train-images-idx3-ubyte" in result.stdout and "nowhere" in result.stdout
    np.savez("mine.npz", x=np.random.default_rng(0).random((40, 4, 4)))
    assert call("run", "ae", "--dataset", "npz:mine.npz", "--dry-run").exit_code == 0
    assert not Path("nowhere").exists() and not Path("runs").exists()


def test_bench_ends_with_what_is_best_what_failed_and_the_report() -> None:
    names = [SMALL, "vae[hidden=8,latent=2,epochs=1,lr=0.002]", "ae[latent=2,hidden=8]", "reference-pca-2"]
    text = f'dataset = "digits"\nseeds = 1\nfidelity = "smoke"\n[[runs]]\nvariants = {json.dumps(names)}\n'
    Path("mine.toml").write_text(text)
    result = call("bench", "mine.toml", "--jobs", "0")
    assert result.exit_code == 0, result.output
    *lines, page = result.stdout.splitlines()
    assert page == "wrote reports/mine; open reports/mine/report.html"
    assert [line.partition(":")[0] for line in lines] == [
        "Likelihood, binary pixels",
        "Reconstruction",
        "Latents for classification",
        "Of 4 runs",
    ]
    assert not any("tied" in line or re.search(r": (vae|ae)\S*$", line) for line in lines[:3]), "a trial has no winner"
    assert lines[3].startswith("Of 4 runs: 0 failed; ") and "; about " in result.stderr
    again = call("bench", "mine.toml", "--jobs", "0", "-q")
    assert again.stdout.splitlines() == [page]


def test_bench_names_winners_ties_and_flagged_rows() -> None:
    from tests.analysis.test_advice import likelihoods
    from tests.analysis.test_soundness import entry

    dead = entry("vae-free-bits", {"active_units": [0.0] * 5, "log_likelihood": [-1.0] * 5})
    entries = [*likelihoods(vae_bernoulli=-100.0, iwae_8=-95.0, beta_vae_4=-95.0), dead]
    first, *_, last = last_lines([replace(e.record, label=e.label) for e in entries])
    assert re.fullmatch(r"Likelihood, binary pixels: (iwae-8|beta-vae-4), tied with 1 other", first)
    assert last == "Of 4 runs: 0 failed; 1 flagged (vae-free-bits)"


@pytest.mark.parametrize("kind", PLURALS)
def test_a_list_fits_a_narrow_terminal(kind: str) -> None:
    lines = call("list", kind).stdout.splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= NARROW


def test_reports_of_different_data_or_suites_have_folders_of_their_own() -> None:
    data = ["images:photos", "images:a/photos", "images:b/photos", "images:photos?size=16", "images:photos?size=20", "images:~/photos"]
    data += [
        "npz:a.npz",
        "npz:a.b.npz",
        "npz:b/a.npz",
        "images:a b",
        "images:a-b",
        f"images:{'x' * 90}",
        f"images:{'x' * 91}",
        "mnist?train=9",
    ]
    suites = ["digits", "mine.toml", "a/mine.toml", "digits.toml"]
    options = [{"dataset": None}, {"seeds": "3"}, {"seeds": "3,"}, {"epochs": 3}, {"fidelity": "thorough[chains=3]"}, {"fidelity": "quick"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_variants.cli.reporting.load_suite", lambda _: SimpleNamespace(fidelity="full"))
        names = [called(suite, {"dataset": each}, ())[1] for suite in suites for each in data]
        names += [called("digits", each, ())[1] for each in options]
    assert len(set(names)) == len(names) and max(map(len, names)) <= 80
    assert {"digits-images-photos", "mine-npz-a", "digits", "digits-seeds-3", "digits-quick"} <= set(names)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((3, 20, 20), "colour"), ((3, 8, 8), "colour"), ((1, 28, 28), "grey"), ((1, 40, 8), "digits")],
)
def test_without_a_name_the_suite_fits_the_data(shape: tuple[int, ...], fits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, *shape[1:], shape[0]), dtype=np.uint8)
    np.savez("mine.npz", x=images if shape[0] > 1 else images[..., 0])
    for words in (["bench", "--dataset", "npz:mine.npz", "--dry-run"], ["status", "--dataset", "npz:mine.npz"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0 and f"suite {fits} fits npz:mine.npz" in result.stderr, result.output
    named = CliRunner().invoke(app, ["bench", "digits", "--dataset", "npz:mine.npz", "--dry-run"])
    assert named.exit_code == 0 and " fits " not in named.stderr


def test_files_of_different_studies_data_and_presets_have_names_of_their_own() -> None:
    data, presets = ["digits", "my_data", "my-data", f"images:{'x' * 90}", "images:a/b"], ["full", "quick", "quick[chains=3]"]
    about = [
        SimpleNamespace(dataset={"name": d}, fidelity=p, name=n) for d in data for p in presets for n in ("blur", "elbo-gap", "elbo_gap")
    ]
    assert len({stem(each) for each in about}) == len(about)
    assert [stem(each) for each in about[:4]][::3] == ["digits-blur", "digits-quick-blur"]


def test_a_dry_run_describes_the_data_of_today_and_paths_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_bytes(
        b'\xef\xbb\xbfdataset = "npz:~/a.npz"\r\nseeds = 1\r\n[[runs]]\r\nvariants = ["reference-pca-2"]\r\n'
    )
    command = ("bench", "~/mine.toml", "--runs=~/r", "--reports=~/p", "--jobs", "0", "--fidelity", "smoke")
    missing = call(*command, "--dry-run")
    assert missing.exit_code == 2 and "there is no file '~/a.npz'" in missing.stderr
    for left, images in (("1 of 1", 30), ("1 of 1", 31)):  # after an image is added everything is left again
        np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).integers(0, 256, (images, 8, 8), np.uint8))
        planned = call(*command, "--dry-run")
        assert left in planned.stdout and f"x ({images}, 8, 8) uint8" in planned.stdout
        made = call(*command)
        assert made.exit_code == 0, made.output
        assert f"x ({images}, 8, 8) uint8" in made.stderr
        assert "0 of 1" in call(*command, "--dry-run").stdout
    (page,) = (tmp_path / "p").glob("mine-*/README.md")
    assert "x (31, 8, 8) uint8; " in page.read_text() and "<dd>1×8×8 pixels" in (page.parent / "report.html").read_text()
    assert not (tmp_path / "~").exists()


def test_a_dry_run_has_the_time_of_such_runs_and_says_how_many_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def line(*words: str) -> str:
        said = call(*words, "--dry-run")
        assert said.exit_code == 0, said.output
        return next((text for text in said.stdout.splitlines() if text.startswith("time: ")), "")

    assert line("run", "vae-latent-2", "vae-samples-64").startswith("time: unknown; 2 of 2 runs have no known time")
    assert "vae-samples-64 97 %" in line("run", "vae-latent-2", "vae-samples-64")
    (configuration,) = configure("vae-latent-2")
    data, store = prepared("digits", "full"), Store("runs")
    spec = RunSpec(configuration, "digits", (0, 1), "full")
    made = {"dataset": data.recorded(), "seconds": 120.0, "environment": {"device_type": "cpu"}, "epoch_seconds": [1.0, 2.0]}
    record = replace(made_up(spec), **made)
    wrong = [
        {"fidelity": "quick"}, {"dataset": {**data.recorded(), "shape": [1, 8, 9]}}, {"environment": {"device_type": "cuda"}},
        {"dataset": {**data.recorded(), "sizes": {**data.sizes, "train": 5}}}, {"values": {**record.values, "epochs": 7}},
        {"status": {"0": "ok", "1": "error"}},
    ]  # fmt: skip
    for i, change in enumerate(wrong):
        other = replace(record, key=f"{i:012x}".ljust(64, "0"), **change)
        store.put(store.folder(spec, other.key), other)
    assert line("run", "vae-latent-2", "--seeds", "5").startswith("time: unknown; 1 of 1")
    store.put(store.folder(spec, record.key), record)
    told = line("run", "vae-latent-2", "vae-latent-5", "--seeds", "5")
    assert told.startswith("time: about 5 min, one run after another; 1 of 2 runs have no known time")
    store.put(store.folder(spec, record.key), replace(record, epoch_seconds=[360.0]))  # its models had been trained before
    told = line("run", "vae-latent-2", "--seeds", "3")
    assert told.startswith("time: about 12 min, one run after another; from records in 'runs' of the same")
