"""The notebooks of docs/course: each runs, its exercise rejects wrong answers and accepts the solution."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from tests.course.wrong_answers import HEADS, WRONG
from vae_variants.cli.app import app

COURSE = Path(__file__).parents[2] / "docs" / "course"
NOTEBOOKS = {path.stem: path for path in sorted(COURSE.glob("[0-9]*.py"))}
SECTIONS = ["Derivation", "With PyTorch", "With vae_variants", "Figure", "Exercise"]
MOST_LINES = 20
each = pytest.mark.parametrize("name", NOTEBOOKS)


def cells(path: Path, kind: str = "code", tag: str = "") -> list[NotebookNode]:
    found = jupytext.read(path).cells
    return [cell for cell in found if cell.cell_type == kind and (not tag or tag in cell.metadata.get("tags", []))]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotebookClient]:
    """One kernel for all notebooks, emptied between them: it imports torch once, and they share trained models."""
    client = NotebookClient(new_notebook(), kernel_name="python3", timeout=300)
    with client.setup_kernel(cwd=str(tmp_path_factory.mktemp("course"))):
        yield client


def run(kernel: NotebookClient, code: str | NotebookNode) -> tuple[str, int]:
    """What a cell prints, and how many pictures it shows. Raises `CellExecutionError` if it fails."""
    cell = new_code_cell(code if isinstance(code, str) else code.source)
    kernel.nb = new_notebook(cells=[cell])
    kernel.reset_execution_trackers()
    kernel.execute_cell(cell, 0)
    return "".join(out.get("text", "") for out in cell.outputs), sum("image/png" in out.get("data", {}) for out in cell.outputs)


def test_there_are_nine_each_with_a_solution_and_wrong_answers() -> None:
    assert [name[:3] for name in NOTEBOOKS] == [f"0{i}_" for i in range(1, 10)]
    for others in ([path.stem for path in sorted((COURSE / "solutions").glob("*.py"))], [*HEADS], [*WRONG]):
        assert others == [*NOTEBOOKS]


@each
def test_a_notebook_has_the_parts_of_the_course(name: str) -> None:
    text = "\n".join(cell.source for cell in cells(NOTEBOOKS[name], "markdown"))
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert text.count("$$") >= 2
    assert f"(solutions/{name}.py)" in text
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert (COURSE / target).exists(), target
    for cell in cells(NOTEBOOKS[name]):
        assert sum(bool(line.strip()) for line in cell.source.splitlines()) <= MOST_LINES, cell.source


@each
def test_its_commands_can_be_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(cell.source for cell in cells(NOTEBOOKS[name], "markdown"))
    commands = [shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert commands
    for program, command, *words in commands:
        assert program == "vae-variants"
        result = CliRunner().invoke(app, [command, *words, *(["--dry-run"] if command == "run" else [])])
        assert result.exit_code == 0, result.output


@each
def test_it_runs_and_its_check_tells_right_from_wrong(name: str, kernel: NotebookClient) -> None:
    run(kernel, "%reset -f")
    shown, (check,) = 0, cells(NOTEBOOKS[name], tag="check")
    for cell in cells(NOTEBOOKS[name]):
        printed, pictures = run(kernel, cell)
        shown += pictures
    assert shown == 1
    assert printed.startswith("Not answered yet")
    for answer, words in WRONG[name]:
        run(kernel, f"{HEADS[name]}    return {answer}")
        with pytest.raises(CellExecutionError, match=re.escape(words)) as error:
            run(kernel, check)
        assert error.value.ename == "AssertionError"
    (solution,) = cells(COURSE / "solutions" / f"{name}.py", tag="exercise")
    run(kernel, solution)
    assert run(kernel, check)[0] == "Right.\n"
