"""Every command's help ends with examples, and each of them runs."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.made_up import fill
from vae_variants.cli import app
from vae_variants.commands.examples import EXAMPLES
from vae_variants.harness import Store, load_suite
from vae_variants.registry import Registry

COMMANDS = ["", *typer.main.get_command(app).commands]  # type: ignore[attr-defined]
REPORT = Path(__file__).parents[1] / "reports" / "digits"


def helped(command: str) -> list[str]:
    """The examples that a help shows, as one would copy them."""
    result = CliRunner().invoke(app, [command, "--help"] if command else ["--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where somebody has worked for a while: a store, reports, plug-ins."""
    path, before = tmp_path_factory.mktemp("help"), Path.cwd()
    os.chdir(path)
    fill(Store("runs"), load_suite("digits").plan())
    for name in ("before/digits", "reports/digits"):
        shutil.copytree(REPORT, name)
    for kind in ("likelihood", "metric"):
        assert CliRunner().invoke(app, ["new", kind]).exit_code == 0
    Path("my_metric.py").rename("kept.py")  # an example writes it
    yield path
    os.chdir(before)
    for registry in Registry.every:
        for name in [name for name in registry if Path(registry.places[name].file).is_relative_to(path)]:
            registry.drop(name)


ALL = list(dict.fromkeys(line for command in ("new", *EXAMPLES) for line in EXAMPLES[command]))


@pytest.mark.parametrize("line", ALL)
def test_an_example_runs(line: str, folder: Path) -> None:
    words = shlex.split(line)[1:]
    if words[:1] == ["check"] and not Path("my_metric.py").exists():
        shutil.copy("kept.py", "my_metric.py")
    here = ["--jobs", "0"] if words[0] == "run" else []  # in this process, which has everything loaded
    result = CliRunner().invoke(app, [*words, *here])
    assert result.exit_code == 0, result.output + result.stderr
    assert result.stdout.strip()
