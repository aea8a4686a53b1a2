from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from tests.made_up import made_up
from vae_variants.cli.app import app
from vae_variants.evaluation import METRICS
from vae_variants.harness import RunSpec, load_suite
from vae_variants.harness.engines import choose_engine
from vae_variants.harness.progress import Log
from vae_variants.variants import VARIANTS, configure

pytestmark = pytest.mark.usefixtures("smaller_smoke")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The program in this process, and so what it runs: `--jobs 0`."""
    monkeypatch.chdir(tmp_path)
    here = {"run": ["--jobs", "0"], "bench": ["--jobs", "0"]}
    return lambda *args: CliRunner().invoke(app, [*args, *here.get(args[0], [])])


@pytest.mark.parametrize("kind", ["variants", "datasets", "metrics", "likelihoods", "objectives", "models", "networks", "suites"])
def test_list(kind, call):
    assert call("list", kind).exit_code == 0
    found = json.loads(call("list", kind, "--json").stdout)
    assert all(len(entry["description"]) > 5 for entry in found)
    if kind == "variants":
        assert [entry["name"] for entry in found] == list(VARIANTS)
    if kind == "metrics":
        assert [entry["unit"] for entry in found] == [m.unit for m in METRICS.values()]


def test_the_grid_of_the_design_gives_four_finite_results(call):
    result = call("run", "vae[likelihood=gaussian,sigma=0.1,latent=2|10]", "--dataset", "digits", "--seeds", "2", "--fidelity", "smoke")
    assert result.exit_code == 0, result.output
    lines = [line.replace("≥ ", "").split() for line in result.stdout.splitlines() if line.startswith("vae[")]
    assert [line[1:3] for line in lines] == [["0", "ok"], ["1", "ok"]] * 2
    assert all(math.isfinite(float(number)) for line in lines for number in line[3:])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("run", "vae-bernouli"), "did you mean 'vae-bernoulli'"),
        (("run", "vae[latnet=3]"), "did you mean 'latent'"),
        (
            ("run", "vae[likelihood=secant]"),
            "laplace, logistic-mixture, student-t; if it is a plug-in's, give its file with --plugin FILE",
        ),
        (("run", "vae[likelihood=gausian]"), "did you mean 'gaussian'? if it is a plug-in's, give its file with --plugin FILE"),
        (("run", "laplace-vae"), "if it is a plug-in's, give its file with --plugin FILE"),
        (("run", "ae", "--dataset", "npz:absent.npz"), "there is no file 'absent.npz'"),
        (("run", "vae[latent=-3]"), "positive whole number"),
        (("run", "vae[latent"), "not of the form"),
        (("run", "ae", "--dataset", "mnits"), "did you mean 'mnist'"),
        (("run", "ae", "--fidelity", "fulll"), "did you mean 'full'"),
        (("run", "ae", "--seeds", "none"), "neither a count"),
        (("run", "ae", "--device", "tpu"), "unknown device"),
        (("run", "ae", "--timeout", "soon"), "not a time"),
        (("run", "ae", "--timeout", "0"), "not a time"),
        (("run", "ae", "--memory", "much"), "not a size such as 4g"),
        (("run", "ae", "--memory", "100m"), "too little"),
        (("run", "ae", "--engine", "rai"), "did you mean 'ray'"),
        (("run", "ae", "--address", "10.0.0.1:6379"), "--engine ray"),
        (("run", "ae", "--retry", "perhaps"), "unknown retry"),
        (("run", "ae", "--plugin", "absent.py"), "not a file"),
        (("bench", "digit"), "did you mean 'digits'"),
        (
            ("bench", "absent.toml"),
            "there is no file 'absent.toml'; suites that have a name: bounds, cifar10-jpeg, colour, digits, disentangle, frey",
        ),
        (("report", "digits"), "vae-variants bench digits"),
        (("list", "variant"), "did you mean 'variants'"),
    ],
)
def test_bad_usage_gets_one_clear_line(args, says, call):
    result = call(*args)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert says in line


@pytest.mark.parametrize("command", ["bench", "status", "report"])
def test_a_suite_file_is_named_by_its_path_and_the_nearest_one_is_offered(command, call, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE)
    for name, says in (("mine", "of the file give the path: mine.toml"), ("mien.toml", "did you mean 'mine.toml'?")):
        result = call(command, name)
        (line,) = result.stderr.strip().splitlines()
        assert result.exit_code == 2 and says in line


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seeds = 2", "seed = 2", "suite 'mine.toml', line 3: unknown key 'seed'; did you mean 'seeds'?"),
        ("seeds = 2\n", "", "suite 'mine.toml': seeds is missing; write seeds = 5"),
        ("seeds = 2", "seeds = true", "line 3: seeds is a count such as 5, or a list in quotes"),
        ("[defaults]", "[default]", "line 4: unknown key 'default'; did you mean 'defaults'?"),
        ("latent = 2", "latnt = 2", "line 6: unknown option 'latnt'; did you mean 'latent'?"),
        ("latent = 2", 'latent = 2\nfidelity = "smoke"', "line 7: unknown option 'fidelity'"),
        ('variants = ["reference', 'variant = ["reference', "line 12: unknown key 'variant'; did you mean 'variants'?"),
        ('variants = ["vae', 'variants = 3 # ["vae', "line 9: variants is a list of names in quotes"),
        ("[[runs]]", "[[run]]", "line 8: unknown key 'run'; did you mean 'runs'?"),
        ('"vae-bernoulli", "vae-latent-2"', '"vae-bernouli"', "did you mean 'vae-bernoulli'?"),
        ("[defaults]", "[schedule]\nkep = 1\n[defaults]", "line 5: unknown key 'kep'; did you mean 'keep'?"),
        ("[defaults]", '[schedule]\nkeep = "first"\n[defaults]', 'line 5: keep is "last" or "best"'),
        ("[defaults]", "[schedule]\nepochs = 0\n[defaults]", "line 5: epochs is a whole number from 1 on"),
        ("[defaults]", "[tuning]\nshare = 0.1\n[defaults]", "line 4: grid is missing; write grid = {"),
        ("[defaults]", "[tuning]\ngrid = { lr = [] }\n[defaults]", "line 5: grid is a table of options, each with a list of values"),
        ("[defaults]", "[tuning]\ngrid = { lr = [1] }\nshare = 2\n[defaults]", "line 6: share is a number above 0 and up to 1"),
        ("[defaults]", "[tuning]\ngrid = { rate = [1] }\n[defaults]", "line 5: unknown option 'rate'; did you mean"),
        ("[defaults]", '[tuning]\ngrid = { lr = ["fast"] }\n[defaults]', "option lr='fast' is not valid"),
        ("[defaults]", "[tuning]\ngrid = { lr = [1] }\noptions = { va = { lr = [1] } }\n[defaults]", "line 6: unknown variant 'va'"),
    ],
)
def test_a_mistake_in_a_suite_is_named_with_its_line_and_what_was_meant(old, new, says, call, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE.replace(old, new, 1))
    result = call("status", "mine.toml")
    (line,) = result.stderr.strip().splitlines()
    assert result.exit_code == 2 and says in line, line


LONG = [name for stem in ("a" * 300, "é" * 200, "a/" * 2500 + "a") for name in (stem, f"{stem}.toml")]


@pytest.mark.parametrize("name", LONG, ids=lambda name: f"{len(name)}{name[-5:]}")
def test_a_suite_of_a_name_that_no_file_can_have_is_one_clear_line(name, call):
    for command in ("bench", "status", "report"):
        result = call(command, name)
        (line,) = result.stderr.strip().splitlines()
        assert result.exit_code == 2 and "bounds, cifar10-jpeg, colour, digits" in line


def test_a_folder_that_is_called_like_a_suite_is_not_offered(call, tmp_path):
    (tmp_path / "d.toml").mkdir()
    assert call("status", "d.toml").stderr == "error: 'd.toml' is a folder; a suite is a .toml file\n"
    assert "did you mean" not in call("status", "dd.toml").stderr


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_a_key_within_a_text_of_several_lines_is_not_the_one_at_fault(quotes, call, tmp_path):
    text = f"# it's\ndescription = {quotes}\nsed = 1\n{quotes}\nfidelity = \"it's #\"\nsed = 2\nseeds = 1"
    (tmp_path / "mine.toml").write_text(SUITE.replace("seeds = 2", text, 1))
    assert "suite 'mine.toml', line 8: unknown key 'sed'" in call("status", "mine.toml").stderr


def test_the_command_that_makes_records_has_the_folders_that_were_given(call):
    status = call("status", "--fidelity", "smoke", "--runs", "my runs").stdout
    assert status.endswith("make them with: vae-variants bench digits --fidelity smoke --runs 'my runs'\n")
    report = call("report", "--runs", "mine", "--reports", "pages").stderr
    assert report.endswith("make them with: vae-variants bench digits --runs mine --reports pages\n")
    assert call("report").stderr.endswith("make them with: vae-variants bench digits\n")


def test_a_folder_of_pictures_that_is_not_there_is_all_that_is_said(call, tmp_path):
    (tmp_path / "photos").mkdir()
    result = call("bench", "digits", "--dataset", "images:fotos?size=8")
    assert result.exit_code == 2
    assert result.output == result.stderr == "error: there is no folder, archive or Parquet file 'fotos'; did you mean 'photos'?\n"


def test_a_line_of_a_run_without_figures_ends_with_its_time(capsys):
    (spec,) = load_suite("digits").plan(seeds="1")[:1]
    log = Log([spec])
    for reused, says in ((False, "1.5 s"), (True, "cached")):
        log.end(spec, replace(made_up(spec), rows=[], seconds=1.5), reused)
        assert capsys.readouterr().err.splitlines()[-1].endswith(f"ok, {says}")


CLASSIFIER = "the classifier that scores samples is trained"


@pytest.mark.parametrize(
    ("selector", "dataset", "jobs", "left", "says"),
    [
        ("vae", "digits", "1", 2, f"the first takes longer than the rest: PyTorch is loaded, and {CLASSIFIER}"),
        ("vae", "digits", "2", 3, f"the first of each process takes longer than the rest: PyTorch is loaded, and {CLASSIFIER}"),
        ("vae", "digits", "2", 2, ""),
        ("vae", "digits", "1", 1, ""),
        ("vae", "digits", "0", 2, f"the first takes longer than the rest: {CLASSIFIER}"),
        ("made", "digits", "0", 2, ""),  # whose samples are not scored by it
        ("vae", "npz:plain.npz", "0", 2, ""),
        ("vae", "npz:plain.npz", "1", 2, "the first takes longer than the rest: PyTorch is loaded"),
        ("vae", "npz:one.npz", "1", 2, "the first takes longer than the rest: PyTorch is loaded"),
    ],
)
def test_what_makes_the_first_run_longer_is_said_where_it_is_so(selector, dataset, jobs, left, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((200, 6, 6))
    np.savez("plain.npz", x=x)
    np.savez("one.npz", x=x, y=np.zeros(200, dtype=int))
    (configuration,) = configure(selector)
    runs = [RunSpec(configuration, dataset, (seed,), "smoke") for seed in range(3)]
    log = Log(runs, choose_engine(jobs, torch.device("cpu")))
    for spec in runs[left:]:
        log.end(spec, made_up(spec), True)
    before = len(capsys.readouterr().err.splitlines())
    for spec in runs[:left]:
        log.begin(spec)
    assert before == 3 - left and capsys.readouterr().err.splitlines() == [says] * bool(says)


def test_a_dry_run_says_what_is_to_be_done_and_does_nothing(call, tmp_path):
    result = call("bench", "--dry-run", "--fidelity", "smoke")
    assert result.exit_code == 0
    assert "missing" in result.stdout
    assert list(tmp_path.iterdir()) == []
    status = call("status", "--fidelity", "smoke").stdout
    assert "missing" in status
    assert status.endswith("no run of this suite has finished in 'runs'; make them with: vae-variants bench digits --fidelity smoke\n")


SUITE = """
dataset = "digits"
seeds = 2
[defaults]
hidden = [8]
latent = 2
epochs = 2
[[runs]]
variants = ["vae-bernoulli", "vae-latent-2", "made", "gan", "reference-data"]
[[runs]]
seeds = "0,"
variants = ["reference-pca-2", "vae-gaussian-learnt"]
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_bench_writes_a_report_that_is_a_pure_function_of_the_records(call, tmp_path):
    (tmp_path / "mine.toml").write_text(SUITE)
    result = call("bench", "mine.toml", "--fidelity", "smoke")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("wrote reports/mine-smoke; open reports/mine-smoke/report.html\n")
    assert result.stderr.count("the first takes longer than the rest: ") == 1
    first = files(tmp_path / "reports")
    assert call("report", "mine.toml", "--fidelity", "smoke").exit_code == 0
    assert files(tmp_path / "reports") == first
    again = call("bench", "mine.toml", "--fidelity", "smoke")
    assert again.exit_code == 0 and "the first takes longer" not in again.stderr
    assert files(tmp_path / "reports") == first
    assert {name for name in first if name.endswith(".png")} == {
        f"mine-smoke/figures/{name}.png"
        for name in (
            *("samples", "reconstructions", "curves", "losses", "bounds", "latent_units", "latent_plane", "labels"),
            *("likelihood", "cost"),
        )
    }

    table = pd.read_csv(tmp_path / "reports" / "mine-smoke" / "results.csv")
    assert list(table) == ["variant", "dataset", "support", "seed", "metric", "value", "unit", "better", "kind", "status", "device", "run"]
    assert set(table.status) == {"ok"}
    assert (table.value.notna() == (table.status == "ok")).all()
    assert set(table.better) <= {"higher", "lower", "none"}
    assert set(table.kind) <= {"exact", "lower-bound", "estimate", "measurement"}
    assert table.groupby(["variant", "seed", "metric"]).size().max() == 1
    exact = table[(table.metric == "log_likelihood")].set_index("variant").kind
    assert set(exact["made"]) == {"exact"}
    assert set(exact["vae-bernoulli"]) == {"lower-bound"}

    summary = pd.read_csv(tmp_path / "reports" / "mine-smoke" / "summary.csv").set_index("variant")
    mean = table[(table.metric == "elbo") & (table.variant == "vae-bernoulli")].value.mean()
    assert summary.elbo["vae-bernoulli"] == pytest.approx(mean)
    assert summary.elbo_low["vae-bernoulli"] < mean < summary.elbo_high["vae-bernoulli"]
    assert summary.elbo_n["vae-bernoulli"] == 2

    page = (tmp_path / "reports" / "mine-smoke" / "README.md").read_text()
    assert "`vae-latent-2` is the same run as `vae-bernoulli`" in page
    assert "nan" not in page.lower().replace("finance", "")
    assert "[mine-smoke](mine-smoke/README.md)" in (tmp_path / "reports" / "README.md").read_text()


def test_failed_and_missing_runs_are_in_the_report(call, tmp_path, monkeypatch):
    from vae_variants.models.made import MADE

    (tmp_path / "mine.toml").write_text(SUITE.replace(', "gan", "reference-data"', ""))
    monkeypatch.setattr(MADE, "loss", lambda *_: 1 / 0)
    assert call("run", "vae[hidden=8,latent=2,epochs=2]", "--fidelity", "smoke", "--seeds", "2").exit_code == 0
    result = call("bench", "mine.toml", "--fidelity", "smoke")
    assert result.exit_code == 1
    assert "made seed 1: error: ZeroDivisionError" in result.stderr
    table = pd.read_csv(tmp_path / "reports" / "mine-smoke" / "results.csv")
    assert table[table.status == "error"][["variant", "seed"]].values.tolist() == [["made", 0], ["made", 1]]
    page = (tmp_path / "reports" / "mine-smoke" / "README.md").read_text()
    assert "- `made`, seed 0: error: ZeroDivisionError" in page
    (tmp_path / "mine.toml").write_text(SUITE)
    assert call("report", "mine.toml", "--fidelity", "smoke").exit_code == 0
    assert "2 variants have not run yet: `gan` and `reference-data`" in (tmp_path / "reports" / "mine-smoke" / "README.md").read_text()
    status = call("status", "mine.toml", "--fidelity", "smoke").stdout
    assert "error" in status and "make them with" not in status


def test_an_interruption_is_exit_code_130(call, monkeypatch):
    from vae_variants.cli import launch

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_all", interrupted)
    result = call("run", "ae")
    assert result.exit_code == 130
    assert "resumes" in result.stderr


def test_a_suite_of_its_own_fidelity_and_another_one_have_reports_of_their_own(call, tmp_path):
    (tmp_path / "mine.toml").write_text('dataset = "digits"\nseeds = "0,"\nfidelity = "smoke"\n[[runs]]\nvariants = ["reference-pca-2"]\n')
    for options, name in ((["--fidelity", "smoke"], "mine"), ([], "mine"), (["--fidelity", "full"], "mine-full")):
        assert call("bench", "mine.toml", *options).exit_code == 0
        page = (tmp_path / "reports" / name / "README.md").read_text()
        assert ("--fidelity full" in page.split("\n## ")[0]) == (name == "mine-full")
