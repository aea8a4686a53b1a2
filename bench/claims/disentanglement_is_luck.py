"""Does the seed decide how disentangled a model is, more than the method?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from vae_variants.analysis.entries import COLOURS, MARKERS
from vae_variants.analysis.verdicts import mixed, within
from vae_variants.harness import Record, parse_seeds
from vae_variants.models.base import MODELS, LatentVariable
from vae_variants.report.drawing import axes
from vae_variants.studies import STUDIES, Effect, Findings, Judgement, Lab, Picture, Study, Tables, Verdict, select, table

SMALL, DATA = "sprites?size=16", "sprites?size=32&train=20000"  # if the data set of the study has no factors
SCORES = {  # metric -> its name in figures; those of Locatello et al. 2019 whose values differ between their models
    "beta_vae_score": "beta-VAE score",
    "factor_vae_score": "FactorVAE score",
    "mig_corrected": "MIG, without its bias",
    "dci_disentanglement": "DCI disentanglement",
    "modularity": "modularity",
    "sap": "SAP",
}
HALF, LEVEL = 0.5, 0.95
SMOKE = ["vae-bernoulli", "beta-vae-4[beta=8]", "beta-tc-vae"]


@STUDIES.add(name="disentanglement-is-luck")
class Luck(Study):
    """Scores of disentanglement of every VAE of the suite `disentangle`, seed by seed, and the share of their variance that seeds make.

    Methods are the VAEs of the suite, each with the options that it has there: beta-VAEs of several strengths count as several methods.
    For each score, values are a method's level plus what the seed adds. The variance within methods is that of seeds, s^2. That between
    levels is b^2, estimated from the variance of the methods' means less s^2 / n. The share of seeds is s^2 / (s^2 + b^2). Its interval is
    the one of Searle for one-way random effects, by the F distribution with k - 1 and k (n - 1) degrees of freedom, for k methods and n
    seeds: it takes methods as drawn at random and values as normal. Only seeds that all methods have are counted.

    Six scores are judged, each apart and without adjustment. If the data set has no factors, drawn sprites of 32x32 pixels are measured in
    its place; the table names the data. Limits: methods and strengths are chosen, and a strength at which every unit is inactive adds to
    the variance between methods. Models trained for longer may differ less, or more.
    """

    claim = "Which seed a VAE is trained with decides how disentangled it is, more than which method."
    source = "Locatello et al. 2019, Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations"
    criterion = (
        "For a score, seeds matter more if their share of its variance over methods and seeds is above one half by the 95 % interval, and "
        "methods matter more if it is below. At least 3 seeds and 3 methods are needed. The claim is supported if seeds matter more for "
        "all six scores, supported under conditions if seeds matter more for some and methods for others, not supported if methods matter "
        "more for some and seeds for none, and else inconclusive."
    )

    def measure(self, lab: Lab) -> Findings:
        factored = lab if lab.dataset.factors is not None else lab.of(lab.choose(smoke=SMALL, quick=DATA, full=DATA))
        records = factored.records(methods(factored), seeds=lab.choose(smoke=3, quick=3, full=None))
        return Findings({"scores": table(f"Scores of disentanglement on {factored.name}, seed by seed", measured(records))})

    def judge(self, tables: Tables) -> Judgement:
        scores = tables.get("scores", pd.DataFrame())
        effects = [effect for metric in SCORES if (effect := share(scores, metric)) is not None]
        if len(effects) < len(SCORES):
            return Judgement(
                Verdict.INCONCLUSIVE, "Not all scores were measured for three methods with two seeds in common.", tuple(effects)
            )
        told = ", ".join(f"{100 * e.value:.0f} % of {SCORES[e.where['score']]}" for e in effects)
        return Judgement(mixed(effects), f"Seeds make {told}.", tuple(effects))

    def draw(self, found: Findings) -> list[Picture]:
        scores = found.tables["scores"]
        names = list(scores["method"].unique())
        figure, panels = axes(2, 3, 8.2, 5.4 + 0.15 * len(names))
        for ax, (metric, title) in zip(panels, SCORES.items(), strict=True):
            for i, name in enumerate(names):
                y = select(scores, method=name)[metric].dropna().tolist()
                look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i // len(COLOURS) % len(MARKERS)]}
                ax.plot([i + 1] * len(y), y, label=name, markersize=4, linestyle="", alpha=0.8, **look)
            ax.set_title(title, fontsize=8)
            ax.set_xticks([])
            ax.tick_params(labelsize=7)
            ax.grid(alpha=0.3)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
        caption = (
            "Scores of disentanglement, a column for each method and a mark for each seed. If the claim held, columns would be as long as "
            "they are apart."
        )
        return [Picture("seeds", caption, figure)]


def methods(lab: Lab) -> list[str]:
    """Labels of the VAEs of the suite, without those that it runs with fewer seeds."""
    planned, full = lab.suite.plan(dataset=lab.name, fidelity=lab.fidelity), len(parse_seeds(lab.suite.seeds))
    models = {spec.label: MODELS[spec.configuration.values["model"]] for spec in planned if len(spec.seeds) >= full}
    chosen = [label for label, model in models.items() if issubclass(model, LatentVariable)]
    return lab.choose(smoke=SMOKE, quick=chosen, full=chosen)


def measured(records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """One row for each method and seed."""
    return [
        {"method": label, "seed": seed, **{metric: record.value(metric, seed) for metric in SCORES}}
        for label, record in records.items()
        for seed in record.seeds
    ]


def share(scores: pd.DataFrame, metric: str) -> Effect | None:
    """The share of seeds in the variance of a score, judged by its interval; None without three methods, two seeds, or any variance."""
    if not len(scores):
        return None
    wide = scores.pivot(index="method", columns="seed", values=metric).dropna(axis=1).to_numpy(float)  # (methods, seeds)
    k, n = wide.shape
    if k < 3 or n < 2 or not np.ptp(wide):
        return None
    value, low, high = of_seeds(wide)
    where = {"score": metric, "methods": str(k)}
    effect = Effect(where, value, low, high, LEVEL, n, "seeds", "of the variance", f"above {HALF:g}", Verdict.INCONCLUSIVE)
    return within(effect, (low, high), HALF)


def of_seeds(values: np.ndarray) -> tuple[float, float, float]:
    """s^2 / (s^2 + b^2) of values (k methods, n seeds), with the ends of its 95 % interval, all within 0 and 1."""
    k, n = values.shape
    inside, between = values.var(1, ddof=1).mean(), n * values.mean(1).var(ddof=1)
    if inside == 0:
        return 0.0, 0.0, 0.0
    ratio = between / inside
    quantiles = [float(f_distribution.ppf(p, k - 1, k * (n - 1))) for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    value, low, high = (float(np.clip(n / (ratio / q + n - 1), 0, 1)) for q in (1.0, *quantiles))
    return value, low, high
