"""The page of claims: what each says, the verdict, and everything that the verdict rests on."""

from __future__ import annotations

import math
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
MANY = 12  # effects, above which they are folded
INTRODUCTION = """\
# The textbook's claims, tested

Each claim was put to the test by a study whose criterion was written down before it ran. **Supported**: what the claim says was seen,
with an interval that leaves no room for the opposite. **Not supported**: the opposite was. **Supported under conditions**: it depends, and
the reason says on what. **Inconclusive**: the data cannot tell, which is no verdict for either side. Every figure that a verdict
rests on is here or one link away; [claims.csv](claims.csv) has the effects, `data/` the tables for programs.
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
    return folded(f"{table.caption} ({len(table.rows)} rows)", body)


def stem(record: StudyRecord) -> str:
    """Of the names of all files that are about one study on one data set."""
    return f"{slug(record.dataset['name'])}-{slug(record.name)}"


def verdict(record: StudyRecord) -> str:
    return "failed" if record.judgement is None else f"{MARKS[record.judgement.verdict]} {record.judgement.verdict.value}"


def reasoned(record: StudyRecord) -> list[str]:
    if record.judgement is None:
        return [f"There is no verdict: {escaped(record.error)}", ""]
    return [f"**{verdict(record)}.** {escaped(record.judgement.reason)}", ""]


def figures(record: StudyRecord, most: int | None = None) -> list[str]:
    lines = []
    for name, caption in list(record.captions.items())[:most]:
        lines += [f"![{escaped(caption)}](figures/{stem(record)}-{slug(name)}.png)", "", f"<sub>{escaped(caption)}</sub>", ""]
    return lines


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{escape(summary)}</summary>", "", *lines, "</details>", ""]


def measured(record: StudyRecord) -> list[str]:
    criterion = f"**Criterion, written before the study ran.** {escaped(record.criterion)}"
    return [*escaped(record.description).split("\n"), "", criterion, ""]


def footer(record: StudyRecord) -> list[str]:
    machine = record.environment.get("device", "")
    return [f"Reproduce with `{record.command}` ({record.fidelity} fidelity; took {record.seconds:.0f} s on {machine}).", ""]


def details(record: StudyRecord) -> str:
    """The page of one study on one data set: all figures, effects and tables."""
    lines = [f"# {record.name} on {record.dataset['name']}", "", f"> {escaped(record.claim)}", "", *reasoned(record), *footer(record)]
    lines += [*figures(record), "## What was measured", "", *measured(record)]
    if record.judgement is not None and record.judgement.effects:
        lines += ["## Effects", ""]
        for header, rows in effects_tables(record.judgement.effects):
            lines += markdown(header, [list(map(escaped, row)) for row in rows], len(header) - 5)
    lines += ["## Tables", "", "Everything that the verdict rests on.", ""] if record.tables else []
    for table in record.tables.values():
        lines += shown(table)
    return "\n".join([*lines, "[All claims](README.md)", ""])


def section(record: StudyRecord, pictures: bool) -> list[str]:
    """What one study found on one data set, in short."""
    lines = [f"### On {record.dataset['name']}", "", *reasoned(record), *(figures(record, 1) if pictures else [])]
    if record.judgement is not None and record.judgement.effects:
        header, rows = effects_tables(record.judgement.effects)[0]
        body = markdown(header, [list(map(escaped, row)) for row in rows], len(header) - 5)
        lines += body if len(rows) <= MANY else folded(f"The {len(rows)} comparisons that decide", body)
    lines += [f"All figures, effects and tables: [{record.name} on {record.dataset['name']}]({stem(record)}.md)."]
    return [*lines, *footer(record)]


def page(records: Sequence[StudyRecord]) -> str:
    """README.md of the claims, in the order of the registry, other studies after those that it knows; larger images first."""
    names = list(dict.fromkeys([*(name for name in STUDIES if any(r.name == name for r in records)), *(r.name for r in records)]))
    data = list(dict.fromkeys(r.dataset["name"] for r in sorted(records, key=lambda r: -math.prod(r.dataset["shape"]))))
    by = {(r.name, r.dataset["name"]): r for r in records}
    commands = dict.fromkeys(re.sub(r"^(vae-variants study) \S*(?= --|$)", r"\1", r.command) for r in records)
    lines = [*INTRODUCTION.split("\n"), f"Made by {', '.join(f'`{c}`' for c in commands)}.", ""]
    rows = []
    for name in names:
        claim = next(r.claim for r in records if r.name == name)
        cells = [f"[{verdict(by[name, d])}]({stem(by[name, d])}.md)" if (name, d) in by else "–" for d in data]
        rows.append([f"[{name}](#{anchor(name)})", escaped(claim), *cells])
    lines += markdown(["study", "claim", *data], rows, 2 + len(data))
    for name in names:
        found = [by[name, d] for d in data if (name, d) in by]
        first = found[0]
        lines += [f"## {name}", "", f"> {escaped(first.claim)}", ">", f"> — {escaped(first.source)}", ""]
        for record in found:
            lines += section(record, pictures=record is first)
        lines += folded("What was measured, and when the claim counts as supported", measured(first))
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
    middle = [name for name in Effect._fields if name not in ("where", "verdict")]
    return pd.DataFrame(rows, columns=["study", "dataset", "fidelity", "claim_verdict", "where", *middle, "verdict"])


def write_claims(found_by: Sequence[tuple[StudyRecord, Findings]], reports: Path) -> Path:
    """Adds what was measured to the page of claims under `reports`, which keeps its other studies and data sets -> its folder."""
    folder = reports / "claims"
    try:
        for part in ("data", "figures"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for record, found in found_by:
            path = folder / "data" / f"{stem(record)}.json"
            if path.is_file():
                for name in StudyRecord.from_json(path.read_text(encoding="utf-8")).captions:
                    (folder / "figures" / f"{stem(record)}-{slug(name)}.png").unlink(missing_ok=True)
            pictures = STUDIES[record.name]().draw(found) if record.judgement else []
            for picture in pictures:
                picture.figure.savefig(folder / "figures" / f"{stem(record)}-{slug(picture.name)}.png", metadata={"Software": None})
            kept = replace(record, captions={picture.name: picture.caption for picture in pictures})
            path.write_text(kept.to_json(), encoding="utf-8")
        records = read_all(folder / "data")
        (folder / "README.md").write_text(page(records), encoding="utf-8")
        for record in records:
            (folder / f"{stem(record)}.md").write_text(details(record), encoding="utf-8")
        write_csv(csv(records), folder / "claims.csv")
        write_index(reports)
    except OSError as error:
        raise UserError(f"cannot write the claims under {str(reports)!r}: {error.strerror or error}") from error
    return folder
