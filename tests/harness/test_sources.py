"""Somebody's runs: a report's folder or a folder of records. A changed byte is refused in one line, and nothing is changed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.made_up import fill, grid, made_up
from vae_variants.harness import Store
from vae_variants.harness.archive import HEADER, RECORDS, packed
from vae_variants.harness.files import seal, unseal
from vae_variants.harness.sources import read_source
from vae_variants.registry import UserError
from vae_variants.report.context import Context

PLAN = grid(3, (0, 1))


@pytest.fixture
def records(tmp_path: Path) -> Path:
    fill(Store(tmp_path / "runs"), PLAN)
    return tmp_path / "runs"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    runs = [(spec.label, made_up(spec), dict) for spec in PLAN]
    for name, content in packed(Context("mine", "vae-variants bench mine", (), (), (), ()).as_json(), runs, {}).items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder: Path) -> str:
    before = contents(folder)
    with pytest.raises(UserError) as caught:
        read_source(folder)
    assert contents(folder) == before
    line = str(caught.value)
    assert line.isprintable()
    return line


def test_an_archive_and_a_folder_of_records_give_the_same_runs(records, report):
    a, b = read_source(records), read_source(report)
    assert (
        {label: record for label, record, _ in a.runs}
        == {label: record for label, record, _ in b.runs}
        == {spec.label: made_up(spec) for spec in PLAN}
    )
    assert (a.name, b.name) == ("runs", "mine")
    one = next(records.glob("*/*"))
    assert len(read_source(one).runs) == 1 and len(read_source(records / "digits").runs) == 3


def test_the_newest_record_counts(records):
    newer = made_up(PLAN[0], turn=1)
    folder = records / "digits" / f"again-{newer.key[:12]}"
    folder.mkdir()
    (folder / "record.json").write_text(newer.to_json(), encoding="utf-8")
    assert {label: r for label, r, _ in read_source(records).runs}[newer.label] == newer


def test_a_changed_byte_is_refused(records, report):
    chance = random.Random(0)
    file = sorted(records.rglob("record.json"))[1]
    original = file.read_bytes()
    for place in chance.sample(range(len(original)), 60):
        file.write_bytes(original[:place] + bytes([original[place] ^ 1 << chance.randrange(8)]) + original[place + 1 :])
        assert str(file) in refused(records)
    file.write_bytes(original[: len(original) // 2])
    assert str(file) in refused(records)
    for name in (HEADER, RECORDS):
        whole = (report / name).read_bytes()
        (report / name).write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
        assert "was changed or damaged" in refused(report)
        (report / name).write_bytes(whole)


def test_a_record_without_a_seal_or_of_a_wrong_schema_is_refused(records):
    file = next(records.rglob("record.json"))
    text = unseal(file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")
    assert "digest" in refused(records)
    file.write_text(seal(json.dumps(json.loads(text) | {"extra": 1}, indent=1)), encoding="utf-8")
    assert "extra" in refused(records)
    file.write_text(seal(json.dumps(json.loads(text) | {"schema": 99}, indent=1)), encoding="utf-8")
    assert "update vae-variants" in refused(records)


def test_a_folder_without_runs_says_what_to_give(tmp_path):
    assert HEADER in refused(tmp_path)
