"""Pictures of every variant beside each other, as PNG in the page itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from vae_variants.analysis.entries import COLOURS, MARKERS, Entry, distinct
from vae_variants.harness.pictures import STEPS
from vae_variants.report.drawing import shape_of
from vae_variants.report.plot import Plot
from vae_variants.report.readme import CAPTIONS
from vae_variants.report.svg import colour, escaped, tag

__all__ = ["affordable", "grids", "picture", "swatch", "tile"]

GLYPHS = dict(zip(MARKERS, "●■▲◆▼✚✖", strict=True))
NUMBERS = 2**20  # pixels of all variants together in a plot, at most, a colour counting for each of its three
SIDES = (6, 5, 4, 3, 2, 1)
PAIRS = (10, 8, 6, 4, 3, 2, 1)
UNITS = (5, 4, 3, 2, 1)
TRAVERSALS = (
    "The code of the first test image, which is in the middle, moved by −3 to 3 standard deviations along one latent unit after the other, "
    "those whose codes vary most on top; first seed. A row that stays as it is belongs to a unit that carries nothing."
)
TILES = "display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px 14px"


def picture(images: Tensor, shape: Sequence[int], columns: int, words: str, **attributes: object) -> str:
    """(n, D) uint8 -> an image of them in rows, with gaps that let the page show."""
    c, h, w = shape
    gap = max(1, round(min(h, w) / 14))
    rows = math.ceil(len(images) / columns)
    canvas = np.zeros((rows * (h + gap) - gap, columns * (w + gap) - gap, c + 1), dtype=np.uint8)
    for i, image in enumerate(images.numpy()):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        canvas[top : top + h, left : left + w, :c] = image.reshape(shape).transpose(1, 2, 0)
        canvas[top : top + h, left : left + w, c] = 255
    file = io.BytesIO()
    Image.fromarray(canvas, "LA" if c == 1 else "RGBA").save(file, "PNG", compress_level=9)
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    size = {"width": canvas.shape[1], "height": canvas.shape[0]}
    return tag("img", src=source, alt=words, **size, style="display:block;width:100%;height:auto;image-rendering:pixelated", **attributes)


def affordable(choices: Sequence[int], size: int, variants: int) -> int:
    """The largest of the choices, from large to small, by which all `variants` stay within `NUMBERS`; else the last."""
    return next((n for n in choices if n * size * variants <= NUMBERS), choices[-1])


def swatch(entry: Entry) -> str:
    """The variant's mark, for those who see it."""
    glyph = GLYPHS[MARKERS[entry.index // len(COLOURS) % len(MARKERS)]]
    return tag("span", glyph, aria_hidden="true", style=f"color:{colour(entry)};font-size:10px;margin-right:4px")


def tile(entry: Entry, image: str, note: str = "", justify: str = "end") -> str:
    words = tag("figcaption", swatch(entry), escaped(entry.label + note), style="font-size:12px;line-height:1.35;overflow-wrap:anywhere")
    style = f"margin:0;display:flex;flex-direction:column;gap:4px;justify-content:{justify}"
    return tag("figure", words, image, data_variant=entry.label, style=style)


def samples(shown: Sequence[Entry]) -> list[Plot]:
    """Of the same noise where variants have as many latent units; what was not trained is real, and comes first."""
    group = sorted((e for e in distinct(shown) if "samples" in e.pictures), key=lambda e: bool(e.record.curves))
    if not group:
        return []
    size = max(math.prod(shape_of(e)) for e in group)
    side = math.isqrt(affordable([n * n for n in SIDES], size, len(group)))
    tiles = []
    for e in group:
        images, note = e.pictures["samples"][: side * side], "" if e.interval("sharpness") else " (draws)"
        tiles.append(tile(e, picture(images, shape_of(e), side, f"{len(images)} samples of {e.label}{note}"), note))
    caption = f"{CAPTIONS['samples']} The same noise for all variants with as many latent units."
    return [Plot("samples", "Samples", caption, "pictures", tag("div", *tiles, style=TILES))]


def row(name: str, image: str, label: str | None = None, header: bool = False) -> str:
    """A variant's images in a line, its name to the left, or above where there is little room."""
    head = tag("div", name, style="flex:0 0 170px;font-size:12px;overflow-wrap:anywhere" + (";color:var(--muted)" if header else ""))
    line = tag("div", image, style="flex:1 1 300px;max-width:380px")
    return tag("div", head, line, data_variant=label, style="display:flex;flex-wrap:wrap;gap:2px 12px;align-items:center;margin:0 0 5px")


def reconstructions(shown: Sequence[Entry]) -> list[Plot]:
    """The same test images, a row for each variant."""
    group = [e for e in distinct(shown) if "reconstructions" in e.pictures]
    if not group:
        return []
    n = affordable(PAIRS, max(math.prod(shape_of(e)) for e in group), len(group) + 1)
    originals = group[0].pictures["originals"][:n]
    rows = [row("test images", picture(originals, shape_of(group[0]), n, f"the first {len(originals)} test images"), header=True)]
    for e in group:
        image = picture(e.pictures["reconstructions"][:n], shape_of(e), n, f"what {e.label} makes of them")
        rows.append(row(swatch(e) + escaped(e.label), image, e.label))
    return [Plot("reconstructions", "Reconstructions", CAPTIONS["reconstructions"], "pictures", "".join(rows))]


def traversals(shown: Sequence[Entry]) -> list[Plot]:
    """The same test image, moved along the latent units of every variant that has any."""
    group = [e for e in distinct(shown) if "traversal" in e.pictures]
    if not group:
        return []
    units = affordable(UNITS, len(STEPS) * max(math.prod(shape_of(e)) for e in group), len(group))
    tiles = []
    for e in group:
        images = e.pictures["traversal"][: units * len(STEPS)]
        words = f"{len(images) // len(STEPS)} latent units of {e.label}, each from −3 to 3 standard deviations"
        tiles.append(tile(e, picture(images, shape_of(e), len(STEPS), words), justify="start"))
    style = TILES.replace("150px", "200px")
    return [Plot("traversals", "Latent traversals", TRAVERSALS, "pictures", tag("div", *tiles, style=style))]


def grids(shown: Sequence[Entry]) -> list[Plot]:
    """Samples, reconstructions, traversals: of the same noise and test images for every variant."""
    return [*samples(shown), *reconstructions(shown), *traversals(shown)]
