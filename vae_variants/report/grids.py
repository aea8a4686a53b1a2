"""Pictures of every variant beside each other: samples, reconstructions, traversals, and planes of latents."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_variants.analysis.entries import COLOURS, Entry, distinct
from vae_variants.datasets.dataset import SPLITS
from vae_variants.harness.pictures import BETWEEN, CLASSES, GRID, OF_CLASS, PATHS, STEPS
from vae_variants.report.dots import LABEL, row_head
from vae_variants.report.drawing import LINE, MUTED, Part, compose, grid, mark, shape_of, shortened, width_of, write

NUMBERS = 2**20  # pixels of all variants together in a figure, at most, a colour counting for each of its three
SIDES = (6, 5, 4, 3, 2, 1)
PAIRS = (10, 8, 6, 4, 3, 2, 1)
UNITS = (5, 4, 3, 2, 1)
OF_CLASSES = (CLASSES, 5, 3, 2, 1)
SHOWN = 400  # test images on a plane
APART = 2 * len(COLOURS)  # classes that can be told apart
TILE = 112.0  # points of a tile
ROWS = 200.0  # points of the images of a row
KEY_ROW, INDENT = 12.0, 11.0  # points of a row of the key of classes, and before a name in it
BESIDE = 48.0  # points for the name of a class beside its samples, at most


def affordable(choices: Sequence[int], size: int, variants: int) -> int:
    """The largest of the choices, from large to small, by which all `variants` stay within `NUMBERS`; else the last."""
    return next((n for n in choices if n * size * variants <= NUMBERS), choices[-1])


def show(ax: Axes, picture: np.ndarray) -> None:
    """A picture in its own proportions at the top of the axes."""
    ax.imshow(picture, interpolation="none", aspect="equal", origin="upper")
    ax.set_anchor("N")
    ax.axis("off")


def tile(entry: Entry, picture: np.ndarray, words: str, width: float = TILE, note: str = "") -> Part:
    """A panel with a picture of one variant."""
    height = width * picture.shape[0] / picture.shape[1]
    return Part(entry.label + note, words.format(entry.label), partial(show, picture=picture), height, width, 0, 0, 2, entry.label)


def largest(group: Sequence[Entry]) -> int:
    """Numbers of the largest image."""
    return max((math.prod(shape_of(e)) for e in group), default=1)


def having(shown: Sequence[Entry], name: str) -> list[Entry]:
    return [e for e in distinct(shown) if name in e.pictures]


def counts(shown: Sequence[Entry]) -> dict[str, int]:
    """Name of pictures -> how many of them figures show of each variant. Pictures that it lacks are shown whole."""

    def most(name: str, choices: Sequence[int], size: int = 1, more: int = 0) -> int:
        group = having(shown, name)
        return affordable(choices, size * largest(group), len(group) + more)

    pairs, steps = most("reconstructions", PAIRS, more=1), len(STEPS)
    images = {"samples": most("samples", [n * n for n in SIDES]), "traversal": steps * most("traversal", UNITS, steps)}
    images["interpolations"] = 2 * BETWEEN * most("interpolations", range(PATHS, 0, -1), 2 * BETWEEN)
    images["classes"] = OF_CLASS * most("classes", OF_CLASSES, OF_CLASS)
    return images | {"originals": pairs, "reconstructions": pairs, "latent": SHOWN, "latent_labels": SHOWN}


def kept(shown: Sequence[Entry]) -> dict[str, dict[str, Tensor]]:
    """Key of a run -> all that figures show of its pictures: figures drawn from that alone are the same."""
    most, sheet = counts(shown), having(shown, "contact")[:1]  # one sheet is enough
    return {
        e.record.key: {name: t[: most.get(name)] for name, t in e.pictures.items() if not name.startswith("contact") or e in sheet}
        for e in distinct(shown)
    }


def samples(shown: Sequence[Entry]) -> Figure | None:
    """Of the same noise where variants have as many latent units; what was not trained is real, and comes first."""
    group = sorted(having(shown, "samples"), key=lambda e: bool(e.record.curves))
    side = math.isqrt(counts(shown)["samples"])
    pictures = [grid(e.pictures["samples"][: side * side], shape_of(e), side) for e in group]
    notes = ["" if e.interval("sharpness") else " (noisy)" for e in group]  # sharpness is of noise-free images, where there are such
    return compose([tile(e, p, "samples of {}" + note, note=note) for e, p, note in zip(group, pictures, notes, strict=True)], 5)


def samples_by_class(shown: Sequence[Entry]) -> Figure | None:
    """Of variants that can be asked for a class, a row for each of the first classes; the images of a column share the rest."""
    group, n = having(shown, "classes"), counts(shown)["classes"]
    words = "samples of {}, a row for each class"
    parts = []
    for e in group:
        picture = grid(e.pictures["classes"][:n], shape_of(e), OF_CLASS)
        names = [class_name(e, c) for c in range(len(e.pictures["classes"][:n]) // OF_CLASS)]
        parts.append(beside(e, picture, words, 160, names))
    return compose(parts, 3)


def show_classes(ax: Axes, picture: np.ndarray, names: Sequence[str]) -> None:
    """A grid with the name of each row."""
    show(ax, picture)
    for row, name in enumerate(names):
        y = (row + 0.5) * len(picture) / len(names) - 0.5
        mark("", name, [write(ax, -3, y, shortened(name, BESIDE), ha="right", va="center_baseline")])


def traversals(shown: Sequence[Entry]) -> Figure | None:
    """The same test image, moved along the latent units of every variant that has any; with the factor of each, if it is known."""
    group, n = having(shown, "traversal"), counts(shown)["traversal"]
    words, parts = "latent units of {}, a row for each, from −3 to 3 standard deviations", []
    for e in group:
        picture = grid(e.pictures["traversal"][:n], shape_of(e), len(STEPS))
        names = [factor_name(e, k) for k in e.pictures.get("traversal_factors", torch.zeros(0)).tolist()][: n // len(STEPS)]
        parts.append(beside(e, picture, words, 140, names) if names else tile(e, picture, words, 140))
    return compose(parts, 4 if all("traversal_factors" not in e.pictures for e in group) else 3)


def beside(entry: Entry, picture: np.ndarray, words: str, width: float, names: Sequence[str]) -> Part:
    """A panel with a picture of so many points, and the name of each of its rows on the left."""
    left = 5 + max(width_of(shortened(name, BESIDE)) for name in names)
    part = tile(entry, picture, words, width + left)
    draw = partial(show_classes, picture=picture, names=names)
    return part._replace(draw=draw, left=left, height=width * picture.shape[0] / picture.shape[1])


def factor_name(entry: Entry, k: int) -> str:
    """The name of a factor, or nothing for -1."""
    names = entry.record.dataset.get("factors", [])
    return names[k] if 0 <= k < len(names) else ""


def interpolations(shown: Sequence[Entry]) -> Figure | None:
    """Paths between the same test images through the latents of every variant that has any."""
    group, n = having(shown, "interpolations"), counts(shown)["interpolations"]
    words = "decoded latents of {} between two test images, a straight path above one on a sphere"
    pictures = [grid(e.pictures["interpolations"][:n], shape_of(e), BETWEEN) for e in group]
    return compose([tile(e, p, words, 160) for e, p in zip(group, pictures, strict=True)], 3)


def reconstructions(shown: Sequence[Entry]) -> Figure | None:
    """The same test images, a row for each variant."""
    group, n = having(shown, "reconstructions"), counts(shown)["reconstructions"]
    if not group:
        return None
    pictures = [("", grid(group[0].pictures["originals"][:n], shape_of(group[0]), n))]
    pictures += [(e.label, grid(e.pictures["reconstructions"][:n], shape_of(e), n)) for e in group]
    rows = [ROWS * p.shape[0] / p.shape[1] + 3 for _, p in pictures]
    described = f"The first {n} test images, then what each of {len(group)} variants makes of them."
    draw = partial(draw_rows, pictures=pictures, rows=rows)
    return compose([Part("test images and their reconstructions", described, draw, sum(rows), LABEL + 8 + ROWS, LABEL + 8, 0, 2)], 1)


def contact_sheet(shown: Sequence[Entry]) -> Figure | None:
    """The first images of the user's own, a row for each part and class."""
    entry = next(iter(having(shown, "contact")), None)
    if entry is None:
        return None
    images, rows = entry.pictures["contact"], entry.pictures["contact_rows"]
    kinds = sorted({(part, c) for part, c in rows.tolist()})
    found = {kind: images[(rows == torch.tensor(kind)).all(1)] for kind in kinds}
    drawn = [grid(x, shape_of(entry), len(x)) for x in found.values()]
    width = max(picture.shape[1] for picture in drawn)
    padded = [np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in drawn]  # transparent
    names = [f"{SPLITS[part]}{f', {class_name(entry, c)}' if c >= 0 else ''}" for part, c in kinds]
    pictures, heights = list(zip(names, padded, strict=True)), [ROWS * p.shape[0] / p.shape[1] + 3 for p in padded]
    draw = partial(draw_rows, pictures=pictures, rows=heights, of_variants=False)
    described = f"The first images of {len(kinds)} parts and classes, as they were read."
    return compose([Part("images as they were read", described, draw, sum(heights), LABEL + 8 + ROWS, LABEL + 8, 0, 2)], 1)


def draw_rows(ax: Axes, pictures: Sequence[tuple[str, np.ndarray]], rows: Sequence[float], of_variants: bool = True) -> None:
    ax.axis("off")
    top = 0.0
    for (label, picture), height in zip(pictures, rows, strict=True):
        image = ax.imshow(picture, extent=(0, 1, top + height - 3, top), interpolation="none", aspect="auto", clip_on=False)
        mark(
            label if of_variants else "",
            label or "the first test images",
            [*row_head(ax, top + height / 2 - 1.5, label or "test images"), image],
        )
        top += height
    ax.set(xlim=(0, 1), ylim=(top, 0))


def points(ax: Axes, entry: Entry) -> None:
    """Latents of test images, a colour and a shape for each class, on one scale both ways."""
    found, labels = entry.pictures["latent"][:SHOWN].numpy(), entry.pictures.get("latent_labels")
    classes = np.zeros(len(found), dtype=int) if labels is None else labels[:SHOWN].numpy()
    centre, span = (found.min(0) + found.max(0)) / 2, float((found.max(0) - found.min(0)).max()) or 1.0
    reach = 0.54 * span * np.array([-1, 1])
    ax.set(xlim=centre[0] + reach, ylim=centre[1] + reach, xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=LINE)
    for c in sorted(set(classes.tolist())):
        x, y = found[classes == c].T
        short = np.stack([x, x + 1e-3 * span, np.full_like(x, np.nan)], 1).ravel()  # a dot is a line of no length, in few letters of SVG
        ink: dict[str, Any] = {"color": COLOURS[c % len(COLOURS)], "linewidth": 3.0, "alpha": 0.85, "label": f"class {c}"}
        dots = ax.plot(short, np.repeat(y, 3), snap=False, **ink, **cap(c))
        mark("", f"class {class_name(entry, c)}", dots if labels is not None else ())
    shares = (
        [f"{100 * share:.0f} %" for share in entry.pictures["latent_share"].tolist()] if "latent_share" in entry.pictures else ["z₁", "z₂"]
    )
    ax.set_xlabel(f"{shares[0]} across, {shares[1]} up", fontsize=8, color=MUTED, loc="left", labelpad=3)


def planes(shown: Sequence[Entry]) -> list[Entry]:
    return [e for e in having(shown, "latent") if len(e.pictures["latent"])]


def cap(c: int) -> dict[str, Any]:
    return {"solid_capstyle": "round" if c // len(COLOURS) % 2 == 0 else "projecting"}


def plane(entry: Entry, width: float) -> Part:
    n = min(SHOWN, len(entry.pictures["latent"]))
    described = f"The latents of {n} test images, a dot for each in the colour of its class."
    return Part(entry.label, described, partial(points, entry=entry), width - 2, width, 1, 1, 18, entry.label)


def class_name(entry: Entry, c: int) -> str:
    """The name of a class, or its number if the record has no name."""
    names = entry.record.dataset.get("class_names", [])
    return names[c] if 0 <= c < len(names) else str(c)


def class_key(group: Sequence[Entry]) -> list[Part]:
    """Which class has which colour and shape; empty without classes, and with more than can be told apart."""
    found = {int(c): e for e in group if "latent_labels" in e.pictures for c in e.pictures["latent_labels"][:SHOWN].tolist()}
    if not found or max(found) >= APART:
        return []
    names = {c: class_name(found[c], c) for c in sorted(found)}
    columns = 1 if max(map(width_of, names.values())) > TILE / 2 - INDENT else 2
    rows = -(-len(names) // columns)
    draw = partial(draw_key, names=names, rows=rows, width=TILE / columns)
    return [Part("classes", f"{len(names)} classes: {', '.join(names.values())}", draw, KEY_ROW * rows, TILE, 0, 0, 4)]


def draw_key(ax: Axes, names: Mapping[int, str], rows: int, width: float) -> None:
    ax.axis("off")
    ax.set(xlim=(0, TILE), ylim=(rows - 0.5, -0.5))
    for i, (c, name) in enumerate(names.items()):
        x, y = i // rows * width + 4, i % rows
        ax.plot([x, x + 0.01], [y, y], snap=False, linewidth=5, color=COLOURS[c % len(COLOURS)], clip_on=False, **cap(c))
        write(ax, x + INDENT - 4, y, shortened(name, width - INDENT), va="center_baseline")


def latent_plane(shown: Sequence[Entry]) -> Figure | None:
    """Two latent units by class, and what the decoder makes of the plane."""
    group = [e for e in planes(shown) if "latent_share" not in e.pictures]
    side = math.isqrt(affordable([n * n for n in (GRID, 8, 5)], largest(group), len(group)))
    parts = class_key(group)
    for e in group:
        parts.append(plane(e, 216))
        if "latent_grid" in e.pictures:
            keep = [round(k * (GRID - 1) / (side - 1)) for k in range(side)]
            images = e.pictures["latent_grid"].unflatten(0, (GRID, GRID))[keep][:, keep].flatten(0, 1)
            parts.append(tile(e, grid(images, shape_of(e), side), "decoder means of {} over the plane", 216, ": decoded"))
    return compose(parts, 3)


def latent_components(shown: Sequence[Entry]) -> Figure | None:
    """Test images on the first two principal components of their latents, by class."""
    group = [e for e in planes(shown) if "latent_share" in e.pictures]
    return compose([*class_key(group), *(plane(e, TILE) for e in group)], 5)
