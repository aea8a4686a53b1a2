"""Made-up runs with pictures, and how what is drawn of them is read back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from xml.etree import ElementTree

import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.made_up import grid, made_up
from vae_variants.analysis.entries import Entry
from vae_variants.harness.pictures import BETWEEN, GRID, STEPS
from vae_variants.report.drawing import BREAK
from vae_variants.report.figures import Drawing, Plot, drawings

__all__ = ["HOSTILE", "Element", "bold", "described", "drawn", "entries", "labelled", "panels", "parsed", "read", "svgs", "variants"]

HOSTILE = """x"><script>alert('&amp;')</script><b a='"""
Element = ElementTree.Element


def entries(variants: int = 16, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Entry]:
    """Made up, with pictures of chance; one has a hostile label, one a seed only."""
    specs = grid(variants, seeds)
    specs[3] = replace(specs[3], seeds=seeds[:1])
    found = []
    for i, spec in enumerate(specs):
        chance = torch.Generator().manual_seed(i)
        images = torch.randint(0, 256, (4, 64), dtype=torch.uint8, generator=chance)
        shown = {"samples": images, "originals": torch.arange(128, dtype=torch.uint8).view(2, 64), "reconstructions": images[:2]}
        shown |= {"latent": torch.randn(30, 2, generator=chance), "latent_labels": torch.arange(30) % 10}
        shown |= {"traversal": images[:1].repeat(len(STEPS), 1), "traversal_units": torch.tensor([0])}
        shown |= {"interpolations": images[:1].repeat(2 * BETWEEN, 1)}
        shown |= {"latent_share": torch.tensor([0.5, 0.25])} if i % 2 else {"latent_grid": images[:1].repeat(GRID**2, 1)}
        found.append(Entry(HOSTILE if i == 5 else spec.label, made_up(spec), shown.copy, i))
    return found


def parsed(body: str) -> Element:
    return ElementTree.fromstring(f"<body>{body}</body>")


@lru_cache(maxsize=4)
def drawn(variants: int = 16, seeds: tuple[int, ...] = (0, 1, 2)) -> tuple[Drawing, ...]:
    """All figures of made-up runs."""
    return tuple(drawings(entries(variants, seeds)))


def svgs(found: Iterable[Plot]) -> list[tuple[str, Element]]:
    """(name of the plot, picture) of every panel."""
    return [(plot.name, svg) for plot in found for svg in parsed(plot.body).iter("svg")]


def panels(figure: Figure | None) -> dict[str, Axes]:
    """Title of each panel -> its axes."""
    assert figure is not None
    found = {place.get_label().split("\n")[0]: place.axes[0] for place in figure.subfigs}
    assert len(found) == len(figure.subfigs)
    return found


def described(ax: Axes) -> str:
    return ax.figure.get_label().split("\n")[1]


def variants(ax: Axes) -> dict[str, list[Artist]]:
    """Variant -> what is drawn of it, in the order in which it is drawn."""
    found: dict[str, list[Artist]] = {}
    for artist in ax.get_children():
        if artist.get_gid():
            found.setdefault(artist.get_gid().split(BREAK)[0], []).append(artist)
    return found


def labelled(artists: Iterable[Artist], label: str) -> list:
    return [artist for artist in artists if artist.get_label() == label]


def bold(ax: Axes) -> set[str]:
    """Variants whose names are bold."""
    return {name for name, own in variants(ax).items() if any(isinstance(a, Text) and a.get_weight() == "bold" for a in own)}


def read(label: str) -> float:
    """The number that a tick has."""
    size = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(label[-1], 1.0)
    return float(label.rstrip("kMGT").replace("−", "-")) * size
