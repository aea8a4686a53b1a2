"""report.html: one file that opens from the disk, requests nothing, and is complete without script."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from vae_variants.analysis.advice import TITLE
from vae_variants.analysis.cards import cards, common, tags
from vae_variants.analysis.entries import COLOURS, MARKERS
from vae_variants.analysis.prominence import family
from vae_variants.report.content import ROWS, Cell, Content
from vae_variants.report.drawing import shown_of
from vae_variants.report.explorer import explorer
from vae_variants.report.figures import Plot
from vae_variants.report.first_screen import Screen, first_screen, matching
from vae_variants.report.overview import overview
from vae_variants.report.sections import FIGURES_ARE, TIE, likelihood_text
from vae_variants.report.tuned import tuned

LARGEST = 3_900_000  # bytes of a page with its attached files
DARK = ("#3D9BDB", "#F0803C", "#26B98C", "#DE9BC1", "#EDB13A", "#8BD0F7", "#F2F2EF", "#BC9A45")  # the same hues where paper is dark
FIGURE_PANELS = {  # id of a panel -> its title, and the sections of figures in it
    "figures": ("Figures", ("summary", "quality", "trade-offs", "training")),
    "pictures": ("Pictures", ("pictures",)),
    "latent": ("Latent space", ("latent",)),
}
TABS = {  # id of a panel -> what its tab says
    "explore": "Explore",
    "compare": "Compare two",
    "pictures": "Pictures",
    "latent": "Latent space",
    "figures": "Figures",
    "tables": "Tables",
    "variants": "Variants",
    "evidence": "Evidence and downloads",
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
SCRIPTS = ("begin", "vendor/d3.min", "vendor/plot.umd.min", "script", "explore", "compare")  # begin: in the head, before anything is seen
LICENCES = {"D3": "vendor/d3.LICENSE", "Observable Plot": "vendor/plot.LICENSE"}
FIGURE_SPACE = "\u2007"  # as wide as a digit


class Change(NamedTuple):
    """A difference from the baseline: added, removed, better or worse."""

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


def words(text: object) -> Markup:
    """Plain text with `code` in it, as HTML."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def breakable(label: str) -> Markup:
    """A name with places to break it between its parts."""
    return Markup("<wbr>").join(re.findall(r"[^\[=,:|?_]*[\[=,:|?_]|[^\[=,:|?_]+", label))


def plain(value: float | None) -> str:
    """A short number for the script."""
    return "" if value is None else format(value, ".7g")


def widths(rows: Iterable[Sequence[Cell]]) -> list[int]:
    """Of the widest half-width in each column."""
    return [max(len(cell.text.partition(" ± ")[2]) for cell in column) for column in zip(*rows, strict=True)]


def half(text: str, width: int) -> tuple[str, str]:
    """`mean` and `± half-width` of a cell, the latter padded to the width of its column so that digits align."""
    lead, sign, rest = text.partition(" ± ")
    return lead, (f"± {rest}" if sign else "").ljust(width + 2, FIGURE_SPACE) if width else ""


def first_direction(title: str) -> str:
    return "ascending" if "↓" in title or title in ("rank", "p") else "descending"


@lru_cache(maxsize=1)
def environment() -> Environment:
    found = Environment(
        loader=PackageLoader("vae_variants.report"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(breakable=breakable, words=words, half=half, first_direction=first_direction, plain=plain)
    found.globals["tie"] = TIE
    return found


def asset(name: str) -> str:
    return files("vae_variants.report").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def scripts() -> dict[str, str]:
    """Name -> text of what the page may run, in this order."""
    return {name: asset(f"{name}.js") for name in SCRIPTS}


def looks(found: Content) -> dict[str, Look]:
    """As in the figures; if there are too many variants, only those drawn have one."""
    return {e.label: Look(e.index % len(COLOURS), e.index // len(COLOURS) % len(MARKERS)) for e in shown_of(found.entries)}


def of_variants(found: Content) -> dict[str, Any]:
    """What the templates look up by label."""
    return {
        "cards": cards(found.shown),
        "common": common(found.shown),
        "looks": looks(found),
        "choices": {e.label: tuned(e.record.tuning) for e in found.shown},
        "families": {e.label: family(e) for e in found.shown},
        "tags": {e.label: " ".join(tags(e)) for e in found.shown},
        "numbers": {e.label: i for i, e in enumerate(found.shown, start=1)},
    }


def page(
    found: Content,
    plots: Sequence[Plot] = (),
    claims: Sequence[Claim] = (),
    changes: Sequence[Change] = (),
    attached: Mapping[str, str] | None = None,
    screen: Screen | None = None,
) -> str:
    """The whole page, the same bytes for the same arguments.

    Args:
        found: what the report says.
        plots: figures to embed.
        claims: studies' verdicts on the same data.
        changes: differences from a baseline.
        attached: name -> text of files that the page offers for download. It contains them up to `LARGEST` bytes, and links to the
            others beside it.
        screen: the first screen with its pictures; without it one that has no pictures.
    """
    first, fits = overview(found), matching([c.place for c in claims], found.runs["data"], found.runs["fidelities"])
    drawn = {name: [[p for p in plots if p.section == section] for section in own] for name, (_, own) in FIGURE_PANELS.items()}
    panels = [(name, FIGURE_PANELS[name][0], groups) for name, groups in drawn.items() if any(groups)]
    template = environment().get_template("page.html")
    context = {
        "found": found,
        "runs": found.runs,
        "overview": first,
        "widths": widths([cell for cell, _ in cells] for group in first.groups for _, cells in group.rows),
        "widths_of": lambda sheet: widths(cells for _, cells in sheet.rows),
        "plots": plots,
        "figure_panels": panels,
        "ids": {"tables", *(f"figure-{p.name}" for p in plots)},
        "tabs": [(name, title) for name, title in TABS.items() if name not in FIGURE_PANELS or name in {panel for panel, _, _ in panels}],
        "screen": screen or first_screen(found),
        "claims": [claim for claim, fit in zip(claims, fits, strict=True) if fit],
        "elsewhere": [claim for claim, fit in zip(claims, fits, strict=True) if not fit],
        "changes": changes,
        **of_variants(found),
        "shapes": [SHAPES[m] for m in MARKERS],
        "colours": list(zip(COLOURS, DARK, strict=True)),
        "most": ROWS,
        "advice_title": TITLE,
        "likelihood_text": likelihood_text(found.advice.few),
        "figures_are": FIGURES_ARE,
        "style": Markup(asset("style.css")),
        "scripts": {name: Markup(text) for name, text in scripts().items()},
        "explorer": Markup(explorer(found)),
        "licences": {name: asset(file) for name, file in LICENCES.items()},
        "digests": [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts().values()],
    }
    embedded, text = dict[str, str](), unicode(template.render(context, attached={}))
    size = len(text.encode())
    for name, content in (attached or {}).items():
        uri = "data:text/csv;charset=utf-8," + quote(content, safe=",:;()[]=|/+*")
        if size + len(uri) < LARGEST:
            embedded[name], size = uri, size + len(uri)
    return unicode(template.render(context, attached=embedded)) if embedded else text


def unicode(text: str) -> str:
    """Text in which the name of a file that is no Unicode is shown by its bytes."""
    return text.encode("utf-8", errors="backslashreplace").decode()
