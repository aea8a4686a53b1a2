"""`vae-variants status` of made-up stores: however much of a record it reads and whoever prints its table, it says the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.made_up import fill, grid, made_up
from vae_variants.cli import durations
from vae_variants.cli.status import show, suite_rows
from vae_variants.datasets import load_dataset
from vae_variants.harness import Store
from vae_variants.harness.progress import Terminal
from vae_variants.harness.store import RECORD

SPECS = grid(4, (0, 1))
ODD = {"metric": "of-a-plug-in", "value": 1.0, "unit": "", "better": "none", "kind": "measurement", "status": "ok", "reason": "", "seed": 0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Runs of today's code, of older code, with a metric of an absent plug-in, and a failed one."""
    found = Store(tmp_path / "runs")
    fill(found, SPECS)
    today, _, plugged, failed = (found.newest([spec.identity])[spec.identity] for spec in SPECS)
    found.put(today[0], replace(today[1], code=SPECS[0].code))
    found.put(plugged[0], replace(plugged[1], rows=[*plugged[1].rows, ODD]))
    found.put(failed[0], replace(failed[1], code=SPECS[3].code, status={"0": "ok", "1": "error"}, reason={"1": "no"}))
    return found


def test_each_state_is_told_from_a_brief_record_as_from_the_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = suite_rows(SPECS, store)
    assert [row["state"] for row in rows] == ["ok", "ok, stale", "ok, its plug-in is not loaded", "error, ok"]
    monkeypatch.setattr("vae_variants.harness.store.summary", lambda _: None)
    assert suite_rows(SPECS, store) == rows


def test_a_table_that_fits_is_printed_as_rich_prints_it(store: Store, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    rows = suite_rows(SPECS, store)
    rows[1]["variant"] = "wide \u5909\u5206 \x1b[31m"
    shown = []
    for extra, width in (("epochs", 200), ("key", 200), ("epochs", 40)):
        monkeypatch.setattr("vae_variants.harness.progress.out", Terminal(width=width))
        show(rows, extra)
        shown.append(capsys.readouterr().out)
        monkeypatch.setattr("rich.cells.cell_len", lambda _: 1000)  # nothing fits
        show(rows, extra)
        assert capsys.readouterr().out == shown[-1]
        monkeypatch.undo()
    assert max(map(len, shown[2].splitlines())) <= 40 < max(map(len, shown[0].splitlines()))


def test_a_folder_is_found_under_another_label_as_soon_as_it_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parent = tmp_path / SPECS[0].dataset
    for key in "ab":
        assert store.locate(SPECS[0], key * 64).name == f"{SPECS[0].label}-{key * 12}"
        (parent / f"other-{key * 12}").mkdir(parents=True)
        assert store.locate(SPECS[0], key * 64) == parent / f"other-{key * 12}"


def test_the_time_of_a_run_is_that_of_its_newest_record_for_as_many_seeds(tmp_path: Path) -> None:
    store, data = Store(tmp_path), load_dataset("digits")
    wanted = grid(3, (0, 1, 2))
    for turn, spec in enumerate(grid(2, (0, 1))):
        record = made_up(spec, turn)
        mine = {**record.dataset, "shape": list(data.shape), "sizes": data.sizes}
        store.put(store.folder(spec, record.key), replace(record, dataset=mine, seconds=10.0 + turn, environment={"device_type": "cpu"}))
    assert len(list(store.root.glob(f"*/*/{RECORD}"))) == 2
    found = durations.all_known(wanted, {("digits", "full"): data}, store, "cpu")
    assert found == {wanted[0].identity: 15.0, wanted[1].identity: 16.5}
    assert durations.all_known(wanted, {}, store, "cpu") == {}
