"""What the store holds is bound to its run, its data and its schema, and a file system without locks is named."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.harness.test_runner import CPU, figures, spec
from vae_variants.cli.compare import stored
from vae_variants.cli.reporting import chosen_contents
from vae_variants.cli.status import planned_rows, suite_rows
from vae_variants.harness import Record, Store, environment, run_all, runner
from vae_variants.harness.files import StoreError, save_tensors, seal, unseal
from vae_variants.harness.locks import training_lock
from vae_variants.harness.spec import look_again
from vae_variants.harness.store import PICTURES, RECORD


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> list[Record]:
    return run_all([spec("reference-pca-2")], Store(tmp_path_factory.mktemp("runs")), CPU)


def test_a_record_that_says_it_is_older_than_its_members_is_none(done):
    content = json.loads(unseal(done[0].to_json()))
    with pytest.raises(ValueError, match="schema 2 with 'code'"):
        Record.from_json(json.dumps(content | {"schema": 2}, indent=1))


def test_pictures_of_another_run_are_not_shown(tmp_path):
    store = Store(tmp_path)
    for key in "ab":
        (store.root / f"run-{key * 12}").mkdir()
        save_tensors(store.root / f"run-{key * 12}" / PICTURES, {"samples": torch.ones(1)}, key="a" * 64)
    assert [len(store.pictures(store.root / f"run-{key * 12}")) for key in "ab"] == [1, 0]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line_that_says_what_to_do(number, tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(StoreError, match="no locks: name a folder on another one with --runs"), training_lock(Store(tmp_path), "a"):
        pass


def test_the_report_shows_the_runs_of_todays_data_and_says_that_there_are_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store, chosen = Store("runs"), spec("reference-pca-2", dataset="npz:a.npz")
    contents = [np.random.default_rng(i).random((60, 4, 4)) for i in range(2)]
    records = []
    for content in contents:
        np.savez("a.npz", x=content)
        records += run_all([chosen], store, CPU)
    assert len({record.dataset["digest"] for record in records}) == 2
    np.savez("a.npz", x=contents[0])
    look_again(["npz:a.npz"])
    assert chosen_contents(store, [chosen], store.candidates([chosen.identity])) == {chosen.identity: records[0].dataset["digest"]}
    assert "2 contents of data 'npz:a.npz'; the report has the runs of today's data" in capsys.readouterr().err


class Backwards(datetime):
    """A clock that is set back by a day before each time it is asked."""

    days = 0

    @classmethod
    def now(cls, tz=None):
        cls.days += 1
        return datetime.now(tz) - timedelta(days=cls.days)


@pytest.fixture
def turns(tmp_path, monkeypatch) -> tuple[Store, list[Record]]:
    """A store with two runs of one identity, of two contents of `a.npz`; the clock was set back between them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "datetime", Backwards)
    store, records = Store("runs"), []
    for i in range(2):
        np.savez("a.npz", x=np.random.default_rng(i).random((60, 4, 4)))
        records += run_all([spec("reference-pca-2", dataset="npz:a.npz")], Store("runs"), CPU)
    assert records[1].started < records[0].started
    return store, records


def test_after_the_clock_was_set_back_the_later_run_is_the_newer_one(turns, monkeypatch):
    store, (_, later) = turns
    chosen = spec("reference-pca-2", dataset="npz:a.npz")
    assert store.newest([chosen.identity])[chosen.identity][1] == later
    assert set(stored(store.root, None).data) == {later.dataset["digest"]}
    monkeypatch.setattr("vae_variants.harness.record.fingerprint", lambda values, evaluation=True: "today's")  # no record is current
    for code in ("a", "b", "c"):
        monkeypatch.setattr("vae_variants.harness.spec.fingerprint", lambda values, evaluation=True, code=code: code)
        (found,) = run_all([chosen], store, CPU, retry="never" if code == "c" else "older")
        assert found.code == min(code, "b"), "of the records of the same data the newest is reused"
    (row,) = suite_rows([chosen], store)
    assert row["key"] == found.key
    Path("a.npz").unlink()
    assert chosen_contents(store, [chosen], store.candidates([chosen.identity])) == {chosen.identity: later.dataset["digest"]}


def test_status_says_which_records_are_of_other_data_than_todays(turns):
    store, (former, later) = turns
    chosen = spec("reference-pca-2", dataset="npz:a.npz")
    states = {row["key"]: row["state"] for row in planned_rows(store)}
    assert states == {former.key: "ok, its data has changed", later.key: "ok"}
    np.savez("a.npz", x=np.random.default_rng(0).random((60, 4, 4)))
    assert [(row["key"], row["state"]) for row in suite_rows([chosen], store)] == [(former.key, "ok")]
    for content, says in ((np.zeros((60, 4, 4), np.uint8), "has changed"), (None, "cannot be read")):
        Path("a.npz").unlink() if content is None else np.savez("a.npz", x=np.arange(960).reshape(60, 4, 4) % 255 + content)
        assert [row["state"] for row in suite_rows([chosen], store)] == [f"ok, its data {says}"]


def test_a_new_record_is_newer_than_all_that_are_there_of_whatever_schema_and_store(turns):
    store, (_, later) = turns
    path = store.root / "older" / "vae-0" / RECORD
    path.parent.mkdir(parents=True)
    content = json.loads(unseal(later.to_json()))
    del content["order"]
    path.write_text(seal(json.dumps(content | {"schema": 3, "started": "2199-01-01T00:00:00+00:00"}, indent=1)))
    os.utime(path, (7.2e9, 7.2e9))  # written while the clock stood in the year 2198
    np.savez("a.npz", x=np.random.default_rng(2).random((60, 4, 4)))
    (latest,) = run_all([spec("reference-pca-2", dataset="npz:a.npz")], store, CPU)
    assert latest.order > 7.2e15 > later.order
    (again,) = run_all([spec("reference-pca-2", dataset="npz:a.npz")], Store("runs"), CPU, retry="all")
    assert again.order > latest.order and again.started < latest.started


def test_without_locks_another_command_at_any_moment_of_writing_spoils_nothing(tmp_path, monkeypatch):
    """`flock` does nothing, and renames are slow: before one of them, another command makes the same run from beginning to end."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    chosen, real = spec("reference-pca-2"), os.replace
    (alone,) = run_all([chosen], Store(tmp_path / "alone"), CPU)
    turn, renames = 0, [True]
    while len(renames) > turn:
        store, renames = Store(tmp_path / f"runs-{turn}"), []

        def slow(old, new, renames=renames, turn=turn, store=store):
            renames.append(new)
            if len(renames) == turn + 1:
                run_all([chosen], Store(store.root), CPU, retry="all")
            real(old, new)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", slow)
            (record,) = run_all([chosen], store, CPU)
        assert figures(record) == figures(alone)
        assert [figures(found) for _, found in store.records()] == [figures(alone)]
        assert list(store.root.rglob("*.tmp")) == list(store.root.rglob("*.damaged")) == []
        turn += 1
    assert turn > 3


@pytest.fixture
def git(tmp_path, monkeypatch) -> Callable[..., str]:
    """Runs git in a folder that holds a copy of the file whose commit counts."""
    (tmp_path / "site-packages").mkdir()
    file = tmp_path / "site-packages" / "environment.py"
    file.write_text("")
    monkeypatch.setattr(environment, "__file__", str(file))
    me = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return lambda *words: subprocess.run(["git", *me, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()


def test_the_recorded_commit_is_that_of_the_projects_own_repository(git, tmp_path):
    """Not of one in which the environment happens to lie."""
    assert environment.commit() is None
    git("init", "-q")
    (tmp_path / "mine.txt").write_text("")
    git("add", "mine.txt")
    git("commit", "-qm", "Mine")
    assert environment.commit() is None, "that repository does not track the package"
    git("add", ".")
    git("commit", "-qm", "The package")
    assert environment.commit() == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "mine.txt").write_text("changed")
    assert environment.commit().endswith("+")
