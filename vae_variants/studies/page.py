"""The page of claims: each claim, its verdict, figure and effects, and how to reproduce them."""

import math
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from vae_variants.analysis.tables import write_csv
from vae_variants.analysis.verdicts import Effect, Verdict
from vae_variants.harness.folders import rewritten
from vae_variants.harness.store import named, slug
from vae_variants.registry import UserError
from vae_variants.report import Claim, write_index, write_text
from vae_variants.report.markdown import code, escaped, table
from vae_variants.report.metrics_page import anchor
from vae_variants.studies.record import StudyRecord, attempt, judged, read_all
from vae_variants.studies.study import STUDIES, Cell, Findings

MARKS = {Verdict.SUPPORTED: "✔", Verdict.CONDITIONAL: "◐", Verdict.INCONCLUSIVE: "?", Verdict.REFUTED: "✘"}
TRIED = {
    "smoke": "The preset smoke only shows that a study runs: models of two epochs are no evidence. It would be:",
    "quick": "A trial, because models of the preset quick are trained for few epochs; `--fidelity full` decides. Here it is:",
}
INTRODUCTION = """\
# Textbook claims, tested

Each study states beforehand when its claim counts as supported. If that rule was changed after a first look at data, the study says so.

- **Supported**: the interval of the effect excludes the opposite of the claim.
- **Not supported**: the interval excludes the claim.
- **Supported under conditions**: the claim holds in some settings and fails in others.
- **Inconclusive**: the evidence does not decide.
- **Trial**: the preset is `quick`. Reports, too, call no variant best at that preset.

[claims.csv](claims.csv) has every effect; `data/` has every measured table as CSV and the records as JSON.
"""
HEADER = ["effect of", "value", "interval", "n", "criterion", "verdict"]


def cell(value: Cell, digits: int = 4) -> str:
    """A value as the page shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return (f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.{digits}g}").replace("-", "−")
    return str(value)


def where(effect: Effect) -> str:
    return "; ".join(f"{key} = {value}" for key, value in effect.where.items())


def effects_table(effects: Sequence[Effect]) -> list[list[str]]:
    """One row of text per effect, in the columns of `HEADER`."""
    found = []
    for e in effects:
        span = "–" if e.low is None or e.high is None or e.level is None else f"{cell(e.low)} to {cell(e.high)} ({e.level:.0%})"
        found.append([where(e), f"{cell(e.value)} {e.unit}".rstrip(), span, f"{e.n} {e.of}", e.criterion, e.verdict.value])
    return found


def place(record: StudyRecord) -> str:
    """The data set, with the preset unless that is `full`."""
    return record.dataset["name"] + (f" ({record.fidelity})" if record.fidelity != "full" else "")


def stem(record: StudyRecord) -> str:
    """Start of the names of all files about one study on one data set with one preset."""
    text = "-".join([record.dataset["name"], *([record.fidelity] if record.fidelity != "full" else []), record.name])
    return named(text, text)


def tried(record: StudyRecord) -> str:
    """Why the preset is too small for a verdict, before the one that it would be; empty for other presets."""
    return TRIED.get(record.fidelity.partition("[")[0], "")


def verdict(record: StudyRecord) -> str:
    if record.fidelity.startswith("smoke"):
        return "only tried out"
    if record.judgement is None:
        return "failed"
    return f"trial: {record.judgement.verdict.value}" if tried(record) else f"{MARKS[record.judgement.verdict]} {record.judgement.verdict}"


def reasoned(record: StudyRecord) -> str:
    if record.judgement is None:
        return f"There is no verdict: {escaped(record.error)}"
    if why := tried(record):
        return f"{escaped(why)} {record.judgement.verdict.value}. {escaped(record.judgement.reason)}"
    return f"**{verdict(record)}.** {escaped(record.judgement.reason)}"


def figures(record: StudyRecord) -> list[str]:
    lines = []
    for name, caption in record.captions.items():
        lines += [f"![{escaped(caption)}](figures/{stem(record)}-{slug(name)}.png)", "", f"<sub>{escaped(caption)}</sub>", ""]
    return lines


def details(record: StudyRecord) -> str:
    """The page of one study on one data set."""
    lines = [
        f"# {escaped(f'{record.name} on {place(record)}')}",
        "",
        f"> {escaped(record.claim)}",
        ">",
        f"> — {escaped(record.source)}",
        "",
    ]
    lines += [reasoned(record), "", *figures(record)]
    if record.judgement is not None and record.judgement.effects:
        lines += ["## Effects", "", table(HEADER, effects_table(record.judgement.effects), right=False)]
    lines += ["## Criterion", "", escaped(record.criterion), "", "## What was measured", "", paragraphs(record.description), ""]
    seconds, machine = f"{record.seconds:.0f} s", record.environment.get("device", "")
    lines += [
        "## Reproduce",
        "",
        f"{code(record.command)} took {escaped(f'{seconds} on {machine} (preset {record.fidelity})')}. Tables:",
        "",
    ]
    data = f"data/{stem(record)}"
    lines += [f"- [{escaped(n)}.csv]({data}/{slug(n)}.csv): {escaped(t.attrs['caption'])}" for n, t in record.tables.items()]
    return "\n".join([*lines, "", "[All claims](README.md)", ""])


def paragraphs(text: str) -> str:
    return "\n\n".join(escaped(part) for part in text.split("\n\n"))


def ordered(records: Iterable[StudyRecord]) -> list[StudyRecord]:
    """In the order of the registry, studies that it lacks last; the preset `full` and large images first."""
    records = list(records)
    names = list(dict.fromkeys([*STUDIES, *(r.name for r in records)]))
    return sorted(records, key=lambda r: (names.index(r.name), r.fidelity != "full", -math.prod(r.dataset["shape"])))


def page(records: Sequence[StudyRecord]) -> str:
    """README.md of the claims."""
    records = ordered(records)
    data = list(dict.fromkeys(map(place, sorted(records, key=lambda r: (r.fidelity != "full", -math.prod(r.dataset["shape"]))))))
    commands = dict.fromkeys(re.sub(r"^(vae-variants study) \S*(?= --|$)", r"\1", r.command) for r in records)
    lines = [*INTRODUCTION.split("\n"), f"Made by {', '.join(map(code, commands))}.", ""]
    summary, sections = [], []
    for name in dict.fromkeys(r.name for r in records):
        found = {place(r): r for r in records if r.name == name}
        first = next(iter(found.values()))
        cells = [f"[{verdict(found[d])}]({stem(found[d])}.md)" if d in found else "–" for d in data]
        summary.append([Markup(f"[{escaped(name)}](#{anchor(name)})"), first.claim, *map(Markup, cells)])
        sections += [f"## {escaped(name)}", "", f"> {escaped(first.claim)}", ""]
        for data_set, record in found.items():
            sections += [f"On {escaped(data_set)}: {reasoned(record)} [Effects, criterion and tables]({stem(record)}.md).", ""]
        sections += figures(first)
    return "\n".join([*lines, table(["study", "claim", *data], summary, right=False), *sections])


def csv(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """One row per effect; a study without effects has one row."""
    found = []
    for r in records:
        overall = r.judgement.verdict.value if r.judgement else "failed"
        common = {"study": r.name, "dataset": r.dataset["name"], "fidelity": r.fidelity, "claim_verdict": overall}
        effects = r.judgement.effects if r.judgement else ()
        found += [{**common, **e._asdict(), "where": where(e), "verdict": e.verdict.value} for e in effects] or [common]
    return pd.DataFrame(found, columns=["study", "dataset", "fidelity", "claim_verdict", *Effect._fields])


def save(record: StudyRecord, found: Findings, folder: Path) -> StudyRecord:
    """Writes record, tables and figures -> the record as it is shown.

    A study whose figures cannot be drawn has failed, and one that failed does not replace a verdict. Figures that need arrays which
    `found` lacks stay as they are.
    """
    path = folder / "data" / f"{stem(record)}.json"
    old = StudyRecord.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None
    study, pictures = STUDIES[record.name](), None
    if record.judgement is not None:
        pictures, error = attempt(lambda: study.draw(found))
        if pictures is None and set(record.arrays) <= set(found.arrays):
            record = record.model_copy(update={"judgement": None, "error": error})
    if record.judgement is None and old is not None and old.judgement is not None:
        return record
    if pictures is not None or record.judgement is None:
        for name in old.captions if old is not None else ():
            (folder / "figures" / f"{stem(record)}-{slug(name)}.png").unlink(missing_ok=True)
        for picture in pictures or ():
            picture.figure.savefig(folder / "figures" / f"{stem(record)}-{slug(picture.name)}.png", metadata={"Software": None})
        record = record.model_copy(update={"captions": {picture.name: picture.caption for picture in pictures or ()}})
    path.write_text(record.to_json(), encoding="utf-8")
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    for name, each in record.tables.items():
        path.with_suffix("").mkdir(exist_ok=True)
        write_csv(each, path.with_suffix("") / f"{slug(name)}.csv")
    return record


def write_claims(record: StudyRecord, found: Findings, reports: Path) -> StudyRecord:
    """Adds a study to the page of claims in `reports`/claims, which keeps the other studies -> the record as it is shown.

    Raises:
        UserError: the files cannot be written, or a record there cannot be read.
    """
    return write_all([(record, found)], reports)[0]


def rewrite_claims(names: Sequence[str], reports: Path) -> list[StudyRecord]:
    """Judges the tables in `reports`/claims/data again and rewrites pages and figures, without measuring.

    Raises:
        UserError: the files cannot be written, a record cannot be read, or there is no record of these studies.
    """
    data = reports / "claims" / "data"
    found = [judged(record) for record in ordered(read_all(data)) if record.name in names]
    if not found:
        raise UserError(f"no tables of {', '.join(names)} in {str(data)!r}; measure them first, without --page-only")
    return write_all([(record, Findings(record.tables)) for record in found], reports)


def write_all(measured: Sequence[tuple[StudyRecord, Findings]], reports: Path) -> list[StudyRecord]:
    folder = reports / "claims"
    try:
        with rewritten(folder) as place:
            for part in ("data", "figures"):
                (place / part).mkdir(exist_ok=True)
            shown = [save(record, found, place) for record, found in measured]
            records = read_all(place / "data")
            write_text(place / "README.md", page(records))
            for each in records:
                write_text(place / f"{stem(each)}.md", details(each))
            write_csv(csv(records), place / "claims.csv")
        write_index(reports)
    except OSError as error:
        raise UserError(f"cannot write the claims under {str(reports)!r}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"what is in {str(folder / 'data')!r} cannot be read: {error}") from error
    return shown


def claims_on(dataset: str, reports: Path) -> list[Claim]:
    """The verdicts in `reports`/claims on one data set, for a report on it. If they cannot be read, a warning and no verdicts.

    A trial is left out if the same study has a verdict.
    """
    try:
        found = ordered(r for r in read_all(reports / "claims" / "data") if r.dataset["name"] == dataset)
    except (UserError, OSError) as error:
        print(f"warning: the report has no claims: {error}", file=sys.stderr)
        return []
    claims, judged_fully = [], {r.name for r in found if not tried(r)}
    for r in found:
        if not (r.fidelity.startswith("smoke") or (tried(r) and r.name in judged_fully)):
            reason = r.judgement.reason if r.judgement else f"There is no verdict: {r.error}"
            claims.append(Claim(r.name, r.claim, verdict(r), reason, place(r), f"../claims/{stem(r)}.md"))
    return claims
