"""What the codes look like: on a plane, and how much of the rate each latent unit has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vae_variants.analysis.entries import COLOURS, Entry, distinct
from vae_variants.harness.pictures import GRID
from vae_variants.report.drawing import shape_of
from vae_variants.report.grids import affordable, picture, swatch, tile
from vae_variants.report.plot import Plot
from vae_variants.report.readme import CAPTIONS
from vae_variants.report.svg import escaped, tag

__all__ = ["SHOWN", "latent"]

SHOWN = 400  # test images on a plane
SIDE = 200.0
UNITS = 50  # latent units, at most
CLASSES = 2 * len(COLOURS)  # that can be told apart
STEPS = (0.01, 0.1, 0.3, 1.0, 3.0)  # nats, where the next shade begins
SHADES = (0.0, 0.12, 0.3, 0.5, 0.75, 1.0)
COMPONENTS = (
    "The first test images on the first two principal components of their codes, by class, first seed; below the share of the "
    "variance that each has. Components have no common scale: compare how classes lie, not where."
)


def scatter(ident: str, entry: Entry) -> str:
    """Codes of test images, a colour and a shape for each class."""
    points, labels = entry.pictures["latent"][:SHOWN].numpy(), entry.pictures.get("latent_labels")
    classes = np.zeros(len(points), dtype=int) if labels is None else labels[:SHOWN].numpy()
    low, high = points.min(0), points.max(0)
    span = float((high - low).max()) or 1.0
    centre = (low + high) / 2
    places = 8 + (points - centre + span / 2) / span * (SIDE - 16)  # the same scale both ways
    parts = [tag("rect", x=1, y=1, width=SIDE - 2, height=SIDE - 2, fill="none", stroke="var(--line)")]
    for c in sorted(set(classes.tolist())):
        chosen = places[classes == c]
        d = "".join(f"M{x:.0f} {SIDE - y:.0f}h0" for x, y in chosen.tolist())
        look = {"stroke": f"var(--v{c % len(COLOURS)})", "stroke_linecap": "round" if c // len(COLOURS) % 2 == 0 else "square"}
        parts.append(
            tag("path", d=d, class_=f"class-{c}", stroke_width=3.6 if look["stroke_linecap"] == "round" else 3.2, opacity=0.85, **look)
        )
    if "latent_share" in entry.pictures:
        one, two = (f"{100 * share:.0f} %" for share in entry.pictures["latent_share"].tolist())
        foot = f"{one} across, {two} up"
    else:
        foot = "z₁ across, z₂ up"
    title = tag("title", escaped(f"{entry.label}: codes of {len(points)} test images"), id=f"{ident}-title")
    seen = "" if labels is None else f", of {len(set(classes.tolist()))} classes"
    described = tag("desc", escaped(f"A dot for each test image{seen}; {foot}."), id=f"{ident}-desc")
    known = {"role": "img", "aria_labelledby": f"{ident}-title {ident}-desc", "viewBox": f"0 0 {SIDE:g} {SIDE:g}", "width": SIDE}
    drawn = tag("svg", title, described, *parts, id=ident, **known, style="display:block;width:100%;height:auto")
    return tile(entry, drawn + tag("div", escaped(foot), style="font-size:11.5px;color:var(--muted)"))


def legend(entries: Sequence[Entry]) -> str:
    """Which class has which colour and shape; empty without classes, and with more than can be told apart."""
    seen = sorted({int(c) for e in entries if "latent_labels" in e.pictures for c in e.pictures["latent_labels"][:SHOWN].tolist()})
    if not seen or max(seen) >= CLASSES:
        return ""
    keys = [
        tag("span", tag("span", "●■"[c // len(COLOURS)], aria_hidden="true", style=f"color:var(--v{c % len(COLOURS)})"), f" {c}")
        for c in seen
    ]
    style = "display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12px;margin:0 0 10px"
    return tag("div", tag("span", "class", style="color:var(--muted)"), *keys, style=style)


def planes(shown: Sequence[Entry]) -> list[Plot]:
    """Codes of length 2 as they are with what the decoder makes of the plane, and principal components of longer ones."""
    group = [e for e in distinct(shown) if "latent" in e.pictures and len(e.pictures["latent"])]
    two, more = [e for e in group if "latent_share" not in e.pictures], [e for e in group if "latent_share" in e.pictures]
    found = []
    if two:
        tiles = []
        side = math.isqrt(affordable([n * n for n in (GRID, 8, 5)], max(math.prod(shape_of(e)) for e in two), len(two)))
        for i, e in enumerate(two):
            tiles.append(scatter(f"plot-latent-plane-{i}", e))
            if "latent_grid" in e.pictures:
                keep = [round(k * (GRID - 1) / (side - 1)) for k in range(side)]
                images = e.pictures["latent_grid"].unflatten(0, (GRID, GRID))[keep][:, keep].flatten(0, 1)
                image = picture(images, shape_of(e), side, f"decoder means of {e.label} over the plane")
                tiles.append(tile(e, image, ": decoded", "start"))
        style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:20px 28px;align-items:start"
        body = legend(two) + tag("div", *tiles, style=style)
        found.append(Plot("latent-plane", "The latent plane", CAPTIONS["latent_plane"], "latent", body))
    if more:
        style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:16px 18px"
        body = legend(more) + tag("div", *(scatter(f"plot-latent-components-{i}", e) for i, e in enumerate(more)), style=style)
        found.append(Plot("latent-components", "Codes on their principal components", COMPONENTS, "latent", body))
    return found


def latent_units(shown: Sequence[Entry]) -> list[Plot]:
    """KL of each latent unit, largest first: mean over seeds of the sorted profiles; a row of cells for each variant."""
    group = [e for e in distinct(shown) if e.record.series.get("kl_units")]
    if not group:
        return []
    profiles = [np.mean([sorted(u, reverse=True) for u in e.record.series["kl_units"].values()], axis=0)[:UNITS] for e in group]
    longest = max(map(len, profiles))
    rows = []
    for entry, profile in zip(group, profiles, strict=True):
        levels = np.searchsorted(STEPS, profile, side="right")
        parts = []
        for level in sorted(set(levels.tolist())):
            d = "".join(f"M{10 * int(i)} 0h9v12h-9z" for i in np.flatnonzero(levels == level))
            look = {"stroke": "var(--line)", "fill": "none"} if level == 0 else {"fill": "var(--v0)", "fill_opacity": SHADES[level]}
            parts.append(tag("path", d=d, class_=f"level-{level}", **look))
        carrying = int((profile >= STEPS[0]).sum())
        words = f"{len(profile)} latent units, the largest of {profile[0]:.2g} nats; {carrying} of at least {STEPS[0]:g}"
        strip = tag("svg", tag("title", escaped(words)), *parts, role="img", aria_label=words, viewBox=f"-1 -1 {10 * longest + 1} 14",
                    style=f"display:block;width:100%;max-width:{16 * longest}px;height:auto")  # fmt: skip
        head = tag("div", swatch(entry), escaped(entry.label), style="flex:0 0 170px;font-size:12px;overflow-wrap:anywhere")
        line = tag("div", strip, style="flex:1 1 260px;min-width:0")
        style = "display:flex;flex-wrap:wrap;gap:0 12px;align-items:center;margin:0 0 3px"
        rows.append(tag("div", head, line, data_variant=entry.label, style=style))
    box = "display:inline-block;width:14px;height:11px;margin-right:5px;vertical-align:-1px"
    names = ["under 0.01", *(f"{a:g} to {b:g}" for a, b in pairwise(STEPS)), f"over {STEPS[-1]:g} nats"]
    keys = [
        tag(
            "span",
            tag(
                "span",
                "",
                aria_hidden="true",
                style=f"{box};background:var(--v0);opacity:{shade}" if shade else f"{box};border:1px solid var(--line)",
            ),
            name,
        )
        for shade, name in zip(SHADES, names, strict=True)
    ]
    key = tag("div", *keys, style="display:flex;flex-wrap:wrap;gap:2px 16px;font-size:12px;margin:0 0 10px")
    caption = "KL of each latent unit, largest first, mean over seeds; empty cells are inactive units."
    return [Plot("latent-units", "What each latent unit carries", caption, "latent", key + "".join(rows))]


def latent(shown: Sequence[Entry]) -> list[Plot]:
    """Planes of codes, and the units' shares of the rate."""
    return [*planes(shown), *latent_units(shown)]
