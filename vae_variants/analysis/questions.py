"""Questions of the textbook, answered by the runs of a report alone. A study of the same claim also has controls."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from vae_variants.analysis.entries import Entry, distinct, trained, trials
from vae_variants.analysis.formatting import number
from vae_variants.analysis.statistics import LEAST_SEEDS
from vae_variants.evaluation.sharpness import is_noise

MARGIN = 1.0  # nats that more samples of z may gain, with one still enough: as in the study of the claim
SHARPNESS = ("sharpness_ratio", "high_frequency_ratio")  # ratios to real images; both have to be under 1
YES, MOSTLY, PARTLY, NO, OPEN = "yes", "mostly", "in part", "no", "open"


class Answer(NamedTuple):
    """`verdict` is one of YES, MOSTLY, PARTLY, NO and OPEN; `text` says why, with labels in backticks; `rule` says when it is yes."""

    study: str
    question: str
    verdict: str
    text: str
    rule: str


def answers(entries: Sequence[Entry]) -> list[Answer]:
    """The questions that the runs bear on. Rows with a flaw, with under three seeds or of a trial preset give no answer."""
    runs = [e for e in distinct(entries) if trained(e)]
    found = (one_sample(runs), blurry(runs))
    return [] if trials(runs) else [answer for answer in found if answer is not None]


def one_sample(runs: Sequence[Entry]) -> Answer | None:
    """Whether more samples of z for each image gain less than `MARGIN` in log p(x) when nothing else differs but the learning rate."""
    alike, gains = defaultdict[str, list[Entry]](list), []
    for e in (e for e in runs if e.record.values.get("objective") == "elbo" and e.sound("log_likelihood")):
        alike[repr(sorted((k, v) for k, v in e.record.values.items() if k not in ("samples", "lr")))].append(e)
    for group in alike.values():
        one = next((e for e in group if e.record.values.get("samples") == 1), None)
        for many in (e for e in group if one is not None and e.record.values.get("samples", 1) > 1):
            found = many.compared("log_likelihood", one) if one else None
            if one and found and found.difference.n >= LEAST_SEEDS:
                gains.append((one, many, found.difference))
    if not gains:
        return None
    one, many, gain = max(gains, key=lambda found: int(found[1].record.values["samples"]))
    low, high = gain.low or 0.0, gain.high or 0.0
    verdict = YES if high < MARGIN else NO if low > MARGIN else OPEN
    text = f"{many.record.values['samples']} samples (`{many.label}`) gain {number(gain, sign=True)} nats over one (`{one.label}`)."
    rule = f"yes, if the 95 % interval of the gain in log p(x) is below {MARGIN:g} nat. A smaller gain may be real, but matters little."
    return Answer("one-sample", "Is one sample of z for each image enough in training?", verdict, text, rule)


def blurry(runs: Sequence[Entry]) -> Answer | None:
    """Whether samples of VAEs have less sharpness and less of high frequencies than real images."""
    vaes = [e for e in runs if e.record.values["model"] == "vae" and all(judged(e, m) for m in SHARPNESS) and not noisy(e)]
    if not vaes:
        return None
    less = [e for e in vaes if all((p := e.interval(m)) and p.high is not None and p.high < 1 for m in SHARPNESS)]
    verdict = YES if len(less) == len(vaes) else MOSTLY if 2 * len(less) > len(vaes) else PARTLY if less else NO
    named = next((e for e in vaes if e.label == "vae-bernoulli"), vaes[0])
    gan = next((e for e in runs if e.record.values["model"] == "gan" and judged(e, SHARPNESS[0]) and not noisy(e)), None)
    text = f"{len(less)} of {len(vaes)} VAEs are less sharp than real images (sharpness 1), such as `{named.label}`"
    text += (
        f" ({number(named.interval(SHARPNESS[0]))}). {f'For comparison: `gan` has {number(gan.interval(SHARPNESS[0]))}.' if gan else ''}"
    )
    rule = "yes, if the 95 % intervals of sharpness and of the share of high frequencies are below those of real images, for every VAE."
    return Answer("blur", "Are samples of VAEs blurry?", verdict, text, rule)


def judged(entry: Entry, metric: str) -> bool:
    return len(entry.values(metric)) >= LEAST_SEEDS and entry.sound(metric)


def noisy(entry: Entry) -> bool:
    """Whether the noise control says that noise makes the samples sharp."""
    kept, ratio = entry.interval("noise_ratio"), entry.interval("sharpness_ratio")
    return kept is not None and ratio is not None and is_noise(kept.mean, ratio.mean)
