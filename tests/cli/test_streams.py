"""Output that cannot be written: the command does its work, and says in a line what is missing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from tests.made_up import fill, grid
from vae_variants.cli.app import app
from vae_variants.cli.streams import Lenient
from vae_variants.harness import Store
from vae_variants.harness.progress import Terminal
from vae_variants.models.autoencoder import Autoencoder
from vae_variants.registry import visible

CASES = {  # what becomes of the output -> what is said on standard error
    "{0} >/dev/full": "warning: the output is not complete: No space left on device; what was measured is kept",
    "{0} >&-": "",
    "{0} 2>&-": "",
    "{0} 2>/dev/full": "",
    "{0} | true": "",
}


@pytest.mark.parametrize("shell", CASES)
def test_whatever_becomes_of_the_output_a_command_ends_well(shell: str) -> None:
    command = ["bash", "-o", "pipefail", "-c", shell.format(f"{sys.executable} -m vae_variants run --help")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, CASES[shell])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_a_console_cannot_show_is_escaped(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Store("runs"), grid(1, (0, 1)))
    runner = CliRunner(charset=encoding)
    for words in (["list", "metrics", "--markdown"], ["status", "--planned"], ["compare", "runs", "runs"]):
        result = runner.invoke(app, words)
        assert result.exit_code in (0, 2) and not isinstance(result.exception, UnicodeError), (words, result.exception)


def test_a_stream_is_silent_after_its_first_failure() -> None:
    class Gone(io.StringIO):
        times = 0

        def write(self, text: str) -> int:
            Gone.times += 1
            raise OSError(5, os.strerror(5))

    stream = Lenient(Gone())
    assert [stream.write("ab"), stream.write("c")] == [2, 1]
    assert Gone.times == 1 and stream.error is not None and stream.error.errno == 5
    assert not stream.isatty()  # all else is the stream's own


ESC = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"  # a title, an erased screen, a line written over, a colour, and reversed text


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command, and returns what it writes on a terminal."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        stream = io.StringIO()
        with monkeypatch.context() as patch:
            for name in ("stdout", "stderr"):
                patch.setattr(sys, name, Lenient(stream))
            app(list(words), standalone_mode=False)
        return stream.getvalue()

    return call


def test_no_text_of_others_controls_the_terminal(shown: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Autoencoder, "loss", mock.Mock(side_effect=ValueError(ESC)))
    (tmp_path / "own.py").write_text(f"raise ValueError({ESC!r})")
    Store("runs").plan([{"key": "0" * 64, "label": ESC, "dataset": ESC, "seeds": [0], "fidelity": ESC}])
    for words in (
        ["status", "--planned"],
        ["run", "ae[hidden=8]", "--fidelity", "smoke", "--seeds", "1", "--jobs", "0", "-v"],
        ["list", "--plugin", "own.py"],
        ["report", "digits", "--runs", ESC],
        ["run", "ae", "--dataset", ESC],
    ):
        said = shown(*words)
        assert "\\x1b" in said, words
        assert all(c.isprintable() or c == "\n" for c in said), words


def test_colours_are_richs_own() -> None:
    stream = io.StringIO()
    Terminal(file=Lenient(stream), force_terminal=True).print(f"[{ESC}", style="red")
    assert stream.getvalue() == f"\x1b[31m[{visible(ESC)}\x1b[0m\n"
