"""The figures of a report: what draws each, and the words around it. README.md shows some as PNG, the page shows all as SVG."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from vae_variants.analysis.entries import Entry, judges
from vae_variants.report import dots, factors, grids, lines, matrix, tradeoffs
from vae_variants.report.drawing import shown_of
from vae_variants.report.svg import markup

SECTIONS = ("summary", "quality", "trade-offs", "training", "pictures", "latent")
BEST = (
    " Bold: the best. On grey: statistically tied with it. Flagged rows, baselines and rows of under three seeds are neither; nothing is "
    "marked if all are tied."
)
CAPTIONS = {
    "dots": "Mean over seeds with its 95 % interval if there are more than two; small ticks are single seeds. The dashed line is at the "
    "first variant that has the metric.{best} A hollow mark with ≥ is a lower bound, and † a flagged row. An arrowhead at the edge points "
    "to what is outside, as collapsed rows may be.",
    "differences": "Row less column in log p(x), nats per image, mean over the seeds that both have: blue if the row is above, orange if "
    "below. Bold in full colour: the 95 % interval of the difference excludes 0; the intervals are not adjusted for their number. Pale: it "
    "contains 0, or there are fewer than three seeds. Best rows on top; a bound stands for log p(x) if there is no more.",
    "costs": "Timings are medians over seeds with quartiles; small ticks are single seeds. The dashed line is at the first variant with "
    "the metric. Do not compare them with those of another machine.",
    "cost": "The line is the Pareto front of the means of unflagged rows, without a test: no variant is better than one on it both "
    "ways. Arrows in titles point to better. Hollow marks are lower bounds, † flagged rows. A label with an arrow is of a variant outside "
    "of the axes.",
    "rate_distortion": "Rate against distortion. The ELBO is constant on a dotted line, with its value at the edge; better is to the lower "
    "left.",
    "bounds": "Gain of the importance-weighted bound from more posterior samples, then the estimate by annealed importance sampling, if "
    "there is one. A curve that still rises is below log p(x).",
    "curves": "While training, on validation images: one-sample bounds and exact log p(x) in panels of their own, since a bound hides how "
    "far it is below. Mean over seeds and 95 % interval. A label with an arrow is of a curve that ends outside, with † of a flagged row.",
    "losses": "Losses while training of the models without a likelihood: mean over seeds and 95 % interval. An autoencoder's "
    "loss is −log p(x|z) in nats per image. Those of a GAN's players are cross-entropies, whose fall does not mean better samples.",
    "contact_sheet": "The first images of each part and of each of the first classes, as the variants see them. Check crop, colour and "
    "orientation.",
    "samples": "Samples of every variant from the first seed; noise-free (decoder means) if the model has a decoder. Variants with as many "
    "latent units share the noise.",
    "samples_by_class": "Decoder means of variants that can be asked for a class, first seed: a row for each class, at most ten. Images of "
    "a column have the same latents besides the class.",
    "reconstructions": "The same test images (first row) after encoding and decoding, first seed.",
    "traversals": "The latents of the first test image, in the middle, moved along one latent unit a row by −3 to 3 standard deviations "
    "of its latents over test images, those that vary most on top; first seed. An inactive unit changes nothing.",
    "interpolations": "From one test image to another, at the left and right ends, twice: latents at equal steps on a straight path "
    "(first row) and on a sphere about the origin (second row), decoded; first seed. If the images between are blurred or of no kind, no "
    "image has such latents.",
    "labels": "Accuracy of the linear probe by the number of labels, best on top: mean over seeds and 95 % interval. The smallest dot is "
    "for 10 labelled images of each class, then 100 and 1000, if so many exist; the largest is for all.",
    "latent_size": "Effect of the number of latent units on the bound and on the accuracy of the linear probe.",
    "latent_plane": "The plane of two latent units: posterior means of test images by class, and decoder means at the quantiles of each "
    "unit under the model's own prior, or under its sampler if it has no prior. Latents on a sphere or a simplex have no such plane.",
    "latent_components": "The first test images on the first two principal components of their latents, by class, first seed, with the "
    "share of the variance of each. Components have no common scale: compare how classes lie, not where.",
    "factor_information": "Share of a factor's entropy that a latent unit tells, by their mutual information without its bias; numbers "
    "from 0.05 on. Columns are latent units, in the order of their factors. A disentangled model has one dark cell in each row, and at "
    "most one in each column; of a factor with a pale row no single unit tells anything. First seed.",
    "agreement": "Spearman's rank correlation of two metrics over all models, a point for each seed of each variant: blue if they agree, "
    "orange if they disagree. Baselines count as models. Where metrics agree little, a ranking depends on the one that is chosen.",
    "latent_units": "KL of each latent unit, largest first, mean over seeds. Grey cells are inactive units. Variants whose KL is no sum "
    "over latent units are left out.",
    "layers": "Part of the rate that each layer of latents has, mean over seeds. Layer 1 is the nearest to the image, the last one is the "
    "top. A layer near 0 is not used. If q draws from the bottom up, the part of a lower layer is no KL and can be negative.",
}
FACTORED = {  # is added of data whose factors are known
    "traversals": " A unit for each factor of the images comes first, with its name: they are matched so that they tell most in all.",
}


class Plot(NamedTuple):
    """What the page shows: `title` and `caption` are text, `body` is markup; `name` is an id, and `section` one of `SECTIONS`."""

    name: str
    title: str
    caption: str
    section: str
    body: str


class Spec(NamedTuple):
    """A figure. `draw` gets the variants that are shown, or all if `of_all`, and returns None if there is nothing to show."""

    section: str
    title: str
    draw: Callable[[Sequence[Entry]], Figure | None]
    readme: bool = True
    of_all: bool = False
    caption: str = ""


FIGURES: dict[str, Spec] = {
    "likelihood": Spec("summary", "Log-likelihood", dots.likelihood, True, True, "dots"),
    "reconstruction": Spec("quality", "Reconstruction", dots.reconstruction, False, True, "dots"),
    "samples_measured": Spec("quality", "Samples", dots.samples_measured, False, True, "dots"),
    "codes": Spec("quality", "Latents", dots.codes, False, True, "dots"),
    "disentanglement": Spec("quality", "Disentanglement", dots.disentanglement, True, True, "dots"),
    "further": Spec("quality", "Further metrics", dots.further, False, True, "dots"),
    "differences": Spec("quality", "Paired differences", matrix.differences, False),
    "costs": Spec("trade-offs", "Cost", dots.costs, False, True),
    "cost": Spec("trade-offs", "Log-likelihood against cost", tradeoffs.cost),
    "cost_reconstruction": Spec("trade-offs", "Reconstruction against cost", tradeoffs.cost_reconstruction, False, caption="cost"),
    "rate_distortion": Spec("trade-offs", "Rate and distortion", tradeoffs.rate_distortion),
    "bounds": Spec("trade-offs", "Bounds with more samples", lines.bounds),
    "curves": Spec("training", "Log-likelihood while training", lines.curves),
    "losses": Spec("training", "Losses of models without a likelihood", lines.losses),
    "contact_sheet": Spec("pictures", "Images as they were read", grids.contact_sheet),
    "samples": Spec("pictures", "Samples", grids.samples),
    "samples_by_class": Spec("pictures", "Samples by class", grids.samples_by_class, False),
    "reconstructions": Spec("pictures", "Reconstructions", grids.reconstructions),
    "traversals": Spec("pictures", "Latent traversals", grids.traversals, False),
    "interpolations": Spec("pictures", "Interpolations", grids.interpolations, False),
    "labels": Spec("latent", "Accuracy by number of labels", dots.labels),
    "latent_size": Spec("latent", "Number of latent units", lines.latent_size, True, True),
    "latent_plane": Spec("latent", "The latent plane", grids.latent_plane),
    "latent_components": Spec("latent", "Principal components of the latents", grids.latent_components, False),
    "factor_information": Spec("latent", "What each latent unit tells of each factor", factors.factor_information),
    "agreement": Spec("latent", "Agreement of the metrics of disentanglement", factors.agreement, True, True),
    "latent_units": Spec("latent", "KL of each latent unit", matrix.latent_units),
    "layers": Spec("latent", "Rate of each layer of latents", matrix.layers, False, True),
}
WHOLE = {"latent_size"}  # a family is not to lose some of its sizes


class Drawing(NamedTuple):
    """A figure that was drawn, with its caption."""

    name: str
    caption: str
    figure: Figure


def caption(name: str, entries: Sequence[Entry], shown: int) -> str:
    """What stands below a figure that shows so many of the entries."""
    few = f" Shown: {shown} of {len(entries)} variants." if shown < len(entries) and name not in WHOLE else ""
    more = FACTORED.get(name, "") if any("factors" in e.record.dataset for e in entries) else ""
    return CAPTIONS[FIGURES[name].caption or name].replace("{best}", BEST if judges(entries) else "") + more + few


def drawings(entries: Sequence[Entry], shown: Sequence[Entry] | None = None) -> list[Drawing]:
    """The figures for which there is something to show; `shown` is `shown_of(entries)`, if the caller has it."""
    shown, found = shown_of(entries) if shown is None else shown, list[Drawing]()
    for name, spec in FIGURES.items():
        figure = spec.draw(entries if spec.of_all else shown) if shown else None
        if figure is not None:
            found.append(Drawing(name, caption(name, entries, len(shown)), figure))
    return found


def write_figures(found: Sequence[Drawing], folder: Path) -> list[str]:
    """Writes those that README.md shows as PNG, removes former ones -> their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {each.name: each.figure for each in found if FIGURES[each.name].readme}
    for name in FIGURES:
        if name in drawn:
            drawn[name].savefig(folder / f"{name}.png", metadata={"Software": None})
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)
    return list(drawn)


def plots(found: Sequence[Drawing]) -> list[Plot]:
    """All of them for the page."""
    return [Plot(n, FIGURES[n].title, words, FIGURES[n].section, markup(figure, n)) for n, words, figure in found]
