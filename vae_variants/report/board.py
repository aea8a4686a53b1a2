"""The leaderboard's page and CSV files: pure functions of verified sources."""

import base64
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from vae_variants.analysis.aggregates import Estimate
from vae_variants.analysis.entries import COLOURS, SUPPORTS, looks_of
from vae_variants.analysis.formatting import number
from vae_variants.analysis.leaderboard import Board, Group, Row, leaderboard
from vae_variants.analysis.scores import PURPOSES
from vae_variants.analysis.standings import Standing, shared_metrics, standings
from vae_variants.analysis.tables import write_csv
from vae_variants.analysis.tasks import Field, Left, Task, field_of
from vae_variants.harness.folders import rewritten
from vae_variants.harness.sources import Source
from vae_variants.registry import UserError
from vae_variants.report.context import context_of
from vae_variants.report.html import DARK, asset, environment, unicode
from vae_variants.report.overview import Bar
from vae_variants.report.sections import LIKELIHOOD, SECTIONS

PAGE, SCORES, MATRIX = "leaderboard.html", "leaderboard.csv", "matrix.csv"
SCRIPT, STYLES = "board.js", ("style.css", "board.css")


class Origin(NamedTuple):
    """A source as the page names it. `link` leads to its report, if it has one."""

    name: str
    link: str
    runs: int
    stale: int
    data: str
    presets: str
    devices: str
    command: str


class Column(NamedTuple):
    """A metric of the matrix: its title, the section it belongs to, and label -> a standing for each task, None if it was not measured."""

    name: str
    title: str
    section: str
    cells: Mapping[str, Sequence[Standing | None]]


def write_leaderboard(sources: Sequence[Source], folder: Path) -> None:
    """Writes leaderboard.html, leaderboard.csv and matrix.csv: all, or none. The same sources give the same bytes.

    Args:
        sources: verified runs, in the order of the page.
        folder: where to write.

    Raises:
        UserError: no source has the default variant, or a file cannot be written.
    """
    field = field_of(sources)
    if not field.tasks:
        raise UserError(f"nothing can be scored: {field.left[0].why if field.left else 'there are no runs'}")
    boards, matrix = leaderboard(field.tasks), columns(field.tasks)
    origins = [origin(source, folder) for source in sources]
    try:
        with rewritten(folder) as place, warnings.catch_warnings():
            (place / PAGE).write_text(board_page(field, boards, matrix, origins), encoding="utf-8")
            write_csv(score_table(boards), place / SCORES)
            write_csv(matrix_table(field.tasks, matrix), place / MATRIX)
    except OSError as error:
        raise UserError(f"cannot write the leaderboard {str(folder)!r}: {error.strerror or error}") from error


def origin(source: Source, folder: Path) -> Origin:
    """Raises `UserError` for an archive whose report this version would not have written."""
    records = [record for _, record, _ in source.runs]
    context = context_of(source.folder, source.report) if source.report else None
    page = source.folder / "report.html"
    return Origin(
        source.name,
        Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix() if page.is_file() else "",
        len(records),
        len(context.stale) if context else 0,
        ", ".join(dict.fromkeys(r.dataset["name"] for r in records)),
        ", ".join(dict.fromkeys(r.fidelity for r in records)),
        ", ".join(dict.fromkeys(str(r.environment.get("device", "unknown")) for r in records)),
        context.command if context else "",
    )


def columns(tasks: Sequence[Task]) -> list[Column]:
    """The metrics of the matrix in the order of the tables of a report."""
    titles = {metric: (header, "Likelihood") for metric, header in LIKELIHOOD.items()}
    titles |= {metric: (header.replace("-{data}cnn", ""), title) for title, _, own in SECTIONS for header, metric, _ in own}
    found = shared_metrics(tasks)
    labels = labels_of(tasks)
    columns_ = []
    for name in [*(m for m in titles if m in found), *(m for m in found if m not in titles)]:
        of_task = [standings(task, name) for task in tasks]
        cells = {label: [own.get(label) for own in of_task] for label in labels}
        columns_.append(Column(name, *titles.get(name, (name, "Further metrics")), cells))
    return columns_


def labels_of(tasks: Iterable[Task]) -> dict[str, str]:
    """Every label with its pixel type, by the latter."""
    found = dict[str, str]()
    for task in tasks:
        for e in task.entries:
            found.setdefault(e.label, e.record.support)
    return dict(sorted(found.items(), key=lambda pair: list(SUPPORTS).index(pair[1])))


def board_page(field: Field, boards: Sequence[Board], matrix: Sequence[Column], origins: Sequence[Origin]) -> str:
    """The page, which opens from the disk and requests nothing."""
    labels, script = labels_of(field.tasks), asset(SCRIPT)
    environment().filters.update(estimate=estimate, percent=percent)
    context: dict[str, Any] = {
        "field": field,
        "boards": boards,
        "matrix": matrix,
        "origins": origins,
        "purposes": [p for p in PURPOSES if any(b.purpose is p for b in boards)],
        "labels": labels,
        "supports": SUPPORTS,
        "groups": {kind: [label for label in labels if labels[label] == kind] for kind in dict.fromkeys(labels.values())},
        "bars": bars,
        "standing": standing,
        "left": reasons(field.left),
        "hues": dict(zip(labels, (i % len(COLOURS) for i in looks_of(list(labels))), strict=True)),
        "colours": list(zip(COLOURS, DARK, strict=True)),
        "style": Markup("").join(Markup(asset(name)) for name in STYLES),
        "script": Markup(script),
        "digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "data": Markup(as_json(matrix, list(labels))),
    }
    return unicode(environment().get_template("board.html").render(context))


def as_json(matrix: Sequence[Column], labels: Sequence[str]) -> str:
    """Metric -> row -> task -> text of the value, text of the rank, or nothing."""
    found = {c.name: [[standing(cell) if cell else 0 for cell in c.cells[label]] for label in labels] for c in matrix}
    return json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")


def standing(found: Standing) -> tuple[str, str]:
    """Value, and rank or flag, as text."""
    return f"{found.bound} {number(found.value)}".strip(), f"{found.rank} of {found.of}" if found.rank else "†" * found.flagged


def reasons(left: Sequence[Left]) -> dict[tuple[str, str], list[str]]:
    """(source, why) -> labels."""
    found = dict[tuple[str, str], list[str]]()
    for each in left:
        found.setdefault((each.source, each.why), []).append(each.label)
    return found


def estimate(found: Estimate, scale: float) -> tuple[str, str]:
    """A signed score and its interval, with the digits that the interval supports."""
    value, low, high = (None if x is None else scale * x for x in found)
    half = 0.0 if low is None or high is None else (high - low) / 2
    digits = min(6, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 3

    def text(x: float | None) -> str:
        return "" if x is None else f"{x:+.{digits}f}".replace("-", "−")

    return text(value), f"{text(low)} to {text(high)}" if low is not None else ""


def percent(found: Estimate | None) -> tuple[str, str]:
    """A probability and its interval."""
    if found is None:
        return "", ""
    ends = "" if found.low is None or found.high is None or found.low == found.high else f"{100 * found.low:.0f} to {100 * found.high:.0f}"
    return f"{100 * found.value:.0f} %", ends


def bars(group: Group) -> dict[str, Bar]:
    """Label -> places of its interval in a cell, on one scale for the rows with a rank; others are drawn if they fit."""
    scale = [end for row in group.ranked for end in row.estimate if end is not None]
    low, high = min(scale, default=0.0), max(scale, default=0.0)

    def place(value: float | None) -> float:
        return 50.0 if value is None else round(100 * (value - low) / (high - low), 1)

    def bar(found: Estimate) -> Bar:
        return Bar(*(place(found.value if end is None else end) for end in (found.low, found.value, found.high)))

    return {row.label: bar(row.estimate) for row in group.rows if high > low and all(low <= (end or low) <= high for end in row.estimate)}


def score_table(boards: Sequence[Board]) -> pd.DataFrame:
    """A row for each purpose, pixel type, set of tasks and variant."""
    rows = [line(board, group, row) for board in boards for group in board.groups for row in group.rows]
    first = ["purpose", "support", "tasks", "variant", "rank", "rank_low", "rank_high", "score", "score_low", "score_high"]
    found = pd.DataFrame(rows, columns=[*first, "better_than_default", "better_low", "better_high", "runs", "unranked", "note"])
    return found.astype(dict.fromkeys(first[4:7], "Int64"))


def line(board: Board, group: Group, row: Row) -> tuple[object, ...]:
    tasks = " | ".join(task.name for task in group.tasks)
    place, chance = row.place or (None, None, None), row.chance or (None, None, None)
    return board.purpose.title, board.support, tasks, row.label, *place, *row.estimate, *chance, row.runs, row.unranked, row.note


def matrix_table(tasks: Sequence[Task], matrix: Sequence[Column]) -> pd.DataFrame:
    """A row for each metric, variant and task with a value."""
    rows = [
        (c.name, task.name, task.data, label, *cell.value, cell.rank, cell.of or None, cell.flagged, cell.bound)
        for c in matrix
        for label, cells in c.cells.items()
        for task, cell in zip(tasks, cells, strict=True)
        if cell
    ]
    names = ["metric", "task", "dataset", "variant", "mean", "low", "high", "n", "rank", "of", "flagged", "bound"]
    return pd.DataFrame(rows, columns=names).astype({"rank": "Int64", "of": "Int64"})
