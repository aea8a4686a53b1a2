"""Do the codes of an autoencoder support classification, more than codes that took no training?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from vae_variants.evaluation.probe import BUDGETS
from vae_variants.harness import Record
from vae_variants.harness.statistics import interval
from vae_variants.report.drawing import axes, bar
from vae_variants.report.entries import COLOURS
from vae_variants.studies.judging import all_of, compared, mixed
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Picture, Study, Table, Tables, Verdict

__all__ = ["Features", "gains"]

ENCODERS = {
    "VAE": "vae-latent-{}",
    "autoencoder": "ae[latent={}]",
    "PCA": "pca[latent={}]",
    "untrained encoder": "reference-random-encoder[latent={}]",
    "random projection": "reference-random-projection[latent={}]",
}
TRAINED, BASELINES, PIXELS = ("VAE", "autoencoder"), ("PCA", "untrained encoder"), "raw pixels"
METRICS = {**{str(k): f"probe_accuracy_{k}" for k in BUDGETS}, "all": "probe_accuracy"}  # labels per class -> metric


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

    What could mislead: a VAE may leave units unused (the table says how many the probe sees), so that 50 units of it are compared with 50
    principal components that are all in use. Penalties are chosen with more labels than the smallest budgets have. With three
    seeds intervals are wide: small gains stay inconclusive. And of so many combinations one in forty goes either way by chance alone.
    """

    claim = "The codes of an autoencoder support classification."
    source = "the textbook's section on autoencoders: an encoder as a source of features"
    criterion = (
        "At a size of code and a number of labels: supported if the accuracy on the codes is above that on as many principal "
        "components and above that on the codes of an untrained encoder of that size, both by the 95 % interval of paired differences over "
        "seeds; not supported if it is below one of them. The claim is supported if it is for VAE and autoencoder at every size and number "
        "of labels, and supported under conditions if it is so at some sizes of code but not at all, or is supported at some combinations "
        "and not supported at others. High accuracy is no evidence, and raw pixels, which are many more numbers, have no vote."
    )

    def measure(self, lab: Lab) -> Findings:
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
        table = tables["accuracy"]
        effects = [
            cell for kind in TRAINED for d in sizes_of(table) for labels in labels_of(table) if (cell := decided(table, kind, d, labels))
        ]
        held = [e for e in effects if e.verdict is Verdict.SUPPORTED]
        lost = [e for e in effects if e.verdict is Verdict.REFUTED]
        sizes = {d: all_of([e for e in effects if e.where["units"] == str(d)]) for d in sizes_of(table)}
        always = [d for d, verdict in sizes.items() if verdict is Verdict.SUPPORTED]
        verdict = Verdict.CONDITIONAL if 0 < len(always) < len(sizes) else mixed(effects)
        reason = (
            f"Of {len(effects)} combinations of encoder, size and number of labels, codes from training beat both principal components and "
            f"the untrained encoder in {len(held)}{best(held, 1)}, and were beaten by one of them in {len(lost)}{best(lost, -1)}. "
        )
        reason += f"At every number of labels they did so with {listed(always)} units. " if always else "At no size did they throughout. "
        wins, losses = pixels_beaten(table)
        return Judgement(
            verdict, reason + f"Raw pixels, which have no vote, were beaten in {wins} and were better in {losses}.", tuple(effects)
        )

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


def decided(table: Table, encoder: str, units: int, labels: str) -> Effect | None:
    """The smaller of the gains over both baselines, with the verdict of both together; None without any."""
    found = []
    for against in BASELINES:
        if d := gains(table, encoder, units, labels, against):
            where = {"encoder": encoder, "units": str(units), "labels per class": labels, "smallest gain is over": against}
            found.append(compared(where, d, above=0.0, unit="of accuracy"))
    if len(found) < len(BASELINES):
        return None
    return min(found, key=lambda e: e.value if e.low is None else e.low)._replace(verdict=all_of(found))


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


def best(effects: Sequence[Effect], sign: int) -> str:
    """The largest of them in that direction, in words; nothing for none."""
    if not effects:
        return ""
    e = max(effects, key=lambda e: sign * e.value)
    encoder, units, labels, against = e.where.values()
    span = f", interval {e.low:+.3f} to {e.high:+.3f}" if e.low is not None and e.high is not None else ""
    return f" (most: {encoder} with {units} units and {called(labels)}, {e.value:+.3f} over {against}{span})"


def called(labels: str) -> str:
    return "all labels" if labels == "all" else f"{labels} labels per class"


def listed(numbers: Sequence[int]) -> str:
    words = [str(n) for n in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
