"""Reports: a pure function of records and pictures, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vae_variants.analysis.entries import Entry
from vae_variants.analysis.tables import results, summary, write_csv
from vae_variants.harness.record import Record
from vae_variants.registry import UserError
from vae_variants.report.content import content
from vae_variants.report.figures import drawings, plots, write_figures
from vae_variants.report.html import LARGEST, Change, Claim, page
from vae_variants.report.readme import readme

__all__ = ["Change", "Claim", "write_index", "write_report"]


def write_report(
    suite: str,
    runs: Sequence[tuple[str, Record, Callable[[], Mapping[str, Tensor]]]],
    folder: Path,
    *,
    command: str,
    missing: Sequence[str] = (),
    stale: Sequence[str] = (),
    claims: Sequence[Claim] = (),
    changes: Sequence[Change] = (),
) -> None:
    """Write results.csv, summary.csv, README.md, figures/ and report.html.

    Args:
        suite: the report's name.
        runs: (label, record, function that reads its pictures), in the order of the report.
        folder: where to write.
        command: the command that makes the report.
        missing: labels without a run.
        stale: labels whose run other code made.
        claims: studies' verdicts on the same data, for the page.
        changes: differences from a baseline, for the page.

    Raises:
        UserError: if a file cannot be written.
    """
    entries = [Entry(label, record, load, index) for index, (label, record, load) in enumerate(runs)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(results(entries), folder / "results.csv")
        write_csv(summary(entries), folder / "summary.csv")
        drawn = drawings(entries)
        figures = write_figures(drawn, folder / "figures")
        found = content(suite, entries, command, missing, stale)
        (folder / "README.md").write_text(readme(found, figures), encoding="utf-8")
        files = [folder / "summary.csv", folder / "results.csv"]
        attached = {path.name: path.read_text(encoding="utf-8") for path in files if path.stat().st_size < LARGEST}
        (folder / "report.html").write_text(page(found, plots(drawn), claims, changes, attached), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report {str(folder)!r}: {error.strerror or error}") from error


def write_index(reports: Path) -> None:
    """Write reports/README.md: a line for each report beside it, with the command from that report."""
    lines = ["# Reports", "", "| report | made by |", "|---|---|"]
    for path in sorted(reports.glob("*/README.md")):
        made = re.search(r"^Made by (.+)\.$", path.read_text(encoding="utf-8"), re.MULTILINE)
        lines.append(f"| [{path.parent.name}]({path.parent.name}/README.md) | {made[1] if made else ''} |")
    try:
        (reports / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {str(reports / 'README.md')!r}: {error.strerror or error}") from error
