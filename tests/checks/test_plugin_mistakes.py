"""Typical mistakes, each planted in a plug-in, and the line that names it; and templates, which have none."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import vae_variants.studies  # noqa: F401  (its registry)
from tests.made_up import made_up
from tests.planted import BROKEN, LIKELIHOOD, METRIC, OBJECTIVE, WHOLE, WRONG
from tests.trying import forget
from vae_variants.analysis.cards import NO_BOUND, cards
from vae_variants.analysis.entries import Entry
from vae_variants.checks import Failed
from vae_variants.checks.base import edited
from vae_variants.cli.app import app
from vae_variants.cli.launch import Launch
from vae_variants.cli.new import kinds
from vae_variants.cli.registries import registry_of
from vae_variants.components import KINDS
from vae_variants.evaluation import METRICS
from vae_variants.harness import RunSpec, Store
from vae_variants.plugins import left_out, load_plugin, load_plugins
from vae_variants.registry import Registry, UserError
from vae_variants.variants import configure

pytestmark = pytest.mark.usefixtures("smaller_smoke")

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """The program in this process and in a folder of its own; what plug-ins there register is forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    yield lambda *args: CliRunner().invoke(app, [*args, *(["--jobs", "0"] if args[0] in ("run", "study") else [])])
    forget(tmp_path)


def test_the_likelihood_of_the_readme_passes(call: Call) -> None:
    text = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    Path("secant.py").write_text(next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "# secant.py" in code))
    result = call("check", "secant.py")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "secant.py: 10 checks passed")


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_right_passes(kind: str, call: Call) -> None:
    Path("mine.py").write_text(WHOLE[kind])
    result = call("check", "mine.py")
    assert result.exit_code == 0, result.output
    assert "FAILED" not in result.stdout and f"{kind.replace('dataset', 'data set')} 'mine'" in result.stdout


@pytest.mark.parametrize(("kind", "old", "new", "law", "words"), BROKEN)
def test_a_mistake_is_named_with_line_and_mend(kind: str, old: str, new: str, law: str, words: str, call: Call) -> None:
    assert WHOLE[kind].count(old) >= 1
    Path("mine.py").write_text(WHOLE[kind].replace(old, new, 1))
    result = call("check", "mine.py")
    assert result.exit_code == 1, result.output
    found = [line for line in result.stdout.splitlines() if line.startswith("  FAILED") and line.split()[1] == law]
    assert len(found) == 1, result.output
    (line,) = found
    assert words in line and "; " in line
    assert line.split()[2].startswith("mine.py:")
    assert line.split()[2].rstrip(":") == result.stdout.splitlines()[0].split()[0]
    assert "failed" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize(("kind", "old", "new", "words"), WRONG)
def test_a_wrong_plug_in_is_one_line_everywhere(kind: str, old: str, new: str, words: str, call: Call) -> None:
    assert WHOLE[kind].count(old) >= 1
    Path("mine.py").write_text(WHOLE[kind].replace(old, new, 1))
    before = {registry.kind: set(registry) for registry in Registry.every}
    for command in (("check", "mine.py"), ("list", "likelihoods", "--plugin", "mine.py"), ("run", "ae", "--plugin", "mine.py")):
        result = call(*command)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("error: plug-in 'mine.py' failed to import: ") and words in line
    assert {registry.kind: set(registry) for registry in Registry.every} == before, "nothing of it stays"
    assert not [name for name in sys.modules if name.startswith("vae_variants_plugin_mine_")]


def test_an_objective_that_is_to_be_no_bound_says_so(call: Call) -> None:
    Path("mine.py").write_text(OBJECTIVE.replace("weight: float = 1.0", "weight: float = 0.5"))
    result = call("check", "mine.py")
    assert result.exit_code == 1 and "if it is meant to be none, write mine.bound = False below it" in result.stdout
    Path("mine.py").write_text(Path("mine.py").read_text() + "\nmine.bound = False\n")
    result = call("check", "mine.py")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if "a-bound-when-training-ends" in line]
    assert line.split()[0] == "-" and "it says that it is no bound" in line
    entry = Entry("mine", made_up(RunSpec(configure("vae[objective=mine]")[0], "digits", (0, 1), "smoke")))
    (card,) = cards([entry])
    assert NO_BOUND in next(texts for kind, _, texts in card.documents if kind == "objective")


def test_the_value_of_an_objective_is_in_no_figure_of_a_record(call: Call) -> None:
    """One that is a million nats better by its own account trains as the ELBO does, and is measured as that is."""
    Path("mine.py").write_text(OBJECTIVE.replace("d.log_px.mean(0)", "d.log_px.mean(0) - 1e6") + "\nmine.bound = False\n")
    for objective in ("elbo", "mine"):
        selector = f"vae[objective={objective},hidden=8,latent=2]"
        assert call("run", selector, "--plugin", "mine.py", "--fidelity", "smoke", "--seeds", "0,").exit_code == 0
    one, other = (r for _, r in Store("runs").records())
    speed = {name for name, m in METRICS.items() if m.module == "vae_variants.evaluation.speed"}
    figures = [{r["metric"]: r["value"] for r in record.rows if r["metric"] not in speed} for record in (one, other)]
    assert figures[0] == figures[1] and len(figures[0]) > 20
    assert one.curves["validation_log_prob"] == other.curves["validation_log_prob"]


def test_a_run_that_a_plug_in_fails_says_how_it_is_looked_at(call: Call) -> None:
    Path("mine.py").write_text(LIKELIHOOD.replace("return (-u - 2", "return None and (-u - 2"))
    result = call("run", "vae[likelihood=mine]", "--plugin", "mine.py", "--fidelity", "smoke", "--seeds", "0,")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("to see what is wrong with it: vae-variants check mine.py")
    Path("other.py").write_text(METRIC.replace("return (e", "raise ValueError(1)\n    return (e").replace("def mine", "def other"))
    result = call("run", "reference-pca-2", "--plugin", "mine.py", "--plugin", "other.py", "--fidelity", "smoke", "--seeds", "0,")
    (line,) = [line for line in result.stderr.splitlines() if "vae-variants check" in line]
    assert line.endswith("vae-variants check other.py")


def test_of_several_plug_ins_the_one_in_the_traceback_is_named(call: Call) -> None:
    Path("mine.py").write_text(LIKELIHOOD.replace("return (-u - 2", "raise ValueError(1)\n        return (-u - 2"))
    Path("whole.py").write_text(OBJECTIVE.replace("def mine", "def whole"))
    plugins = ("--plugin", "mine.py", "--plugin", "whole.py", "--fidelity", "smoke", "--seeds", "0,")
    result = call("run", "vae[likelihood=mine,objective=whole,hidden=8]", *plugins)
    lines = [line for line in result.stderr.splitlines() if "vae-variants check" in line]
    assert lines == ["what mine.py registers failed; to see what is wrong with it: vae-variants check mine.py"]
    ((_, record),) = Store("runs").records()
    launch = Launch(Path("runs"), plugins=[Path("mine.py"), Path("whole.py")])
    unknown = replace(record, failure={"epoch": 0, "traceback": ""})
    assert launch.suspects(unknown) == [(Path("mine.py"), False), (Path("whole.py"), False)], "either, as far as can be told"


def test_an_objective_that_is_an_object_is_named_as_it_is_registered(call: Call) -> None:
    Path("mine.py").write_text(
        "from vae_variants.models.objectives import OBJECTIVES\n\n\nclass Weighted:\n    'The ELBO with half of the KL.'\n\n"
        "    def __call__(self, d):\n        return 0.5 * d.kl - d.log_px.mean(0)\n\n\nOBJECTIVES.add(Weighted(), name='half')\n"
    )
    result = call("check", "mine.py")
    assert result.exit_code == 1 and "if it is meant to be none, write OBJECTIVES['half'].bound = False below it" in result.stdout
    Path("mine.py").write_text(Path("mine.py").read_text() + "OBJECTIVES['half'].bound = False\n")
    result = call("check", "mine.py")
    assert result.exit_code == 0, result.output


def test_one_law_is_not_several(call: Call) -> None:
    Path("mine.py").write_text(WHOLE["variant"].replace('"own"', '""'))
    assert call("check", "mine.py").stdout.splitlines()[-1] == "mine.py: 1 check passed, 1 failed"


def test_what_registers_nothing_or_is_no_file_is_bad_usage(call: Call) -> None:
    Path("idle.py").write_text("x = 1\n")
    Path("text.txt").write_text("x = 1\n")
    for name, says in (("idle.py", "registers nothing"), ("absent.py", "is not a file"), ("text.txt", "is not a Python file")):
        result = call("check", name)
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
        assert says in result.stderr


def test_a_check_for_programs(call: Call) -> None:
    Path("mine.py").write_text(LIKELIHOOD.replace("return h\n", "return h + 1\n"))
    Path("other.py").write_text(OBJECTIVE)
    result = call("check", "mine.py", "other.py", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert {(row["kind"], row["name"]) for row in found} == {("likelihood", "mine"), ("objective", "mine")}
    assert [row["law"] for row in found if row["state"] == "broken"] == ["mean-is-the-expectation"]


def test_a_file_is_loaded_once_and_again_when_it_has_changed(call: Call) -> None:
    path = Path("mine.py")
    path.write_text(OBJECTIVE)
    load_plugins([path, path, path.absolute()])
    first = load_plugin(path)[0][0]["mine"]
    assert load_plugin(path)[0][0]["mine"] is first
    path.write_text(OBJECTIVE.replace("once more", "another time"))
    assert "another time" in load_plugin(path)[0][0]["mine"].__doc__
    path.write_text(
        "from __future__ import annotations\nimport dataclasses\n\n@dataclasses.dataclass\nclass A:\n    x: int = 0\n" + OBJECTIVE
    )
    load_plugin(path)  # dataclasses look for the module


def test_everything_that_is_registered_has_the_form_of_its_kind() -> None:
    registries = {kind.name: registry_of(kind.name) for kind in KINDS.values() if kind.name != "suite"}
    for registry in registries.values():
        assert not {name: fault for name, obj in registry.items() if (fault := registry.fault(obj))}
        assert registry.fault(object()), "each has a validator"


def distribution(folder: Path, name: str, module: str, code: str) -> None:
    """An installed distribution, as pip leaves it."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[vae_variants.plugins]\n{name} = {module}\n")


def test_a_broken_entry_point_is_left_out_with_a_line_and_stops_nothing(tmp_path: Path) -> None:
    distribution(tmp_path, "good-plugin", "good_module", OBJECTIVE.replace("def mine", "def of_the_good"))
    half = OBJECTIVE.replace("def mine", "def of_the_broken") + "\nimport absent_package\n"
    distribution(tmp_path, "broken-plugin", "broken_module", half)
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from vae_variants.cli.app import main; main()"
    command = [sys.executable, "-c", script, str(tmp_path), "list", "objectives", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("warning: plug-in 'broken-plugin' (broken_module of broken-plugin 1.2) is left out: ModuleNotFoundError")
    assert "python -m pip uninstall broken-plugin" in line
    names = [entry["name"] for entry in json.loads(done.stdout)]
    assert "of-the-good" in names and "of-the-broken" not in names


def test_a_broken_entry_point_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    distribution(tmp_path, "wrong-plugin", "wrong_module", LIKELIHOOD.replace("support, k = Support.REAL, 1", "k = 1"))
    monkeypatch.syspath_prepend(tmp_path)
    load_plugins()
    load_plugins()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "likelihood 'mine' has no support" in line and "fix wrong_module" in line
    left_out.clear()
    load_plugins(quiet=True)
    assert not capsys.readouterr().err
    left_out.clear()


# -- new ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", kinds())
def test_a_template_passes_its_check_and_runs(kind: str, call: Call) -> None:
    result = call("new", kind)
    assert result.exit_code == 0, result.output
    wrote, check, run = result.stdout.splitlines()
    assert wrote.startswith(f"wrote my_{kind}.py, with ") and "put your own in its place" in wrote
    assert check.split() == ["vae-variants", "check", f"my_{kind}.py"]
    assert f"--plugin my_{kind}.py" in run and "--fidelity smoke" in run
    text = Path(f"my_{kind}.py").read_text()
    assert "emplate" not in text and "worked example: put your own" in " ".join(text.split()) and len(text.splitlines()) < 60
    result = call("check", f"my_{kind}.py")
    assert result.exit_code == 0, result.output
    name = f"my_{kind}" if kind == "metric" else f"my-{kind}"
    assert name in call("list", kinds()[kind].plural, "--plugin", f"my_{kind}.py").stdout
    words = shlex.split(run)[1:]
    if kind == "metric":
        words = ["run", "ae", *words[2:], "--seeds", "0,"]  # and not the suite
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert kind != "metric" or any('"my_metric"' in path.read_text() for path in Path("runs").glob("*/*/record.json"))


@pytest.mark.parametrize("name", ["skew-normal", "skewNormal", "skew_normal.py"])
def test_a_template_has_the_name_that_it_is_given(name: str, call: Call) -> None:
    assert call("new", "likelihood", name).exit_code == 0
    text = Path("skew_normal.py").read_text()
    assert "class SkewNormal(Likelihood)" in text
    result = call("check", "skew_normal.py")
    assert result.exit_code == 1 and "likelihood 'skew-normal'" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "FAILED" in line]
    assert line.split()[1] == "is-your-own" and "is the worked example still: a logistic density" in line
    Path("skew_normal.py").write_text(text.replace("u = (x - h) / self.s", "u = (x - h) * (1 / self.s)"))
    result = call("check", "skew_normal.py")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("kind", kinds())
def test_a_template_of_any_kind_under_another_name_is_found(kind: str, call: Call) -> None:
    call("new", kind, "other")
    load_plugin("other.py")
    name = kinds()[kind].name
    with pytest.raises(Failed, match=f"worked example still: {re.escape(kinds()[kind].example)}"):
        edited(name, "other")
    with open("other.py", "a", encoding="utf-8") as file:
        file.write("\n# a comment\n")
    with pytest.raises(Failed):
        edited(name, "other")
    Path("other.py").write_text(Path("other.py").read_text().replace("    return", "    assert True\n    return", 1))
    edited(name, "other")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("likelihod",), "did you mean 'likelihood'"),
        (("likelihood", "gaussian"), "likelihood 'gaussian' exists"),
        (("metric", "elbo"), "metric 'elbo' exists"),
        (("likelihood", "there"), "'there.py' exists, and no file is overwritten"),
        (("likelihood", "torch"), "would hide the module 'torch'"),
        (("likelihood", "../x"), "is not valid"),
        (("likelihood", "class"), "is not valid"),
        (("likelihood", "9x"), "is not valid"),
        (("likelihood", "x" * 80), "is not valid"),
    ],
)
def test_new_refuses_in_one_line(args: tuple[str, ...], says: str, call: Call) -> None:
    Path("there.py").write_text("mine")
    result = call("new", *args)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert says in line
    assert Path("there.py").read_text() == "mine" and [path.name for path in Path().iterdir()] == ["there.py"]


def test_a_plug_in_that_is_not_there_is_said(call: Call) -> None:
    with pytest.raises(UserError, match="is not a file"):
        load_plugin("absent.py")
