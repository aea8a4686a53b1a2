"""The page of claims: what each says, the verdict, and everything that the verdict rests on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import pandas as pd

from vae_variants.harness.store import slug
from vae_variants.registry import UserError
from vae_variants.report import write_index
from vae_variants.report.metrics_page import anchor, escaped
from vae_variants.report.tables import write_csv
from vae_variants.studies.record import StudyRecord, read_all
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Table, Verdict

__all__ = ["cell", "effects_tables", "write_claims"]

MARKS = {Verdict.SUPPORTED: "✔", Verdict.CONDITIONAL: "◐", Verdict.INCONCLUSIVE: "?", Verdict.REFUTED: "✘"}
INTRODUCTION = """\
# The textbook's claims, tested

Each claim was put to the test by a study whose criterion was written down before it ran. **Supported**: what the claim says was seen,
with an interval that leaves no room for the opposite. **Not supported**: the opposite was. **Supported under conditions**: it depends, and
the reason says on what. **Inconclusive**: the data cannot tell, which is no verdict for either side. Every figure that a verdict
rests on is on this page; `claims.csv` has the effects, `data/` the tables for programs.
"""


def cell(value: Cell, digits: int = 4) -> str:
    """A value as the page shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return (f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.{digits}g}").replace("-", "−")
    return str(value)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    lines = [
        "| " + " | ".join(map(escaped, columns)) + " |",
        "|" + "|".join("---" if i < left else "--:" for i in range(len(columns))) + "|",
    ]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def effects_tables(effects: Sequence[Effect]) -> list[tuple[list[str], list[list[str]]]]:
    """Header and cells: what each effect is of, its size with interval, what it was held against, its verdict; a table for each kind."""
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for e in effects:
        size = f"{cell(e.value)} {e.unit}".rstrip()
        span = "–" if e.low is None or e.high is None or e.level is None else f"{cell(e.low)} to {cell(e.high)} ({e.level:.0%})"
        row = [*map(cell, e.where.values()), size, span, f"{e.n} {e.of}", e.criterion, e.verdict.value]
        kinds.setdefault(tuple(e.where), []).append(row)
    return [([*places, "effect", "interval", "n", "criterion", "verdict"], rows) for places, rows in kinds.items()]


def shown(table: Table) -> list[str]:
    numeric = [all(row[i] is None or isinstance(row[i], (int, float)) for row in table.rows) for i in range(len(table.columns))]
    left = numeric.index(True) if True in numeric else len(numeric)
    body = markdown(table.columns, ([escaped(cell(value)) for value in row] for row in table.rows), left)
    if not table.folded:
        return [f"{escaped(table.caption)}:", "", *body]
    return [f"<details><summary>{escape(table.caption)} ({len(table.rows)} rows)</summary>", "", *body, "</details>", ""]


def figure_name(record: StudyRecord, name: str) -> str:
    return f"{slug(record.dataset['name'])}-{slug(record.name)}-{slug(name)}.png"


def section(record: StudyRecord) -> list[str]:
    """What one study found on one data set."""
    lines = [f"### {record.name} on {record.dataset['name']}", ""]
    if record.judgement is None:
        return [*lines, f"**There is no verdict**: {escaped(record.error)}", "", *footer(record)]
    lines += [
        f"**{MARKS[record.judgement.verdict]} {record.judgement.verdict.value.capitalize()}.** {escaped(record.judgement.reason)}",
        "",
    ]
    for name, caption in record.captions.items():
        lines += [f"![{escaped(caption)}](figures/{figure_name(record, name)})", "", f"<sub>{escaped(caption)}</sub>", ""]
    for header, rows in effects_tables(record.judgement.effects):
        lines += markdown(header, [list(map(escaped, row)) for row in rows], len(header) - 5)
    for table in record.tables.values():
        lines += shown(table)
    return [*lines, *footer(record)]


def footer(record: StudyRecord) -> list[str]:
    machine = record.environment.get("device", "")
    return [f"Reproduce with `{record.command}` ({record.fidelity} fidelity; took {record.seconds:.0f} s on {machine}).", ""]


def page(records: Sequence[StudyRecord]) -> str:
    """README.md of the claims, in the order of the registry, other studies after those that it knows."""
    names = [*(name for name in STUDIES if any(r.name == name for r in records)), *(r.name for r in records if r.name not in STUDIES)]
    data = sorted({r.dataset["name"] for r in records})
    by = {(r.name, r.dataset["name"]): r for r in records}
    commands = dict.fromkeys(re.sub(r"^(vae-variants study) \S*(?= --|$)", r"\1", r.command) for r in records)
    lines = [*INTRODUCTION.split("\n"), f"Made by {', '.join(f'`{c}`' for c in commands)}.", ""]
    rows = []
    for name in dict.fromkeys(names):
        first = next(r for r in records if r.name == name)
        verdicts = []
        for d in data:
            r = by.get((name, d))
            text = "–" if r is None else f"{MARKS[r.judgement.verdict]} {r.judgement.verdict.value}" if r.judgement else "failed"
            verdicts.append(text if r is None else f"[{text}](#{anchor(f'{name} on {d}')})")
        rows.append([f"[{name}](#{anchor(name)})", escaped(first.claim), *verdicts])
    lines += markdown(["study", "claim", *data], rows, 2 + len(data))
    for name in dict.fromkeys(names):
        found = [by[name, d] for d in reversed(data) if (name, d) in by]
        first = found[0]
        lines += [f"## {name}", "", f"> {escaped(first.claim)}", ">", f"> — {escaped(first.source)}", ""]
        lines += [*escaped(first.description).split("\n"), ""]
        lines += [f"**Criterion, written before the study ran.** {escaped(first.criterion)}", ""]
        for record in found:
            lines += section(record)
    return "\n".join(lines)


def csv(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """One row per effect."""
    rows = []
    for r in records:
        overall = r.judgement.verdict.value if r.judgement else "failed"
        common = {"study": r.name, "dataset": r.dataset["name"], "fidelity": r.fidelity, "claim_verdict": overall}
        for e in r.judgement.effects if r.judgement else ():
            where = "; ".join(f"{k} = {v}" for k, v in e.where.items())
            rest = {k: v for k, v in e._asdict().items() if k not in ("where", "verdict")}
            rows.append({**common, "where": where, **rest, "verdict": e.verdict.value})
        if not (r.judgement and r.judgement.effects):
            rows.append(common)
    columns = [
        "study",
        "dataset",
        "fidelity",
        "claim_verdict",
        "where",
        *(f for f in Effect._fields if f not in ("where", "verdict")),
        "verdict",
    ]
    return pd.DataFrame(rows, columns=columns)


def write_claims(measured: Sequence[tuple[StudyRecord, Findings]], reports: Path) -> Path:
    """Adds what was measured to the page of claims under `reports`, which keeps its other studies and data sets -> its folder."""
    folder = reports / "claims"
    try:
        for part in ("data", "figures"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for record, found in measured:
            pictures = STUDIES[record.name]().draw(found) if record.judgement else []
            stem = f"{slug(record.dataset['name'])}-{slug(record.name)}"
            for old in (folder / "figures").glob(f"{stem}-*.png"):
                old.unlink()
            for picture in pictures:
                picture.figure.savefig(folder / "figures" / figure_name(record, picture.name), metadata={"Software": None})
            kept = replace(record, captions={picture.name: picture.caption for picture in pictures})
            (folder / "data" / f"{stem}.json").write_text(kept.to_json(), encoding="utf-8")
        records = read_all(folder / "data")
        (folder / "README.md").write_text(page(records), encoding="utf-8")
        write_csv(csv(records), folder / "claims.csv")
        write_index(reports)
    except OSError as error:
        raise UserError(f"cannot write the claims under {str(reports)!r}: {error.strerror or error}") from error
    return folder
