"""`vae-variants compare`: two reports or stores, and what is better or worse in the second."""

from __future__ import annotations

import html
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_variants.cli.options import Plugin, guarded
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

if TYPE_CHECKING:
    import pandas as pd

    from vae_variants.analysis.comparison import Change, Changes

__all__ = ["compare", "markdown", "side"]

SHOWN = ("failed", "worse", "mended", "better", "not compared", "altered")  # what a pull request has to show; the rest is folded
FOLDED = ("changed", "added", "removed", "perhaps", "cannot tell", "advice")
ROWS = 40  # of a table, at most
SIDE = "a report's folder, a results.csv, or a folder of records such as runs"


@guarded
def compare(
    before: Annotated[Path, typer.Argument(help=SIDE)],
    after: Annotated[Path, typer.Argument(help="the same, to be held against the first")],
    suite: Annotated[str | None, typer.Option(help="of folders of records: what belongs to this suite alone")] = None,
    markdown_: Annotated[bool, typer.Option("--markdown", help="for a pull request")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for programs: every row")] = False,
    plugin: Plugin = None,
) -> None:
    """Compare two reports or folders of records: what failed, got worse or better, came or went.

    Worse and better are beyond the interval: a t-test of the differences over the seeds that both have, all of them adjusted together
    (Holm, 5 %). Fewer than three seeds cannot tell, and show the plain difference of means. Bounds are not compared with exact values, nor
    other images, kinds of pixels or fidelities; other options, seeds or sources under the same name are said. Timings are advice, on one
    device alone. The exit code is 1 if something is worse or failed that was ok, else 0.
    """
    from vae_variants.analysis.comparison import compare as compared  # brings pandas

    if markdown_ and as_json:
        raise UserError("--markdown and --json exclude each other")
    load_plugins(plugin or [])
    a, b = side(before, suite), side(after, suite)
    shared = {*zip(a.dataset, a.variant, strict=True)} & {*zip(b.dataset, b.variant, strict=True)}
    if not shared:
        had = "; ".join(f"{path} has {few(frame)}" for path, frame in ((before, a), (after, b)))
        raise UserError(f"no variant on the same data set is in both: {had}")
    found = compared(a, b)
    if as_json:
        print(
            json.dumps(
                {"before": str(before), "after": str(after), "tests": found.tests, "rows": [plain(row) for row in found.rows]}, indent=1
            )
        )
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
    """What `compare` takes, from a report's folder, a CSV file or a store. Raises `UserError` where there is nothing to compare."""
    if path.is_dir() and not (path / "results.csv").is_file():
        return stored(path, suite)
    file = path / "results.csv" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{str(path)!r} is not there; give {SIDE}")
    if suite is not None:
        raise UserError(f"--suite chooses from folders of records, and {str(path)!r} is a report")
    return reported(file)


def reported(file: Path) -> pd.DataFrame:
    """Of a results.csv: with the fidelity, the digest of the data and the options that the README.md beside it shows, if there is one."""
    import pandas as pd

    from vae_variants.analysis.tables import COLUMNS

    try:
        frame = pd.read_csv(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{str(file)!r} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if missing := [name for name in COLUMNS if name not in frame]:
        raise UserError(f"{str(file)!r} is not the results.csv of a report: it has no column {missing[0]!r}")
    if not len(frame):
        raise UserError(f"{str(file)!r} has no rows")
    if not pd.api.types.is_numeric_dtype(frame.value) or not pd.api.types.is_integer_dtype(frame.seed):
        raise UserError(f"{str(file)!r} is not the results.csv of a report: seeds and values are numbers")
    page = file.with_name("README.md")
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    digest, command = (
        re.search(r"digest `([0-9a-f]{12,64})`", text),
        re.search(r"^Made by `vae-variants bench ([^`]+)`", text, re.MULTILINE),
    )
    known = configurations(text)
    options = [known.get(label, "") for label in frame.variant.astype(str)]
    return frame.assign(data=digest[1] if digest else "", fidelity=fidelity_of(command[1]) if command else "", options=options)


def configurations(page: str) -> dict[str, str]:
    """label -> options, of the table of a report's README.md."""
    rows = re.findall(r"^\| `(.+?)` \| \w+ \| (.+=.*) \|$", page.partition("\n## Variants\n")[2], re.MULTILINE)
    return {label: html.unescape(re.sub(r"\\([\\`*_\[\]#|])", r"\1", options)) for label, options in rows}


def fidelity_of(command: str) -> str:
    """Of the command by which a report was made; nothing where that does not tell."""
    from vae_variants.harness import load_suite, suite_files

    try:
        suite, *options = shlex.split(command)
    except ValueError:
        return ""
    given = dict(pairwise(options))
    return given.get("--fidelity") or (load_suite(suite).fidelity if suite in suite_files() else "")


def stored(folder: Path, suite: str | None) -> pd.DataFrame:
    """Of a store: of each variant, data set and fidelity the last record, one of today's code before others."""
    from vae_variants.analysis.comparison import table_of
    from vae_variants.analysis.entries import Entry
    from vae_variants.harness import Store, load_suite

    store = Store(folder)
    if suite is None:
        records = [record for _, record in store.records()]
    else:
        plan = {spec.identity: spec.label for spec in load_suite(suite).plan()}
        records = [record for _, record in store.newest(plan).values()]
    newest = {(r.dataset["name"], r.label, r.fidelity): r for r in sorted(records, key=lambda r: (r.current, r.started))}
    if not newest:
        raise UserError(f"there is no record{f' of suite {suite!r}' if suite else ''} in {str(folder)!r}; give {SIDE}")
    return table_of(Entry(r.label, r) for r in newest.values())


# -- words -------------------------------------------------------------------------------------------------------------


def plain(row: Change) -> dict[str, object]:
    """For JSON."""
    difference = None if row.difference is None else row.difference._asdict()
    return {**row._asdict(), "difference": difference}


def summary(found: Changes) -> str:
    """How many of each kind there are."""
    counts = {kind: len(found.of(kind)) for kind in (*SHOWN, *FOLDED, "unchanged")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def cells(row: Change, datasets: bool) -> list[str]:
    """Variant, metric, before, after, difference, p, note: what a table shows of a change."""
    from vae_variants.analysis.formatting import number
    from vae_variants.analysis.statistics import Interval

    name = f"{row.variant} ({row.dataset})" if datasets and row.dataset else row.variant
    values = ["" if v is None else number(Interval(v, None, None, 1)) for v in (row.before, row.after)]
    change = "" if row.difference is None else number(row.difference, sign=True)
    p = "" if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
    return [name, f"{row.metric} ({row.unit})" if row.unit else row.metric, *values, change, p, row.note]


HEADER = ("variant", "metric", "before", "after", "difference", "p", "")


def show(found: Changes) -> None:
    """On a terminal."""
    from rich.table import Table

    from vae_variants.analysis.comparison import KINDS, brief
    from vae_variants.harness.progress import out

    datasets = len({row.dataset for row in found.rows if row.dataset}) > 1
    for kind in (*FOLDED, *reversed(SHOWN)):  # what matters comes last, where one looks
        if rows := brief(found.of(kind)):
            print(f"{kind}: {KINDS[kind]}")
            table = Table(box=None, pad_edge=False)
            for column in HEADER:
                table.add_column(column, overflow="fold")
            for row in rows[:ROWS]:
                table.add_row(*cells(row, datasets))
            out.print(table)
            print(f"and {len(rows) - ROWS} more; --json has all of them\n" if len(rows) > ROWS else "")
    print(summary(found))


def markdown(found: Changes, before: str, after: str) -> str:
    """A comment of a pull request: what is to be seen first, and the rest folded."""
    from vae_variants.analysis.comparison import KINDS, brief
    from vae_variants.report.readme import plain as escaped
    from vae_variants.report.readme import table

    datasets = len({row.dataset for row in found.rows if row.dataset}) > 1
    verdict = "Something is worse." if found.worse else "Nothing is worse."
    lines = [f"**{verdict}** {summary(found)}: `{after}` held against `{before}`.", ""]

    def block(kind: str) -> list[str]:
        rows = brief(found.of(kind))
        shown = [[escaped(cell) or "–" for cell in cells(row, datasets)] for row in rows[:ROWS]]
        left = [f"And {len(rows) - ROWS} more.", ""] if len(rows) > ROWS else []
        return [f"{kind[0].upper()}{kind[1:]} ({KINDS[kind]}):", "", *table([*HEADER[:-1], "note"], shown), *left]

    for kind in SHOWN:
        lines += block(kind) if found.of(kind) else []
    rest = [line for kind in FOLDED if found.of(kind) for line in block(kind)]
    told = f"{found.tests} tests over seeds, adjusted together (Holm, 5 %); {len(found.of('unchanged'))} values unchanged"
    lines += ["<details>", f"<summary>{html.escape(told)}</summary>", "", *(rest or ["Nothing else.", ""]), "</details>"]
    return "\n".join(lines)
