"""Names that pandas takes for missing values or numbers stay names: in tables, comparisons, reports and studies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tests.made_up import grid, made_up
from vae_variants.analysis.comparison import compare, table_of
from vae_variants.analysis.entries import Entry
from vae_variants.analysis.tables import read_csv, results, summary, write_csv
from vae_variants.cli.app import app
from vae_variants.cli.compare import reported
from vae_variants.report.content import content
from vae_variants.report.html import page
from vae_variants.report.readme import readme
from vae_variants.studies.record import parsed, plain
from vae_variants.studies.study import by_seed, rows, table

NAMES = ("null", "NA", "nan", "None", "N/A", "NULL", "True", "plain", "007", "1e5", "-inf")


@pytest.fixture(scope="module")
def entries():
    specs = grid(len(NAMES), (0, 1, 2))
    return [Entry(name, replace(made_up(spec), label=name), index=i) for i, (name, spec) in enumerate(zip(NAMES, specs, strict=True))]


def test_tables_keep_names(entries, tmp_path):
    for made in (results(entries), summary(entries)):
        write_csv(made, tmp_path / "a.csv")
        text = (tmp_path / "a.csv").read_text()
        (tmp_path / "a.csv").write_text("\ufeff" + text, encoding="utf-8")  # as a spreadsheet saves it
        found = read_csv(tmp_path / "a.csv")
        assert list(dict.fromkeys(found.variant)) == list(NAMES) and list(found.columns) == list(made.columns)
        assert found.select_dtypes("number").columns.tolist() == made.select_dtypes("number").columns.tolist()


@pytest.mark.parametrize("name", ["nan", "null", "007"])
def test_what_got_worse_is_told_whatever_its_name(entries, name, tmp_path):
    folders = [tmp_path / "before", tmp_path / "after"]
    frame = results(entries)
    for folder, change in zip(folders, (0, 1000), strict=True):
        folder.mkdir()
        worse = frame.assign(value=frame.value.where((frame.variant != name) | (frame.metric != "log_likelihood"), frame.value - change))
        write_csv(worse, folder / "results.csv")
    before, after = (reported(folder / "results.csv") for folder in folders)
    assert set(before.variant) == set(NAMES)
    (row,) = [row for row in compare(before, after).rows if row.kind in ("worse", "changed", "perhaps")]
    assert (row.kind, row.variant, row.metric) == ("worse", name, "log_likelihood")
    assert not compare(table_of(entries), before).worse
    done = CliRunner().invoke(app, ["compare", *map(str, folders)])
    assert done.exit_code == 1 and name in done.stdout


def test_reports_and_studies_keep_names(entries):
    made = content("digits", entries, "c")
    for text in (readme(made, []), page(made)):
        assert all(f"`{name}`" in text or f'data-variant="{name}"' in text for name in NAMES)
    measured = table("t", [{"variant": name, "seed": 0, "value": float(i)} for i, name in enumerate(NAMES)])
    again = parsed(plain(measured))
    assert [row["variant"] for row in rows(again)] == list(NAMES)
    assert all(by_seed(again, "value", variant=name).tolist() == [float(i)] for i, name in enumerate(NAMES))
