"""The schema of records: what does not fit is refused with a ValueError of one line, whatever it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.made_up import grid, made_up
from vae_variants.harness import Record, Store
from vae_variants.harness.files import seal, unseal
from vae_variants.harness.record import at_once, metrics_in, step_by_step, summary

CONTENT = json.loads(unseal(made_up(grid(1, (0, 1))[0]).to_json()))
ROW = CONTENT["rows"][0]
WRONG = [
    {"seeds": []},
    {"seeds": [0, 0]},
    {"seeds": [0, True]},
    {"seeds": [0, 1.0]},
    {"seeds": ["0", "1"]},
    {"seeds": "01"},
    {"status": {"0": "ok"}},
    {"status": {"0": "ok", "1": "ok", "2": "ok"}},
    {"status": {"0": "ok", "1": "splendid"}},
    {"rows": [{**ROW, "value": True}]},
    {"rows": [{**ROW, "value": "1"}]},
    {"rows": [{**ROW, "seed": None}]},
    {"rows": [{name: value for name, value in ROW.items() if name != "unit"}]},
    {"rows": [ROW, 1]},
    {"rows": {"0": ROW}},
    {"curves": {"loss": [[1.0, 2.0]]}},
    {"curves": {"loss": [[1.0], ["2"]]}},
    {"epoch_seconds": [None]},
    {"series": {"kl_units": {"0": [None]}}},
    {"values": {}},
    {"values": {"model": 3}},
    {"values": [1]},
    {"dataset": {}},
    {"dataset": {**CONTENT["dataset"], "shape": [8, 8]}},
    {"dataset": {**CONTENT["dataset"], "sizes": {"train": 1.5, "validation": 1, "test": 1}}},
    {"dataset": {**CONTENT["dataset"], "sizes": {"train": 1, "validation": 1}}},
    {"environment": {"versions": 3}},
    {"trained": {"threads": "2"}},
    {"failure": {"epoch": 0.5}},
    {"classifier": {"test_accuracy": "high"}},
    {"started": "yesterday"},
    {"seconds": "1"},
    {"meaning": None},
    {"schema": 0},
    {"schema": -1},
    {"new": 1},
    {"\x1b[31m\n": 1},
]


@pytest.mark.parametrize("change", WRONG, ids=lambda change: json.dumps(change)[:40])
def test_a_record_that_does_not_fit_is_refused_in_one_printable_line(change):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the reason depends on the part)
        Record.from_json(seal(json.dumps({**CONTENT, **change}, indent=1)))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
@pytest.mark.parametrize("part", ["seconds", "values"])
def test_a_number_that_is_not_finite_is_refused_anywhere(part, number):
    value = "@" if part == "seconds" else {**CONTENT["values"], "lr": "@"}
    text = json.dumps({**CONTENT, part: value}, indent=1).replace('"@"', number)
    with pytest.raises(ValueError):  # noqa: PT011
        Record.from_json(seal(text))


def test_text_that_is_no_unicode_and_nesting_without_end_are_refused():
    for text in (json.dumps({**CONTENT, "label": "\ud800"}, indent=1), '{"values": ' + "[" * 10**5):
        with pytest.raises(ValueError):  # noqa: PT011
            Record.from_json(seal(text))


def test_names_of_files_that_are_no_unicode_are_read_as_they_were_written(tmp_path: Path, capsys):
    (spec,) = grid(1, (0, 1))
    record = made_up(spec)
    name = "npz:/tmp/caf\udce9.npz"
    rows = [{**ROW, "value": None, "status": "error", "reason": f"cannot read {name}"}, *record.rows[1:]]
    written = replace(record, dataset={**record.dataset, "name": name}, rows=rows, reason={"0": name}, failure={"traceback": name})
    assert Record.from_json(written.to_json()) == written
    store = Store(tmp_path)
    folder = store.folder(replace(spec, dataset=name), written.key)
    store.put(folder, written)
    assert list(store.records()) == [(folder, written)]
    assert store.newest([written.identity]) == {written.identity: (folder, written)}
    store.plan([{"key": written.key, "label": spec.label, "dataset": name, "seeds": [0, 1], "fidelity": "full"}])
    assert store.planned()[written.key]["dataset"] == name
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("part", ["dataset", "failure", "classifier", "environment", "trained"])
def test_parts_that_a_later_version_may_add_are_kept(part):
    whole = {"digest": "0" * 64, "test_accuracy": 0.9} if part == "classifier" else CONTENT[part]
    later = {**CONTENT, part: {**whole, "more": [1]}, "rows": [{**ROW, "more": 1}, *CONTENT["rows"][1:]]}
    record = Record.from_json(seal(json.dumps(later, indent=1)))
    assert getattr(record, part)["more"] == [1]
    assert record.rows[0]["more"] == 1
    assert Record.from_json(record.to_json()) == record


def test_a_record_that_does_not_fit_is_set_aside_with_one_line(tmp_path: Path, capsys):
    folder = tmp_path / "digits" / "vae-0"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(seal(json.dumps({**CONTENT, "rows": [{**ROW, "value": "high"}]}, indent=1)))
    assert list(Store(tmp_path).records()) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "set aside" in line and "rows.0.value" in line
    assert (folder / "record.json.damaged").is_file()


def places(number: object) -> list[dict]:
    """A record with a member more, in each part that may have one, or with another number."""
    parts = ("values", "dataset", "environment", "trained", "failure")
    found = [{**CONTENT, part: {**CONTENT[part], "more": [number]}} for part in parts]
    classifier = {"digest": "0" * 64, "test_accuracy": 0.5, "more": number}
    return [*found, {**CONTENT, "rows": [{**ROW, "more": number}]}, {**CONTENT, "classifier": classifier}, {**CONTENT, "seconds": number}]


def test_what_this_version_writes_is_read_at_once(monkeypatch):
    monkeypatch.setattr("vae_variants.harness.record.step_by_step", lambda *_: pytest.fail("read slowly"))
    for spec in grid(8, (0, 1)):
        assert Record.from_json(made_up(spec).to_json()) == made_up(spec)


def test_a_record_that_is_read_at_once_is_that_which_is_read_step_by_step():
    contents = [CONTENT, {**CONTENT, "order": 2**53}, *({**CONTENT, **change} for change in WRONG), *places("@")]
    for number in ("1.5", "1e999", "-1e999", "9" * 400 + ".0", "NaN"):
        for content in contents:
            body = json.dumps(content, indent=1).replace('"@"', number) + "\n"
            try:
                expected = step_by_step(body, sealed=True)
            except ValueError:
                expected = None
            assert at_once(body) == expected
    assert at_once(json.dumps({**CONTENT, "schema": 3}, indent=1)) is None


@pytest.mark.parametrize("indent", [None, 1], ids=["a line for each member", "indented, as older versions wrote it"])
@pytest.mark.parametrize("spec", grid(5, (0, 3)), ids=lambda spec: spec.label)
def test_a_summary_is_the_record_without_its_long_members(spec, indent):
    record = made_up(spec)
    content = (record.to_json() if indent is None else seal(json.dumps(json.loads(unseal(record.to_json())), indent=indent))).encode()
    assert summary(content) == replace(record, rows=[], curves={}, epoch_seconds=[], series={})
    assert metrics_in(content) == {row["metric"] for row in record.rows}
    for place in (5, len(content) // 2, len(content) - 40):  # head, rows, seal
        assert summary(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]) is None
    assert summary(content[:-1]) is None and summary(unseal(content.decode()).encode()) is None


@pytest.mark.parametrize("change", [{"seeds": [0, 0]}, {"status": {"0": "ok"}}, {"values": {}}, {"schema": 4}])
def test_a_summary_does_not_tell_of_what_does_not_fit(change):
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in (CONTENT | change).items()]
    assert summary(seal("{\n" + ",\n".join(lines) + "\n}").encode()) is None
