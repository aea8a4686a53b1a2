"""`bench --budget`: what it says before it starts, and that it keeps to it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vae_variants.cli import budget, reporting
from vae_variants.cli.app import app
from vae_variants.harness import RunSpec, load_suite
from vae_variants.harness.budget import Cost
from vae_variants.harness.costs import Surroundings

pytestmark = pytest.mark.usefixtures("smaller_smoke")

SUITE = """dataset = "digits"
seeds = 2
fidelity = "smoke"
[defaults]
hidden = [8]
latent = 2
[[runs]]
variants = ["vae", "vae[samples=2]", "ae"]
[[runs]]
seeds = "0,"
variants = ["reference-pixels"]
"""
COST = Cost(start=1.0, epoch=10.0, scoring=1.0)
CALL = ("bench", "mine.toml", "--jobs", "0", "--budget", "120s")


def call(*words: str) -> Result:
    return CliRunner().invoke(app, words)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SUITE)
    return tmp_path


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[RunSpec]]]:
    """Suite and plan of each report that would have been written."""
    found = list[tuple[str, list[RunSpec]]]()
    monkeypatch.setattr(reporting, "make_report", lambda suite, plan, *_: (found.append((suite, plan)), Path("made"))[1])
    return found


def costing(monkeypatch: pytest.MonkeyPatch, **by_model: Cost | str) -> list[list[str]]:
    """Replaces the measurement: costs by the model of a run. Returns the labels of each that was asked for."""
    asked = list[list[str]]()

    def measure(pairs: list[tuple[RunSpec, RunSpec | None]], *_: object) -> tuple[Surroundings, list[Cost | str | None]]:
        asked.append([spec.label for spec, _ in pairs])
        costs = [by_model.get(spec.configuration.values["model"], COST) for spec, _ in pairs]
        return Surroundings(1.0, 1.0), costs

    monkeypatch.setattr(budget, "measure_all", measure)
    return asked


def test_it_says_what_it_leaves_out_and_resumes_what_it_chose(monkeypatch, made):
    asked = costing(monkeypatch, autoencoder="RuntimeError: broken", vae=replace(COST, epoch=60.0))
    monkeypatch.setattr("vae_variants.cli.launch.Launch.execute", lambda *_: [])
    first = call(*CALL)
    assert first.exit_code == 0, first.output
    assert asked == [["reference-pixels", "vae", "ae", "vae[samples=2]"]]  # in order of importance
    assert "left out: ae: RuntimeError: broken" in first.stderr and "time: about" in first.stderr
    assert "left out: vae[samples=2]: with it, the runs would take" in first.stderr
    (chosen,) = Path("runs/budgets").glob("*.toml")
    assert [spec.label for spec in load_suite(str(chosen)).plan()] == ["vae", "reference-pixels"]
    assert [(suite, [spec.label for spec in plan]) for suite, plan in made] == [(str(chosen), ["vae", "reference-pixels"])]
    again = call(*CALL)
    assert again.exit_code == 0 and len(asked) == 1 and "resumes" in again.stderr and made[1] == made[0]


def test_a_whole_suite_says_how_long_it_takes(monkeypatch):
    asked = costing(monkeypatch)
    shown = call("bench", "mine.toml", "--jobs", "0", "--fidelity", "full[image_samples=20,bound_samples=2]", "--epochs", "1", "--dry-run")
    assert shown.exit_code == 0 and not asked
    monkeypatch.setattr("vae_variants.cli.launch.Launch.execute", lambda *_: pytest.fail("stop here"))
    with pytest.raises(pytest.fail.Exception):
        CliRunner().invoke(app, ["bench", "mine.toml", "--jobs", "0", "--fidelity", "full", "--epochs", "2"], catch_exceptions=False)
    assert len(asked) == 1


def test_what_does_not_go_together_is_said_in_one_line():
    for more, words in ((("--budget", "soon"), "budget 'soon' is not a time"), (("--engine", "ray", "--budget", "1h"), "--engine local")):
        found = call("bench", "mine.toml", *more)
        assert found.exit_code == 2 and words in found.stderr and len(found.stderr.strip().splitlines()) == 1


def test_what_is_measured_is_said_and_run(made):
    Path("mine.toml").write_text(SUITE.replace('"vae", "vae[samples=2]", "ae"', '"ae"'))
    found = call("bench", "mine.toml", "--jobs", "0", "--budget", "2h")
    assert found.exit_code == 0, found.output
    (_, plan), said = made[0], re.search(r"^time: about (\d+) (s|min) from now", found.stderr, re.MULTILINE)
    assert [spec.fidelity for spec in plan] == ["smoke"] * 2 and said and int(said[1]) > 0
