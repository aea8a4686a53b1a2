"""Made-up runs with pictures, and how what is drawn of them is read back."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch

from tests.made_up import grid, made_up
from vae_variants.analysis.entries import Entry
from vae_variants.harness.pictures import GRID, STEPS

__all__ = ["HOSTILE", "Element", "entries", "inverse", "of", "parsed", "place", "read", "svgs", "title"]

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
        shown |= {"latent_share": torch.tensor([0.5, 0.25])} if i % 2 else {"latent_grid": images[:1].repeat(GRID**2, 1)}
        found.append(Entry(HOSTILE if i == 5 else spec.label, made_up(spec), shown.copy, i))
    return found


def parsed(body: str) -> Element:
    return ElementTree.fromstring(f"<body>{body}</body>")


def svgs(found: list) -> list[tuple[str, Element]]:
    """(name of the plot, picture) of those that have a title."""
    return [(plot.name, svg) for plot in found for svg in parsed(plot.body).iter("svg") if svg.get("id")]


def title(svg: Element) -> str:
    return svg.findtext("title") or ""


def read(label: str) -> float:
    size = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(label[-1], 1.0)
    return float(label.rstrip("kMGT").replace("−", "-")) * size


def inverse(svg: Element, axis: str = "x", log: bool = False):
    """Pixels -> value, by the ticks of an axis as one sees them."""
    group = next(g for g in svg.iter("g") if g.get("class") == f"{axis}-axis")
    labels = [t for t in group.iter("text") if re.fullmatch(r"−?[\d.]+[kMGT]?", t.text or "")]
    places = [float(line.get(f"{axis}1")) for line in group.iter("line")]
    values = [math.log10(read(t.text)) if log else read(t.text) for t in labels]
    slope = (values[-1] - values[0]) / (places[-1] - places[0])
    for place, value in zip(places, values, strict=True):
        assert values[0] + slope * (place - places[0]) == pytest.approx(value, abs=abs(slope) * 0.02)

    def back(pixel: float) -> float:
        value = values[0] + slope * (pixel - places[0])
        return 10**value if log else value

    return back, abs(slope) * 0.02


def place(element: Element) -> tuple[float, float]:
    x, y = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")).groups()
    return float(x), float(y)


def of(svg: Element, kind: str) -> list[Element]:
    return [e for e in svg.iter() if e.get("class") == kind]
