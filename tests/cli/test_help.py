"""Every command's help ends with examples, and each of them runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.hub_stub import served
from tests.made_up import fill
from tests.trying import forget
from vae_variants.cli.app import app
from vae_variants.cli.examples import EXAMPLES
from vae_variants.harness import Store, load_suite

pytestmark = [
    pytest.mark.usefixtures("smaller_smoke"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # huggingface_hub 2.4 to its HTTP library
]
COMMANDS = ["", *typer.main.get_command(app).commands]  # type: ignore[attr-defined]
SUITE = 'dataset = "digits"\nseeds = 3\n[[runs]]\nvariants = ["vae-bernoulli", "vae-gaussian-learnt", "gan"]\n'


def helped(command: str) -> list[str]:
    """The examples that a help shows, as one would copy them."""
    result = CliRunner().invoke(app, [command, "--help"] if command else ["--help"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    _, found, rest = result.stdout.partition("Examples:")
    assert found, f"the help of {command or 'vae-variants'} has no examples"
    return [line.strip() for line in rest.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_examples_of_its_command(command: str) -> None:
    found = helped(command)
    assert found == list(EXAMPLES[command])
    assert all(
        shlex.split(line)[0] == "vae-variants" and shlex.split(line)[1] in (command, *(COMMANDS[1:] if not command else ()))
        for line in found
    )


def test_help_does_without_torch() -> None:
    """Whose import takes seconds; nor does a name of the package bring it before it is asked for."""
    script = "import sys; from vae_variants.cli.app import app; app(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    for words in (["--help"], ["bench", "--help"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
        assert "Examples:" in done.stdout
        assert not {"torch", "numpy", "pandas", "matplotlib", "sklearn"} & set(done.stdout.split()), words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where somebody has worked for a while: a store, reports, plug-ins."""
    path, before = tmp_path_factory.mktemp("help"), Path.cwd()
    os.chdir(path)
    Path("bench/suites").mkdir(parents=True)
    Path("bench/suites/digits.toml").write_text(SUITE)
    fill(Store("runs"), load_suite("digits").plan())
    assert CliRunner().invoke(app, ["report", "digits", "--reports", "before"]).exit_code == 0
    shutil.copytree("before/digits", "reports/digits")
    for kind in ("likelihood", "metric"):
        assert CliRunner().invoke(app, ["new", kind]).exit_code == 0
    Path("my_metric.py").rename("kept.py")  # an example writes it
    Path("my_model.py").write_text("class Pixels:\n    def encode(self, x):\n        return x\n\n\ndef my_vae():\n    return Pixels()\n")
    trained = ["run", "vae-bernoulli", "--seeds", "2", "--fidelity", "smoke", "--jobs", "0", "--runs", "trained"]
    assert CliRunner().invoke(app, trained).exit_code == 0
    with served():
        yield path
    os.chdir(before)
    forget(path)


ALL = list(dict.fromkeys(line for command in ("new", *EXAMPLES) for line in EXAMPLES[command]))


@pytest.mark.parametrize("line", ALL)
def test_an_example_runs(line: str, folder: Path) -> None:
    words = shlex.split(line)[1:]
    if words[:1] == ["check"] and not Path("my_metric.py").exists():
        shutil.copy("kept.py", "my_metric.py")
    here = {"run": ["--jobs", "0"], "export": ["--runs", "trained"]}.get(words[0], [])  # in this process, which has everything loaded
    result = CliRunner().invoke(app, [*words, *here])
    assert result.exit_code == 0, result.output + result.stderr
    assert result.stdout.strip()
