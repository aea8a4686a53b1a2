"""A folder is rewritten as a whole, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vae_variants.harness import folders
from vae_variants.harness.folders import rewritten

OLD, NEW = {"a.txt": "old", "sub/b.txt": "old"}, {"a.txt": "new", "sub/c.txt": "new"}


def write(folder: Path, files: dict[str, str]) -> None:
    for name in ("sub/b.txt", "sub/c.txt"):
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(params=["exchanged", "renamed"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, where names can be exchanged and where they cannot."""
    if request.param == "renamed":
        monkeypatch.setattr(folders.sys, "platform", "other")
    with rewritten(tmp_path / "report") as copy:
        write(copy, OLD)
    return tmp_path / "report"


def test_it_is_new_and_keeps_what_is_not_written(place: Path) -> None:
    assert files(place) == OLD
    (place / "own.txt").write_text("mine")
    with rewritten(place) as copy:
        assert files(place) == {**OLD, "own.txt": "mine"}
        write(copy, NEW)
        assert files(place) == {**OLD, "own.txt": "mine"}
    assert files(place) == {**NEW, "own.txt": "mine"}
    assert os.listdir(place.parent) == ["report"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_an_error_leaves_it_as_it_was(place: Path, error: BaseException) -> None:
    def fail() -> None:
        with rewritten(place) as copy:
            write(copy, NEW)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert files(place) == OLD
    assert os.listdir(place.parent) == ["report"]


def test_a_kill_leaves_it_as_it_was_and_the_next_one_tidies_up(place: Path) -> None:
    if (child := os.fork()) == 0:
        with rewritten(place) as copy:
            write(copy, NEW)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert files(place) == OLD
    (left,) = place.parent.glob(".*")
    with rewritten(place) as copy:
        write(copy, NEW)
    assert left.exists(), "it may be another command's that has just begun"
    os.utime(left, (0, 0))
    with rewritten(place):
        pass
    assert os.listdir(place.parent) == ["report"]


def test_the_copy_of_a_command_that_goes_on_is_left_alone(place: Path) -> None:
    with rewritten(place) as copy:
        os.utime(copy, (0, 0))
        with rewritten(place) as other:
            write(other, NEW)
        assert copy.exists() and files(place) == NEW
    assert files(place) == OLD


def test_two_at_once_give_one_of_the_two(tmp_path: Path) -> None:
    def rewrite(text: str) -> None:
        with rewritten(tmp_path / "report") as copy:
            for name in "abcdef":
                (copy / name).write_text(text)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rewrite, ["one", "two"] * 10))
    assert len(set(files(tmp_path / "report").values())) == 1
    assert os.listdir(tmp_path) == ["report"]


def test_a_file_in_its_place_stays(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(NotADirectoryError), rewritten(tmp_path / "report"):
        pass
    assert (tmp_path / "report").read_text() == "mine"
