"""What the trained models of the study `one-sample` say of its claim, and the figures that show it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from scipy.special import stdtrit

from vae_variants.harness.statistics import holm, t_test
from vae_variants.report.drawing import axes
from vae_variants.report.entries import COLOURS
from vae_variants.studies.judging import LEAST_SEEDS, mixed, one_sided_p, tost_p
from vae_variants.studies.study import Effect, Findings, Picture, Tables, Verdict
from vae_variants.studies.training_cells import DECODED, LARGER, LINE, RETUNED, SMALL, STATIC, TIME, UPDATES

__all__ = ["MARGIN", "STRICT", "Gain", "draw", "effects", "gains", "half_width", "judge", "slopes", "t_interval"]

MARGIN = 1.0  # nats: what K draws may gain with one still as good as many; about half of what IWAE gains with 50 (Burda et al. 2016)
STRICT = 0.5  # nats: what they may differ by and still be called equivalent
ALPHA, LEVEL = 0.05, 0.90
BURDA = {UPDATES: (0.41, "pixels drawn afresh"), STATIC: (-0.34, "pixels drawn once")}  # nats that K = 50 gains over 1, one layer, MNIST
BURDA_IWAE = 1.98  # the same of IWAE
SCHEDULES = {"constant": "at a constant learning rate", "cosine": "under cosine decay"}


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

    Supported: in every cell. Under conditions: in every cell from some batch on, or in some budgets and not in others. Not supported:
    it fails at the base batch and holds nowhere.
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
    asked = sum(row["claim"] == "yes" and row["against run"] is not None for row in tables["training_cells"])
    if verdict is Verdict.SUPPORTED and len(found) < asked:
        verdict = Verdict.INCONCLUSIVE
    sentences = [updates_in_words(claimed, found, setup), costs_in_words(claimed, tables), batches_in_words(everything, setup)]
    sentences += [published_in_words(everything, setup)]
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
    text = f"With batches of {setup['base batch']} and as many updates, the bound gains {' and '.join(parts)}" if parts else "In all"
    return f"{text}; one draw is {held}, and to be further behind in {verdicts.count(Verdict.REFUTED)}."


def costs_in_words(claimed: Sequence[Gain], tables: Tables) -> str:
    parts = []
    for budget, words in ((DECODED, "for as many decoder evaluations"), (TIME, "in the same time")):
        top = largest([g for g in claimed if g.row["budget"] == budget])
        parts += [] if top is None else [f"{size(top.values)} with K = {top.row['K']} {words}"]
    slower = max(tables["training_seconds"], key=lambda row: row["K"])
    times = f"an update with K = {slower['K']} takes {slower['times that of K = 1']:.1f} times as long as with one"
    return f"Where draws are paid for it gains {' and '.join(parts)}: {times}." if parts else ""


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
    control = [f"; four times the batch of {SMALL} gains {size(g.values)}" for g in everything if g.row["budget"] == LARGER]
    _, slope = slopes(everything)
    if slope:
        _, low, high = t_interval(slope)
        trend = "rises" if low is not None and low > 0 else "falls" if high is not None and high < 0 else "has no clear trend"
        control.append(f"; the gain {trend} with learning rate over batch")
    return f"It gains {' and '.join(parts)}{''.join(control)}: {need}."


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


def published_in_words(everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    """IWAE beside the ELBO; on MNIST also beside Burda et al. 2016, who trained far longer."""
    at_base = [g for g in everything if g.row["batch"] == setup["base batch"] and g.row["schedule"] == "constant"]
    iwae = largest([g for g in at_base if g.row["objective"] == "iwae"])
    if iwae is None:
        return ""
    text = f"IWAE, another objective, gains {size(iwae.values)} with K = {iwae.row['K']}"
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


def draw(found: Findings) -> list[Picture]:
    """Gain by K under each budget, and gain by batch."""
    everything = gains(found.tables)
    (setup,) = found.tables["training_setup"]
    return [by_samples(everything, setup["base batch"]), by_batch(everything)]


def curve(ax: Axes, found: Sequence[Gain], x: Sequence[float], label: str, colour: str, **look: Any) -> None:
    mean = [statistics.fmean(g.values) for g in found]
    half = [half_width(g.values) or 0.0 for g in found]
    if found:
        ax.errorbar(x, mean, yerr=half, label=label, color=colour, capsize=2, markersize=4.5, linewidth=1.2, **look)


def margins(ax: Axes) -> None:
    ax.axhline(0, color="black", linewidth=0.6)
    ax.axhspan(-STRICT, STRICT, color="grey", alpha=0.15, linewidth=0)
    ax.axhline(MARGIN, color="black", linewidth=0.9, linestyle=":")
    ax.grid(alpha=0.25)


def by_samples(everything: Sequence[Gain], base: int) -> Picture:
    figure, (left, right) = axes(1, 2, 8.6, 3.6)
    at_base = [g for g in everything if g.row["batch"] == base]

    def of(budget: str, schedule: str = "constant", objective: str = "elbo") -> list[Gain]:
        wanted = (budget, schedule, objective)
        return [g for g in at_base if (g.row["budget"], g.row["schedule"], g.row["objective"]) == wanted]

    drawn = [
        (left, of(UPDATES), "ELBO, constant rate", "o", "-"),
        (left, of(UPDATES, "cosine"), "ELBO, cosine decay", "s", "-"),
        (left, of(RETUNED), "ELBO, rate tuned for K", "D", ""),
        (left, of(STATIC), "ELBO, pixels drawn once", "^", "-"),
        (left, of(UPDATES, objective="iwae"), "IWAE: another objective", "v", "--"),
        (right, of(UPDATES), UPDATES, "o", "-"),
        (right, of(DECODED), DECODED, "P", "-"),
        (right, of(TIME), TIME, "X", "-"),
        (right, [g for g in everything if g.row["budget"] == LINE], "both (batch x K = 64)", "*", "--"),
    ]
    palette = {"o": 0, "s": 1, "D": 3, "^": 2, "v": 4, "P": 5, "X": 7, "*": 6}
    for i, (ax, line, label, marker, style) in enumerate(drawn):
        aside = 2 ** (0.07 * (i % 5 - 2))  # beside one another, so that intervals can be told apart
        curve(ax, line, [g.row["K"] * aside for g in line], label, COLOURS[palette[marker]], marker=marker, linestyle=style)
    for ax, title in ((left, f"equal updates, batch {base}"), (right, "by what is held equal")):
        margins(ax)
        ks = sorted({g.row["K"] for g in everything} - {1})
        ax.set_xscale("log", base=2)
        ax.set_xticks(ks, [str(k) for k in ks])
        ax.minorticks_off()
        ax.set_xlabel("K, draws of z per image in training")
        ax.set_ylabel("gain over K = 1 (nats)")
        ax.set_title(title, fontsize=9)
        ax.legend(fontsize=7, loc="best")
    caption = (
        "What K draws gain over one in the bound on log p(x) of test images: mean over paired seeds with its 90 % interval. "
        f"Grey: equivalent, within ±{STRICT:g} nat. Dotted: the margin of {MARGIN:g} nat, above which one draw is not as good. "
        "Left: as many updates. Right: the same when K is paid for, in decoder evaluations, in time, or by smaller batches."
    )
    return Picture("training-samples", caption, figure)


def by_batch(everything: Sequence[Gain]) -> Picture:
    figure, (left, right) = axes(1, 2, 8.6, 3.4)
    plain = [g for g in everything if g.plain]
    common, slope = slopes(everything)
    counts = {k: sum(g.row["K"] == k for g in plain) for k in sorted({g.row["K"] for g in plain})}
    shown = [k for k, count in counts.items() if count >= 2]
    for i, k in enumerate(shown):
        points = sorted((g for g in plain if g.row["K"] == k), key=lambda g: g.row["batch"])
        look = {"marker": "os^"[i % 3], "linestyle": "-"}
        curve(left, points, [g.row["batch"] * 1.1 ** (i - 1) for g in points], f"K = {k}", COLOURS[i], **look)
        curve(right, points, [noise(g) for g in points], f"K = {k}", COLOURS[i], **{**look, "linestyle": ""})
        if k == common and slope:
            x, mean = [noise(g) for g in points], statistics.fmean(slope)
            middle = statistics.fmean(statistics.fmean(g.values) for g in points) - mean * statistics.fmean(x)
            ends = sorted(x)
            grid = [ends[0] * (ends[-1] / ends[0]) ** (j / 50) for j in range(51)]
            right.plot(grid, [middle + mean * v for v in grid], color=COLOURS[i], linewidth=1, label=f"least squares, K = {k}")
    control = [g for g in everything if g.row["budget"] == LARGER]
    curve(left, control, [SMALL * 1.21] * len(control), "four times the batch, K = 1", COLOURS[3], marker="D", linestyle="")
    for ax, label in ((left, "batch, images per update"), (right, "learning rate / batch")):
        margins(ax)
        ax.set(xscale="log", xlabel=label, ylabel="gain over K = 1 (nats)")
        ax.legend(fontsize=7, loc="best")
    batches = sorted({g.row["batch"] for g in plain})
    left.set_xticks(batches, [str(b) for b in batches])
    left.minorticks_off()
    caption = (
        "What K draws gain over one with as many updates, by the number of images in each, at learning rates tuned for K = 1 (means and "
        f"90 % intervals over paired seeds). The diamond has one draw and {4 * SMALL} images in each update in place of {SMALL}. "
        "Right: against learning rate over batch, with which the noise of the steps grows."
    )
    return Picture("training-batches", caption, figure)
