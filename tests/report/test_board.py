"""The leaderboard's page and tables: whole without script, the same bytes each time, and harmless whatever the names."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.analysis.test_leaderboard import made, source, standard
from tests.report.test_page import HOSTILE, Read
from vae_variants.analysis.tables import read_csv
from vae_variants.cli.app import app
from vae_variants.harness.sources import Source, read_source
from vae_variants.harness.store import slug
from vae_variants.registry import UserError
from vae_variants.report.board import MATRIX, PAGE, SCORES, write_leaderboard


def two_sources() -> list[Source]:
    """Two data sets, with a flagged row, a plain winner, another pixel type, and runs that are left out."""
    better = {"log_likelihood": -22.0, "reconstruction_mse": 0.01, "fd": 0.5}
    seeds = range(5)
    digits = [made("iwae-8", seeds, apart=0.001, **better), made("made", seeds, apart=0.002, log_likelihood=-22.5)]
    digits += [made("vae-samples-8", seeds, log_likelihood=-20.0, unexplained_variance=0.99), made("vae-gaussian-learnt", seeds)]
    digits += [made("vae-gaussian-0.1", seeds, log_likelihood=10.0)]
    other = standard(made("iwae-8", dataset="b", apart=0.001, **better), dataset="b")
    return [source(*standard(*digits, seeds=seeds)), source(*other, name="two"), source(made("made", dataset="c"), name="three")]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("board") / "board"
    write_leaderboard(two_sources(), folder)
    return folder


def test_the_same_sources_give_the_same_bytes(written, tmp_path):
    write_leaderboard(two_sources(), tmp_path / "again")
    for name in (PAGE, SCORES, MATRIX):
        assert (tmp_path / "again" / name).read_bytes() == (written / name).read_bytes()


def test_the_page_says_everything_without_script(written):
    text = (written / PAGE).read_text(encoding="utf-8")
    read = Read(text)
    assert read.open == []
    ids = Counter(attributes["id"] for _, attributes in read.elements if "id" in attributes)
    assert [i for i, times in ids.items() if times > 1] == []
    fragments = {a["href"][1:] for a in read.all("a") if (a.get("href") or "").startswith("#")}
    assert len(fragments) > 8 and fragments <= set(ids)
    assert len(read.all("table")) == len(read.all("caption")) > 8
    assert all(th.get("scope") in ("col", "row", "rowgroup") for th in read.all("th"))
    for words in ("flagged: reconstructions no better", "no vae-bernoulli on npz:c/digits.npz", "Agarwal et al. 2021"):
        assert words in read.text, words
    assert re.search(r"\+40(\.\d+)? % of the error removed", read.text)
    winners = [attributes["data-winner"] for _, attributes in read.elements if "data-winner" in attributes]
    assert "iwae-8" in winners and "vae-samples-8" not in winners


def test_the_tables_have_what_the_page_has(written):
    scores, matrix = (pd.read_csv(written / name) for name in (SCORES, MATRIX))
    nats = scores[(scores.purpose == "Likelihood") & (scores.support == "binary")]
    assert set(nats.tasks) == {"digits (one) | digits (two)", "digits (one)"}
    first = nats[nats.tasks == "digits (one)"]
    assert list(first.variant[:3]) == ["iwae-8", "made", "vae-bernoulli"] and list(first["rank"].dropna()) == [1, 2, 3]
    assert list(first[first["rank"].isna()].variant) == ["vae-samples-8"]
    read = Read((written / PAGE).read_text(encoding="utf-8"))
    assert {attributes["data-variant"] for _, attributes in read.elements if "data-variant" in attributes} == set(matrix.variant)
    data = json.loads(re.search(r'id="data">(.*?)</script>', (written / PAGE).read_text(encoding="utf-8"), re.DOTALL)[1])
    assert set(data) == set(matrix.metric)
    assert sum(bool(cell) for rows in data.values() for row in rows for cell in row) == len(matrix)
    order = list(dict.fromkeys(a["data-variant"] for tag, a in read.elements if tag == "tr" and "data-variant" in a))
    assert len(order) == len(data["log_likelihood"]) and all(len(row) == 2 for row in data["log_likelihood"])


def test_a_hostile_name_is_shown_as_it_is(tmp_path):
    bad = replace(made("iwae-8", log_likelihood=-22.0), label=HOSTILE)
    write_leaderboard([source(*standard(bad, replace(bad, key="e" * 64, label="=1+1")))], tmp_path / "x")
    text = (tmp_path / "x" / PAGE).read_text(encoding="utf-8")
    assert len(Read(text).all("script")) == 2 and "<img" not in text
    assert HOSTILE in Read(text).text and "'=1+1" in (tmp_path / "x" / SCORES).read_text(encoding="utf-8")
    assert HOSTILE in set(read_csv(tmp_path / "x" / MATRIX).variant)


def test_without_a_default_variant_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="vae-bernoulli"):
        write_leaderboard([source(made("made"))], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_refuses_a_changed_record_in_one_line(tmp_path):
    for record in standard(made("iwae-8")):
        folder = tmp_path / "theirs" / "digits" / f"{slug(record.label)}-{record.key[:12]}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
    command = ["leaderboard", str(tmp_path / "theirs"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and str(tmp_path / "out" / PAGE) in result.stdout
    assert len(read_source(tmp_path / "theirs").runs) == 3
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (changed,) = (tmp_path / "theirs").rglob("iwae*/record.json")
    changed.write_text(changed.read_text(encoding="utf-8").replace("0.02", "0.01", 1), encoding="utf-8")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and str(changed) in result.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
