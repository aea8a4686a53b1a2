"""report.html: one file that opens from the disk, fetches nothing, and is whole without script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vae_variants.analysis.advice import TITLE
from vae_variants.analysis.cards import cards, common
from vae_variants.analysis.entries import COLOURS, LOOKS, MARKERS, Entry, prominent
from vae_variants.analysis.formatting import NOTHING
from vae_variants.analysis.run_summary import failed_runs, failed_values, same_runs
from vae_variants.evaluation import METRICS
from vae_variants.report.content import ROWS, Content, Sheet
from vae_variants.report.figures import Plot
from vae_variants.report.overview import overview
from vae_variants.report.sections import FIGURES_ARE, LEFT_OUT, likelihood_text

__all__ = ["LARGEST", "Change", "Claim", "page"]

LARGEST = 3_000_000  # bytes of a page with the files that are in it
DARK = ("#3D9BDB", "#F0803C", "#26B98C", "#DE9BC1", "#EDB13A", "#8BD0F7", "#F2F2EF", "#BC9A45")  # the same hues where paper is dark
SECTIONS = {
    "quality": "Quality",
    "trade-offs": "Quality against cost",
    "training": "Training",
    "pictures": "Pictures",
    "latent": "Latent space",
}
SHAPES = {  # markers of matplotlib as paths in a square of 12
    "o": "M6 1.8a4.2 4.2 0 1 1 0 8.4a4.2 4.2 0 1 1 0-8.4z",
    "s": "M2.2 2.2h7.6v7.6H2.2z",
    "^": "M6 1l4.8 8.6H1.2z",
    "D": "M6 .8L11.2 6L6 11.2L.8 6z",
    "v": "M6 11l4.8-8.6H1.2z",
    "P": "M4.3 1h3.4v3.3H11v3.4H7.7V11H4.3V7.7H1V4.3h3.3z",
    "X": "M1.4 3.4l2-2L6 4l2.6-2.6l2 2L8 6l2.6 2.6l-2 2L6 8l-2.6 2.6l-2-2L4 6z",
}
FIGURE_SPACE = "\u2007"  # as wide as a digit


class Change(NamedTuple):
    """What is not as in the baseline: added, removed, better or worse."""

    kind: str
    variant: str
    metric: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """A study's verdict on the data of this report; `link` is its page beside this one."""

    name: str
    claim: str
    verdict: str
    reason: str
    place: str
    link: str


class Look(NamedTuple):
    """Colour and marker of a variant, as numbers."""

    colour: int
    shape: int


@dataclass(frozen=True)
class Grid:
    """A `Sheet` as the page shows it: of each column its place in the sheet, title and the direction in which it is sorted first."""

    ident: str
    sheet: Sheet
    columns: tuple[tuple[int, str, str], ...]
    rows: tuple[tuple[Entry, tuple[tuple[str, str, str, bool], ...]], ...]  # cells: figure, its interval, what it is sorted by, best


def words(text: object) -> Markup:
    """Plain text with `code` in it."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def breakable(label: str) -> Markup:
    """A name that may be broken between its parts where there is little room."""
    return Markup("<wbr>").join(re.findall(r"[^\[=,:|?_]*[\[=,:|?_]|[^\[=,:|?_]+", label))


def data_uri(text: str) -> str:
    return "data:text/csv;charset=utf-8," + quote(text, safe=",:;()[]=|/+*")


def plain(value: float | None) -> str:
    """A number for a program, short."""
    return "" if value is None else format(value, ".7g")


def width(texts: Iterable[str]) -> int:
    """Of the widest half-width in a column."""
    return max((len(text.partition(" ± ")[2]) for text in texts), default=0)


def half(text: str, width: int) -> tuple[str, str]:
    """`mean` and `± half-width` of a cell, the latter as wide in each: so digits stand under digits."""
    lead, sign, rest = text.partition(" ± ")
    return lead, (f"± {rest}" if sign else "").ljust(width + 2, FIGURE_SPACE) if width else ""


def first_direction(title: str) -> str:
    return "ascending" if "↓" in title or title in ("rank", "p") else "descending"


def grid(ident: str, sheet: Sheet) -> Grid:
    columns = []
    for i in sheet.kept:
        cells, widest = [cells[i] for _, cells in sheet.rows], width(cells[i].text for _, cells in sheet.rows)
        columns.append([(*half(c.text, widest), plain(c.value), c.best) for c in cells])
    titles = tuple((i, sheet.columns[i], first_direction(sheet.columns[i])) for i in sheet.kept)
    rows = tuple((e, cells) for (e, _), cells in zip(sheet.rows, zip(*columns, strict=True), strict=True))
    return Grid(ident, sheet, titles, rows)


@lru_cache(maxsize=1)
def environment() -> Environment:
    found = Environment(
        loader=PackageLoader("vae_variants.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters.update(breakable=breakable, words=words, half=half, first_direction=first_direction, plain=plain)
    return found


def asset(name: str) -> str:
    return files("vae_variants.report").joinpath("templates", name).read_text(encoding="utf-8")


def looks(found: Content) -> dict[str, Look]:
    """As in the figures: where there are too many variants, those that are drawn alone have one."""
    drawn = prominent(found.entries, LOOKS)
    indices = [e.index for e in drawn] if len(drawn) == len(found.entries) else range(len(drawn))
    return {e.label: Look(i % len(COLOURS), i // len(COLOURS) % len(MARKERS)) for e, i in zip(drawn, indices, strict=True)}


def metrics(found: Content) -> list[tuple[str, str, str]]:
    """(name, unit, description) of what was measured."""
    recorded = {metric for e in found.entries for metric in e.rows}
    named = [(m.published_for(found.facts.data), m.unit, m.description) for m in METRICS.values()]
    return [m for m in named if m[0] in recorded]


def page(
    found: Content,
    plots: Sequence[Plot] = (),
    claims: Sequence[Claim] = (),
    changes: Sequence[Change] = (),
    attached: Mapping[str, str] | None = None,
) -> str:
    """The whole page, the same bytes for the same arguments.

    `attached` are texts of files that the page has in it as long as it does not become larger than `LARGEST`; it links to all the same
    where they are beside it.
    """
    style, script = asset("style.css"), asset("script.js")
    template = environment().get_template("page.html")
    first = overview(found)
    lines = [[cell.text for cell, _ in cells] for group in first.groups for _, cells in group.rows]
    sheets = [grid(f"table-{i}", sheet) for i, sheet in enumerate((*found.likelihood, *found.sheets), start=1)]
    context = {
        "found": found,
        "facts": found.facts,
        "overview": first,
        "widths": [width(texts) for texts in zip(*lines, strict=True)],
        "likelihood": sheets[: len(found.likelihood)],
        "sheets": sheets[len(found.likelihood) :],
        "plots": plots,
        "sections": [(name, title, [p for p in plots if p.section == name]) for name, title in SECTIONS.items()],
        "claims": claims,
        "changes": changes,
        "failed": failed_runs(found.entries),
        "skipped": failed_values(found.entries),
        "same": same_runs(found.entries),
        "cards": cards(found.shown),
        "common": common(found.shown),
        "metrics": metrics(found),
        "looks": looks(found),
        "numbers": {e.label: i for i, e in enumerate(found.shown, start=1)},
        "shapes": [SHAPES[m] for m in MARKERS],
        "colours": list(zip(COLOURS, DARK, strict=True)),
        "most": ROWS,
        "nothing": NOTHING,
        "advice_title": TITLE,
        "likelihood_text": " ".join(likelihood_text(found.advice.few)),
        "figures_are": FIGURES_ARE,
        "left_out": LEFT_OUT.format(all=len(found.entries), shown=len(found.shown), drawn=found.drawn),
        "style": Markup(style),
        "script": Markup(script),
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    files_in, text = dict[str, str](), template.render(context, attached={})
    size = len(text.encode())
    for name, content in (attached or {}).items():
        uri = data_uri(content)
        if size + len(uri) < LARGEST:
            files_in[name], size = uri, size + len(uri)
    return template.render(context, attached=files_in) if files_in else text
