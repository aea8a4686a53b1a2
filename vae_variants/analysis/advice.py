"""Which variant for this data? What a table of results supports for each purpose, and what it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vae_variants.analysis.cards import foreign
from vae_variants.analysis.entries import SUPPORTS, Entry, best, distinct, enough, judges, trained, trials
from vae_variants.analysis.formatting import number
from vae_variants.analysis.run_summary import collapsed
from vae_variants.analysis.statistics import LEAST_SEEDS, Interval
from vae_variants.evaluation.metrics import data_name

__all__ = ["TITLE", "Advice", "Choice", "advise"]

TITLE = "Which variant for this data?"
DEFAULT = "vae-bernoulli"
TRIAL = "fidelity"
FEW_TRAINING, FEW_TEST = 5000, 2000  # images, under which the choice of images may matter as much as the variant
SHOWN = 6  # labels in a sentence
KINDS = {
    "binary": "Each pixel is drawn black or white with its grey level as the probability: right for scans, masks and line drawings, "
    "not for photographs.",
    "byte": "Bits per dimension are what a lossless compressor would need for the levels as they are stored.",
    "unit": "Nats of a density order variants, and are no size of a file.",
    "real": "Nats of a density order variants, and are no size of a file.",
}


@dataclass(frozen=True)
class Choice:
    """What the results say for one purpose.

    `verdict` is `told` where one variant is best, `tied` where several cannot be told apart, `measured` where nothing was tested
    (timings), `open` where the evidence is too thin, `none` where there is nothing to choose by or among. `best` are the labels, the
    best first, none where it is open; `gain` is how much better that is than `baseline`, over the seeds that both have. `text` has
    labels in backticks.
    """

    purpose: str
    metric: str
    verdict: str
    best: tuple[str, ...]
    baseline: str
    gain: Interval | None
    text: str


@dataclass(frozen=True)
class Advice:
    """A choice for each purpose, sentences on what none of them rests on, and one that says why there is no verdict at all, or nothing."""

    choices: tuple[Choice, ...]
    limits: tuple[str, ...]
    few: str = ""


@dataclass(frozen=True)
class Purpose:
    """What one would choose a variant for: by which metric, how its differences are said, and what a reader has to know."""

    title: str
    metric: str
    unit: str
    scale: float = 1.0
    share: bool = False  # whether a difference is also said as a part of the baseline's value
    remark: str = ""


def purposes(entries: Sequence[Entry]) -> list[tuple[Purpose, list[Entry]]]:
    """Each with the variants that compete for it: those that were trained, of one kind of pixels where it is about nats."""
    ours = [e for e in distinct(entries) if trained(e)]
    data = data_name(entries[0].record.dataset["name"])
    found = []
    for support, title in SUPPORTS.items():
        group = [e for e in ours if e.record.support == support and e.values("log_likelihood")]
        if group:
            compression = " and compression" if support in ("binary", "byte") else ""
            kind = Purpose(f"Likelihood{compression}, {title}", "log_likelihood", " nats per image", remark=KINDS[support])
            found.append((kind, group))
    by_features = any(e.values(f"fd-{data}cnn") for e in ours)
    samples = (
        Purpose("Samples", f"fd-{data}cnn", " in Fréchet distance to test images", share=True)
        if by_features
        else Purpose(
            "Samples",
            "spectral_distance",
            " dB of spectral distance",
            share=True,
            remark="Without labels there is no classifier in whose features samples could be compared: the spectrum sees blur and noise, "
            "and not whether anything is depicted.",
        )
    )
    larger = "More latent units lower it, whatever the variant."
    return [
        *found,
        (Purpose("Reconstruction", "reconstruction_mse", " in mean squared error per pixel", share=True, remark=larger), ours),
        (samples, ours),
        (Purpose("Codes for classification", "probe_accuracy", " percentage points of accuracy", 100.0), ours),
    ]


def advise(entries: Sequence[Entry]) -> Advice:
    """For likelihood within each kind of pixels, reconstruction, samples, codes and speed: which variants, and by how much.

    A pure function of the entries. The best and those that cannot be told from it are those of `best`: paired t-tests over seeds,
    Holm-adjusted, 5 %. There is no verdict under `LEAST_SEEDS` seeds, nor from runs of a fidelity that is no more than a trial.
    """
    references, few = [e for e in distinct(entries) if not trained(e)], too_few(entries)
    choices = [choice(purpose, group, references, few) for purpose, group in purposes(entries)]
    return Advice((*choices, speed(entries)), tuple(limits(entries)), few)


def too_few(entries: Sequence[Entry]) -> str:
    """What is said, once, where seeds are too few for any verdict; nothing where two runs or more have enough."""
    seeds = [n for e in distinct(entries) if trained(e) and (n := list(e.record.status.values()).count("ok"))]
    if len(seeds) < 2 or judges(entries):
        return ""
    have = "only one has so many" if max(seeds) >= LEAST_SEEDS else f"these have at most {counted(max(seeds), 'seed').split()[0]}"
    takes = f"a verdict takes {counted(LEAST_SEEDS, 'seed')} of each run"
    asked = sorted(len(e.record.seeds) for e in distinct(entries) if trained(e))
    mend = "Others failed: `--retry failed` makes them again" if asked[-2] >= LEAST_SEEDS else "`--seeds 5` makes enough"
    return f"No variant is called best here: {takes}, and {have}. {mend}."


def choice(purpose: Purpose, group: Sequence[Entry], references: Sequence[Entry], few: str = "") -> Choice:
    metric = purpose.metric
    rivals = [e for e in group if e.values(metric)]
    if not rivals:
        reasons = [row["reason"] for e in group for row in e.rows.get(metric, ()) if row["reason"]]
        return Choice(purpose.title, metric, "none", (), "", None, f"Nothing to go by: {reasons[0] if reasons else 'no run has a value'}.")
    sign = {"higher": 1.0, "lower": -1.0}[rivals[0].rows[metric][0]["better"]]
    first = max(rivals, key=lambda e: sign * mean_of(e, metric))
    if len(rivals) == 1:
        kind = "variant here with a likelihood of this kind of pixels" if metric == "log_likelihood" else "variant here that has a value"
        only = f"`{first.label}` ({value(first, purpose)}) is the only {kind}: there is nothing to choose among."
        return Choice(purpose.title, metric, "none", (first.label,), first.label, None, joined(only, purpose.remark))
    labels = best(rivals, metric)
    baseline = next((e for e in rivals if e.label == DEFAULT), rivals[0])
    if why := too_thin(rivals, labels, metric):
        reason = f" ({why})" if not few or why.startswith(TRIAL) else ""  # that of all is said once
        mean = f"({value(first, purpose)}{purpose.unit * purpose.share})"
        said = f"No verdict{reason}. The {'highest' if sign > 0 else 'lowest'} mean is that of `{first.label}` {mean}."
        said = joined(said, scale(purpose, rivals, references, sign), purpose.remark)
        return Choice(purpose.title, metric, "open", (), baseline.label, None, said)
    first = next(e for e in rivals if e.label == labels[0])
    gain = gained(first, baseline, metric, sign)
    told, others = [f"`{first.label}` ({value(first, purpose)})"], len(enough(rivals, metric)) - 1
    thin = [e.label for e in rivals if len(e.values(metric)) < LEAST_SEEDS]
    if thin:
        told[0] = f"Of those with {counted(LEAST_SEEDS, 'seed')} or more, {told[0]}"
    if len(labels) == 1:
        told[0] += f" is ahead of {'the other one' if others == 1 else f'all {others} others'}."
    elif len(labels) > others:
        them = "the other one" if others == 1 else f"any of the {others} others"
        told[0] += f" has the best mean, but is not shown to be better than {them}."
    else:
        told[0] += f" has the best mean, and is not shown to be better than {listed(labels[1:], joint='or')}, of {others} others."
    told.append(against(purpose, first, baseline, labels, gain))
    if thin:
        told.append(f"Not compared, with values of fewer than {counted(LEAST_SEEDS, 'seed')}: {listed(thin)}.")
    told += [scale(purpose, rivals, references, sign), purpose.remark]
    return Choice(purpose.title, metric, "told" if len(labels) == 1 else "tied", tuple(labels), baseline.label, gain, joined(*told))


def too_thin(rivals: Sequence[Entry], labels: Sequence[str], metric: str) -> str:
    """Why these results carry no verdict; empty where they do."""
    if trial := trials(rivals):
        return f"{TRIAL} {listed(trial, '')}"
    if labels:
        return ""
    most = max(len(e.values(metric)) for e in rivals)
    few = f"{counted(most, 'seed')}, where a verdict takes {LEAST_SEEDS}"
    return few if most < LEAST_SEEDS else f"one variant alone has {counted(LEAST_SEEDS, 'seed')}"


def gained(first: Entry, baseline: Entry, metric: str, sign: float) -> Interval | None:
    """How much better than the baseline, seed by seed."""
    compared = None if first is baseline else first.compared(metric, baseline)
    if compared is None:
        return None
    mean, low, high, n = compared.difference
    low, high = (low, high) if sign > 0 or low is None or high is None else (-high, -low)
    return Interval(sign * mean, low, high, n)


def against(purpose: Purpose, first: Entry, baseline: Entry, labels: Sequence[str], gain: Interval | None) -> str:
    """The same in words; nothing is said to be better than what it could not be told from."""
    name = f"the default `{DEFAULT}`" if baseline.label == DEFAULT else f"`{baseline.label}` (the first of them in the suite)"
    if first is baseline:
        return f"It is {name.split(' `')[0]}." if baseline.label == DEFAULT else "It is the first of them in the suite."
    if baseline.label in labels:
        return f"Nothing is shown to be better than {name}."
    if gain is None or gain.n < LEAST_SEEDS:
        return f"With {name} it could not be compared."
    share = ""
    if purpose.share and (of := mean_of(baseline, purpose.metric)) > 0:
        share = f" ({100 * gain.mean / of:.0f} %)"
    by = number(gain, scale=purpose.scale)
    return f"It is better than {name} by {by}{purpose.unit}{share}, over {counted(gain.n, 'seed')} that both have."


def scale(purpose: Purpose, rivals: Sequence[Entry], references: Sequence[Entry], sign: float) -> str:
    """The best of the rows that nothing was trained for."""
    found = [e for e in references if e.values(purpose.metric)]
    if not found:
        return ""
    top = max(found, key=lambda e: sign * mean_of(e, purpose.metric))
    beaten = all(sign * (mean_of(top, purpose.metric) - mean_of(e, purpose.metric)) > 0 for e in rivals)
    return f"For scale: `{top.label}` has {value(top, purpose)}{', which no variant reaches' if beaten else ''}."


SPEEDS = (
    ("to draw samples", "sample_images_per_second", "images/s", max),
    ("to encode", "encode_images_per_second", "images/s", max),
    ("to train", "train_seconds", "s for all seeds", min),
)


def speed(entries: Sequence[Entry]) -> Choice:
    """Of the machine that the page names; other programs on it and the order of runs are in it, and so nothing is tested."""
    said, firsts = [], []
    for what, metric, unit, pick in SPEEDS:
        rivals = [e for e in distinct(entries) if trained(e) and e.values(metric)]
        if len(rivals) > 1:
            first = pick(rivals, key=lambda e: mean_of(e, metric))
            baseline = next((e for e in rivals if e.label == DEFAULT), rivals[0])
            ratio = "" if first is baseline else f"; {faster(first, baseline, metric)} `{baseline.label}`"
            said.append(f"The fastest {what} is `{first.label}` ({number(Interval(mean_of(first, metric), None, None, 1))} {unit}{ratio}).")
            firsts.append(first.label)
    if not said:
        return Choice("Speed", SPEEDS[0][1], "none", (), "", None, "Nothing to go by: fewer than two variants were timed.")
    said.append("Timings of the machine named above, without a test: factors under 1.5 mean little.")
    return Choice("Speed", SPEEDS[0][1], "measured", tuple(dict.fromkeys(firsts)), DEFAULT, None, " ".join(said))


def faster(first: Entry, baseline: Entry, metric: str) -> str:
    """By which factor, in words; where the quartiles over seeds meet, or the factor is rounded away, it is none."""
    a, b = first.interval(metric), baseline.interval(metric)
    assert a is not None and b is not None
    times = max(a.mean / b.mean, b.mean / a.mean)
    meet = None not in (a.low, a.high, b.low, b.high) and a.low <= b.high and b.low <= a.high  # type: ignore[operator]
    return "about as fast as" if meet or times < 1.05 else f"{times:.1f} times as fast as"


def limits(entries: Sequence[Entry]) -> list[str]:
    """What none of the choices rests on, of this table."""
    runs = distinct(entries)
    ours = [e for e in runs if trained(e)]
    sizes = entries[0].record.dataset["sizes"]
    seeds = sorted({len(e.record.seeds) for e in ours})
    found = []
    if trial := trials(runs):
        found.append(
            f"Fidelity {listed(trial, '')} trains and measures too little to choose by: it shows that everything runs on these data. "
            "Choose by `--fidelity full`."
        )
    if seeds:
        found.append(
            f"Over {'–'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seed{'s' * (seeds[-1] > 1)}: intervals have the chance of "
            f"initialisation and training in them, not that of which images were there to train on and to test with."
        )
    if sizes["test"] < FEW_TEST:
        share = 100 / sizes["test"]
        accuracies = [a for e in ours if e.values("probe_accuracy") and 0 < (a := mean_of(e, "probe_accuracy")) < 1]
        error = f", and the standard error of the best one ±{standard_error(max(accuracies), sizes['test']):.1f}" if accuracies else ""
        points = f"; one image is {share:.2g} percentage points of accuracy{error}" if accuracies else ""
        found.append(f"{sizes['test']} test images: other images could give another order{points}.")
    if sizes["train"] < FEW_TRAINING:
        found.append(f"{sizes['train']} training images: large models may do worse here than with more images, and small ones better.")
    epochs = sorted({e.record.values["epochs"] for e in ours})
    if epochs:
        length = f"{epochs[0]} epochs" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]} epochs, each its own"
        found.append(
            f"One training length ({length}) and one recipe, neither tuned on these data: a variant that is behind may need longer, or "
            "another rate. Among many variants the one that comes out best is a little flattered by having been chosen."
        )
    if silent := [f"`{e.label}` ({said})" for e in runs if (said := collapsed(e))]:
        found.append(
            f"Codes that carry nothing about the image: {', '.join(silent[:SHOWN])}{rest(silent)}. Probe, clusters and traversals of such "
            "codes say nothing, and what is decoded from them is much the same for every image."
        )
    if own := [f"`{e.label}` ({said})" for e in ours if (said := foreign(e))]:
        found.append(
            f"With parts that are not this program's: {', '.join(own[:SHOWN])}{rest(own)}. Whether a density of one's own integrates to "
            "one is tried by `vae-variants check FILE` alone: one that does not can win every likelihood."
        )
    failed = [e for e in runs if not e.record.ok]
    if failed:
        parts = [f"`{e.label}` ({sum(s != 'ok' for s in e.record.status.values())} of {len(e.record.seeds)} seeds)" for e in failed]
        found.append(f"Failed, and so judged by what is left, if anything: {', '.join(parts[:SHOWN])}{rest(parts)}.")
    return found


def standard_error(share: float, n: int) -> float:
    """Of a share of n images, in percentage points."""
    return 100 * math.sqrt(share * (1 - share) / n)


def mean_of(entry: Entry, metric: str) -> float:
    found = entry.interval(metric)
    assert found is not None
    return found.mean


def value(entry: Entry, purpose: Purpose) -> str:
    mark = "≥ " if entry.kind(purpose.metric) == "lower-bound" else ""
    return f"{mark}{number(entry.interval(purpose.metric), scale=purpose.scale)}{' %' * (purpose.scale == 100)}"


def counted(n: int, what: str) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return f"{words[n] if n < len(words) else n} {what}{'s' * (n != 1)}"


def listed(labels: Sequence[str], mark: str = "`", joint: str = "and") -> str:
    """`a`, `b` and `c`, the first of them if there are many."""
    names = [f"{mark}{label}{mark}" for label in labels[:SHOWN]]
    if len(labels) > SHOWN:
        return f"{', '.join(names)} {joint}{rest(labels).removeprefix(' and')}"
    return f" {joint} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rest(found: Sequence[object]) -> str:
    return f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""


def joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)
