"""What the trained models of the study `one-sample` say, in sentences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from vae_variants.studies.study import Effect, Verdict

from .training_cells import DECODED, LARGER, LINE, SMALL, TIME, UPDATES, WHOLE
from .training_gains import LEVEL, MARGIN, Gain, beyond, effects, largest, proportion, t_interval

__all__ = ["batches_in_words", "comparisons_in_words", "decay_in_words", "published_in_words", "updates_in_words"]

BURDA = 0.41  # nats that the ELBO of K = 50 gains over K = 1: one layer, MNIST, pixels drawn afresh, 3280 epochs (Burda et al. 2016)
BURDA_IWAE = 1.98  # the same of IWAE
BURDA_EPOCHS = 3280


def size(values: Sequence[float]) -> str:
    """+0.21 nats (90% interval +0.10 to +0.32)."""
    mean, low, high = t_interval(values)
    text = f"{mean:+.2f} nats" if low is None else f"{mean:+.2f} nats ({LEVEL:.0%} interval {low:+.2f} to {high:+.2f})"
    return text.replace("-", "−")


def plain_number(mean: float) -> str:
    return f"{mean:+.2f}".replace("-", "−")


def pairs(claimed: Sequence[Gain], found: Sequence[Effect]) -> tuple[int, int, int]:
    """Of different pairs of trainings: how many there are, in how many one draw is as good, and in how many it is not.

    A pair can stand in two budgets, as where the rate tuned for K is the common one: it is as good if it is in both.
    """
    verdicts: dict[tuple[int, int], set[Verdict]] = {}
    for g, e in zip(claimed, found, strict=True):
        verdicts.setdefault((g.row["run"], g.row["against run"]), set()).add(e.verdict)
    good = sum(v == {Verdict.SUPPORTED} for v in verdicts.values())
    return len(verdicts), good, sum(Verdict.REFUTED in v for v in verdicts.values())


def iwae_at_base(everything: Sequence[Gain], setup: dict[str, Any]) -> Gain | None:
    """IWAE with the most draws, under equal updates at the base batch."""
    at_base = [g for g in everything if g.row["budget"] == UPDATES and g.row["batch"] == setup["base batch"]]
    return largest([g for g in at_base if g.row["objective"] == "iwae"])


def most_draws(claimed: Sequence[Gain], setup: dict[str, Any], schedule: str) -> Gain | None:
    """The ELBO with the most draws, under equal updates at the base batch."""
    base = [g for g in claimed if g.row["budget"] == UPDATES and g.row["batch"] == setup["base batch"]]
    return largest([g for g in base if g.row["schedule"] == schedule])


def decay_in_words(claimed: Sequence[Gain], setup: dict[str, Any]) -> str:
    top = most_draws(claimed, setup, "cosine")
    told = f"With batches of {setup['base batch']}, as many updates and cosine decay of the learning rate, the bound changes by"
    return "" if top is None else f"{told} {size(top.values)} with K = {top.row['K']}."


def updates_in_words(claimed: Sequence[Gain], everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    """As many updates of the base batch, and where the suite's longer trainings were compared, how much is left after those."""
    named = ((most_draws(claimed, setup, "constant"), "with"), (iwae_at_base(everything, setup), "with IWAE,"))
    parts = [f"{size(g.values)} {words} K = {g.row['K']}" for g, words in named if g is not None]
    if not parts:
        return ""
    text = f"With batches of {setup['base batch']} and as many updates, the bound changes by {' and '.join(parts)}"
    _, elbo, iwae, _ = beyond([g for g in everything if g.row["budget"] == WHOLE])
    if elbo is None or iwae is None:
        return f"{text}."
    short = next(g.row for g, _ in named if g is not None)
    late = f"by {size(elbo.values)} with K = {elbo.row['K']} and {size(iwae.values)} with IWAE, K = {iwae.row['K']}"
    text += f" after {short['updates']} updates on {short['training images']} images at a rate of {short['learning rate']:g}"
    return f"{text}; as the suite trains, {elbo.row['updates']} on {elbo.row['training images']} at {elbo.row['learning rate']:g}, {late}."


def comparisons_in_words(claimed: Sequence[Gain], found: Sequence[Effect], everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    """In how many comparisons one draw is as good, apart for draws that are free and for those that are paid for."""
    told, bad = [], 0
    for paid, words in ((False, "where draws cost nothing"), (True, "where they are paid for")):
        mine = [(g, e) for g, e in zip(claimed, found, strict=True) if (g.row["budget"] in (DECODED, TIME, LINE)) == paid]
        if mine:
            total, good, worse = pairs(*zip(*mine, strict=True))
            told.append(f"in {good} of {total} comparisons {words}{costs_in_words(claimed) if paid else ''}")
            bad += worse
    text = f"One draw is shown to be no more than {MARGIN:g} nat behind {' and '.join(told)}, and further behind in {bad}"
    return f"{text}{margin_in_words(iwae_at_base(everything, setup))}." if told else ""


def margin_in_words(iwae: Gain | None) -> str:
    """That the margin cannot bite, where even another objective gains less."""
    mean = MARGIN if iwae is None else statistics.fmean(iwae.values)
    if mean >= MARGIN:
        return ""
    if mean <= 0:
        return f", but IWAE gains nothing here that the margin of {MARGIN:g} nat could be held against"
    return f", but the margin is {MARGIN / mean:.1f} times what IWAE gains here"


def costs_in_words(claimed: Sequence[Gain]) -> str:
    """(K = 16 gains -4.45 nats for as many decoder evaluations and -0.61 nats in the same time)."""
    paid = [
        (largest([g for g in claimed if g.row["budget"] == budget]), words)
        for budget, words in ((DECODED, "for as many decoder evaluations"), (TIME, "in the same time"))
    ]
    parts = [f"K = {g.row['K']} gains {plain_number(statistics.fmean(g.values))} nats {words}" for g, words in paid if g is not None]
    return f" ({' and '.join(parts)})" if parts else ""


def batches_in_words(everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    """Smaller batches, with the epochs that they had."""
    plain = [g for g in everything if g.plain]
    sizes = sorted({g.row["batch"] for g in plain if g.row["batch"] < setup["base batch"]})
    tops = [top for batch in sizes if (top := largest([g for g in plain if g.row["batch"] == batch])) is not None]
    if not tops:
        return ""
    epochs = [f"{g.row['epochs']} epoch{'s' * (g.row['epochs'] > 1)}" for g in tops]
    of = ", ".join(
        f"{plain_number(statistics.fmean(g.values))} (K = {g.row['K']}, batches of {g.row['batch']}, {e})"
        for g, e in zip(tops, epochs, strict=True)
    )
    uneven = any(e.verdict is Verdict.REFUTED for e in proportion(everything, setup))
    apart = ", not in proportion to learning rate over batch" if uneven else ""
    changes = f"With batches smaller than {setup['base batch']} and as many updates, K draws change the bound by {of}{apart}"
    return f"{changes}{control_in_words(everything)}: {need_in_words(plain, setup)}."


def control_in_words(everything: Sequence[Gain]) -> str:
    found = [g for g in everything if g.row["budget"] == LARGER]
    return "".join(
        f", and by {plain_number(statistics.fmean(g.values))} with four times the batch of {SMALL} in place of draws" for g in found
    )


def need_in_words(plain: Sequence[Gain], setup: dict[str, Any]) -> str:
    """Whether small batches need many draws; they are trained for fewer epochs, which may be what is seen."""
    tiny = {e.verdict for e in effects([g for g in plain if g.row["batch"] <= SMALL])}
    base = {e.verdict for e in effects([g for g in plain if g.row["batch"] == setup["base batch"]])}
    if Verdict.REFUTED in tiny and Verdict.REFUTED in base:
        return f"one draw is not as good with batches of {setup['base batch']} either"
    if tiny == {Verdict.SUPPORTED}:
        return f"one draw does not need batches of {setup['base batch']}"
    if Verdict.REFUTED in tiny and base == {Verdict.SUPPORTED}:
        shorter = len({g.row["epochs"] for g in plain}) > 1
        also = ", or longer training, which cannot be told apart here" if shorter else ""
        return f"one draw needs larger batches{also}, and {setup['base batch']} are enough"
    return f"whether one draw needs batches of {setup['base batch']} is undecided"


def published_in_words(everything: Sequence[Gain], setup: dict[str, Any]) -> str:
    """On MNIST, beside Burda et al. 2016: the trainings of the suite where there are any, which are the longest."""
    if setup["data set"].partition("?")[0] != "mnist":
        return ""
    at_base = [g for g in everything if g.row["batch"] == setup["base batch"] and g.row["schedule"] == "constant"]
    longest, usual = (beyond([g for g in some if g.row["budget"] == b]) for some, b in ((everything, WHOLE), (at_base, UPDATES)))
    _, elbo, iwae, more = usual if longest[1] is None else longest
    if elbo is None or iwae is None:
        return ""
    row, (_, low, high) = elbo.row, t_interval(more)
    seen = f"which gains more cannot be told here, where training is {BURDA_EPOCHS / row['epochs']:.0f} times shorter"
    if low is not None and low > 0:
        seen = "that IWAE gains more is seen here too"
    elif high is not None and high < 0:
        seen = f"here the ELBO gains more, where training is {BURDA_EPOCHS / row['epochs']:.0f} times shorter"
    return (
        f"After {row['epochs']} epochs on {row['training images']} images K = {row['K']} gains {size(elbo.values)} with the ELBO and "
        f"{size(iwae.values)} with IWAE; Burda et al. 2016 have {BURDA:+.2f} and {BURDA_IWAE:+.2f} for K = 50 after {BURDA_EPOCHS} epochs: "
        f"{seen}."
    )
