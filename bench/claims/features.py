"""Do latents of trained autoencoders support classification better than latents that took no training?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import holm, interval
from vae_variants.analysis.verdicts import compared, one_sided_p
from vae_variants.evaluation.probe import BUDGETS
from vae_variants.harness import Record
from vae_variants.report.drawing import axes, bar
from vae_variants.studies import (
    STUDIES,
    Effect,
    Findings,
    Judgement,
    Lab,
    Picture,
    Study,
    Tables,
    Verdict,
    by_seed,
    select,
    table,
)  # fmt: skip

__all__ = ["Features", "cells", "gains", "probed", "together", "verdict_of"]

ENCODERS = {
    "VAE": "vae-latent-{}",
    "autoencoder": "ae[latent={}]",
    "PCA": "pca[latent={}]",
    "untrained encoder": "reference-random-encoder[latent={}]",
    "random projection": "reference-random-projection[latent={}]",
}
TRAINED, BASELINES, PIXELS = ("VAE", "autoencoder"), ("PCA", "untrained encoder"), "raw pixels"
METRICS = {**{str(k): f"probe_accuracy_{k}" for k in BUDGETS}, "all": "probe_accuracy"}  # labels per class -> metric
LEVEL = 0.025  # of each one-sided test, after Holm


@STUDIES.add
class Features(Study):
    """Test accuracy of a linear probe on latents, by their size and the number of labels, against latents that took no training.

    A probe is a logistic regression on frozen, standardised latents: posterior means of a VAE, latents of an autoencoder. Its penalty is
    chosen on validation images. It gets 10, 100 or 1000 labelled images of each class where there are as many, or all.

    Training is worth the gain over two baselines of the same size: principal components (the best linear latents in squared error), and
    the encoder as it was initialised. A random projection and raw pixels are shown beside them, without a vote. With one seed every
    encoder is probed with the same labelled images, so that differences are paired.

    VAE and autoencoder are judged apart. Each latent size with each number of labels is a cell with two one-sided paired t-tests over
    seeds. p of a gain is the larger p against either baseline. p of a loss is twice the smaller p the other way. Both are adjusted
    by Holm over all cells of that encoder and count below 0.025. The intervals are not adjusted.

    The rule for "not supported" was changed after a first look at digits: before, one cell of either encoder with an unadjusted interval
    below 0 was enough. Limits: a VAE may leave units inactive (see the table `seen`) while all principal components are in use. Penalties
    are chosen with more labels than the smallest budgets have. Three seeds and many cells only show gains far above their spread.
    """

    claim = "The codes of an autoencoder support classification."
    source = "the textbook's section on autoencoders: an encoder as a source of features"
    criterion = (
        "At a latent size and a number of labels, latents gain if the accuracy on them is above that on as many principal components and "
        "above that on the latents of an untrained encoder of that size, and lose if it is below one of them, by paired t-tests over seeds "
        "with Holm's adjustment over all sizes and numbers of labels, VAE and autoencoder apart. The claim is supported if both gain "
        "everywhere, supported under conditions if one of them gains somewhere, not supported if neither gains anywhere and both lose "
        "somewhere, and else inconclusive. High accuracy alone is no evidence, and raw pixels have no vote."
    )

    def measure(self, lab: Lab) -> Findings:
        lab.need_labels()
        sizes: tuple[int, ...] = lab.choose(smoke=(2, 20), quick=(2, 10, 50), full=(2, 5, 10, 20, 50))
        asked = {template.format(d): (kind, d) for kind, template in ENCODERS.items() for d in sizes}
        asked["pixels"] = PIXELS, lab.dataset.dim
        return Findings(probed(lab.records(list(asked), seeds=lab.choose(smoke=3, quick=3, full=None)), asked))

    def judge(self, tables: Tables) -> Judgement:
        accuracy = tables.get("accuracy", pd.DataFrame())
        found = {kind: cells(accuracy, kind) for kind in TRAINED}
        if not any(found.values()):
            return Judgement(Verdict.INCONCLUSIVE, "No latents were measured beside both baselines.")
        counts = ", ".join(counted(kind, effects) for kind, effects in found.items())
        reason = f"Against both principal components and the untrained encoder, over latent sizes and numbers of labels: {counts}."
        effects = tuple(e for kind in TRAINED for e in found[kind])
        return Judgement(together([verdict_of(found[kind]) for kind in TRAINED]), reason, effects)

    def draw(self, found: Findings) -> list[Picture]:
        accuracy = found.tables["accuracy"]
        budgets, sizes = labels_of(accuracy), sizes_of(accuracy)
        rows = (len(budgets) + 1) // 2
        figure, panels = axes(rows, min(2, len(budgets)), 8.2 if len(budgets) > 1 else 5.0, 0.6 + 2.9 * rows)
        for ax in panels[len(budgets) :]:
            ax.axis("off")
        for ax, labels in zip(panels, budgets, strict=False):
            for i, kind in enumerate(ENCODERS):
                points = {d: interval(v.tolist()) for d in sizes if len(v := values(accuracy, kind, d, labels))}
                look: dict[str, Any] = {"color": COLOURS[i], "marker": "osD^v"[i], "linestyle": "-" if kind in TRAINED else "--"}
                means, halves = [p.mean for p in points.values()], [bar(p) for p in points.values()]
                ax.errorbar(list(points), means, halves, label=kind, markersize=4, capsize=2, **look)
            if len(pixels := values(accuracy, PIXELS, None, labels)):
                ax.axhline(pixels.mean(), color="#000000", linestyle=":", linewidth=1.2, label=PIXELS)
            ax.set(xscale="log", xlabel="latent units", ylabel="test accuracy")
            ax.set_xticks(sizes, [str(d) for d in sizes])
            ax.minorticks_off()
            ax.set_ylim(top=1.0)
            ax.set_title("all labels" if labels == "all" else f"{labels} labels per class", fontsize=9)
            ax.grid(alpha=0.3)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
        caption = (
            "Test accuracy of a linear probe by latent size, one panel for each number of labelled images; bars are 95 % intervals over "
            "seeds. Training is worth the distance from the dashed lines up to the solid ones."
        )
        return [Picture("accuracy", caption, figure)]


def probed(records: Mapping[str, Record], asked: Mapping[str, tuple[str, int]]) -> dict[str, pd.DataFrame]:
    """The table of accuracies by seed, and that of units in use; asked: label of a record -> (encoder, units)."""
    accuracy, seen = [], []
    for label, (kind, d) in asked.items():
        record = records[label]
        for (labels, metric), seed in itertools.product(METRICS.items(), record.seeds):
            if (value := record.value(metric, seed)) is not None:
                accuracy.append({"encoder": kind, "units": d, "labels per class": labels, "seed": seed, "accuracy": value})
        used = [value for seed in record.seeds if (value := record.value("probe_codes", seed)) is not None]
        seen.append({"encoder": kind, "units": d, "units in use": interval(used).mean if used else None, "n": len(used)})
    return {
        "seen": table("Units that the probe sees: those that are active, or not constant", seen),
        "accuracy": table("Test accuracy of every probe", accuracy),
    }


def values(accuracy: pd.DataFrame, encoder: str, units: int | None, labels: str) -> pd.Series[float]:
    """Accuracy by seed; `units` of None means any."""
    size = {} if units is None else {"units": units}
    return by_seed(accuracy, "accuracy", encoder=encoder, **size, **{"labels per class": labels})


def gains(accuracy: pd.DataFrame, encoder: str, units: int, labels: str, against: str) -> list[float]:
    """Accuracy on latents of `encoder` less that on latents of `against` of the same size (raw pixels: of any size), by seed."""
    ours, theirs = values(accuracy, encoder, units, labels), values(accuracy, against, None if against == PIXELS else units, labels)
    return (ours - theirs).dropna().tolist()


def cells(accuracy: pd.DataFrame, encoder: str) -> list[Effect]:
    """One effect for each size and number of labels: the smaller of the gains over both baselines, with the verdict of both together.

    p of a gain = max over baselines of p(H0: gain <= 0); p of a loss = 2 min over baselines of p(H0: gain >= 0); each adjusted by Holm
    over the cells. Cells without one of the baselines are left out.
    """
    smallest, up, down = list[Effect](), list[float](), list[float]()
    for units, labels in itertools.product(sizes_of(accuracy), labels_of(accuracy)):
        over = {against: gains(accuracy, encoder, units, labels, against) for against in BASELINES}
        if all(over.values()):
            where = {"encoder": encoder, "units": str(units), "labels per class": labels}
            effects = [compared({**where, "smallest gain is over": b}, d, above=0.0, unit="of accuracy") for b, d in over.items()]
            smallest.append(min(effects, key=lambda e: e.value if e.low is None else e.low))
            up.append(max(one_sided_p([-x for x in d], 0.0) for d in over.values()))
            down.append(min(1.0, 2 * min(one_sided_p(d, 0.0) for d in over.values())))
    found = []
    for effect, gain, loss in zip(smallest, holm(up), holm(down), strict=True):
        verdict = Verdict.SUPPORTED if gain < LEVEL else Verdict.REFUTED if loss < LEVEL else Verdict.INCONCLUSIVE
        found.append(effect._replace(verdict=verdict, criterion=f"above 0; after Holm p of a gain {gain:.2g}, of a loss {loss:.2g}"))
    return found


def verdict_of(effects: Sequence[Effect]) -> Verdict:
    """Of one encoder: supported if every cell gains, under conditions if some do, not supported if none does and one loses."""
    verdicts = [e.verdict for e in effects]
    if Verdict.SUPPORTED in verdicts:
        return Verdict.SUPPORTED if set(verdicts) == {Verdict.SUPPORTED} else Verdict.CONDITIONAL
    return Verdict.REFUTED if Verdict.REFUTED in verdicts else Verdict.INCONCLUSIVE


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of all encoders: the common verdict; under conditions if one gains somewhere; else inconclusive."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return Verdict.CONDITIONAL if {Verdict.SUPPORTED, Verdict.CONDITIONAL} & set(verdicts) else Verdict.INCONCLUSIVE


def labels_of(accuracy: pd.DataFrame) -> list[str]:
    return [labels for labels in METRICS if len(select(accuracy, **{"labels per class": labels}))]


def sizes_of(accuracy: pd.DataFrame) -> list[int]:
    return [int(d) for d in sorted(accuracy["units"][accuracy["encoder"] != PIXELS].unique())] if len(accuracy) else []


def counted(kind: str, effects: Sequence[Effect]) -> str:
    """In how many cells latents gain and lose, as a phrase."""
    verdicts = [e.verdict for e in effects]
    won, lost = verdicts.count(Verdict.SUPPORTED), verdicts.count(Verdict.REFUTED)
    return f"the {kind} gains in {won} of {len(effects)} and loses in {lost}" if effects else f"the {kind} was not measured"
