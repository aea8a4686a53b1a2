"""What every study promises, over the registry; `--plugin FILE.py` adds one's own."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from vae_variants.harness import Store
from vae_variants.report.metrics_page import escaped
from vae_variants.studies import STUDIES, Findings, Lab, Table, Verdict
from vae_variants.studies.page import cell, write_claims
from vae_variants.studies.record import StudyRecord, run_study

Measured = tuple[StudyRecord, Findings]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab("digits", "smoke", None, Store(tmp_path_factory.mktemp("studies") / "runs"), torch.device("cpu"))


@pytest.fixture(scope="module", params=list(STUDIES))
def measured(request: pytest.FixtureRequest, lab: Lab) -> Measured:
    record, found = run_study(request.param, lab, f"vae-variants study {request.param}")
    assert not record.error
    return record, found


def test_a_study_says_what_it_claims(measured: Measured):
    record, found = measured
    assert record.claim.endswith(".") and record.criterion.endswith(".") and record.source and len(record.description) > 100
    assert record.judgement is not None and len(record.judgement.reason) > 20 and record.judgement.effects
    assert record.judgement.reason.count(". ") <= 2, "one to three sentences"
    for name, table in found.tables.items():
        assert table.rows, name
        assert all(not isinstance(value, float) or math.isfinite(value) for row in table.rows for value in row), name


def test_a_verdict_is_a_function_of_what_the_page_shows(measured: Measured, tmp_path: Path):
    record, found = measured
    kept = StudyRecord.from_json(record.to_json())
    assert kept == record and STUDIES[record.name]().judge(kept.tables) == record.judgement
    assert not write_claims(*measured, tmp_path).error
    folder = tmp_path / "claims"
    page = (folder / f"digits-smoke-{record.name}.md").read_text()
    short = (folder / "README.md").read_text()
    cells = {part.strip() for line in page.splitlines() if line.startswith("|") for part in re.split(r"(?<!\\)\|", line)}
    for table in found.tables.values():
        missing = {escaped(cell(value)) for row in table.rows for value in row} - cells
        assert not missing
    for effect in record.judgement.effects:
        assert f"| {escaped(effect.criterion)} | {effect.verdict.value} |" in page
    drawn = list((folder / "figures").iterdir())
    assert drawn and all(path.stat().st_size > 2000 for path in drawn)
    assert all(f"](figures/{path.name})" in page for path in drawn)
    assert escaped(record.claim) in short and escaped(record.judgement.reason) in short and f"(digits-smoke-{record.name}.md)" in short
    assert "](figures/" in short and record.command in short
    assert all(f"- {escaped(sentence)}" in page and f"- {escaped(sentence)}" in short for sentence in record.judgement.more)


def test_one_seed_supports_nothing(measured: Measured):
    record, found = measured
    one, seeded = {}, False
    for name, table in found.tables.items():
        if "seed" in table.columns:
            first = min(row["seed"] for row in table)
            i, seeded = table.columns.index("seed"), True
            table = Table(table.caption, table.columns, tuple(row for row in table.rows if row[i] == first), table.folded)
        one[name] = table
    if seeded:
        assert STUDIES[record.name]().judge(one).verdict not in (Verdict.SUPPORTED, Verdict.CONDITIONAL)
