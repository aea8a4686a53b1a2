"""The page of claims: what each says, the verdict, and everything that the verdict rests on."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from vae_variants.analysis.tables import write_csv
from vae_variants.harness.store import slug
from vae_variants.registry import UserError
from vae_variants.report import Claim, write_index
from vae_variants.report.metrics_page import anchor, escaped
from vae_variants.studies.record import StudyRecord, attempt, read_all
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Picture, Study, Table, Verdict, given, rows

__all__ = ["TRIED", "cell", "claims_on", "effects_tables", "write_claims"]

MARKS = {Verdict.SUPPORTED: "✔", Verdict.CONDITIONAL: "◐", Verdict.INCONCLUSIVE: "?", Verdict.REFUTED: "✘"}
TRIED = "Smoke fidelity shows that a study runs: models of two epochs are no evidence, and this is no verdict."
MANY = 12  # effects, above which they are folded
INTRODUCTION = """\
# The textbook's claims, tested

Each claim was put to the test by a study that says beforehand when its claim counts as supported; where that rule was changed after a
first look at data, its description admits it. **Supported**: what the claim says was seen,
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


def shown(frame: pd.DataFrame) -> list[str]:
    table = Table.of(frame.attrs["caption"], rows(frame), folded=len(frame) > MANY)
    numeric = [all(row[i] is None or isinstance(row[i], (int, float)) for row in table.rows) for i in range(len(table.columns))]
    left = numeric.index(True) if True in numeric else len(numeric)
    body = markdown(table.columns, ([escaped(cell(value)) for value in row] for row in table.rows), left)
    if not table.folded:
        return [f"{escaped(table.caption)}:", "", *body]
    return folded(f"{table.caption} ({len(table.rows)} rows)", body)


def place(record: StudyRecord) -> str:
    """The data set, and the fidelity where that is not the full one."""
    return record.dataset["name"] + (f" ({record.fidelity})" if record.fidelity != "full" else "")


def stem(record: StudyRecord) -> str:
    """Of the names of all files that are about one study in one place: a quick look does not replace a careful one."""
    return f"{slug(place(record))}-{slug(record.name)}"


def verdict(record: StudyRecord) -> str:
    if record.fidelity.startswith("smoke"):
        return "only tried out"
    return "failed" if record.judgement is None else f"{MARKS[record.judgement.verdict]} {record.judgement.verdict.value}"


def reasoned(record: StudyRecord) -> list[str]:
    if record.judgement is None:
        return [f"There is no verdict: {escaped(record.error)}", ""]
    if record.fidelity.startswith("smoke"):
        return [f"{TRIED} It would be: {record.judgement.verdict.value}. {escaped(record.judgement.reason)}", ""]
    return [f"**{verdict(record)}.** {escaped(record.judgement.reason)}", ""]


def further(record: StudyRecord) -> list[str]:
    """What else was seen, a line each."""
    return [*(f"- {escaped(sentence)}" for sentence in record.judgement.more), ""] if record.judgement and record.judgement.more else []


def figures(record: StudyRecord, most: int | None = None) -> list[str]:
    lines = []
    for name, caption in list(record.captions.items())[:most]:
        lines += [f"![{escaped(caption)}](figures/{stem(record)}-{slug(name)}.png)", "", f"<sub>{escaped(caption)}</sub>", ""]
    return lines


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{escape(summary)}</summary>", "", *lines, "</details>", ""]


def listed(header: list[str], rows: list[list[str]]) -> list[str]:
    body = markdown(header, [list(map(escaped, row)) for row in rows], len(header) - 5)
    return body if len(rows) <= MANY else folded(f"{len(rows)} comparisons by {', '.join(header[:-5])}", body)


def measured(record: StudyRecord) -> list[str]:
    criterion = f"**When the claim counts as supported.** {escaped(record.criterion)}"
    return [*escaped(record.description).split("\n"), "", criterion, ""]


def footer(record: StudyRecord) -> list[str]:
    machine = record.environment.get("device", "")
    return [f"Reproduce with `{record.command}` ({record.fidelity} fidelity; took {record.seconds:.0f} s on {machine}).", ""]


def details(record: StudyRecord) -> str:
    """The page of one study on one data set: all figures, effects and tables."""
    lines = [
        f"# {record.name} on {place(record)}",
        "",
        f"> {escaped(record.claim)}",
        "",
        *reasoned(record),
        *further(record),
        *footer(record),
    ]
    lines += [*figures(record), "## What was measured", "", *measured(record)]
    if record.judgement is not None and record.judgement.effects:
        lines += ["## Effects", ""]
        for header, rows in effects_tables(record.judgement.effects):
            lines += listed(header, rows)
    lines += ["## Tables", "", "Everything that the verdict rests on.", ""] if record.tables else []
    for table in record.tables.values():
        lines += shown(table)
    return "\n".join([*lines, "[All claims](README.md)", ""])


def section(record: StudyRecord, pictures: bool) -> list[str]:
    """What one study found on one data set, in short."""
    lines = [f"### On {place(record)}", "", *reasoned(record), *(figures(record, 1) if pictures else [])]
    lines += folded("What else was seen", further(record)) if further(record) else []
    if record.judgement is not None and record.judgement.effects:
        lines += listed(*effects_tables(record.judgement.effects)[0])
    lines += [f"All figures, effects and tables: [{record.name} on {place(record)}]({stem(record)}.md)."]
    return [*lines, *footer(record)]


def page(records: Sequence[StudyRecord]) -> str:
    """README.md of the claims, in the order of the registry, other studies after those that it knows; larger images first."""
    names = list(dict.fromkeys([*(name for name in STUDIES if any(r.name == name for r in records)), *(r.name for r in records)]))
    data = list(dict.fromkeys(map(place, sorted(records, key=lambda r: (r.fidelity != "full", -math.prod(r.dataset["shape"]))))))
    by = {(r.name, place(r)): r for r in records}
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
    lines = []
    for r in records:
        overall = r.judgement.verdict.value if r.judgement else "failed"
        common = {"study": r.name, "dataset": r.dataset["name"], "fidelity": r.fidelity, "claim_verdict": overall}
        for e in r.judgement.effects if r.judgement else ():
            where = "; ".join(f"{k} = {v}" for k, v in e.where.items())
            rest = {k: v for k, v in e._asdict().items() if k not in ("where", "verdict")}
            lines.append({**common, "where": where, **rest, "verdict": e.verdict.value})
        if not (r.judgement and r.judgement.effects):
            lines.append(common)
    middle = [name for name in Effect._fields if name not in ("where", "verdict")]
    return pd.DataFrame(lines, columns=["study", "dataset", "fidelity", "claim_verdict", "where", *middle, "verdict"])


def write_claims(record: StudyRecord, found: Findings, reports: Path) -> StudyRecord:
    """Adds a study to the page of claims in `reports`/claims, which keeps what it has of others -> the record as it is shown.

    A study whose figures cannot be drawn has failed, and one that failed does not replace a verdict that is there.
    """
    folder = reports / "claims"
    if record.judgement is not None:
        pictures, error = attempt(lambda: drawn_by(STUDIES[record.name](), found))
        if pictures is None:
            record = record.model_copy(update={"judgement": None, "error": error})
    try:
        for part in ("data", "figures"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        path = folder / "data" / f"{stem(record)}.json"
        old = StudyRecord.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None
        if record.judgement is not None or old is None or old.judgement is None:
            for name in () if old is None else old.captions:
                picture_file(folder, record, name).unlink(missing_ok=True)
            drawn = pictures if record.judgement is not None and pictures else []
            for picture in drawn:
                picture.figure.savefig(picture_file(folder, record, picture.name), metadata={"Software": None})
            record = record.model_copy(update={"captions": {picture.name: picture.caption for picture in drawn}})
            path.write_text(record.to_json(), encoding="utf-8")
        records = read_all(folder / "data")
        (folder / "README.md").write_text(page(records), encoding="utf-8")
        for each in records:
            (folder / f"{stem(each)}.md").write_text(details(each), encoding="utf-8")
        write_csv(csv(records), folder / "claims.csv")
        write_index(reports)
    except OSError as error:
        raise UserError(f"cannot write the claims under {str(reports)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"what is in {str(folder / 'data')!r} cannot be read: {error}") from error
    return record


def drawn_by(study: Study, found: Findings) -> list[Picture]:
    return study.draw(Findings(given(study, found.tables), found.arrays))


def claims_on(dataset: str, reports: Path) -> list[Claim]:
    """What the page of claims in `reports`/claims says of one data set, for a report beside it; full fidelity first.

    Where it cannot be read, that costs a report no more than this.
    """
    try:
        found = [r for r in read_all(reports / "claims" / "data") if r.dataset["name"] == dataset and not r.fidelity.startswith("smoke")]
    except (UserError, OSError) as error:
        print(f"the report says nothing of claims: {error}", file=sys.stderr)
        return []
    names = [*STUDIES, *(r.name for r in found if r.name not in STUDIES)]
    found.sort(key=lambda r: (names.index(r.name), r.fidelity != "full"))
    claims = []
    for r in found:
        reason = r.judgement.reason if r.judgement else f"There is no verdict: {r.error}"
        claims.append(Claim(r.name, r.claim, verdict(r), reason, place(r), f"../claims/{stem(r)}.md"))
    return claims


def picture_file(folder: Path, record: StudyRecord, name: str) -> Path:
    return folder / "figures" / f"{stem(record)}-{slug(name)}.png"
