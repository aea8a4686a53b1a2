"""What the store holds is bound to its run, its data and its schema, and a file system without locks is named."""

from __future__ import annotations

import errno
import fcntl
import json
import os

import numpy as np
import pytest
import torch

from tests.harness.test_runner import CPU, spec
from vae_variants.cli.reporting import chosen_contents
from vae_variants.harness import Record, Store, run_all
from vae_variants.harness.files import StoreError, save_tensors, unseal
from vae_variants.harness.locks import training_lock
from vae_variants.harness.spec import look_again
from vae_variants.harness.store import PICTURES


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
    assert chosen_contents(store, [chosen]) == {chosen.identity: records[0].dataset["digest"]}
    assert "2 contents of data 'npz:a.npz'; the report has the runs of today's data" in capsys.readouterr().err
