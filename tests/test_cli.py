from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from vae_variants.cli import app
from vae_variants.evaluation import METRICS
from vae_variants.variants import VARIANTS


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
        (("report", "digits"), "vae-variants bench digits"),
        (("list", "variant"), "did you mean 'variants'"),
    ],
)
def test_bad_usage_gets_one_clear_line(args, says, call):
    result = call(*args)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert says in line


def test_a_dry_run_says_what_is_to_be_done_and_does_nothing(call, tmp_path):
    result = call("bench", "--dry-run", "--fidelity", "smoke")
    assert result.exit_code == 0
    assert "to be run" in result.stdout
    assert list(tmp_path.iterdir()) == []
    assert "to be run" in call("status").stdout


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
    first = files(tmp_path / "reports")
    assert call("report", "mine.toml", "--fidelity", "smoke").exit_code == 0
    assert files(tmp_path / "reports") == first
    assert call("bench", "mine.toml", "--fidelity", "smoke").exit_code == 0
    assert files(tmp_path / "reports") == first
    assert {name for name in first if name.endswith(".png")} == {
        f"mine-smoke/figures/{name}.png"
        for name in (
            *("samples", "reconstructions", "curves", "losses", "bounds", "latent_units", "latent_plane", "labels"),
            *("rate_distortion", "cost"),
        )
    }

    table = pd.read_csv(tmp_path / "reports" / "mine-smoke" / "results.csv")
    assert list(table) == ["variant", "dataset", "support", "seed", "metric", "value", "unit", "better", "kind", "status", "device", "run"]
    assert set(table.status) == {"ok"}
    assert table.value.notna().all()
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
    assert "Not run yet: `gan`, `reference-data`" in (tmp_path / "reports" / "mine-smoke" / "README.md").read_text()
    assert "error" in call("status", "mine.toml", "--fidelity", "smoke").stdout


def test_an_interruption_is_exit_code_130(call, monkeypatch):
    from vae_variants import launch

    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_all", interrupted)
    result = call("run", "ae")
    assert result.exit_code == 130
    assert "goes on" in result.stderr


def test_a_suite_of_its_own_fidelity_and_another_one_have_reports_of_their_own(call, tmp_path):
    (tmp_path / "mine.toml").write_text('dataset = "digits"\nseeds = "0,"\nfidelity = "smoke"\n[[runs]]\nvariants = ["reference-pca-2"]\n')
    for options, name in ((["--fidelity", "smoke"], "mine"), ([], "mine"), (["--fidelity", "full"], "mine-full")):
        assert call("bench", "mine.toml", *options).exit_code == 0
        page = (tmp_path / "reports" / name / "README.md").read_text()
        assert ("--fidelity full" in page.split("\n## ")[0]) == (name == "mine-full")
