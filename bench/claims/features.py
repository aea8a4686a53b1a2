"""Do the codes of an autoencoder support classification, more than codes that took no training?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import holm, interval
from vae_variants.analysis.verdicts import compared, listed, one_sided_p
from vae_variants.evaluation.probe import BUDGETS
from vae_variants.harness import Record
from vae_variants.report.drawing import axes, bar
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict

__all__ = ["Features", "cells", "gains", "together", "verdict_of"]

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
    """Test accuracy of a linear probe on codes, by their size and by the number of labels, beside codes that took no training.

    A probe is a logistic regression on frozen, standardised codes: the posterior means of a VAE, the codes of an autoencoder. Its penalty
    is chosen on validation images, and it looks at the test images once. It gets 10, 100 or 1000 labelled images of each class where
    there are as many, or all.

    Accuracy alone proves nothing: ten numbers about an image support classification to some degree however they were made. What the
    training of an autoencoder is worth is the gain over codes of the same size from principal components (the best linear code
    in squared error) and from the same encoder as it was initialised. A random projection and the raw pixels stand beside them.

    Everything is paired: with one seed, every encoder is probed with the same labelled images. Principal components and pixels have no
    chance in them, but the draw of the labelled images has, so they are probed with every seed too; with all labels their value is a
    constant.

    VAE and autoencoder are judged apart. Each combination of a size and a number of labels is a cell with two one-sided paired t-tests over
    seeds: p of a gain, the larger of the p against either baseline, since both have to be beaten; and p of a loss, twice the smaller of
    the p the other way, since one that is better is enough. Both are adjusted by Holm over all cells of that encoder, and count under
    0.025. The intervals beside them are not adjusted.

    The rule for "not supported" was changed after a first look at the digits: it used to take a single cell in which the unadjusted
    interval was below 0, for either encoder; now it takes losses of both after Holm, without a gain of either.

    What could mislead: a VAE may leave units unused (the table says how many the probe sees), so that 50 units of it are compared with 50
    principal components that are all in use. Penalties are chosen with more labels than the smallest budgets have. With three
    seeds and many cells only gains that are many times their spread over seeds are told from none.
    """

    claim = "The codes of an autoencoder support classification."
    source = "the textbook's section on autoencoders: an encoder as a source of features"
    criterion = (
        "At a size of code and a number of labels, codes gain if the accuracy on them is above that on as many principal components and "
        "above that on the codes of an untrained encoder of that size, and lose if it is below one of them, by paired t-tests over seeds "
        "with Holm's adjustment over all sizes and numbers of labels, VAE and autoencoder apart. The claim is supported if both gain "
        "everywhere, supported under conditions if one of them gains somewhere, not supported if neither gains anywhere and both lose "
        "somewhere, and else inconclusive. High accuracy is no evidence, and raw pixels, which are many more numbers, have no vote."
    )

    def measure(self, lab: Lab) -> Findings:
        lab.need_labels()
        sizes: tuple[int, ...] = lab.choose(smoke=(2, 20), quick=(2, 10, 50), full=(2, 5, 10, 20, 50))
        asked = {template.format(d): (kind, d) for kind, template in ENCODERS.items() for d in sizes}
        asked["pixels"] = PIXELS, lab.dataset.dim
        records = lab.records(list(asked), seeds=lab.choose(smoke=3, quick=3, full=None))
        rows, seen = probed(records, asked)
        accuracy = Table.of("Test accuracy of every probe", rows, folded=True)
        return Findings(
            {
                "means": Table.of("Test accuracy of the probe, mean over seeds", means(accuracy, sizes)),
                "seen": Table.of("Units that the probe sees: those of a code that are not constant, or active", seen, folded=True),
                "accuracy": accuracy,
            }
        )

    def judge(self, tables: Tables) -> Judgement:
        table = tables.get("accuracy", Table("", (), ()))
        found = {kind: cells(table, kind) for kind in TRAINED}
        effects = [e for kind in TRAINED for e in found[kind]]
        if not effects:
            return Judgement(Verdict.INCONCLUSIVE, "No codes were measured beside both baselines, so no gain can be told.")
        wins, losses = pixels_beaten(table)
        reason = (
            "Of combinations of size and number of labels, codes beat both principal components and the untrained encoder "
            f"{listed([counted(kind, found[kind]) for kind in TRAINED])}, by tests with Holm's adjustment. {largest(effects)} "
            f"Raw pixels, which have no vote, were beaten by {wins} of {len(effects)} and were better than {losses}, by intervals."
        )
        return Judgement(together([verdict_of(found[kind]) for kind in TRAINED]), reason, tuple(effects))

    def draw(self, found: Findings) -> list[Picture]:
        table = found.tables["accuracy"]
        budgets = labels_of(table)
        rows = (len(budgets) + 1) // 2
        figure, panels = axes(rows, min(2, len(budgets)), 8.2 if len(budgets) > 1 else 5.0, 0.6 + 2.9 * rows)
        for ax in panels[len(budgets) :]:
            ax.axis("off")
        for ax, labels in zip(panels, budgets, strict=False):
            for i, kind in enumerate(ENCODERS):
                points = [(d, interval(list(v.values()))) for d in sizes_of(table) if (v := values(table, kind, d, labels))]
                look: dict[str, Any] = {
                    "color": COLOURS[i],
                    "marker": "osD^v"[i],
                    "linestyle": "-" if kind in TRAINED else "--",
                    "capsize": 2,
                }
                ax.errorbar(
                    [d for d, _ in points], [p.mean for _, p in points], [bar(p) for _, p in points], label=kind, markersize=4, **look
                )
            pixels = [row["accuracy"] for row in table.where(encoder=PIXELS, **{"labels per class": labels})]
            if pixels:
                ax.axhline(sum(pixels) / len(pixels), color="#000000", linestyle=":", linewidth=1.2, label=PIXELS)
            ax.set(xscale="log", xlabel="units of the code", ylabel="test accuracy")
            ax.set_xticks(sizes_of(table), [str(d) for d in sizes_of(table)])
            ax.minorticks_off()
            ax.set_ylim(top=1.0)
            ax.set_title(called(labels), fontsize=9)
            ax.grid(alpha=0.3)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
        caption = (
            "Test accuracy of a linear probe by the size of the code, one panel for each number of labelled images; bars are 95 % "
            "intervals over seeds. Training is worth what the solid lines have above the dashed ones."
        )
        return [Picture("accuracy", caption, figure)]


def probed(records: Mapping[str, Record], asked: Mapping[str, tuple[str, int]]) -> tuple[list[dict[str, Cell]], list[dict[str, Cell]]]:
    """asked: label -> (encoder, units) -> one row for each probe and seed, and one for each encoder with the units that it uses."""
    rows: list[dict[str, Cell]] = []
    seen: list[dict[str, Cell]] = []
    for label, (kind, d) in asked.items():
        record = records[label]
        for (labels, metric), seed in itertools.product(METRICS.items(), record.seeds):
            if (value := record.value(metric, seed)) is not None:
                rows.append({"encoder": kind, "units": d, "labels per class": labels, "seed": seed, "accuracy": value})
        used = [value for seed in record.seeds if (value := record.value("probe_codes", seed)) is not None]
        seen.append({"encoder": kind, "units": d, "units in use": interval(used).mean if used else None, "n": len(used)})
    return rows, seen


def values(table: Table, encoder: str, units: int | None, labels: str) -> dict[int, float]:
    """seed -> accuracy; `units` of None is any."""
    size = {} if units is None else {"units": units}
    return table.by_seed("accuracy", encoder=encoder, **size, **{"labels per class": labels})


def gains(table: Table, encoder: str, units: int, labels: str, against: str) -> list[float]:
    """Accuracy on codes of `encoder` less that on the codes of `against` of the same size (of raw pixels: of their own), seed by seed."""
    ours, theirs = values(table, encoder, units, labels), values(table, against, None if against == PIXELS else units, labels)
    return [ours[seed] - theirs[seed] for seed in sorted(ours) if seed in theirs]


def cells(table: Table, encoder: str) -> list[Effect]:
    """One effect for each size and number of labels: the smaller of the gains over both baselines, with the verdict of both together.

    p of a gain = max over baselines of p(H0: gain <= 0); p of a loss = 2 min over baselines of p(H0: gain >= 0); each adjusted by Holm
    over the cells. Cells without one of the baselines are left out.
    """
    smallest, up, down = list[Effect](), list[float](), list[float]()
    for units, labels in itertools.product(sizes_of(table), labels_of(table)):
        over = {against: gains(table, encoder, units, labels, against) for against in BASELINES}
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
    """Of all encoders: what all have; under conditions if one gains somewhere; else inconclusive."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return Verdict.CONDITIONAL if {Verdict.SUPPORTED, Verdict.CONDITIONAL} & set(verdicts) else Verdict.INCONCLUSIVE


def pixels_beaten(table: Table) -> tuple[int, int]:
    """In how many combinations the trained codes are above raw pixels by the interval, and in how many below."""
    found = []
    for kind in TRAINED:
        for d in sizes_of(table):
            found += [compared({}, g, above=0.0).verdict for labels in labels_of(table) if (g := gains(table, kind, d, labels, PIXELS))]
    return found.count(Verdict.SUPPORTED), found.count(Verdict.REFUTED)


def means(table: Table, sizes: Sequence[int]) -> list[dict[str, Cell]]:
    """One row for each number of labels and size of code, one column for each encoder."""
    rows: list[dict[str, Cell]] = []
    for labels in labels_of(table):
        for d in sizes:
            found = {kind: values(table, kind, d, labels) for kind in ENCODERS} | {PIXELS: values(table, PIXELS, None, labels)}
            row: dict[str, Cell] = {"labels per class": labels, "units": d}
            rows.append(row | {kind: sum(v.values()) / len(v) if v else None for kind, v in found.items()})
    return rows


def labels_of(table: Table) -> list[str]:
    return [labels for labels in METRICS if any(row["labels per class"] == labels for row in table)]


def sizes_of(table: Table) -> list[int]:
    return sorted({row["units"] for row in table if row["encoder"] != PIXELS})


def counted(kind: str, effects: Sequence[Effect]) -> str:
    """In how many cells codes gain and lose, and at which sizes they gain throughout, as a phrase."""
    if not effects:
        return f"in none for the {kind}, which was not measured"
    verdicts = [e.verdict for e in effects]
    sizes = dict.fromkeys(e.where["units"] for e in effects)
    always = [d for d in sizes if {e.verdict for e in effects if e.where["units"] == d} == {Verdict.SUPPORTED}]
    throughout = f"always with {listed(always)} units; " if always else ""
    won, lost = verdicts.count(Verdict.SUPPORTED), verdicts.count(Verdict.REFUTED)
    return f"in {won} of {len(effects)} for the {kind} ({throughout}beaten by one of them in {lost})"


def largest(effects: Sequence[Effect]) -> str:
    """The largest gain that counts, else the largest loss that does, else the largest difference of all, in a sentence."""
    for wanted in (Verdict.SUPPORTED, Verdict.REFUTED, Verdict.INCONCLUSIVE):
        if found := [e for e in effects if e.verdict is wanted]:
            break
    e = max(found, key=lambda e: abs(e.value))
    encoder, units, labels, against = e.where.values()
    span = f", interval {e.low:+.3f} to {e.high:+.3f}" if e.low is not None and e.high is not None else ""
    word = {Verdict.SUPPORTED: "largest gain", Verdict.REFUTED: "largest loss"}.get(e.verdict, "largest difference, which may be chance,")
    return f"The {word} is that of the {encoder} with {units} units and {called(labels)}: {e.value:+.3f} over {against}{span}."


def called(labels: str) -> str:
    return "all labels" if labels == "all" else f"{labels} labels per class"
