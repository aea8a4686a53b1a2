"""Figures for the page: matplotlib's SVG, a picture for each panel, in the page's colours."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from vae_variants.analysis.entries import COLOURS
from vae_variants.report.drawing import BREAK, INK, LINE, MUTED, PAPER, SIZE

__all__ = ["markup"]

VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"} | {c.lower(): f"v{i}" for i, c in enumerate(COLOURS)}
BLACK = f"var(--{VARIABLES['#000000']})"  # what matplotlib leaves out
LOOKS = (
    "fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-linecap", "opacity", "font-size",
    "font-weight", "text-anchor",
)  # fmt: skip
PLACES = ("x", "y", "width", "height", "d", "transform", "href", "clip-path")
WIDE = 450.0  # points, from which on a panel is moved under a narrow screen, not made small
RC: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "vae-variants", "image.composite_image": False}


def markup(figure: Figure, name: str) -> str:
    """SVG of every panel, one after the other. Ids begin with `plot-` and the name, which is to be unique on the page."""
    file = io.StringIO()
    with rc_context(RC):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if "}" in key]:
            element.set(key.rpartition("}")[2], element.attrib.pop(key))
    named = {e.get("id", ""): e for e in root.iter()}
    height = figure.get_figheight() * 72
    parts, widest = [], 0.0
    for i, panel in enumerate(figure.subfigs):
        ident = f"plot-{name}-{i}"
        box = panel.bbox.transformed(figure.dpi_scale_trans.inverted())
        left, top, wide, high = (round(72 * v, 1) for v in (box.x0, height / 72 - box.y1, box.width, box.height))
        title, description, variant = str(panel.get_label()).split("\n")
        known = {"id": ident, "role": "img", "aria-labelledby": f"{ident}-title {ident}-desc", "fill": BLACK, "font-size": f"{SIZE:g}"}
        svg = Element("svg", known | {"viewBox": f"{left:g} {top:g} {wide:g} {high:g}", "width": f"{wide:g}pt", "style": f"--w:{wide:g}pt"})
        if variant:
            svg.set("data-variant", variant)
        for tag, words in (("title", title), ("desc", description)):
            ElementTree.SubElement(svg, tag, id=f"{ident}-{tag}").text = words
        clips: dict[str, str] = {}
        drawn = list(short(named[f"subfigure_{i + 1}"], named, ident, clips))
        for old, new in clips.items():
            clip = ElementTree.SubElement(svg, "clipPath", id=new)
            clip.extend(Element(e.tag, attributes(e, ident, clips)) for e in named[old])
        svg.extend(joined(drawn))
        parts.append(ElementTree.tostring(svg, encoding="unicode"))
        widest = max(widest, wide)
    place = f'class="panels wide" role="region" tabindex="0" aria-label="figure: {name}"' if widest > WIDE else 'class="panels"'
    return f'<div {place} style="--w:{widest:g}pt">{"".join(parts)}</div>'


def short(element: Element, named: dict[str, Element], ident: str, clips: dict[str, str]) -> Iterator[Element]:
    """What is seen of an element, without groups that say nothing; `clips` gets the ids of clip paths."""
    children = [found for child in element for found in short(child, named, ident, clips)]
    variant, _, words = element.get("href" if element.tag == "a" else "id", "").partition(BREAK)
    if element.tag in ("g", "a") and words:
        found = Element("g", {"data-variant": variant} if variant else {})
        ElementTree.SubElement(found, "title").text = words
        found.extend(children)
        yield found
    elif element.tag == "g" and element.get("clip-path") and children:
        found = Element("g", attributes(element, ident, clips))
        found.extend(children)
        yield found
    elif element.tag == "g":
        yield from children
    elif element.tag == "use":
        shape = named[element.get("href", "#")[1:]]
        place = f"translate({element.get('x')} {element.get('y')})"
        look = f"{shape.get('style', '')};{element.get('style', '')}"
        yield Element("path", attributes(Element("path", d=shape.get("d", ""), style=look, transform=place), ident, clips))
    elif element.tag in ("path", "image", "text"):
        found = Element(element.tag, attributes(element, ident, clips))
        found.text = (element.text or "").strip() or None
        yield found


def joined(elements: list[Element]) -> list[Element]:
    """Neighbours of one variant and with the same words become one group."""
    found: list[Element] = []
    for element in elements:
        last = found[-1] if found else None
        if last is not None and last.get("data-variant") == element.get("data-variant") and title(last) == title(element) != "":
            last.extend(element[1:])
        else:
            found.append(element)
    return found


def title(element: Element) -> str:
    return element.findtext("title", "")


def attributes(element: Element, ident: str, clips: dict[str, str]) -> dict[str, str]:
    """Look and place of an element in few letters, with colours that are variables of the page."""
    style = dict(part.strip().split(": ", 1) for part in element.get("style", "").split(";") if ": " in part)
    found = {key: VARIABLES.get(style[key], style[key].removesuffix("px")) for key in LOOKS if key in style}
    found = {key: f"var(--{value})" if value in VARIABLES.values() else value for key, value in found.items()}
    if found.get("font-size") == f"{SIZE:g}":
        del found["font-size"]
    for key in PLACES:
        if value := element.get(key):
            found[key] = value if key == "href" else tenths(value)
    if "href" in found:
        found["href"] = small(found["href"])
    if "clip-path" in found:
        old = element.get("clip-path", "")[5:-1]
        found["clip-path"] = f"url(#{clips.setdefault(old, f'{ident}-clip-{len(clips)}')})"
    if found.get("transform", "").startswith("rotate(0 ") or found.get("transform", "").startswith("rotate(-0 "):
        del found["transform"]
    return found


def small(uri: str) -> str:
    """A picture in the page, without colours that it has not."""
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    red, green, blue, _ = picture.convert("RGBA").split()
    file = io.BytesIO()
    picture.convert("LA" if red == green == blue else "RGBA").save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def tenths(value: str) -> str:
    """Numbers to a tenth of a point, those of a matrix to more, and no space that is not needed."""
    digits = 5 if value.startswith("matrix") else 1
    rounded = re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{round(float(number[0]), digits) + 0.0:g}", value)
    return re.sub(r" ?([A-Za-z]) ?", r"\1", " ".join(rounded.split())) if value[0] == "M" else rounded
