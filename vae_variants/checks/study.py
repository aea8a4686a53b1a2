"""Checks of studies: measured at smoke fidelity, once for all of them."""

from __future__ import annotations

import atexit
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vae_variants.checks.base import Failed, Skipped, check

if TYPE_CHECKING:
    from vae_variants.studies import Findings, Lab
    from vae_variants.studies.record import StudyRecord


@lru_cache(maxsize=1)
def lab() -> Lab:
    from vae_variants.harness import Store
    from vae_variants.studies import Lab  # brings matplotlib

    folder = tempfile.TemporaryDirectory(prefix="vae-variants-")
    atexit.register(folder.cleanup)
    return Lab("digits", "smoke", None, Store(Path(folder.name) / "runs"), torch.device("cpu"))


@lru_cache(maxsize=64)
def measured(name: str) -> tuple[StudyRecord, Findings]:
    from vae_variants.studies.record import run_study

    record, found = run_study(name, lab(), f"vae-variants study {name}")
    if record.error:
        raise Failed(f"fails on digits at smoke fidelity: {record.error}", "fix the line that is named")
    return record, found


@check("study", first=True)
def says_what_it_claims(name: str) -> None:
    """Claim, criterion and source are sentences, and it measures and judges at smoke fidelity."""
    record, _ = measured(name)
    for part in ("claim", "criterion"):
        if not getattr(record, part).endswith("."):
            raise Failed(f"its {part} is not a sentence", f"end {part} with a full stop")
    if not record.source:
        raise Failed("it has no source", "say who claims it")
    if len(record.description) <= 60:
        raise Failed("its docstring does not say what is measured", "write a sentence or two of more than 60 characters")


@check("study", first=True)
def gives_reasons(name: str) -> None:
    """Its verdict has a reason of one to three sentences, effects, and tables of finite values."""
    record, found = measured(name)
    judgement = record.judgement
    if judgement is None or len(judgement.reason) <= 20 or judgement.reason.count(". ") > 2:
        raise Failed("its verdict has no reason of one to three sentences", "write it into Judgement(verdict, reason, effects)")
    if not judgement.effects:
        raise Failed("its verdict shows no effect", "give the Effects that it rests on")
    for title, table in found.tables.items():
        if not len(table):
            raise Failed(f"its table {title!r} is empty", "leave out tables that have no rows")


@check("study")
def its_verdict_follows_from_what_the_page_shows(name: str) -> None:
    """Its verdict is a function of its tables alone, and the page shows every value, effect and figure."""
    from vae_variants.analysis.tables import read_csv  # brings pandas
    from vae_variants.harness.store import slug
    from vae_variants.report.markdown import escaped
    from vae_variants.studies import STUDIES
    from vae_variants.studies.page import write_claims
    from vae_variants.studies.record import StudyRecord

    record, found = measured(name)
    kept = StudyRecord.from_json(record.to_json())
    study = STUDIES[name]()
    if kept.to_json() != record.to_json() or study.judge(kept.tables) != record.judgement:
        raise Failed("judging its kept tables gives another verdict", "let judge() look at tables alone, and draw nothing")
    with tempfile.TemporaryDirectory(prefix="vae-variants-") as root:
        if error := write_claims(record, found, Path(root)).error:
            raise Failed(f"its page cannot be written: {error}", "fix draw()")
        folder = Path(root) / "claims"
        page, short = (folder / f"digits-smoke-{name}.md").read_text(encoding="utf-8"), (folder / "README.md").read_text(encoding="utf-8")
        drawn = list((folder / "figures").iterdir())
        if not drawn or any(path.stat().st_size <= 2000 or f"](figures/{path.name})" not in page for path in drawn):
            raise Failed("its page has no figure, or an empty one", "give at least one Picture that shows the effect")
        for title, table in found.tables.items():
            path = f"data/digits-smoke-{name}/{slug(title)}.csv"
            if path not in page or not (folder / path).is_file() or len(read_csv(folder / path)) != len(table):
                raise Failed(f"its page has no table {title!r}", "give plain values")
    assert record.judgement is not None
    wanted = [f"| {escaped(effect.criterion)} | {effect.verdict.value} |" for effect in record.judgement.effects]
    wanted += [record.command, escaped(record.criterion)]
    summary = [escaped(record.claim), escaped(record.judgement.reason), f"(digits-smoke-{name}.md)", "](figures/"]
    if absent := [text for text in wanted if text not in page] + [text for text in summary if text not in short]:
        raise Failed(f"its page does not show {min(absent)!r}", "give one line of plain text for each")


@check("study")
def one_seed_supports_nothing(name: str) -> None:
    """Of tables with one seed alone it does not say that its claim is supported."""
    from vae_variants.studies import STUDIES, Verdict

    record, found = measured(name)
    one, seeded = {}, False
    for title, table in found.tables.items():
        one[title] = table[table["seed"] == table["seed"].min()] if "seed" in table else table
        seeded |= "seed" in table
    if not seeded:
        raise Skipped("its tables have no column `seed`")
    study = STUDIES[record.name]()
    if (verdict := study.judge(one).verdict) in (Verdict.SUPPORTED, Verdict.CONDITIONAL):
        raise Failed(f"one seed alone is judged {verdict.value!r}", "judge intervals over seeds: vae_variants.analysis.verdicts.compared")
