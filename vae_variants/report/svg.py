"""SVG by hand: elements, scales with their ticks, and the panel that every plot is drawn in. Colours are variables of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vae_variants.analysis.entries import COLOURS, LINES, MARKERS, Entry

__all__ = [
    "Scale",
    "colour",
    "dashes",
    "escaped",
    "fitted",
    "marker",
    "panel",
    "panels",
    "path",
    "tag",
    "text",
    "tick_labels",
    "width_of",
    "x_axis",
    "y_axis",
]

SHAPES = {  # of about the same area, around the origin
    "o": "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0-8.4 0z",
    "s": "M-3.8-3.8h7.6v7.6h-7.6z",
    "^": "M0-5L4.8 3.6H-4.8z",
    "D": "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "v": "M0 5L4.8-3.6H-4.8z",
    "P": "M-1.7-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "X": "M-4.6-2.6l2-2L0-2l2.6-2.6l2 2L2 0l2.6 2.6l-2 2L0 2l-2.6 2.6l-2-2L-2 0z",
}
DASHES = dict(zip(map(str, LINES), ("", "6 3", "1.5 2.5", "7 2.5 1.5 2.5", "7 2 1.5 2 1.5 2", "1.5 5", "11 4"), strict=True))
NARROW, WIDE = set("iljtfrI1.,:;'|!()[]- "), set("mwMW@%≥≤±−+=")
SIDE_BY_SIDE = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:28px 36px;align-items:start"
PANEL = "display:block;width:100%;max-width:520px;height:auto"


def escaped(words: object) -> str:
    """Text as text, in an element or an attribute."""
    return html.escape(str(words), quote=True)


def short(value: object) -> str:
    """A coordinate to a hundredth, anything else as it is."""
    return f"{round(value, 2) + 0.0:.6g}" if isinstance(value, float) else escaped(value)


def tag(name: str, *content: str, **attributes: object) -> str:
    """An element of markup; attributes are escaped, those of None left out, and `class_` and `stroke_width` lose their underscores."""
    given = "".join(f' {k.rstrip("_").replace("_", "-")}="{short(v)}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{given}>{''.join(content)}</{name}>" if content else f"<{name}{given}/>"


def text(x: float, y: float, words: object, **attributes: object) -> str:
    return tag("text", escaped(words), x=float(x), y=float(y), **attributes)


def path(points: Iterable[tuple[float, float]]) -> str:
    """A line through points, to a tenth."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def colour(entry: Entry) -> str:
    return f"var(--v{entry.index % len(COLOURS)})"


def dashes(entry: Entry) -> str | None:
    return DASHES[str(LINES[entry.index // len(COLOURS) % len(LINES)])] or None


def marker(entry: Entry, x: float, y: float, hollow: bool = False) -> str:
    """The variant's own shape and colour."""
    shape = SHAPES[MARKERS[entry.index // len(COLOURS) % len(MARKERS)]]
    place = f"translate({short(float(x))} {short(float(y))})"
    fill = {"fill": "var(--paper)", "stroke": colour(entry), "stroke_width": 1.8} if hollow else {"fill": colour(entry)}
    return tag("path", class_="mark", transform=place, d=shape, **fill)


def width_of(words: str, size: float = 12.5) -> float:
    """Pixels that a text takes in a common sans-serif, rather too many than too few."""
    return size * sum(0.38 if c in NARROW else 0.9 if c in WIDE else 0.64 for c in words)


def fitted(words: str, width: float, size: float = 12.5) -> str:
    """The text, without its middle where it is too wide."""
    keep = len(words)
    while width_of(words, size) > width and keep > 4:
        keep -= 1
        words = words if keep >= len(words) else f"{words[: (keep + 1) // 2].rstrip('…')}…{words[-(keep // 2) :]}"
    return words


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` go to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.05) -> Scale:
        """One that holds all values, with some room at both ends."""
        kept = [math.log10(v) for v in values] if log else list(values)
        low, high = min(kept), max(kept)
        room = margin * (high - low) or (0.1 if log else 0.05 * abs(high)) or 1.0
        low, high = low - room, high + room
        return cls(10**low, 10**high, start, end, True) if log else cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """The pixel of a value that may be outside, at the nearer end."""
        if self.log and value <= self.low:
            return self.start
        return self(min(max(value, self.low), self.high))

    def ticks(self, most: int = 5) -> list[float]:
        """At most so many round values."""
        if self.log:
            low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for parts in ((1, 2, 5), (1, 3), (1,)):
                found = [p * 10.0**k for k in range(low, high + 1) for p in parts if self.low <= p * 10.0**k <= self.high]
                if len(found) <= most:
                    break
            while len(found) > most:
                found = found[::2]
            if len(found) > 1:
                return found
        size = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        for step in (size * m for m in (1, 2, 2.5, 5, 10, 20, 25, 50)):
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                break
        return [k * step for k in range(first, last + 1)]


def tick_labels(values: Sequence[float], log: bool = False) -> list[str]:
    """With no more digits than tell them apart; thousands and millions by a letter where that leaves few."""
    if log:
        return [suffixed(v) for v in values]
    largest = max(map(abs, values), default=0.0)
    error = 1e-3 * min((b - a for a, b in pairwise(values)), default=1e-3 * largest)
    if largest >= 1e4 and all(abs(float(f"{v:.6g}") - v) <= error for v in values):
        return [suffixed(v) for v in values]
    decimals = next((d for d in range(12) if all(abs(round(v, d) - v) <= error for v in values)), 12)
    return [f"{v + 0.0:.{decimals}f}".replace("-", "−") for v in values]


def suffixed(value: float) -> str:
    size, letter = next(((s, x) for s, x in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= s), (1.0, ""))
    return f"{value / size:.6g}{letter}".replace("-", "−")


def fitting(scale: Scale, most: int) -> tuple[list[float], list[str]]:
    """Ticks and their labels, fewer where those would touch."""
    ticks = scale.ticks(most)
    labels = tick_labels(ticks, scale.log)
    spare = min((scale(b) - scale(a) for a, b in pairwise(ticks)), default=math.inf) - max((width_of(x, 11.5) for x in labels), default=0.0)
    return (ticks, labels) if spare > 5 or most <= 2 else fitting(scale, most - 1)


def x_axis(scale: Scale, top: float, bottom: float, most: int = 5, name: str = "", within: float = math.inf) -> str:
    """Lines across the plot at the ticks, their values under it, none of which goes beyond `within`, and its name under those."""
    ticks, labels = fitting(scale, most)
    parts = [
        tag("line", x1=scale(v), x2=scale(v), y1=float(top), y2=float(bottom), stroke="var(--line)")
        + text(min(scale(v), within - width_of(label, 11.5) / 2), bottom + 15, label, text_anchor="middle", fill="var(--muted)")
        for v, label in zip(ticks, labels, strict=True)
    ]
    if name:
        parts.append(text((scale.start + scale.end) / 2, bottom + 32, name, text_anchor="middle", fill="var(--muted)"))
    return tag("g", *parts, class_="x-axis", font_size=11.5)


def y_axis(scale: Scale, left: float, right: float, most: int = 5) -> str:
    """The same for values upwards, which stand to the left."""
    ticks = scale.ticks(most)
    parts = [
        tag("line", y1=scale(v), y2=scale(v), x1=float(left), x2=float(right), stroke="var(--line)")
        + text(left - 6, scale(v) + 4, label, text_anchor="end", fill="var(--muted)")
        for v, label in zip(ticks, tick_labels(ticks, scale.log), strict=True)
    ]
    return tag("g", *parts, class_="y-axis", font_size=11.5)


def panel(ident: str, title: str, description: str, width: float, height: float, *parts: str, aside: str = "") -> str:
    """A picture with its title and what stands beside that, to be put among `panels`; `ident` is to be unique on the page.

    A title for which there is too little room loses its middle where it is seen, and is whole where it is read.
    """
    names = tag("title", escaped(f"{title}, {aside}" if aside else title), id=f"{ident}-title") + tag(
        "desc", escaped(description), id=f"{ident}-desc"
    )
    room = width - (width_of(aside, 11.5) + 12 if aside else 0)
    head = text(0, 14, fitted(title, room, 13.5), font_weight=600, font_size=13.5)
    head += text(width, 14, aside, font_size=11.5, text_anchor="end", fill="var(--muted)") if aside else ""
    box = f"0 0 {short(float(width))} {short(float(height))}"
    known = {"role": "img", "aria_labelledby": f"{ident}-title {ident}-desc", "viewBox": box, "width": float(width), "style": PANEL}
    return tag("svg", names, head, *parts, id=ident, **known, fill="var(--ink)", font_size=12.5)


def panels(*content: str) -> str:
    """Side by side, as many as there is room for."""
    return tag("div", *content, class_="panels", style=SIDE_BY_SIDE)
