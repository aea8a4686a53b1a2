"""What the trained models of the study `one-sample` say of its claim."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy.special import stdtrit

from vae_variants.harness.statistics import holm, t_test
from vae_variants.studies.judging import LEAST_SEEDS, all_of, mixed, one_sided_p, tost_p
from vae_variants.studies.one_sample.training_cells import DECODED, LARGER, LINE, SMALL, STATIC, TIME, UPDATES, WHOLE
from vae_variants.studies.study import Effect, Tables, Verdict

__all__ = [
    "CRITERION",
    "MARGIN",
    "STRICT",
    "Gain",
    "effects",
    "gains",
    "half_width",
    "judge",
    "slopes",
    "t_interval",
]

MARGIN = 1.0  # nats: what K draws may gain with one still as good as many; about half of what IWAE gains with 50 (Burda et al. 2016)
STRICT = 0.5  # nats: what they may differ by and still be called equivalent
ALPHA, LEVEL = 0.05, 0.90
BURDA = {UPDATES: (0.41, "pixels drawn afresh"), STATIC: (-0.34, "pixels drawn once")}  # nats that K = 50 gains over 1, one layer, MNIST
BURDA_IWAE = 1.98  # the same of IWAE
PAID = (DECODED, TIME, LINE)
SCHEDULES = {"constant": "at a constant learning rate", "cosine": "under cosine decay"}

CRITERION = (
    f"d is what K draws gain over one, in nats of the bound on log p(x) of test images, seed by seed. One draw is as good as K if a mean d "
    f"of {MARGIN:g} nat or more is rejected at {ALPHA:.0%} (one-sided t-test, Holm over the K of a budget), and is not as good if the "
    f"{LEVEL:.0%} t-interval of d lies above {MARGIN:g} nat; fewer than {LEAST_SEEDS} seeds decide nothing. Beside it stand equivalence "
    f"(two one-sided tests at {STRICT:g} nat) and whether there is any difference (t-test). The claim is supported if one draw is as good "
    "in every comparison; under conditions if it is in all with batches of 100 but not in all with smaller ones, or in all in which draws "
    "are paid for (equal evaluations, equal time) but not in all in which they are free (equal updates), or is in some comparisons "
    f"and fails in others; not supported if it fails with batches of 100 and holds nowhere. Batches of about 100 are needed if d exceeds "
    f"{MARGIN:g} nat with batches of at most {SMALL} and stays below it with 100. IWAE, another objective, and larger batches have no vote."
)


class Gain(NamedTuple):
    """d of one cell: row of `training_cells`, and seed -> (-L)(K = 1) - (-L)(K) = L(K) - L(1), L the bound on log p(x) in nats."""

    row: dict[str, Any]
    d: dict[int, float]

    @property
    def values(self) -> list[float]:
        return list(self.d.values())

    @property
    def plain(self) -> bool:
        """Of the ELBO under equal updates, at a constant learning rate."""
        return self.row["budget"] == UPDATES and self.row["schedule"] == "constant" and self.row["objective"] == "elbo"


def t_interval(d: Sequence[float], level: float = LEVEL) -> tuple[float, float | None, float | None]:
    """Student's mean and interval; both ends are None for a single value."""
    mean, half = statistics.fmean(d), half_width(d, level)
    return (mean, None, None) if half is None else (mean, mean - half, mean + half)


def half_width(d: Sequence[float], level: float = LEVEL) -> float | None:
    """t_{(1+level)/2, n-1} s / sqrt(n)."""
    n = len(d)
    return None if n < 2 else float(stdtrit(n - 1, (1 + level) / 2)) * statistics.stdev(d) / math.sqrt(n)


def gains(tables: Tables, value: str = "bound") -> list[Gain]:
    """Of every cell with K > 1 that has a seed in common with its K = 1, paired by seed."""
    scores, found = tables["training_scores"], []
    for row in tables["training_cells"]:
        if row["against run"] is not None:
            many, one = (scores.by_seed(value, run=row[name]) for name in ("run", "against run"))
            found.append(Gain(row, {seed: many[seed] - one[seed] for seed in many if seed in one}))
    return [gain for gain in found if gain.d]


def effects(found: Sequence[Gain]) -> list[Effect]:
    """One for each gain, in their order; Holm's correction is over those that share budget and K = 1."""
    adjusted: dict[int, float] = {}
    for family in {(g.row["budget"], g.row["against run"]) for g in found}:
        members = [i for i, g in enumerate(found) if (g.row["budget"], g.row["against run"]) == family]
        adjusted |= zip(members, holm([one_sided_p(found[i].values, MARGIN) for i in members]), strict=True)
    return [effect(gain, adjusted[i]) for i, gain in enumerate(found)]


def effect(gain: Gain, p: float) -> Effect:
    """Non-inferiority of K = 1 with the adjusted p; beside it whether both are equivalent, and whether they differ at all."""
    row, d = gain
    mean, low, high = t_interval(gain.values)
    verdict, equivalent, different = Verdict.INCONCLUSIVE, "undecided", "undecided"
    if len(d) >= LEAST_SEEDS and low is not None and high is not None:
        verdict = Verdict.SUPPORTED if p < ALPHA else Verdict.REFUTED if low > MARGIN else verdict
        equivalent = "yes" if tost_p(gain.values, STRICT) < ALPHA else "no" if low > STRICT or high < -STRICT else equivalent
        different = "yes" if t_test(gain.values) < ALPHA else "not shown"
    where = {
        "K": str(row["K"]),
        "budget": row["budget"],
        "batch": str(row["batch"]),
        "learning rate": f"{row['learning rate']:g}, {row['schedule']}",
    }
    criterion = f"below {MARGIN:g} (Holm p = {p:.2g}); within ±{STRICT:g}: {equivalent}; any difference: {different}"
    return Effect(where, mean, low, high, LEVEL, len(d), "seeds", "nats", criterion, verdict)


def judge(tables: Tables) -> tuple[list[Effect], str, Verdict]:
    """Effects of the ELBO with K draws against one, what they say in words, and where the claim holds.

    Supported: in every cell. Under conditions: in every cell from some batch on, or wherever draws are paid for, or in some budgets and
    not in others. Not supported: it fails at the base batch and holds nowhere.
    """
    everything = gains(tables)
    claimed = [g for g in everything if g.row["claim"] == "yes"]
    (setup,) = tables["training_setup"]
    found = effects(claimed)
    small = [g.row["budget"] == UPDATES and g.row["batch"] < setup["base batch"] for g in claimed]
    at_base = [e for e, s in zip(found, small, strict=True) if not s]
    below = [e for e, s in zip(found, small, strict=True) if s]
    verdict = mixed(at_base)
    if verdict is Verdict.SUPPORTED and any(e.verdict is not Verdict.SUPPORTED for e in below):
        verdict = Verdict.CONDITIONAL
    elif verdict is Verdict.REFUTED:
        verdict = mixed(found)
    elif verdict is Verdict.INCONCLUSIVE:
        paid = [e for e in found if e.where["budget"] in PAID]
        verdict = Verdict.CONDITIONAL if all_of(paid) is Verdict.SUPPORTED else verdict
    asked = sum(row["claim"] == "yes" and row["against run"] is not None for row in tables["training_cells"])
    if verdict is Verdict.SUPPORTED and len(found) < asked:
        verdict = Verdict.INCONCLUSIVE
    sentences = [updates_in_words(claimed, found, setup), costs_in_words(claimed, tables), batches_in_words(everything, setup)]
    sentences += [whole_in_words(everything), published_in_words(everything, setup)]
    return found, " ".join(sentence for sentence in sentences if sentence), verdict


def size(values: Sequence[float]) -> str:
    """+0.21 nats (90% interval +0.10 to +0.32)."""
    mean, low, high = t_interval(values)
    text = f"{mean:+.2f} nats" if low is None else f"{mean:+.2f} nats ({LEVEL:.0%} interval {low:+.2f} to {high:+.2f})"
    return text.replace("-", "−")


def largest(found: Sequence[Gain]) -> Gain | None:
    return max(found, key=lambda g: g.row["K"], default=None)


def updates_in_words(claimed: Sequence[Gain], found: Sequence[Effect], setup: dict[str, Any]) -> str:
    base = [g for g in claimed if g.row["budget"] == UPDATES and g.row["batch"] == setup["base batch"]]
    tops = {words: largest([g for g in base if g.row["schedule"] == decay]) for decay, words in SCHEDULES.items()}
    parts = [f"{size(g.values)} with K = {g.row['K']} {words}" for words, g in tops.items() if g is not None]
    verdicts = [e.verdict for e in found]
    held = f"shown to be within {MARGIN:g} nat of many in {verdicts.count(Verdict.SUPPORTED)} of {len(verdicts)} comparisons"
    text = f"With batches of {setup['base batch']} and as many updates, the bound changes by {' and '.join(parts)}" if parts else "In all"
    return f"{text}; one draw is {held}, and to be further behind in {verdicts.count(Verdict.REFUTED)}."


def costs_in_words(claimed: Sequence[Gain], tables: Tables) -> str:
    parts = []
    for budget, words in ((DECODED, "for as many decoder evaluations"), (TIME, "in the same time")):
        top = largest([g for g in claimed if g.row["budget"] == budget])
        parts += [] if top is None else [f"{size(top.values)} with K = {top.row['K']} {words}"]
    slower = max(tables["training_seconds"], key=lambda row: row["K"])
    times = f"an update with K = {slower['K']} takes {slower['times that of K = 1']:.1f} times as long as with one"
    return f"Where draws are paid for it changes by {' and '.join(parts)}: {times}." if parts else ""


def batches_in_words(everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    plain = [g for g in everything if g.plain]
    tiny = [g for g in plain if g.row["batch"] <= SMALL]
    if not tiny:
        return ""
    verdicts = {e.verdict for e in effects(tiny)}
    base = {e.verdict for e in effects([g for g in plain if g.row["batch"] == setup["base batch"]])}
    need = f"whether one draw needs batches of {setup['base batch']} is undecided"
    if verdicts == {Verdict.SUPPORTED}:
        need = f"one draw does not need batches of {setup['base batch']}"
    elif Verdict.REFUTED in verdicts and base == {Verdict.SUPPORTED}:
        need = f"one draw needs larger batches, and {setup['base batch']} are enough"
    tops = [largest([g for g in tiny if g.row["batch"] == batch]) for batch in sorted({g.row["batch"] for g in tiny})]
    parts = [f"{size(g.values)} with K = {g.row['K']} and batches of {g.row['batch']}" for g in tops if g is not None]
    control = [f"; four times the batch of {SMALL} changes it by {size(g.values)}" for g in everything if g.row["budget"] == LARGER]
    _, slope = slopes(everything)
    if slope:
        _, low, high = t_interval(slope)
        trend = "rises" if low is not None and low > 0 else "falls" if high is not None and high < 0 else "has no clear trend"
        control.append(f"; the gain {trend} with learning rate over batch")
    return f"It changes by {' and '.join(parts)}{''.join(control)}: {need}."


def slopes(everything: Sequence[Gain]) -> tuple[int, list[float]]:
    """K, and for each seed the slope of its d (nats) on learning rate / batch: least squares, at the largest K that has three batches."""
    plain = [g for g in everything if g.plain]
    for k in sorted({g.row["K"] for g in plain}, reverse=True):
        points = [g for g in plain if g.row["K"] == k]
        if len({g.row["batch"] for g in points}) >= 3:
            x = [noise(g) for g in points]
            seeds = sorted(set.intersection(*(set(g.d) for g in points)))
            return k, [statistics.linear_regression(x, [g.d[seed] for g in points]).slope for seed in seeds if len(set(x)) > 1]
    return 1, []


def noise(gain: Gain) -> float:
    """Learning rate over batch, to which the noise of constant steps is proportional."""
    return gain.row["learning rate"] / gain.row["batch"]


def whole_in_words(everything: Sequence[Gain]) -> str:
    """The trainings of the suite, which are longer."""
    found = [g for g in everything if g.row["budget"] == WHOLE]
    parts = [f"{'IWAE, K' if g.row['objective'] == 'iwae' else 'K'} = {g.row['K']} by {size(g.values)}" for g in found]
    if not parts:
        return ""
    row = found[0].row
    return f"With all {row['training images']} images and {row['epochs']} epochs, as the suite trains, {' and '.join(parts)}."


def published_in_words(everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    """IWAE beside the ELBO; on MNIST also beside Burda et al. 2016, who trained far longer."""
    at_base = [g for g in everything if g.row["batch"] == setup["base batch"] and g.row["schedule"] == "constant"]
    iwae = largest([g for g in at_base if g.row["objective"] == "iwae"])
    if iwae is None:
        return ""
    text = f"IWAE, another objective, changes it by {size(iwae.values)} with K = {iwae.row['K']}"
    if setup["data set"].partition("?")[0] != "mnist":
        return f"{text}."
    for budget, (value, pixels) in BURDA.items():
        top = largest([g for g in at_base if g.row["budget"] == budget and g.row["objective"] == "elbo"])
        if top is not None:
            text += f"; with K = 50 and {pixels} Burda et al. 2016 have {value:+.2f} for the ELBO: {agreement(top.values, value)}"
    return text.replace("-", "−") + f"; for IWAE they have {BURDA_IWAE:+.2f}: {agreement(iwae.values, BURDA_IWAE)}."


def agreement(values: Sequence[float], published: float) -> str:
    _, low, high = t_interval(values)
    if low is None or high is None or low <= 0 <= high:
        return "no sign is seen here"
    return "the same sign is seen here" if low * published > 0 else "the other sign is seen here"
