"""What K samples gain over one in the trained models, seed by seed: the effects and the figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.special import stdtrit

from vae_variants.analysis.entries import COLOURS
from vae_variants.analysis.statistics import LEAST_SEEDS, holm, t_test
from vae_variants.analysis.verdicts import compared, listed, mixed, one_sided_p, tost_p
from vae_variants.report.drawing import axes
from vae_variants.studies import Effect, Picture, Tables, Verdict

from .curves import draw as draw_curve
from .curves import settled
from .settings import BASE, DECODED, LINE, TIME, UPDATES, WHOLE

MARGIN = 1.0  # nats: what K samples may gain with one still as good as many; about half of what IWAE gains with 50 (Burda et al. 2016)
STRICT = 0.5  # nats: what they may differ by and still be called equivalent
ALPHA, LEVEL = 0.05, 0.90
PAID = (DECODED, TIME, LINE)  # budgets in which K samples are paid for

CRITERION = (
    f"d is what K samples gain over one, in nats of the bound on log p(x) of test images, seed by seed. One sample is as good as K if a "
    f"mean d of {MARGIN:g} nat or more is rejected at {ALPHA:.0%} (one-sided t-test, Holm over the K of a budget). It is not as good if "
    f"the {LEVEL:.0%} t-interval of d lies above {MARGIN:g} nat. Fewer than {LEAST_SEEDS} seeds decide nothing. Beside it stand "
    f"equivalence (two one-sided tests at {STRICT:g} nat) and whether there is any difference (t-test). The verdict rests on the trainings "
    "to the end: those of the suite, on all images. The preset quick has none; there it rests on all comparisons but those under equal "
    f"updates with batches smaller than {BASE}. The claim is supported if one sample is as good in each of these and in every other "
    "comparison. It is supported under conditions if one sample is as good in each of these but not in every other, or if it fails in one "
    "of these and is as good in some comparison. It is not supported if it fails in one of these and is as good nowhere. Else it is "
    "inconclusive, and so it is if a training to the end has not converged by the rule of reports: its last tenth gained more than 0.1 "
    "nats. IWAE, which is another objective, and four times the batch in place of samples have no vote."
)


def half_width(d: Sequence[float]) -> float | None:
    """Half of Student's interval of a mean, t_{(1+level)/2, n-1} s / sqrt(n); None for a single value."""
    n = len(d)
    return None if n < 2 else float(stdtrit(n - 1, (1 + LEVEL) / 2)) * statistics.stdev(d) / math.sqrt(n)


def gains(tables: Tables) -> pd.DataFrame:
    """Every comparison with K > 1 that has a seed in common with its K = 1.

    Returns:
        The rows of `training_cells`, and `d`: for each common seed, L(K) - L(1) in nats, where L is the bound on log p(x).
    """
    cells = tables["training_cells"].dropna(subset="against run")
    scores = tables["training_scores"].astype({"bound": float}).pivot(index="seed", columns="run", values="bound")
    many, one = (scores.reindex(columns=cells[name].astype(int)).to_numpy() for name in ("run", "against run"))
    cells = cells.assign(d=[column[~np.isnan(column)].tolist() for column in (many - one).T])
    return cells[cells["d"].map(len) > 0]


def effects(found: pd.DataFrame) -> list[Effect]:
    """One for each gain, in their order; Holm's correction is over those that share budget and K = 1."""
    families = found["d"].map(partial(one_sided_p, margin=MARGIN)).groupby([found["budget"], found["against run"]])
    p = families.transform(lambda family: holm(family.tolist()))
    return [effect(row, adjusted) for (_, row), adjusted in zip(found.iterrows(), p, strict=True)]


def effect(row: pd.Series, p: float) -> Effect:
    """Non-inferiority of K = 1 with the adjusted p; beside it whether both are equivalent, and whether they differ at all."""
    d, mean, half = row["d"], statistics.fmean(row["d"]), half_width(row["d"])
    low, high = (None, None) if half is None else (mean - half, mean + half)
    verdict, equivalent, different = Verdict.INCONCLUSIVE, "undecided", "undecided"
    if len(d) >= LEAST_SEEDS and low is not None and high is not None:
        verdict = Verdict.SUPPORTED if p < ALPHA else Verdict.REFUTED if low > MARGIN else verdict
        equivalent = "yes" if tost_p(d, STRICT) < ALPHA else "no" if low > STRICT or high < -STRICT else equivalent
        different = "yes" if t_test(d) < ALPHA else "not shown"
    rate = f"{row['learning rate']:g}, {row['schedule']}"
    where = {"K": str(row["K"]), "budget": row["budget"], "batch": str(row["batch"]), "learning rate": rate}
    criterion = f"below {MARGIN:g} (Holm p = {p:.2g}); within ±{STRICT:g}: {equivalent}; any difference: {different}"
    return Effect(where, mean, low, high, LEVEL, len(d), "seeds", "nats", criterion, verdict)


def judge(tables: Tables) -> tuple[list[Effect], list[str], Verdict]:
    """Where the claim holds.

    Returns:
        The effects that have a vote, what they say in one or two sentences, and the verdict. Inconclusive, too, if a comparison that was
        asked for has no trained model.
    """
    if any(tables.get(name, pd.DataFrame()).empty for name in ("training_cells", "training_scores")):
        return [], ["No model could be trained."], Verdict.INCONCLUSIVE
    everything, cells = gains(tables), tables["training_cells"]
    claimed = everything[everything["claim"] == "yes"]
    found = effects(claimed)
    whole = claimed["budget"] == WHOLE
    decides = whole if (cells["budget"] == WHOLE).any() else (claimed["budget"] != UPDATES) | (claimed["batch"] >= BASE)
    verdict = mixed([e for e, rests in zip(found, decides, strict=True) if rests])
    asked = ((cells["claim"] == "yes") & cells["against run"].notna()).sum()
    if unfinished(cells) or (verdict is Verdict.SUPPORTED and len(found) < asked):
        verdict = Verdict.INCONCLUSIVE
    elif verdict is Verdict.SUPPORTED and any(e.verdict is not Verdict.SUPPORTED for e in found):
        verdict = Verdict.CONDITIONAL
    elif verdict is Verdict.REFUTED:
        verdict = mixed(found)
    return [*found, *beside(everything)], reason(everything, found, settled(tables, MARGIN), unfinished(cells)), verdict


def unfinished(cells: pd.DataFrame) -> bool:
    """Whether a training to the end that has a vote had not converged. Records of earlier versions do not say, so theirs had not."""
    whole = cells[(cells["budget"] == WHOLE) & (cells["claim"] == "yes")]
    return bool((whole.get("not converged", pd.Series("yes", whole.index)) == "yes").any())


def beside(everything: pd.DataFrame) -> list[Effect]:
    """The gains without a vote: those of IWAE, and of four times the batch in place of samples."""
    found = []
    for row in everything[everything["claim"] == "no"].to_dict("records"):
        quantity = f"gain without a vote: {row['objective'].upper()}, K = {row['K']}, batches of {row['batch']}, {row['budget']}"
        found.append(compared({"part": "training", "quantity": quantity}, row["d"], above=0.0, unit="nats", level=LEVEL))
    return found


def reason(everything: pd.DataFrame, found: Sequence[Effect], when: Mapping[int, str], open_end: bool) -> list[str]:
    """In how many pairs of trainings one sample is as good, and the mean gains of the largest K of the ELBO and of IWAE.

    `when` says from which epoch on a K to the end gains less than the margin, `open_end` whether those trainings had not converged.
    A pair can stand under two budgets, as where the rate tuned for K is the common one: it is as good if it is in both.
    """
    claimed = everything[everything["claim"] == "yes"].assign(verdict=[e.verdict for e in found])
    pairs = claimed.groupby([claimed["budget"].isin(PAID), "run", "against run"])["verdict"].agg(set)
    told, sizes = list[str](), list[str]()
    for paid, words in ((False, "where samples are free"), (True, "where they are paid for")):
        mine = pairs[pairs.index.get_level_values(0) == paid]
        told += [f"in {sum(v == {Verdict.SUPPORTED} for v in mine)} of {len(mine)} comparisons {words}"] if len(mine) else []
    worse = sum(Verdict.REFUTED in v for v in pairs)
    said = [f"One sample is shown to be at most {MARGIN:g} nat behind {listed(told)}, and further behind in {worse}."] if told else []
    short = (everything["batch"] == BASE) & (everything["schedule"] == "constant")
    plain = everything[short | (everything["budget"] == WHOLE)].sort_values("K")
    end = f"trained to the end{', which had not converged' * open_end}"
    for budget, words in ((WHOLE, end), (UPDATES, f"in a short training with batches of {BASE}")):
        parts = list[str]()
        for name, k, d in plain[plain["budget"] == budget].groupby("objective")[["K", "d"]].last().itertuples():
            weak = name == "iwae" and statistics.fmean(d) < MARGIN  # another objective: if even that gains less, the margin is wide
            size = f"K = {k} gains {statistics.fmean(d):+.2f} nats{', less than the margin' * weak}"
            parts.append(f"IWAE with {size}" if name == "iwae" else size + (f" ({when[k]})" if budget == WHOLE and k in when else ""))
        sizes += [f"{words}, {listed(parts)}"] if parts else []
    text = "; ".join(sizes).replace("-", "−")
    said += [f"{text[0].upper()}{text[1:]}."] if text else []
    return said


LOOKS = ("o-", "s--", "D:", "^-", "X-", "v--", "P:")  # of the curves in a panel
CAPTION = (
    "What K samples gain over one in the bound on log p(x) of test images: mean over paired seeds with its 90 % interval. Grey: "
    f"equivalent, within ±{STRICT:g} nat. Dotted: the margin of {MARGIN:g} nat, above which one sample is not as good. Left: as many "
    "updates. Right: the same when K is paid for, in decoder evaluations, in time, or by smaller batches."
)


def draw(tables: Tables) -> list[Picture]:
    """The gain by K: under equal updates, and if samples are paid for."""
    found = gains(tables)
    found = found[(found["batch"] == BASE) | found["budget"].isin((LINE, WHOLE))]
    figure, panels = axes(1, 2, 8.6, 4.8)
    for paid, ax in enumerate(panels):
        curves = found[found["budget"].isin(PAID) == bool(paid)].groupby(["budget", "schedule", "objective"], sort=False)
        for i, (where, rows) in enumerate(curves):
            x = rows["K"] * 2 ** (0.03 * (i - 3))  # side by side, so that intervals can be told apart
            mean, half = rows["d"].map(statistics.fmean), [half_width(d) or 0.0 for d in rows["d"]]
            ax.errorbar(x, mean, yerr=half, fmt=LOOKS[i], color=COLOURS[i], label=", ".join(map(str, where)), capsize=2, ms=4.5, lw=1.2)
        margins(ax, sorted(found["K"].unique()))
        ax.set_title("samples are paid for" if paid else "equal updates", fontsize=9)
    return [*draw_curve(tables, MARGIN), Picture("training-samples", CAPTION, figure)]


def margins(ax: Axes, ks: Sequence[int]) -> None:
    """Margins, axes, and the legend below, where it hides neither points nor margins."""
    ax.axhline(0, color="black", linewidth=0.6)
    ax.axhspan(-STRICT, STRICT, color="grey", alpha=0.15, linewidth=0)
    ax.axhline(MARGIN, color="black", linewidth=0.9, linestyle=":")
    ax.grid(alpha=0.25)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.set(xlabel="K, samples of z per image in training", ylabel="gain over K = 1 (nats)")
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
