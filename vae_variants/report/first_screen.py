"""The first screen of the page: a card for each purpose, verdicts of claims, and what failed or is flagged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vae_variants.analysis.advice import DISENTANGLEMENT, SAMPLES, SPEEDS, Choice, fastest
from vae_variants.analysis.entries import Entry
from vae_variants.analysis.formatting import number
from vae_variants.analysis.notes import Note
from vae_variants.analysis.sample_quality import PLACE
from vae_variants.analysis.statistics import Interval
from vae_variants.harness.pictures import STEPS
from vae_variants.report.content import Content, sign
from vae_variants.report.drawing import compose, shape_of
from vae_variants.report.drawing import grid as tiled
from vae_variants.report.grids import plane, tile
from vae_variants.report.svg import markup

UNITS = {  # metric -> unit of a value, of a margin, and the factor of both
    "log_likelihood": (" nats", " nats", 1.0),
    "bits_per_dim": (" bits/dim", " bits/dim", 1.0),
    "reconstruction_mse": (" MSE per pixel", " MSE", 1.0),
    "spectral_distance": (" dB", " dB", 1.0),
    "probe_accuracy": (" % accuracy of a linear classifier on the latents", " points", 100.0),
    PLACE: ("", " places, a mean over distance, precision and coverage", 1.0),
}
PURPOSES = {  # metric -> title, the tab with more about it, and which pictures stand for it
    "log_likelihood": ("Likelihood", "figure-likelihood", "samples"),
    "bits_per_dim": ("Compression", "tables", ""),
    "reconstruction_mse": ("Reconstruction", "figure-reconstruction", "reconstructions"),
    PLACE: (SAMPLES, "figure-samples_measured", "samples"),
    "spectral_distance": (SAMPLES, "figure-samples_measured", "samples"),
    "probe_accuracy": ("Latents", "figure-codes", "latent"),
    DISENTANGLEMENT: ("Disentanglement", "tables", "traversal"),
    SPEEDS[0][1]: ("Speed", "figure-costs", ""),
}
PICTURE, ACROSS = 112.0, 4  # points of a thumbnail, and images in its row


@dataclass(frozen=True)
class Line:
    """What a card says of one pixel type, or of all. `tied` are the others at the top, `text` stands if there is no winner."""

    scope: str
    verdict: str
    label: str = ""
    figure: str = ""
    margin: str = ""
    behind: str = ""
    tied: tuple[str, ...] = ()
    text: str = ""
    aside: Note | None = None


@dataclass(frozen=True)
class Card:
    """A purpose: a line for each pixel type that nats are compared in, or for each timing, else one.

    `thumbnails` draws the pictures that it `shows` `of` its winner.
    """

    title: str
    link: str
    lines: tuple[Line, ...]
    shows: str = ""
    of: Entry | None = None

    @property
    def open(self) -> list[Line]:
        """What is seen at once: the first line, and those that name a winner among several."""
        return [each for i, each in enumerate(self.lines) if not i or each.verdict in ("told", "tied", "measured")]


@dataclass(frozen=True)
class Trouble:
    """Rows that win nothing, or not by every metric: `kind` says why, `rows` are labels with the reason."""

    kind: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Screen:
    cards: tuple[Card, ...]
    trouble: tuple[Trouble, ...]
    thumbs: Mapping[str, str] = field(default_factory=dict)


def first_screen(found: Content) -> Screen:
    entries, quick = {e.label: e for e in found.entries}, fastest(found.entries)
    lines: dict[str, list[tuple[Line, Entry | None]]] = {}
    for choice in found.advice.choices:
        title = PURPOSES.get(choice.metric, (choice.purpose,))[0]
        if choice.verdict == "measured":
            lines[title] = [
                (Line(f.what, "measured", f.label, f"{f.figure}{f', {f.ratio} {f.baseline}' if f.ratio else ''}"), None) for f in quick
            ]
            continue
        lines.setdefault(title, []).append((line(choice, entries, choice.metric), entries.get(next(iter(choice.best), ""))))
        if choice.metric == "log_likelihood" and any(e.interval("bits_per_dim") for label in choice.best for e in [entries[label]]):
            lines.setdefault("Compression", []).append((line(choice, entries, "bits_per_dim"), None))
    known = {title: (link, shows) for title, link, shows in PURPOSES.values()}
    cards = []
    for title in dict.fromkeys([*known, *lines]):
        if title in lines:
            link, shows = known.get(title, ("tables", ""))
            own = sorted(lines[title], key=lambda pair: not pair[0].label)  # pixel types with a winner first
            cards.append(Card(title, link, tuple(each for each, _ in own), shows, next((e for _, e in own if e is not None), None)))
    return Screen(tuple(cards), tuple(trouble(found)))


def line(choice: Choice, entries: Mapping[str, Entry], metric: str) -> Line:
    """A choice in few words; for compression its figures in bits per dimension."""
    scope = choice.purpose.partition(", ")[2]
    if not choice.best:
        return Line(scope, choice.verdict, text=brief(choice.text), aside=choice.aside)
    first = entries[choice.best[0]]
    unit, more, scale = UNITS.get(metric, ("", "", 1.0))
    margin = better(first, entries[choice.behind], metric) if metric == "bits_per_dim" and choice.behind else choice.margin
    value = ", ".join(f"{name} {number(first.interval(m))} {direction(first, m)}" for name, m in choice.also)
    value = value or f"{sign(first, metric)}{number(first.interval(metric), scale=scale)}{unit}"
    said = f"{number(margin, scale=scale)}{more}" if margin else ""
    only = "The only variant without a flaw: there is no choice." if choice.verdict == "none" else ""
    return Line(scope, choice.verdict, first.label, value, said, choice.behind, choice.best[1:], only, choice.aside)


def direction(entry: Entry, metric: str) -> str:
    return {"higher": "↑", "lower": "↓"}[entry.rows[metric][0]["better"]]


def brief(text: str) -> str:
    """The first sentence, and the next if that has the best mean."""
    first, *others = text.split(". ")
    return f"{first}. {others[0]}." if others and first.startswith("No verdict") else f"{first.removesuffix('.')}."


def better(first: Entry, other: Entry, metric: str) -> Interval | None:
    """By how much the first is lower, over the common seeds."""
    found = other.compared(metric, first)
    return found.difference if found else None


def trouble(found: Content) -> Iterable[Trouble]:
    """Failed runs, rows that no figure of may win, rows whose samples may not, and those with a caveat."""
    failed = tuple(dict.fromkeys((f.label, f"{f.status}: {f.reason}") for f in found.failed))
    kinds: dict[str, list[tuple[str, str]]] = {"all": [], "samples": [], "nothing": []}
    for e in found.entries:
        worst = next((kind for kind in kinds if any(flaw.spoils == kind for flaw in e.flaws)), None)
        if worst:
            kinds[worst].append((e.label, "; ".join(flaw.what for flaw in e.flaws if flaw.spoils == worst)))
    titles = {"all": "flagged: can win nothing", "samples": "flagged: samples can win nothing", "nothing": "with a caveat"}
    groups = [("failed", failed), ("missing", tuple((label, "has not run yet") for label in found.missing))]
    groups += [(titles[kind], tuple(rows)) for kind, rows in kinds.items()]
    return [Trouble(kind, rows) for kind, rows in groups if rows]


def thumbnails(screen: Screen, pictures: Mapping[str, Mapping[str, Tensor]]) -> dict[str, str]:
    """Title of a card -> a small picture by its winner, if `pictures` has any: key of a run -> name -> images."""
    found = {}
    for card in screen.cards:
        own = pictures.get(card.of.record.key, {}) if card.of is not None and card.shows else {}
        figure = thumbnail(replace(card.of, load=partial(dict, own)), card.shows) if card.of is not None and own else None
        if figure is not None:
            found[card.title] = markup(figure, f"thumb_{card.title.lower()}")
    return found


def thumbnail(entry: Entry, shows: str) -> Figure | None:
    pictures = entry.pictures
    if shows == "latent":
        return compose([plane(entry, PICTURE)]) if len(pictures.get("latent", ())) else None
    if shows not in pictures:
        return None
    images, words, columns = pictures[shows], f"{shows} of {{}}", len(STEPS) if shows == "traversal" else min(ACROSS, len(pictures[shows]))
    if shows == "reconstructions":
        both = [(pictures["originals"][i : i + columns], images[i : i + columns]) for i in range(0, len(images) - columns + 1, columns)]
        images = torch.cat([half for pair in both for half in pair])
        words = "test images and, below each, their reconstructions by {}"
    return compose([tile(entry, tiled(images[: columns * ACROSS], shape_of(entry), columns), words, PICTURE)])


def matching(places: Sequence[str], data: str, presets: Sequence[str]) -> list[bool]:
    """Whether what was measured at each place, such as `digits (quick)`, was on this data set and at the one preset of the report."""
    here = {data + ("" if preset == "full" else f" ({preset})") for preset in presets}
    return [len(here) == 1 and place in here for place in places]
