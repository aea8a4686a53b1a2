"""The figures of a report: what draws each, and the words around it. README.md shows some as PNG, the page shows all as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from vae_variants.analysis.entries import Entry, judges
from vae_variants.report import dots, grids, lines, matrix, tradeoffs
from vae_variants.report.drawing import shown_of
from vae_variants.report.svg import markup

__all__ = ["CAPTIONS", "FIGURES", "SECTIONS", "WHOLE", "Drawing", "Plot", "drawings", "plots", "write_figures"]

SECTIONS = ("summary", "quality", "trade-offs", "training", "pictures", "latent")
BEST = (
    " Bold on grey: the best, and those not significantly different from it (rows of under three seeds and references left out), unless "
    "that is all."
)
DOTS = (
    "Mean over seeds with its 95 % interval if there are more than two; small ticks are single seeds. The dashed line is at the first "
    "variant that has the metric.{best} A hollow mark with ≥ is a lower bound. An arrowhead at the edge points to what is outside."
)
FRONT = (
    "The line is the Pareto front of the means, without a test: no variant is better than one on it both ways. Arrows point to better; "
    "hollow marks are lower bounds. A label with an arrow belongs to a variant that is outside. Seconds and images per second are of the "
    "machine named above."
)


@dataclass(frozen=True)
class Plot:
    """What the page shows: `title` and `caption` are text, `body` is markup; `name` is an id, and `section` one of `SECTIONS`."""

    name: str
    title: str
    caption: str
    section: str
    body: str


@dataclass(frozen=True)
class Spec:
    """A figure. `draw` gets the variants that are shown, or all of them, and returns None if there is nothing to show."""

    draw: Callable[[Sequence[Entry]], Figure | None]
    section: str
    title: str
    caption: str
    readme: bool = True
    of_all: bool = False


FIGURES: dict[str, Spec] = {
    "likelihood": Spec(dots.likelihood, "summary", "Log-likelihood", DOTS, of_all=True),
    "reconstruction": Spec(dots.reconstruction, "quality", "Reconstruction", DOTS, False, True),
    "samples_measured": Spec(dots.samples_measured, "quality", "Samples", DOTS, False, True),
    "codes": Spec(dots.codes, "quality", "Latents", DOTS, False, True),
    "further": Spec(dots.further, "quality", "Further metrics", DOTS, False, True),
    "differences": Spec(
        matrix.differences,
        "quality",
        "Paired differences",
        "Row less column in log p(x), nats per image, mean over the seeds that both have: blue where the row is above, orange where below. "
        "Full colour and bold: the 95 % interval of the difference is on one side of 0; these intervals are not adjusted for their number. "
        "Pale: it holds 0, or there are fewer than three seeds. Best rows on top; a bound stands for log p(x) if there is no more.",
        False,
    ),
    "costs": Spec(
        dots.costs,
        "trade-offs",
        "Cost",
        "Median over seeds with its quartiles, of what was timed; ticks are single seeds. The dashed line is at the first variant that has "
        "the metric. Of the machine named above: not to be compared with another's.",
        False,
        True,
    ),
    "cost": Spec(tradeoffs.cost, "trade-offs", "Log-likelihood against cost", FRONT),
    "cost_reconstruction": Spec(tradeoffs.cost_reconstruction, "trade-offs", "Reconstruction against cost", FRONT, False),
    "rate_distortion": Spec(
        tradeoffs.rate_distortion,
        "trade-offs",
        "Rate and distortion",
        "Rate against distortion. On a dotted line the ELBO is constant, with its value at the edge; better is to the lower left.",
    ),
    "bounds": Spec(
        lines.bounds,
        "trade-offs",
        "Bounds with more samples",
        "How much the importance-weighted bound gains from more samples of z over a single one, then the estimate by annealed importance "
        "sampling, if there is one. What still rises is not log p(x) yet.",
    ),
    "curves": Spec(
        lines.curves,
        "training",
        "Log-likelihood while training",
        "Validation log-likelihood, or its one-sample bound, while training: mean over seeds and 95 % interval.",
    ),
    "losses": Spec(
        lines.losses,
        "training",
        "Losses of models without a likelihood",
        "Losses while training of the models that have no likelihood: mean over seeds and 95 % interval.",
    ),
    "samples": Spec(
        grids.samples,
        "pictures",
        "Samples",
        "Samples of every variant from the first seed, by the same noise for all with as many latent units. They are noise-free (decoder "
        "means) if the model has such.",
    ),
    "reconstructions": Spec(
        grids.reconstructions,
        "pictures",
        "Reconstructions",
        "The same test images (first row) after encoding and decoding, first seed.",
    ),
    "traversals": Spec(
        grids.traversals,
        "pictures",
        "Latent traversals",
        "The latents of the first test image, which is in the middle, moved by −3 to 3 standard deviations along one latent unit after the "
        "other, those that vary most on top; first seed. A row that stays as it is belongs to a unit that carries nothing.",
        False,
    ),
    "labels": Spec(
        dots.labels,
        "latent",
        "Accuracy by number of labels",
        "Accuracy of the linear probe by how many labels it was given, best on top: mean over seeds and 95 % interval. From the smallest "
        "dot to the largest there are 10, 100 and 1000 labelled images of each class, if so many exist, and all.",
    ),
    "latent_size": Spec(
        lines.latent_size,
        "latent",
        "Number of latent units",
        "What the number of latent units brings: bounds on the log-likelihood, and linear-probe accuracy of the latents.",
        of_all=True,
    ),
    "latent_plane": Spec(
        grids.latent_plane,
        "latent",
        "The latent plane",
        "The plane of two latent units: posterior means of test images by class, and decoder means over the prior's quantiles.",
    ),
    "latent_components": Spec(
        grids.latent_components,
        "latent",
        "Principal components of the latents",
        "The first test images on the first two principal components of their latents, by class, first seed; below, the share of the "
        "variance that each has. Components have no common scale: compare how classes lie, not where.",
        False,
    ),
    "latent_units": Spec(
        matrix.latent_units,
        "latent",
        "KL of each latent unit",
        "KL of each latent unit, largest first, mean over seeds. Grey cells are inactive units.",
    ),
}
CAPTIONS = {name: spec.caption.replace("{best}", "") for name, spec in FIGURES.items()}
WHOLE = {"latent_size"}  # a family is not to lose some of its sizes


@dataclass(frozen=True)
class Drawing:
    """A figure that was drawn, with its caption."""

    name: str
    spec: Spec
    caption: str
    figure: Figure


def drawings(entries: Sequence[Entry]) -> list[Drawing]:
    """The figures for which there is something to show."""
    shown, found = shown_of(entries), []
    best = BEST if judges(entries) else ""
    for name, spec in FIGURES.items():
        figure = spec.draw(entries if spec.of_all else shown) if shown else None
        if figure is not None:
            few = f" Shown: {len(shown)} of {len(entries)} variants." if len(shown) < len(entries) and name not in WHOLE else ""
            found.append(Drawing(name, spec, spec.caption.replace("{best}", best) + few, figure))
    return found


def write_figures(found: Sequence[Drawing], folder: Path) -> list[str]:
    """Writes those that README.md shows as PNG, removes those of before -> their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {each.name: each.figure for each in found if each.spec.readme}
    for name in FIGURES:
        path = folder / f"{name}.png"
        if name in drawn:
            drawn[name].savefig(path, metadata={"Software": None})
        else:
            path.unlink(missing_ok=True)
    return list(drawn)


def plots(found: Sequence[Drawing]) -> list[Plot]:
    """All of them for the page."""
    return [Plot(each.name, each.spec.title, each.caption, each.spec.section, markup(each.figure, each.name)) for each in found]
