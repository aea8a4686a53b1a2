"""Reports: a pure function of records and pictures, the same bytes every time."""

import gc
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from torch import Tensor

from vae_variants.analysis.entries import entries_of
from vae_variants.analysis.formatting import NOTHING
from vae_variants.analysis.tables import results, summary, write_csv
from vae_variants.harness.archive import HEADER, Archive, packed, read_header
from vae_variants.harness.choices import choices_in, written
from vae_variants.harness.files import replace_file
from vae_variants.harness.folders import rewritten
from vae_variants.harness.record import Record
from vae_variants.registry import UserError
from vae_variants.report.board import PAGE
from vae_variants.report.content import content
from vae_variants.report.context import Context, context_of
from vae_variants.report.drawing import shown_of
from vae_variants.report.figures import drawings, plots, write_figures
from vae_variants.report.first_screen import first_screen, thumbnails
from vae_variants.report.grids import kept
from vae_variants.report.html import LARGEST, Change, Claim, page, unicode
from vae_variants.report.markdown import escaped, table
from vae_variants.report.readme import readme

__all__ = ["Change", "Claim", "write_index", "write_report", "write_text"]


CHOICES = "tuning.json"
LEADERBOARD = "leaderboard"  # the folder that `vae-variants leaderboard` writes if none is given


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
    archive: Archive | None = None,
) -> None:
    """Write results.csv, summary.csv, README.md, figures/, report.html, the archive, and tuning.json if options were chosen: all, or none.

    Args:
        suite: the report's name.
        runs: (label, record, function that reads its pictures), in the order of the report.
        folder: where to write.
        command: the command that makes the report.
        missing: labels without a run.
        stale: labels whose run other code made.
        claims: studies' verdicts on the same data, for the page.
        changes: differences from a baseline, for the page.
        archive: where the runs are from, if from an archive: its compressed files are copied.

    Raises:
        UserError: if a file cannot be written.
    """
    entries = entries_of(runs)
    shown = shown_of(entries)
    context = Context(suite, command, tuple(missing), tuple(stale), tuple(claims), tuple(changes)).as_json()
    try:
        with rewritten(folder) as place, warnings.catch_warnings(), rare_collections():
            warnings.filterwarnings("ignore", r"Glyph \d+ ")  # a name in letters that the font lacks shows as boxes in PNG
            write_csv(results(entries), place / "results.csv")
            write_csv(summary(entries), place / "summary.csv")
            (place / CHOICES).unlink(missing_ok=True)
            if choices := choices_in((e.label, e.record.tuning) for e in entries):
                write_text(place / CHOICES, written(choices))
            drawn = drawings(entries, shown)
            figures = write_figures(drawn, place / "figures")
            found = content(suite, entries, command, missing, stale)
            write_text(place / "README.md", readme(found, figures))
            files = [place / "summary.csv", place / "results.csv"]
            attached = {path.name: path.read_text(encoding="utf-8") for path in files if path.stat().st_size < LARGEST}
            screen = first_screen(found)
            pictures = kept(shown)  # a report from an archive has no others
            screen = replace(screen, thumbs=thumbnails(screen, pictures))
            write_text(place / "report.html", page(found, plots(drawn), claims, changes, attached, screen))
            for name, data in (archive.with_report(context) if archive else packed(context, runs, pictures)).items():
                (place / name).write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write the report {str(folder)!r}: {error.strerror or error}") from error


@contextmanager
def rare_collections() -> Iterator[None]:
    """Cyclic garbage is looked for a hundred times more rarely: figures are many small objects, nearly all of which live to the end."""
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def write_index(reports: Path) -> None:
    """Write reports/README.md: a line for each report beside it, with the commands from that report and the runs of its archive, and for
    a leaderboard.

    Raises:
        UserError: the file cannot be written.
    """
    rows = []
    for path in sorted(reports.glob("[!.]*/README.md")):
        name, text = path.parent.name, path.read_text(encoding="utf-8", errors="replace")
        made = re.search(r"^Made by (.+)\.$", text, re.MULTILINE)
        said = unescape(re.sub(r"\\(\W)", r"\1", made[1])) if made else ""  # as it was before it was escaped
        rows.append([Markup(f"[{escaped(name)}]({quote(name)}/README.md)"), said, archived(path.parent)])
    text = f"# Reports\n\n{table(['report', 'made by', 'records'], rows, right=False)}"
    if (reports / LEADERBOARD / PAGE).is_file():
        text += f"\nThe [leaderboard]({LEADERBOARD}/{PAGE}) ranks the variants over several of these reports.\n"
    replace_file(reports / "README.md", text.encode())


def archived(folder: Path) -> str:
    """How many runs a report's archive keeps, and how many of them the report marks as stale."""
    if not (folder / HEADER).is_file():
        return NOTHING
    try:
        found = read_header(folder)
        stale = context_of(folder, found["report"]).stale
    except UserError:
        return "damaged"
    return f"{len(found['runs'])} runs" + (f", {len(stale)} stale" if stale else "")


def write_text(path: Path, text: str) -> None:
    path.write_text(unicode(text), encoding="utf-8")
