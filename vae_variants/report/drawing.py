"""What the figures have in common: panels, axes, text, marks that carry the variant's name, and grids of images."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.gridspec import GridSpec
from matplotlib.image import AxesImage
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from matplotlib.transforms import Affine2D, Transform
from torch import Tensor

from vae_variants.analysis.entries import LOOKS, SUPPORTS, Entry, distinct, looks_of
from vae_variants.analysis.prominence import prominent
from vae_variants.analysis.statistics import Interval

DPI = 110
INK, MUTED, LINE, PAPER = "#1b1e22", "#5c636b", "#dfe2e5", "#ffffff"  # variables of templates/style.css, as they are where paper is light
BREAK = "\u2028"  # between a name and words, in ids that matplotlib writes as they are
WIDTH, GAP = 288.0, 16  # points of a panel, and between panels
SIZE, TITLE, SMALL = 8.5, 10.0, 8.0  # points of letters: of most, of titles, of the numbers of an axis
APART = 6.0  # points between numbers of an axis


class Part(NamedTuple):
    """A panel of a figure, sizes in points; `height` is that of the axes alone. A panel of one variant alone names it in `variant`.

    A title that is too long for a line is broken at its newline. `description` is read to those who do not see the panel.
    """

    title: str
    description: str
    draw: Callable[[Axes], None]
    height: float
    width: float = WIDTH
    left: float = 40.0
    right: float = 8.0
    bottom: float = 32.0
    variant: str = ""

    @property
    def heading(self) -> list[str]:
        """Lines of the title."""
        size, bold = (SIZE, False) if self.variant else (TITLE, True)
        if self.variant:
            return wrapped(self.title, self.width, size)
        whole = self.title.replace("\n", ", ")
        lines = [whole] if width_of(whole, size, bold) < self.width else self.title.split("\n")
        return [shortened(line, self.width, size, bold) for line in lines]

    @property
    def whole(self) -> int:
        """Height with title and ticks."""
        return math.ceil(14.0 * len(self.heading) + 6 + self.height + self.bottom)


def axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of that size in inches, and its axes in reading order. It leaves pyplot's state alone."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel())


def compose(found: Iterable[Part | None], columns: int = 2) -> Figure | None:
    """A figure of panels in rows, each a `SubFigure`, so that a page can show them apart; None without panels."""
    parts = [part for part in found if part is not None]
    rows = [parts[i : i + columns] for i in range(0, len(parts), columns)]
    if not rows:
        return None
    width = GAP + max(sum(int(part.width) + GAP for part in row) for row in rows)
    height = GAP + sum(max(part.whole for part in row) + GAP for row in rows)
    figure = Figure(figsize=(width / 72, height / 72), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    cells, top = GridSpec(height, width, figure=figure), GAP  # a cell for each square point
    for row in rows:
        left = GAP
        for part in row:
            panel(figure.add_subfigure(cells[top : top + part.whole, left : left + int(part.width)], frameon=False), part)
            left += int(part.width) + GAP
        top += max(part.whole for part in row) + GAP
    return figure


def panel(place: SubFigure, part: Part) -> None:
    """Title and axes of a panel, then what its part draws."""
    place.set_label("\n".join((part.title.replace("\n", ", "), part.description, part.variant)))
    for i, line in enumerate(part.heading):
        look = {"fontsize": SIZE} if part.variant else {"fontsize": TITLE, "fontweight": "bold"}
        write(place, 0, 1 - (2 + 14 * i) / part.whole, line, va="top", **look)
    size = ((part.width - part.left - part.right) / part.width, part.height / part.whole)
    ax = place.add_axes((part.left / part.width, part.bottom / part.whole, *size), facecolor="none", axisbelow=True)
    ax.spines[:].set_visible(False)
    ax.tick_params(labelsize=SMALL, labelcolor=MUTED, length=0, pad=3)
    ax.grid(color=LINE, linewidth=0.8)
    part.draw(ax)


def write(place: Axes | SubFigure, x: float, y: float, words: str, **look: Any) -> Text:
    """Text as it stands: a name with a dollar in it is no formula."""
    return place.text(x, y, words, **{"fontsize": SIZE, "color": INK, "parse_math": False, **look})


def in_points(ax: Axes) -> Transform:
    """From pixels to points of the figure."""
    return ax.figure.dpi_scale_trans.inverted() + Affine2D().scale(72)


def mark(variant: str, words: str, artists: Iterable[Artist]) -> None:
    """Says of what is drawn which variant it is, and the words that a page shows when it is pointed at."""
    for artist in artists:
        artist.set_gid(f"{variant}{BREAK}{words}")
        artist.set_url(artist.get_gid() if isinstance(artist, AxesImage) else None)  # which matplotlib writes no id of
        artist.set_zorder(3)  # drawn one after the other, so that the page has them in one group


@lru_cache(maxsize=4096)
def width_of(words: str, size: float = SIZE, bold: bool = False) -> float:
    """Points that a text takes in DejaVu Sans, which is wider than most fonts."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(words, font, False)[0])


def shortened(words: str, width: float, size: float = SIZE, bold: bool = False) -> str:
    """The text, without its middle where it is wider than that many points."""
    keep, found = min(len(words), int(4 * width / size) + 4), words  # no letter is narrower than a quarter of its size
    if keep < len(words):
        found = f"{words[: (keep + 1) // 2]}…{words[-(keep // 2) :]}"
    while width_of(found, size, bold) > width and keep > 4:
        keep -= 1
        found = f"{words[: (keep + 1) // 2]}…{words[-(keep // 2) :]}"
    return found


def wrapped(words: str, width: float, size: float = SIZE, most: int = 4) -> list[str]:
    """The text in lines of that many points, broken between the parts of a name; what does not fit in `most` lines is shortened."""
    lines, rest = list[str](), words
    while rest and len(lines) < most - 1 and width_of(rest, size) > width:
        ends_ = [found.end() for found in re.finditer(r"[\[=,:|?_ -]", rest[:-1]) if width_of(rest[: found.end()].rstrip(), size) <= width]
        if not ends_:
            break
        lines, rest = [*lines, rest[: ends_[-1]].rstrip()], rest[ends_[-1] :]
    return [*lines, shortened(rest, width, size)]


def seen(entries: Sequence[Entry]) -> list[Entry]:
    """Those whose values axes hold: not the collapsed ones, unless all are."""
    return [e for e in entries if not e.collapsed] or list(entries)


class ShortNumbers(ScalarFormatter):
    """Plain numbers, from ten thousand on by thousands, millions and billions."""

    def __init__(self, log: bool = False) -> None:
        super().__init__(useOffset=False)
        self.set_scientific(False)
        self.log = log

    def format_ticks(self, values: list[float]) -> list[str]:
        found = [suffixed(v) for v in values]
        short = self.log or max(map(abs, values), default=0.0) >= 1e4
        return found if short and len(set(found)) == len(found) else super().format_ticks(values)


def suffixed(value: float) -> str:
    size, letter = next(((s, x) for s, x in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= s), (1.0, ""))
    return f"{value / size:.6g}{letter}".replace("-", "−")


def without_worst(values: Sequence[float], better: str) -> list[float]:
    """The values but the worst, up to a quarter of them, if those squeeze all others to a quarter of the whole reach."""
    held = sorted(values, reverse=better == "higher")
    shorter = (held[:-drop] for drop in range(1, len(held) // 4 + 1) if better != "none")
    return next((kept for kept in shorter if 0 < 4 * abs(kept[-1] - kept[0]) < abs(held[-1] - held[0])), held)


def limits(
    values: Sequence[float], better: str = "none", log: bool = False, extra: Sequence[float] = (), margin: float = 0.05
) -> tuple[float, float]:
    """Ends of an axis that holds the values `without_worst`, and those `extra` ones that are no further away than the values reach."""
    held = without_worst([math.log10(v) if log else v for v in values], better)
    low, high = min(held), max(held)
    reach = high - low or math.inf
    more = [min(max(math.log10(v) if log else v, low - reach), high + reach) for v in extra if v > 0 or not log]
    low, high = min([low, *more]), max([high, *more])
    room = margin * (high - low) or (0.1 if log else 0.05 * abs(high)) or 1.0
    return (10 ** (low - room), 10 ** (high + room)) if log else (low - room, high + room)


def scale(ax: Axes, way: str, ends: tuple[float, float], log: bool = False, most: int = 5, name: str = "", whole: bool = False) -> None:
    """Limits, ticks, numbers and name of the axis `x` or `y`; at most `most` ticks that do not touch, at whole numbers if `whole`."""
    axis = ax.xaxis if way == "x" else ax.yaxis
    if log:
        getattr(ax, f"set_{way}scale")("log")
    getattr(ax, f"set_{way}lim")(*ends)
    decades = math.log10(ends[1] / ends[0]) if log else 0.0
    subs = (1, 2, 5) if decades < 1.6 else (1, 3) if decades < 2.2 else (1,)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(ShortNumbers(log))
    tries = [MaxNLocator(n, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=min(2, n)) for n in range(most if not log else 3, 0, -1)]
    even = next((found for found in tries if way == "y" or log or not crowded(ax, found)), tries[-1])
    axis.set_major_locator(LogLocator(subs=subs) if decades > 0.7 else even)
    axis.set_label_text(name, fontsize=SIZE, color=MUTED)


def crowded(ax: Axes, locator: Locator) -> bool:
    """Whether numbers at these places of the linear axis x would touch, or nearly."""
    low, high = ax.get_xlim()
    places = [place for place in locator.tick_values(low, high) if low <= place <= high]
    words = ax.xaxis.get_major_formatter().format_ticks(places)
    room = ax.get_window_extent().width / ax.figure.dpi * 72 / (high - low) * (places[1] - places[0]) if len(places) > 1 else math.inf
    return any(0.5 * (width_of(a, SMALL) + width_of(b, SMALL)) + APART > room for a, b in pairwise(words))


def shown_of(entries: Sequence[Entry]) -> list[Entry]:
    """Those that figures show, the `prominent` ones, each with a look of its own."""
    shown = prominent(entries, LOOKS)
    if len(shown) == len(entries):
        return shown
    return [replace(entry, index=index) for index, entry in zip(looks_of([e.label for e in shown]), shown, strict=True)]


def groups(entries: Sequence[Entry], has: Callable[[Entry], object]) -> list[tuple[str, list[Entry]]]:
    """Entries that have something, for each pixel type -> (its name in words, entries)."""
    found = [(title, [e for e in distinct(entries) if e.record.support == s and has(e)]) for s, title in SUPPORTS.items()]
    return [(title, group) for title, group in found if group]


def bar(found: Interval) -> float:
    """Half of an interval as it is drawn: not of two seeds, where it would hide everything else."""
    return found.half if found.half is not None and found.n > 2 else 0.0


def ends(found: Interval) -> tuple[float, float] | None:
    """Both ends of an interval as it is drawn: not of two seeds."""
    return None if found.low is None or found.high is None or found.n <= 2 else (found.low, found.high)


def shape_of(entry: Entry) -> list[int]:
    """Channels, height and width of the images."""
    return entry.record.dataset["shape"]


def grid(images: Tensor, shape: Sequence[int], columns: int) -> np.ndarray:
    """(n, D) uint8 -> one picture (H, W, 4) of images of shape (c, h, w), in rows of so many, with transparent gaps."""
    found = images.view(-1, *shape).expand(-1, 3, -1, -1)
    found = torch.cat([found, torch.full_like(found[:, :1], 255)], 1)
    gap, columns = max(1, round(min(shape[1:]) / 14)), min(columns, len(found))
    found = F.pad(found, (0, gap, 0, gap, 0, 0, 0, -len(found) % columns)).unflatten(0, (-1, columns))  # rows, columns, 4, h, w
    return found.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[:-gap, :-gap].numpy()
