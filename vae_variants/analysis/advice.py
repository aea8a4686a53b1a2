"""Which variant for this data? What the results support for each purpose, and what they do not show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vae_variants.analysis.cards import foreign
from vae_variants.analysis.entries import SUPPORTS, Entry, best, busy, distinct, enough, judges, trained, trials, twins, unclear
from vae_variants.analysis.formatting import number
from vae_variants.analysis.notes import Note, counted, joined, listed
from vae_variants.analysis.sample_quality import PLACE, QUALITIES, placed
from vae_variants.analysis.statistics import LEAST_SEEDS, Interval
from vae_variants.evaluation.metrics import data_name

TITLE = "Which variant for this data?"
DEFAULT = "vae-bernoulli"
FEW_TRAINING, FEW_TEST = 5000, 2000  # images: below, their choice may matter as much as the variant
SAMPLES, WITH = "Samples", "distance, precision and coverage"
DISENTANGLEMENT = "mig"  # of data with known factors
DENSITY = "Nats of a density rank variants; they are not a file size."
REMARKS = {
    "binary": "Each pixel is sampled black or white with its grey level as the probability. This suits scans, masks and line drawings, "
    "not photographs.",
    "byte": "Bits per dimension are the size under lossless compression.",
    "unit": DENSITY,
    "real": DENSITY,
}
SPEEDS = (
    ("to draw samples", "sample_images_per_second", "images/s", max),
    ("to encode", "encode_images_per_second", "images/s", max),
    ("to train", "train_seconds", "s for all seeds", min),
)


@dataclass(frozen=True)
class Choice:
    """What the results say for one purpose.

    `verdict` is `told` if one variant is best, `tied` if several are statistically tied, `measured` without a test (timings), `open`
    if the evidence is too thin, `none` if there is no value or no competitor. `best` are labels, the best first, empty if open.
    `gain` is how much better that is than `baseline`, over the common seeds, and `margin` how much better than `behind`, the next that
    is significantly worse. `text` has labels in backticks. `aside` names the competitors with a flaw. `also` has further metrics that
    are told of the best, with their names.
    """

    purpose: str
    metric: str
    verdict: str
    best: tuple[str, ...] = ()
    baseline: str = ""
    gain: Interval | None = None
    text: str = ""
    aside: Note | None = None
    margin: Interval | None = None
    behind: str = ""
    also: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Advice:
    """A choice for each purpose, the limits of the evidence, and why there is no verdict at all, or ""."""

    choices: tuple[Choice, ...]
    limits: tuple[Note, ...]
    few: str = ""


@dataclass(frozen=True)
class Purpose:
    """What a reader chooses a variant for: its metric, the unit of a difference, a remark, and other metrics to tell of the best."""

    title: str
    metric: str
    unit: str
    scale: float = 1.0
    share: bool = False  # whether to say a difference also in percent of the baseline's value
    remark: str = ""
    also: tuple[tuple[str, str], ...] = ()
    prefix: str = ""

    def value(self, entry: Entry, unit: str = "") -> str:
        mark = "≥ " if entry.kind(self.metric) == "lower-bound" else self.prefix
        return f"`{entry.label}` ({mark}{number(entry.interval(self.metric), scale=self.scale)}{' %' * (self.scale == 100)}{unit})"


def advise(entries: Sequence[Entry]) -> Advice:
    """The best variants for likelihood within each pixel type, reconstruction, samples, classification and speed, and by how much.

    A pure function of the entries. `best` decides: paired t-tests over seeds, Holm-adjusted, 5 %. Fewer than `LEAST_SEEDS` seeds
    give no verdict, nor do the presets `smoke` and `quick`. A row with a flaw (`soundness`) is set aside and never named as best.
    """
    references, few = [e for e in distinct(entries) if not trained(e)], too_few(entries)
    choices = [choice(purpose, group, references, few) for purpose, group in purposes(entries)]
    return Advice((*choices, speed(entries)), tuple(limits(entries)), few)


def purposes(entries: Sequence[Entry]) -> list[tuple[Purpose, list[Entry]]]:
    """Each purpose with its competitors: trained variants, for nats those of one pixel type."""
    ours = [e for e in distinct(entries) if trained(e)]
    found = []
    for support, title in SUPPORTS.items():
        if group := [e for e in ours if e.record.support == support and e.values("log_likelihood")]:
            compression = " and compression" if support in ("binary", "byte") else ""
            nats = Purpose(f"Likelihood{compression}, {title}", "log_likelihood", " nats per image", remark=REMARKS[support])
            found.append((nats, group))
    distance = f"fd-{data_name(entries[0].record.dataset['name'])}cnn"
    samples = Purpose(SAMPLES, distance, " in Fréchet distance to test images", share=True)
    if not any(e.values(distance) for e in ours):
        remark = (
            "Without labels there is no classifier to compare samples by. The spectrum detects blur and noise, but not missing content."
        )
        samples = Purpose(SAMPLES, "spectral_distance", " dB of spectral distance", share=True, remark=remark)
    larger = "More latent units lower it for every variant."
    reconstruction = Purpose("Reconstruction", "reconstruction_mse", " in mean squared error per pixel", share=True, remark=larger)
    classes = Purpose("Latents for classification", "probe_accuracy", " percentage points of accuracy", 100.0)
    ranked = placed(ours, distance)
    if samples.metric == distance and len(ranked) > 1:
        named = (("distance", distance), *((m, m) for m in QUALITIES))
        together = Purpose(SAMPLES, PLACE, f" places, of {len(ranked)}, averaged over {WITH}", also=named, prefix="mean place ")
        found += [(reconstruction, ours), (together, ranked), (classes, ours)]
    else:
        found += [(reconstruction, ours), (samples, ours), (classes, ours)]
    factors = Purpose("Disentanglement", DISENTANGLEMENT, " of the mutual information gap")
    return [*found, (factors, ours)] if any(DISENTANGLEMENT in e.rows for e in ours) else found


def too_few(entries: Sequence[Entry]) -> str:
    """Why no variant can be best, if the runs have too few seeds; "" if two have enough."""
    runs = [e.record for e in distinct(entries) if trained(e)]
    seeds = [n for r in runs if (n := list(r.status.values()).count("ok"))]
    if len(seeds) < 2 or judges(entries):
        return ""
    have = "only one run has them" if max(seeds) >= LEAST_SEEDS else f"these have at most {max(seeds)}"
    failed = sorted(len(r.seeds) for r in runs)[-2] >= LEAST_SEEDS
    fix = "Seeds failed: rerun them with `--retry failed`" if failed else "Rerun with `--seeds 5`"
    return f"No variant is called best: a verdict needs {LEAST_SEEDS} seeds per run, and {have}. {fix}."


def choice(purpose: Purpose, group: Sequence[Entry], references: Sequence[Entry], few: str) -> Choice:
    metric, measured = purpose.metric, [e for e in group if e.values(purpose.metric)]
    same = twins([e for e in measured if e.sound(metric)], metric)
    rivals = [e for e in measured if e.sound(metric) and e.label not in same]
    flawed = [f"`{e.label}` ({e.flaws[0].what})" for e in measured if not e.sound(metric)]
    aside = Note(counted(len(flawed), "variant is set aside", "variants are set aside"), tuple(flawed)) if flawed else None
    known = joined(*(f"`{label}` is the model of `{first}`." for label, first in same.items()))
    if not measured:
        reasons = [row["reason"] for e in group for row in e.rows.get(metric, ()) if row["reason"]]
        return Choice(purpose.title, metric, "none", text=f"No evidence: {reasons[0] if reasons else 'no run has a value'}.")
    if not rivals:
        return Choice(purpose.title, metric, "none", text=joined("No variant is without a flaw.", known), aside=aside)
    sign = {"higher": 1.0, "lower": -1.0}[rivals[0].rows[metric][0]["better"]]
    first = max(rivals, key=lambda e: sign * e.mean(metric))
    if len(rivals) == 1:
        kind = "without a flaw" if flawed else "with a likelihood of this pixel type" if metric == "log_likelihood" else "with a value"
        text = joined(f"{purpose.value(first)} is the only variant {kind}: there is no choice.", known, purpose.remark)
        return Choice(purpose.title, metric, "none", (first.label,), first.label, text=text, aside=aside)
    baseline = next((e for e in rivals if e.label == DEFAULT), rivals[0])
    after = (told_of(purpose, first, references), known, scale(purpose, rivals, references, sign), purpose.remark)
    labels, trial = best(rivals, metric), trials(rivals)
    if trial or not labels:
        most, few_rivals = max(len(e.values(metric)) for e in rivals), len(enough(rivals, metric)) < 2
        seeds = "too few common seeds: rerun all with the same `--seeds`" if not few_rivals else f"{most} of {LEAST_SEEDS} seeds"
        seeds = f"only one variant has {LEAST_SEEDS} seeds" if few_rivals and most >= LEAST_SEEDS else seeds
        why = f" (preset {listed(trial, '')})" if trial else "" if few else f" ({seeds})"
        highest = f"{purpose.value(first, purpose.unit * purpose.share)} has the {'highest' if sign > 0 else 'lowest'} mean."
        text = joined(f"No verdict{why}.", highest, *after)
        return Choice(purpose.title, metric, "open", baseline=baseline.label, text=text, aside=aside)
    first = next(e for e in rivals if e.label == labels[0])
    others, thin = len(enough(rivals, metric)) - 1, [e.label for e in rivals if len(e.values(metric)) < LEAST_SEEDS]
    all_others = "the other one" if others == 1 else f"all {others} others"
    noisy = unclear(rivals, metric)
    behind = [e.label for e in enough(rivals, metric) if e.label not in (*labels, *noisy)]
    if len(labels) == 1:
        told = f"{purpose.value(first)} is significantly better than {listed(behind) if noisy else all_others}."
    else:
        tied = all_others if len(labels) > others else f"{listed(labels[1:])}, of {others} others"
        told = f"{purpose.value(first)} has the best mean; statistically tied with {tied}."
    told += f" Behind them, with seeds too different for a test: {listed(noisy)}." if noisy else ""
    told += " Pairs are compared over their common seeds." if len({frozenset(e.values(metric)) for e in enough(rivals, metric)}) > 1 else ""
    gain = gained(first, baseline, metric, sign)
    left = f"Not compared, with fewer than {LEAST_SEEDS} seeds: {listed(thin)}." if thin else ""
    text = joined(told, against(purpose, first, baseline, (*labels, *noisy), gain), left, *after)
    kind, second = "told" if len(labels) == 1 else "tied", next_of([e for e in rivals if e.label in behind], metric, sign)
    margin = gained(first, second, metric, sign) if second else None
    then = second.label if second else ""
    return Choice(purpose.title, metric, kind, tuple(labels), baseline.label, gain, text, aside, margin, then, purpose.also)


def told_of(purpose: Purpose, first: Entry, references: Sequence[Entry]) -> str:
    """The metrics that a purpose tells of its first, and those of real images if they are among the baselines."""
    rows = [first, *(e for e in references if all(e.values(m) for _, m in purpose.also))] if purpose.also else []
    said = (f"`{e.label}`: {', '.join(f'{name} {number(e.interval(m))}' for name, m in purpose.also)}." for e in rows)
    return joined(*said)


def next_of(behind: Sequence[Entry], metric: str, sign: float) -> Entry | None:
    """The one with the best mean."""
    return max(behind, key=lambda e: sign * e.mean(metric), default=None)


def gained(first: Entry, baseline: Entry, metric: str, sign: float) -> Interval | None:
    """How much better than the baseline, over the common seeds."""
    compared = None if first is baseline else first.compared(metric, baseline)
    if compared is None:
        return None
    mean, low, high, n = compared.difference
    low, high = (low, high) if sign > 0 or low is None or high is None else (-high, -low)
    return Interval(sign * mean, low, high, n)


def against(purpose: Purpose, first: Entry, baseline: Entry, level: Sequence[str], gain: Interval | None) -> str:
    """The gain in words; nothing is said to be better than what it is tied with."""
    default = baseline.label == DEFAULT
    name = f"the default `{DEFAULT}`" if default else f"`{baseline.label}` (the first row without a flaw)"
    if first is baseline:
        return "It is the default." if default else "It is the first row without a flaw, with which others are compared."
    if baseline.label in level:
        return f"It is not significantly better than {name}."
    if gain is None or gain.n < LEAST_SEEDS:
        return f"It shares too few seeds with {name} for a comparison."
    of = baseline.mean(purpose.metric)
    share = f" ({100 * gain.mean / of:.0f} %)" if purpose.share and of > 0 else ""
    return f"It is better than {name} by {number(gain, scale=purpose.scale)}{purpose.unit}{share}, over {gain.n} common seeds."


def scale(purpose: Purpose, rivals: Sequence[Entry], references: Sequence[Entry], sign: float) -> str:
    """The best row that nothing is trained for."""
    found = {e.label: sign * e.mean(purpose.metric) for e in references if e.values(purpose.metric)}
    if not found:
        return ""
    top = next(e for e in references if e.label == max(found, key=found.__getitem__))
    beaten = all(found[top.label] > sign * e.mean(purpose.metric) for e in rivals)
    return f"Baseline: {purpose.value(top)}{', which no variant reaches' if beaten else ''}."


class Fastest(NamedTuple):
    """Of a purpose in words: the variant, its throughput or time, and the ratio to `baseline` in words, empty if it is that itself."""

    what: str
    label: str
    figure: str
    ratio: str
    baseline: str


def fastest(entries: Sequence[Entry]) -> list[Fastest]:
    """The fastest variants; other programs and the order of runs affect timings, so they are not tested."""
    found = []
    for what, metric, unit, pick in SPEEDS:
        rivals = [e for e in distinct(entries) if trained(e) and e.values(metric) and e.sound(metric) and not busy(e, metric)]
        if len(rivals) > 1:
            first = pick(rivals, key=lambda e: e.mean(metric))
            baseline = next((e for e in rivals if e.label == DEFAULT), rivals[0])
            a, b = first.interval(metric), baseline.interval(metric)
            assert a is not None and b is not None
            ratio = "" if first is baseline else faster(a, b)
            found.append(Fastest(what, first.label, f"{number(a._replace(low=None))} {unit}", ratio, baseline.label))
    return found


def speed(entries: Sequence[Entry]) -> Choice:
    """What `fastest` finds, in words."""
    found = fastest(entries)
    if not found:
        return Choice("Speed", SPEEDS[0][1], "none", text="No evidence: fewer than two variants were timed.")
    ratios = [f"; {f.ratio} `{f.baseline}`" if f.ratio else "" for f in found]
    told = (f"The fastest {f.what} is `{f.label}` ({f.figure}{ratio})." for f, ratio in zip(found, ratios, strict=True))
    text = joined(*told, "These are timings of the machine named above, without a test: ignore factors under 1.5.")
    return Choice("Speed", SPEEDS[0][1], "measured", tuple(dict.fromkeys(f.label for f in found)), DEFAULT, text=text)


def faster(a: Interval, b: Interval) -> str:
    """The factor in words; no factor if the quartiles over seeds overlap, or it rounds to 1."""
    times = max(a.mean / b.mean, b.mean / a.mean)
    ends = [end for end in (a.low, a.high, b.low, b.high) if end is not None]
    overlap = len(ends) == 4 and ends[0] <= ends[3] and ends[2] <= ends[1]
    return "about as fast as" if overlap or times < 1.05 else f"{times:.1f} times as fast as"


def limits(entries: Sequence[Entry]) -> list[Note]:
    """What the results do not show."""
    runs = distinct(entries)
    ours, sizes, found = [e for e in runs if trained(e)], entries[0].record.dataset["sizes"], []
    if trial := trials(runs):
        found.append(f"The preset {listed(trial, '')} trains and measures too little to choose by. Use `--fidelity full` for a verdict.")
    if seeds := sorted({len(e.record.seeds) for e in ours}):
        count = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        found.append(
            f"Intervals over {count} seed{'s' * (seeds[-1] > 1)} cover the randomness of initialisation and training, but not the choice "
            "of images for training and testing."
        )
    if sizes["test"] < FEW_TEST:
        n, accuracies = sizes["test"], [e.mean("probe_accuracy") for e in ours if e.values("probe_accuracy")]
        top = max((a for a in accuracies if 0 < a < 1), default=None)
        error = (
            "" if top is None else f" One image is {100 / n:.2g} percentage points of accuracy; the best accuracy has a standard error of "
        )
        error += "" if top is None else f"±{100 * math.sqrt(top * (1 - top) / n):.1f}."
        found.append(f"{n} test images: other images may give another order.{error}")
    if sizes["train"] < FEW_TRAINING:
        found.append(f"{sizes['train']} training images: with more of them, large models may move up.")
    if epochs := sorted({e.record.values["epochs"] for e in ours}):
        length = f"{epochs[0]} epochs" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs, one number for each variant"
        tuned = sum(bool(e.record.tuning) for e in ours)
        recipe, more = ("one recipe, not tuned on these data", " or another learning rate")
        if tuned:
            which = "of all variants" if tuned == len(ours) else f"of {tuned} of {len(ours)} variants"
            recipe, more = (f"options {which} chosen on validation images by shorter trials", "")
        found.append(
            f"One training length ({length}) and {recipe}: a variant that is behind may need more epochs{more}. The best of many variants "
            "is partly lucky."
        )
    flagged = [f"`{e.label}` ({'; '.join(map(str, e.flaws))})" for e in runs if e.flaws]
    own = [f"`{e.label}` ({said})" for e in ours if (said := foreign(e))]
    failed = [
        f"`{e.label}` ({sum(s != 'ok' for s in e.record.status.values())} of {len(e.record.seeds)} seeds)" for e in runs if not e.record.ok
    ]
    checked = "Only `vae-variants check FILE` tests that such a density integrates to one; one that does not wins."
    notes = (
        (flagged, "row is flagged (†)", "rows are flagged (†)", "A flaw that is no caveat keeps its row from being called best."),
        (own, "variant has parts from a plug-in", "variants have parts from a plug-in", checked),
        (failed, "run failed", "runs failed", "The remaining seeds, if any, are judged."),
    )
    told = [Note(counted(len(names), one, many), tuple(names), after) for names, one, many, after in notes if names]
    return [*map(Note, found), *told]
