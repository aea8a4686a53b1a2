"""`vae-variants compare`: what is better or worse in the second of two reports or stores."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_variants.cli.options import Plugin, SuiteChoice, guarded
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

if TYPE_CHECKING:
    import pandas as pd

    from vae_variants.analysis.comparison import Change, Changes


OPEN = ("failed", "flagged", "worse", "mended", "better", "not compared", "altered")  # in Markdown; other kinds are folded
ROWS = 40  # of a table, at most
SIDE = "a report's folder, a results.csv, or a folder of records such as runs"
HEADER = ("variant", "metric", "before", "after", "difference", "p", "note")


@guarded
def compare(
    before: Annotated[Path, typer.Argument(help=SIDE)],
    after: Annotated[Path, typer.Argument(help="the same, compared with the first")],
    suite: Annotated[str | None, typer.Option(help="suite to compare, of folders of records; e.g. digits")] = None,
    markdown_: Annotated[bool, typer.Option("--markdown", help="Markdown for a pull request")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every row, for programs")] = False,
    plugin: Plugin = None,
) -> None:
    """Compare two reports or folders of records: what failed, got better or worse, was added or removed.

    Better and worse mean significantly so: paired t-tests over the common seeds, Holm-adjusted together, 5 %. Fewer than three seeds give
    the difference of means and no verdict. Bounds are not compared with exact values, nor are different images, pixel types or presets.
    Different options, seeds or sources under the same name are listed. Timings are advice, for the same device only.

    The exit code is 1 if something got worse or failed, else 0.
    """
    from vae_variants.analysis.comparison import compare as compared  # imports pandas

    if markdown_ and as_json:
        raise UserError("--markdown and --json exclude each other")
    load_plugins(plugin or [])
    a, b = side(before, suite), side(after, suite)
    if not {*zip(a.dataset, a.variant, strict=True)} & {*zip(b.dataset, b.variant, strict=True)}:
        had = "; ".join(f"{path} has {few(frame)}" for path, frame in ((before, a), (after, b)))
        raise UserError(f"no variant on the same data set is in both: {had}")
    found = compared(a, b)
    if as_json:
        rows = [{**row._asdict(), "difference": row.difference and row.difference._asdict()} for row in found.rows]
        print(json.dumps({"before": str(before), "after": str(after), "tests": found.tests, "rows": rows}, indent=1))
    elif markdown_:
        print(markdown(found, str(before), str(after)))
    else:
        show(found)
    if found.worse:
        raise typer.Exit(1)


def few(frame: pd.DataFrame) -> str:
    names = [f"{variant} on {dataset}" for dataset, variant in dict.fromkeys(zip(frame.dataset, frame.variant, strict=True))]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def side(path: Path, suite: str | None = None) -> pd.DataFrame:
    """The table that `analysis.comparison.compare` takes, from a report's folder, a CSV file or a store.

    Raises:
        UserError: if there is nothing to compare.
    """
    if path.is_dir() and not (path / "results.csv").is_file():
        return stored(path, suite)
    file = path / "results.csv" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{str(path)!r} does not exist; give {SIDE}")
    if suite is not None:
        raise UserError(f"--suite chooses from folders of records, and {str(path)!r} is a report")
    return reported(file)


def reported(file: Path) -> pd.DataFrame:
    """results.csv, with fidelity, digest of the data and options from the README.md beside it, if any."""
    import pandas as pd

    from vae_variants.analysis.tables import COLUMNS, read_csv

    try:
        frame = read_csv(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{str(file)!r} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if missing := [name for name in COLUMNS if name not in frame]:
        raise UserError(f"{str(file)!r} is not the results.csv of a report: it has no column {missing[0]!r}")
    if not len(frame):
        raise UserError(f"{str(file)!r} has no rows")
    if not pd.api.types.is_numeric_dtype(frame.value) or not pd.api.types.is_integer_dtype(frame.seed):
        raise UserError(f"{str(file)!r} is not the results.csv of a report: seeds and values must be numbers")
    page = file.with_name("README.md")
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    digest = re.search(r"digest `([0-9a-f]{12,64})`", text)
    command = re.search(r"^Made by `vae-variants bench ([^`]+)`", text, re.MULTILINE)
    rows = re.findall(r"^\| `(.+?)` \| \w+ \| (.+=.*) \|$", text.partition("\n## Variants\n")[2], re.MULTILINE)
    known = {label: html.unescape(re.sub(r"\\([\\`*_\[\]#|])", r"\1", options)) for label, options in rows}
    return frame.assign(
        data=digest[1] if digest else "",
        fidelity=fidelity_of(command[1]) if command else "",
        options=[known.get(label, "") for label in frame.variant.astype(str)],
    )


def fidelity_of(command: str) -> str:
    """The fidelity of the command that made a report; empty if unknown."""
    from vae_variants.harness import load_suite, suite_files

    try:
        suite, *options = shlex.split(command)
    except ValueError:
        return ""
    return dict(pairwise(options)).get("--fidelity") or (load_suite(suite).fidelity if suite in suite_files() else "")


def stored(folder: Path, suite: str | None) -> pd.DataFrame:
    """From a store, the newest record of each variant, data set and fidelity, current ones first."""
    from vae_variants.analysis.comparison import table_of
    from vae_variants.analysis.entries import entries_of
    from vae_variants.evaluation.fidelities import VALIDATION
    from vae_variants.harness import Store

    store = Store(folder)
    if suite is None:
        records = [record for _, record in store.records() if record.fidelity != VALIDATION.name]
    else:
        specs = SuiteChoice(suite).plan_from(folder)
        records = [record for _, record in store.newest(spec.identity for spec in specs).values()]
    newest = {(r.dataset["name"], r.label, r.fidelity): r for r in sorted(records, key=lambda r: (r.current, r.age))}
    if not newest:
        raise UserError(f"there is no record{f' of suite {suite!r}' if suite else ''} in {str(folder)!r}; give {SIDE}")
    return table_of(entries_of((r.label, r, dict) for r in newest.values()))


def cells(row: Change, datasets: bool = False) -> list[str]:
    """A change as a row of `HEADER`; `datasets` adds the data set to the variant."""
    from vae_variants.analysis.formatting import number
    from vae_variants.analysis.statistics import Interval

    name = f"{row.variant} ({row.dataset})" if datasets and row.dataset else row.variant
    values = ["" if v is None else number(Interval(v, None, None, 1)) for v in (row.before, row.after)]
    change = "" if row.difference is None else number(row.difference, sign=True)
    p = "" if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
    return [name, f"{row.metric} ({row.unit})" if row.unit else row.metric, *values, change, p, row.note]


def tables(found: Changes) -> dict[str, tuple[str, list[list[str]], int]]:
    """Kind -> its meaning, rows of `HEADER`, and the number of rows left out; without those unchanged."""
    from vae_variants.analysis.comparison import KINDS, brief

    datasets, shown = len({row.dataset for row in found.rows if row.dataset}) > 1, {}
    for kind, meaning in KINDS.items():
        if kind != "unchanged" and (rows := brief(found.of(kind))):
            shown[kind] = meaning, [cells(row, datasets) for row in rows[:ROWS]], max(0, len(rows) - ROWS)
    return shown


def summary(found: Changes) -> str:
    """The number of changes of each kind."""
    from vae_variants.analysis.comparison import KINDS

    counts = {meaning.partition(":")[0].lower(): len(found.of(kind)) for kind, meaning in KINDS.items()}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def show(found: Changes) -> None:
    """Print the result, what failed, got better or worse first."""
    from rich.table import Table

    from vae_variants.harness.progress import out

    print(summary(found))
    for meaning, rows, more in tables(found).values():
        print(f"\n{meaning}")
        table = Table(box=None, pad_edge=False)
        for column in (*HEADER[:-1], ""):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        out.print(table)
        if more:
            print(f"and {more} more; --json prints all of them")


def markdown(found: Changes, before: str, after: str) -> str:
    """A comment for a pull request: the verdict, the kinds in `OPEN`, and the others folded."""
    from vae_variants.report.markdown import code, table

    def block(meaning: str, rows: Sequence[Sequence[str]], more: int) -> str:
        left = f"\nAnd {more} more.\n" if more else ""
        return f"{meaning}.\n\n{table(HEADER, [[cell or '–' for cell in row] for row in rows])}{left}"

    verdict = "Something is worse." if found.worse else "Nothing is worse."
    unchanged = len(found.of("unchanged"))
    tests = f"{found.tests} tests over seeds, Holm-adjusted together, 5 %; {unchanged} values unchanged"
    blocks = {kind: block(*parts) for kind, parts in tables(found).items()}
    shown, folded = ([text for kind, text in blocks.items() if (kind in OPEN) == first] for first in (True, False))
    head = f"**{verdict}** {summary(found)}: {code(after)} compared with {code(before)}.\n"
    return "\n".join([head, *shown, f"<details>\n<summary>{tests}</summary>\n", *(folded or ["Nothing else.\n"]), "</details>"])
