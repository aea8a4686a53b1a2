"""What README.md and docs/ say is so: commands and examples run, links lead somewhere, nothing that exists goes unsaid."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.trying import flushed, forget
from vae_variants.cli.app import app

pytestmark = pytest.mark.usefixtures("smaller_smoke")

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
RUNNABLE = [page for page in PAGES if re.search(r"^```(sh|python)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SMALL = 'dataset = "digits"\nseeds = 2\nfidelity = "smoke"\n[[runs]]\nvariants = ["vae-bernoulli", "vae-gaussian-learnt"]\n'
SUITES = ("digits", "mnist", "grey", "colour", "disentangle")  # stood for by that one
TRIAL = {"run": ["--fidelity", "smoke", "--seeds", "2", "--jobs", "0"], "study": ["--fidelity", "smoke", "--seeds", "2", "--jobs", "0"]}

# what is not run here, by its beginning, and why; of `vae-variants` the options are tried all the same, with --dry-run
ELSEWHERE = {
    "python -m pip": "needs a network; the continuous integration does it",
    "nox -s": "makes an environment; its sessions are what runs these tests",
    "ray ": "starts processes that stay",
    "export RAY_": "is for the commands of Ray after it; tests/harness/test_cluster.py follows the page",
    "tensorboard ": "is a server",
    "jupytext ": "is another program; tests/course/test_course.py reads the notebooks by it",
}
NOT_HERE = {
    "--device cuda": "needs a GPU",
    "--engine ray": "starts a cluster; tests/harness/test_cluster.py does",
    "--dataset mnist": "needs a network, or hours",
    "vae-variants study one-sample": "takes minutes; tests of studies do it",
    "vae-variants study disentanglement-is-luck": "takes minutes; tests of studies do it",
    "--page-only": "needs tables that were measured; tests/claims/test_studies.py does",
    "vae-variants push": "needs the Hub; tests/integrations/test_hub.py has a server like it",
    "vae-variants pull": "needs the Hub; tests/integrations/test_hub.py has a server like it",
    "vae-variants check my_objective.py": "takes long; tests/checks/test_plugin_mistakes.py checks what each template writes",
    "vae-variants study bigger-codes": "tests/checks/test_extend.py does, and looks at what it says",
}
WITHOUT_DRY_RUN = ("study", "push", "pull", "check")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) of each, in their order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def lines(code: str) -> list[str]:
    """The commands in a block, without comments."""
    found = [part for line in code.splitlines() for part in line.split(" && ")]
    return [words for line in found if (words := shlex.join(shlex.split(line, comments=True)))]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody has begun: with pictures of their own, suites that are over in seconds under the names of those that are not, and
    what those leave, so that each page need not train it again."""
    path = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        Path("bench/suites").mkdir(parents=True)
        for name in SUITES:
            Path(f"bench/suites/{name}.toml").write_text(SMALL)
        rng = np.random.default_rng(0)
        for kind, place in (("left", 2), ("right", 8)):
            Path("photos", kind).mkdir(parents=True)
            for i in range(40):
                x = rng.integers(0, 60, (14, 14), dtype=np.uint8)
                x[3:11, place : place + 4] = 230
                Image.fromarray(x).save(f"photos/{kind}/{i}.png")
        program(["bench", "digits"])
        program(["bench", "--dataset", "images:photos"])
    return path


@pytest.fixture
def folder(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that for one page, whose plug-ins are forgotten at the end."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget(tmp_path)


def program(words: list[str]) -> None:
    """One command of the program, at the size of a trial."""
    command, text = words[0], shlex.join(["vae-variants", *words])
    why = next((why for part, why in NOT_HERE.items() if part in text), None)
    if why and command in WITHOUT_DRY_RUN:
        words = [*words, "--help"]
    elif why:
        if "--engine ray" in text and find_spec("ray") is None:
            return
        words = [*words, "--dry-run"]
    elif command == "bench":
        small = (words[1] in SUITES or words[1].startswith("-")) and "--fidelity" not in words
        words = [*words, "--jobs", "0", *([] if small else ["--fidelity", "smoke", "--seeds", "2"])]
    else:
        words = [*words, *TRIAL.get(command, [])]
    with flushed():
        result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    if command == "export" and (key := re.search(r"name one by its key: (\w+)", result.output)):  # one label on two data sets
        result = CliRunner().invoke(app, [command, key[1], *words[2:]], env={"COLUMNS": "200"})
    assert result.exit_code == 0, f"{text}\n{result.output}"
    assert result.output.strip()


@pytest.mark.parametrize("page", RUNNABLE)
def test_what_a_page_says_can_be_done(page: str, folder: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for language, code in blocks(page):
        if named := re.match(r"# (\w+\.(?:py|toml))\n", code):  # a file that the page's commands are given
            Path(named[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec"), names)
        elif language == "sh":
            for line in lines(code):
                words = shlex.split(line)
                if words[0] == "vae-variants":
                    program(words[1:])
                elif words[:2] == ["cp", "-r"]:
                    shutil.copytree(*words[2:])
                else:
                    assert line.startswith(tuple(ELSEWHERE)), f"nobody runs: {line}"
        else:
            assert language in ("toml", ""), language


def test_a_row_of_ones_own_is_trained_as_those_of_the_digits_suite() -> None:
    code = next(code for language, code in blocks("README.md") if language == "toml" and "# mine.toml" in code)
    own, digits = tomllib.loads(code), tomllib.loads((ROOT / "bench" / "suites" / "digits.toml").read_text(encoding="utf-8"))
    tables = ("dataset", "seeds", "defaults", "schedule", "tuning")
    del digits["tuning"]["options"]  # of variants that are not in it
    assert {key: own[key] for key in tables} == {key: digits[key] for key in tables}


def test_what_is_not_run_is_said_somewhere() -> None:
    said = [line for page in RUNNABLE for language, code in blocks(page) if language == "sh" for line in lines(code)]
    for part in (*ELSEWHERE, *NOT_HERE):
        assert any(part in line for line in said), f"{part!r} is excused for nothing"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_in_sentences_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    everywhere = [typer.main.get_command(app), *COMMANDS.values()]
    every = {option for command in everywhere for parameter in command.params for option in parameter.opts}
    for span in re.findall(r"`([^`\n]+)`", text):
        words = span.split()
        if words[0] == "vae-variants" and len(words) > 1:
            known = every if words[1].startswith("--") else {option for one in COMMANDS[words[1]].params for option in one.opts}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, span
        elif words[0].startswith("--"):
            assert words[0] in every, span


def test_every_command_is_spoken_of() -> None:
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if not re.search(rf"vae-variants {name}\b", text)] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES[1:] if page != "docs/README.md" and f"]({page.removeprefix('docs/')})" not in index] == []


def headings(path: Path) -> set[str]:
    """The anchors that a page's headings get."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = Path(os.path.normpath((ROOT / page).parent / path)) if path else ROOT / page
        assert place.exists() and place.is_relative_to(ROOT), f"{page}: {target}"
        assert not anchor or anchor in headings(place), f"{page}: {target}"
