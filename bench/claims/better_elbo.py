"""Does a model with a better ELBO have better samples? Ranks of variants by the one and by the other."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy.stats import kendalltau, spearmanr

from vae_variants.analysis.entries import COLOURS, MARKERS, SUPPORTS
from vae_variants.analysis.statistics import Interval, interval
from vae_variants.analysis.verdicts import all_of, compared, mixed
from vae_variants.evaluation.metrics import METRICS
from vae_variants.evaluation.sharpness import is_noise
from vae_variants.harness import Record, parse_seeds
from vae_variants.models.base import MODELS, LatentVariable
from vae_variants.report.drawing import axes, bar
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict

__all__ = ["BetterElbo", "Inversion", "correlations", "inversion"]

LIKELIHOODS = ("elbo", "log_likelihood")
QUALITIES = {"fd": -1, "coverage": 1, "precision": 1, "spectral_distance": -1, "unsharpness": -1}  # -> 1 where higher is better
TITLES = {"fd": "Fréchet distance"}
DECIDES = ("fd", "coverage")
LEAST, FEWEST = 0.5, 5  # correlation; variants of one kind of pixels
SMOKE = ["vae-bernoulli", "iwae-8", "beta-vae-4", "vae-latent-2", "vae-latent-5"]
SIGMAS = ("vae-gaussian[sigma=0.3]", "vae-gaussian[sigma=0.03]")  # beside those of the suite


@STUDIES.add(name="better-elbo-better-samples")
class BetterElbo(Study):
    """Rank correlation, over variants, between the ELBO on test images and the quality of samples, within one kind of pixels.

    Every variant of the suite with a latent variable, and two more Gaussian decoders of constant sigma, are ranked by the ELBO and by
    the quality of their noise-free samples: Frechet distance to test images in the features of a classifier ("fd", lower is better),
    coverage and precision in the same features (higher), distance of spectra (lower), and how far the sharpness is from that of real
    images on a log scale ("unsharpness", lower; left out where the sharpness is noise). Correlations are signed so that 1 is what the
    claim says: the better the ELBO, the better the samples. The same is done with log p(x) or its tightest bound.

    Nats of different kinds of pixels do not compare, so there is a group for each kind. Each seed gives one correlation, over the same
    variants; the interval is over seeds. It says how well the correlation of these variants is known, not of all variants that
    there could be. Groups of fewer than five variants are shown and not judged.

    The rule for groups that disagree was changed after a first look at data: one group below the threshold used to refute the claim though
    another supports it; now that is support under conditions.

    Why it may fail: the ELBO rewards probability, of which a narrow decoder gains more from a few pixels than from any shape; and the prior
    matters little to it, by a few nats of rate, where to samples it is everything. An importance-weighted objective lowers the ELBO of a
    model whose samples are better.

    What could mislead: a group in which variants differ mostly by how good they are (too small a code) shows a high correlation, one of
    equally good variants a low one, whatever the law behind it. The few variants here were chosen for other ends.
    """

    claim = "A model with a better ELBO has better samples."
    source = "folklore; contradicted by Theis, van den Oord & Bethge 2016, A note on the evaluation of generative models"
    criterion = (
        "A kind of pixels with at least five variants agrees if Spearman's correlation of the ELBO with Frechet distance and that with "
        "coverage (signed: 1 is agreement) are both above 0.5 by the 95 % interval over seeds, and disagrees if one of them is below 0.5. "
        "The claim is supported if every such kind agrees, supported under conditions if some agree and some disagree, and not supported "
        "if some disagree and none agrees."
    )

    def measure(self, lab: Lab) -> Findings:
        lab.need_labels()
        records = lab.records(labels(lab), seeds=lab.choose(smoke=3, quick=3, full=None))
        values = Table.of("Every figure, seed by seed", by_seed(records, lab), folded=True)
        return Findings(
            {
                "means": Table.of("Means over seeds", means(values)),
                "correlation": Table.of(
                    "Rank correlation over variants, mean over seeds; 1 where a better likelihood goes with better samples",
                    summary(correlations(values)),
                ),
                "values": values,
            }
        )

    def judge(self, tables: Tables) -> Judgement:
        values = tables.get("values", Table("", (), ()))
        found = correlations(values)
        kinds: dict[str, list[Effect]] = {}
        for pixels, quality in itertools.product(dict.fromkeys(c.pixels for c in found), DECIDES):
            mine = [c for c in found if (c.pixels, c.likelihood, c.quality) == (pixels, "elbo", quality)]
            if mine and mine[0].variants >= FEWEST:
                where = {"pixels": pixels, "likelihood": "elbo", "quality": quality, "variants": str(mine[0].variants)}
                kinds.setdefault(pixels, []).append(compared(where, [c.spearman for c in mine], above=LEAST))
        if not kinds:
            return Judgement(Verdict.INCONCLUSIVE, f"No kind of pixels has {FEWEST} variants with the same seeds.")
        groups = [effects[0]._replace(verdict=agreement(effects)) for effects in kinds.values()]
        reason = f"The rank correlations of the ELBO with the quality of samples {ranked(kinds)}."
        rest = [spearman_of(c) for c in summary(found) if c["likelihood"] != "elbo" and c["quality"] in DECIDES and c["pixels"] in kinds]
        if rest:
            reason += f" With log p(x), or its tightest bound, instead of the ELBO they are between {min(rest):.2f} and {max(rest):.2f}."
        worst = [i for pixels in kinds for quality in DECIDES if (i := inversion(values, pixels, quality))]
        if worst:
            reason += f" {max(worst, key=lambda i: i.size)}"
        return Judgement(mixed(groups), reason, tuple(e for effects in kinds.values() for e in effects))

    def draw(self, found: Findings) -> list[Picture]:
        values = found.tables["values"]
        return [figure_of(values, pixels) for pixels in dict.fromkeys(row["pixels"] for row in values) if len(variants(values, pixels)) > 2]


class Correlation(NamedTuple):
    """Over the variants of one kind of pixels, of one seed; signed, so that 1 is agreement."""

    pixels: str
    likelihood: str
    quality: str
    variants: int
    seed: int
    spearman: float
    kendall: float


class Inversion(NamedTuple):
    """Two variants that the ELBO and a quality of samples rank the other way round."""

    better: str  # by the ELBO
    worse: str
    elbo: tuple[float, float]
    quality: str
    values: tuple[float, float]
    size: float  # the smaller of both differences, each in standard deviations over variants

    def __str__(self) -> str:
        return (
            f"{self.better} has a better ELBO than {self.worse} ({self.elbo[0]:.1f} against {self.elbo[1]:.1f} nats), and yet its samples "
            f"are worse ({TITLES.get(self.quality, self.quality)} {self.values[0]:.3g} against {self.values[1]:.3g})."
        )


def agreement(effects: Sequence[Effect]) -> Verdict:
    """Of one kind of pixels: a quality that could not be ranked is one that cannot agree."""
    found = all_of(effects)
    return Verdict.INCONCLUSIVE if found is Verdict.SUPPORTED and len(effects) < len(DECIDES) else found


def ranked(kinds: Mapping[str, Sequence[Effect]]) -> str:
    """What the kinds of pixels say of the threshold, with their correlations, as clauses."""
    words = {
        Verdict.SUPPORTED: f"are above {LEAST:g} for",
        Verdict.REFUTED: f"are not both above {LEAST:g} for",
        Verdict.INCONCLUSIVE: f"cannot both be told from {LEAST:g} for",
    }
    clauses = []
    for verdict, word in words.items():
        groups = [
            f"{SUPPORTS[pixels]} ({', '.join(f'{e.value:.2f} by {TITLES.get(q, q)}' for e in effects for q in [e.where['quality']])})"
            for pixels, effects in kinds.items()
            if agreement(effects) is verdict
        ]
        if groups:
            clauses.append(f"{word} {' and '.join(groups)}")
    return ", and ".join(clauses)


def labels(lab: Lab) -> list[str]:
    """Rows of the suite that have an ELBO, but for those that it runs with fewer seeds, one of each run."""
    planned = lab.suite.plan(dataset=lab.name, fidelity=lab.fidelity)
    full = len(parse_seeds(lab.suite.seeds))
    found = {
        spec.identity: spec.label
        for spec in reversed(planned)  # of several names for one run the first stays
        if issubclass(MODELS[spec.configuration.values["model"]], LatentVariable) and len(spec.seeds) >= full
    }
    chosen = [*reversed(found.values()), *SIGMAS]
    return lab.choose(smoke=SMOKE, quick=chosen, full=chosen)


def by_seed(records: Mapping[str, Record], lab: Lab) -> list[dict[str, Cell]]:
    distance, rows = METRICS["fd_cnn"].published_for(lab.name), list[dict[str, Cell]]()
    for label, record in records.items():
        for seed in record.seeds:
            row: dict[str, Cell] = {"pixels": record.support, "variant": label, "seed": seed}
            row |= {name: record.value(name, seed) for name in LIKELIHOODS} | {"fd": record.value(distance, seed)}
            row |= {name: record.value(name, seed) for name in ("coverage", "precision", "spectral_distance")}
            row["unsharpness"] = unsharpness(record.value("sharpness_ratio", seed), record.value("noise_ratio", seed))
            rows.append(row)
    return rows


def unsharpness(sharpness_ratio: float | None, noise_ratio: float | None) -> float | None:
    """|log sharpness_ratio|: 0 is as sharp as real images; None where the sharpness is noise, or nothing is sharp at all."""
    if not sharpness_ratio or noise_ratio is None or is_noise(noise_ratio, sharpness_ratio):
        return None
    return abs(math.log(sharpness_ratio))


def variants(values: Table, pixels: str) -> list[str]:
    """Those of one kind of pixels, by their ELBO, the best first: only those with as many seeds as any has."""
    found = {row["variant"]: values.by_seed("elbo", pixels=pixels, variant=row["variant"]) for row in values.where(pixels=pixels)}
    most = max((len(seeds) for seeds in found.values()), default=0)
    whole = {name: sum(seeds.values()) / most for name, seeds in found.items() if seeds and len(seeds) == most}
    return sorted(whole, key=lambda name: -whole[name])


def correlations(values: Table) -> list[Correlation]:
    """Spearman's rho and Kendall's tau-b for each kind of pixels, likelihood, quality and seed.

    Over variants that have both figures in every seed; at least three, which differ in both.
    """
    found = []
    for pixels in dict.fromkeys(row["pixels"] for row in values):
        names = variants(values, pixels)
        seeds = sorted(set().union(*(values.by_seed("elbo", pixels=pixels, variant=name) for name in names)))
        for likelihood, (quality, sign) in itertools.product(LIKELIHOODS, QUALITIES.items()):
            pairs = [[values.by_seed(metric, pixels=pixels, variant=name) for metric in (likelihood, quality)] for name in names]
            whole = [(x, y) for x, y in pairs if all(seed in x and seed in y for seed in seeds)]
            for seed in seeds if len(whole) > 2 else ():
                a, b = [x[seed] for x, _ in whole], [sign * y[seed] for _, y in whole]
                if len(set(a)) > 1 and len(set(b)) > 1:
                    rho, tau = float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)
                    found.append(Correlation(pixels, likelihood, quality, len(whole), seed, rho, tau))
    return found


def summary(found: Sequence[Correlation]) -> list[dict[str, Cell]]:
    """Means over seeds."""
    rows: list[dict[str, Cell]] = []
    for group in dict.fromkeys(c[:4] for c in found):
        mine = [c for c in found if c[:4] == group]
        row: dict[str, Cell] = dict(zip(Correlation._fields, group, strict=False))
        row |= {"spearman": interval([c.spearman for c in mine]).mean, "kendall": interval([c.kendall for c in mine]).mean}
        rows.append(row | {"n": len(mine)})
    return rows


def spearman_of(row: Mapping[str, Cell]) -> float:
    return float(row["spearman"] or 0.0)


def means(values: Table) -> list[dict[str, Cell]]:
    """One row for each variant, the best ELBO first within a kind of pixels."""
    rows: list[dict[str, Cell]] = []
    for pixels in dict.fromkeys(row["pixels"] for row in values):
        for name in variants(values, pixels):
            row: dict[str, Cell] = {"pixels": pixels, "variant": name}
            for metric in (*LIKELIHOODS, *QUALITIES):
                found = list(values.by_seed(metric, pixels=pixels, variant=name).values())
                row[metric] = interval(found).mean if found else None
            rows.append(row)
    return rows


def inversion(values: Table, pixels: str, quality: str) -> Inversion | None:
    """The pair of variants that are ranked the other way round by the most, in means over seeds; None where no pair clearly is.

    Clearly: the 95 % intervals of paired differences over seeds have no 0 in them.
    """
    sign, points = QUALITIES[quality], dict[str, tuple[dict[int, float], dict[int, float]]]()
    for name in variants(values, pixels):
        x, y = (values.by_seed(metric, pixels=pixels, variant=name) for metric in ("elbo", quality))
        if x.keys() == y.keys():
            points[name] = x, y
    centres = {name: (interval(list(x.values())).mean, interval(list(y.values())).mean) for name, (x, y) in points.items()}
    found = []
    for a, b in itertools.combinations(points, 2):  # a has the better ELBO
        gap, change = (interval([p[seed] - q[seed] for seed in p]) for p, q in zip(points[a], points[b], strict=True))
        if clear(gap) and clear(change) and gap.mean > 0 > sign * change.mean:
            width, height = (statistics.pstdev(c[i] for c in centres.values()) for i in (0, 1))
            elbos, qualities = zip(centres[a], centres[b], strict=True)
            size = min((elbos[0] - elbos[1]) / width, abs(qualities[0] - qualities[1]) / height)
            found.append(Inversion(a, b, elbos, quality, qualities, size))
    return max(found, key=lambda i: i.size, default=None)


def clear(difference: Interval) -> bool:
    return difference.low is not None and difference.high is not None and (difference.low > 0 or difference.high < 0)


def figure_of(values: Table, pixels: str) -> Picture:
    """Quality against the rank by the ELBO, one mark for each variant."""
    names = variants(values, pixels)
    shown = ("fd", "coverage", "precision")
    figure, panels = axes(1, len(shown), 8.2, 3.2 + 0.17 * math.ceil(len(names) / 4))
    for ax, quality in zip(panels, shown, strict=True):
        for i, name in enumerate(names):
            if y := list(values.by_seed(quality, pixels=pixels, variant=name).values()):
                mean, marker = interval(y), MARKERS[i // len(COLOURS) % len(MARKERS)]
                look: dict[str, Any] = {
                    "color": COLOURS[i % len(COLOURS)],
                    "marker": marker,
                    "markersize": 5,
                    "linestyle": "",
                    "elinewidth": 0.8,
                }
                ax.errorbar(i + 1, mean.mean, yerr=bar(mean), label=name, **look)
        ax.set(xlabel="rank by the ELBO (1 is best)")
        ax.set_xticks(range(1, len(names) + 1))
        ax.set_title(f"{TITLES.get(quality, quality)} ({'lower' if QUALITIES[quality] < 0 else 'higher'} is better)", fontsize=9)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
    handles, found = panels[0].get_legend_handles_labels()
    figure.legend(handles, found, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    caption = (
        f"Quality of samples by the rank of the ELBO, {SUPPORTS[pixels]}: a mark for each variant, bars are 95 % intervals over seeds. "
        "If the claim were true, distances would rise to the right, and shares fall."
    )
    return Picture(f"ranking-{pixels}", caption, figure)
