"""Whether a row may be called best: what training or sampling did wrong, in words, with what to do.

Advice, bold type, ranks, summary, cards and `compare` all read `flaws`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from statistics import fmean, median
from typing import Any, NamedTuple

from vae_variants.analysis.formatting import short
from vae_variants.harness.courses import MOVING, Curves, fallen
from vae_variants.variants.recipe import AUTO

DEAD, WEAK = 0.95, 2 / 3  # of the squared error of the mean image
SIGMA_COST, PER_PIXEL = 1.0, 1e-3  # nats that a learnt sigma may lose: the larger of this, and of this for each number of an image
FEW_CODES, COVERED = 1.5, 0.02  # codes in use, and share of the test images that are near samples
COPIES = 0.5  # of the distance between test and training images
TENTHS, NATS, PART = 10, 0.1, 1e-3  # of training; gain of the last one, in nats or of the value, from which training was too short
LOST = 0.25  # of what training gained on validation, that its end may be under its best
UNUSED = 0.1  # nats: the rate of a layer that is not used, as for `layers_used`
INACTIVE = "no active unit"
MEDIANS = "its loss seeks medians, and those of binary pixels are black or white"
ODD = 10.0  # a seed is an outlier if it is so many ranges of the others behind them
JUDGED = {"log_likelihood": 1.0, "elbo": 1.0, "reconstruction_mse": -1.0}  # metric -> 1 if higher is better, else -1
OF_SAMPLES = (
    "sample_place",
    "fd-",
    "kid-",
    "precision",
    "recall",
    "density",
    "coverage",
    "spectral_",
    "sharpness",
    "blur_",
    "reblur",
    "high_frequency",
)

CONCRETE = (
    "the KL of relaxed categories counts more than the decoder sees: try posterior.categories=2, prior.categories=2 and objective=warm-up"
)

Values = Callable[[str], Mapping[int, float]]  # metric -> seed -> value


class Flaw(NamedTuple):
    """What is wrong with a row, and the remedy. It `spoils` "all" its figures, those of its "samples", or "nothing": a caveat.

    `collapse` is true if the model, or a seed of it, is good for nothing.
    """

    what: str
    remedy: str
    spoils: str = "all"
    collapse: bool = False

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def spoilt(found: Iterable[Flaw], metric: str) -> bool:
    """Whether flaws keep a row from being best by `metric`."""
    return any(flaw.spoils == "all" or (flaw.spoils == "samples" and metric.startswith(OF_SAMPLES)) for flaw in found)


def flaws(
    values: Values,
    options: Mapping[str, Any],
    status: Mapping[str, str] | None = None,
    curves: Curves | None = None,
    pixels: int = 0,
    tuning: Mapping[str, Any] | None = None,
) -> tuple[Flaw, ...]:
    """What is wrong with a trained row.

    Args:
        values: The row's figures.
        options: Its configuration, as values or as text. Without epochs the row is a baseline, which has no flaw.
        status: Seed -> status, if known.
        curves: Name -> seed -> epoch, if known.
        pixels: Numbers in an image, channels included, if known.
        tuning: How its options were chosen, if they were: see `harness.choices.Choice`.
    """
    if "epochs" not in options:
        return ()
    rate = f"lower the learning rate (now lr={short(options.get('lr', AUTO))})"
    dead = [seed for seed, units in values("active_units").items() if units < 1]  # what else is wrong with them follows from that
    collapses = [
        seeds_with(values("active_units"), lambda n: n < 1, INACTIVE, why_inactive(options, rate)),
        seeds_with(values("probe_codes"), lambda n: n < 1, "constant latents", rate, but=dead),
        seeds_with(
            values("unexplained_variance"),
            lambda share: share > DEAD,
            "reconstructions no better than the mean training image",
            CONCRETE if relaxed(options) else f"{rate}, or train longer",
            but=dead,
        ),
        seeds_with(values("code_perplexity"), lambda n: n < FEW_CODES, "one code for nearly all images", rate, but=dead),
        seeds_with(values("coverage"), lambda n: n < COVERED, "samples near hardly any test image", "train longer", "samples", dead),
        diverged(values, status or {}, curves or {}, options.get("objective"), rate),
    ]
    found = [
        seeds_with(
            values("sigma_cost") if "sigma" not in options else {},
            lambda nats: nats > max(SIGMA_COST, PER_PIXEL * pixels),
            "learnt sigma not at its optimum (`sigma_cost`)",
            "train longer, or on more images",
        ),
        seeds_with(values("rate_top"), lambda nats: nats < UNUSED, "top layer of latents not used", "try fewer layers", "nothing"),
        seeds_with(
            values("memorisation_ratio"),
            lambda ratio: ratio < COPIES,
            "samples near copies of training images",
            "train for fewer epochs, or on more images",
            "samples",
        ),
        unfinished(validated := course(curves or {}), options),
        too_early(options),
        declined(validated, options),
        at_edge(tuning or {}),
    ]
    told = [*(flaw._replace(collapse=True) for flaw in collapses if flaw), *(flaw for flaw in found if flaw)]
    return tuple(told if spoilt(told, "") else [*told, *weak(values, options)])


def weak(values: Values, options: Mapping[str, Any]) -> list[Flaw]:
    """Reconstructions that are little better than none."""
    if not (share := values("unexplained_variance")) or fmean(share.values()) <= WEAK:
        return []
    what = f"reconstructions little better than the mean training image ({fmean(share.values()):.0%} of its squared error)"
    return [Flaw(what, MEDIANS if options.get("objective") == "log-cosh" else "train longer, or with more latent units", "nothing")]


def relaxed(options: Mapping[str, Any]) -> bool:
    """Whether the latents are relaxed one-hot vectors of more than two categories."""
    return options.get("posterior") == "gumbel-softmax" and str(options.get("posterior.categories")) != "2"


def why_inactive(options: Mapping[str, Any], rate: str) -> str:
    """What to do against collapse, by what the row chose."""
    if "sigma" in options:
        return f"sigma={short(options['sigma'])} may be too large for these pixels: try likelihood=gaussian-learnt"
    if options.get("objective") == "beta":
        return f"beta={short(options.get('beta', ''))} may be too large"
    return f"{rate}, or try objective=warm-up"


def seeds_with(
    values: Mapping[int, float],
    wrong: Callable[[float], bool],
    what: str,
    remedy: str,
    spoils: str = "all",
    but: Collection[int] = (),
) -> Flaw | None:
    """The flaw of those seeds whose value is wrong, `but` for some."""
    bad = sum(wrong(value) for seed, value in values.items() if seed not in but)
    return Flaw(what + in_seeds(bad, len(values)), remedy, spoils) if bad else None


def in_seeds(bad: int, of: int) -> str:
    return "" if bad == of else f" in {bad} of {of} seeds"


class Course(NamedTuple):
    """How validation went, the higher the better: `means` over seeds and over `size` epochs, from each epoch on; `nats` is their unit."""

    means: list[float]
    size: int
    epochs: int
    nats: bool

    def matters(self, change: float) -> bool:
        return change > max(NATS if self.nats else 0.0, PART * abs(self.means[-1]))

    def told(self, change: float) -> str:
        last = self.means[-1]
        return f"{change:.2g} nats" if self.nats else f"{change / abs(last):.1%} of its loss" if last else f"{change:.2g}"


def course(curves: Curves) -> Course | None:
    """Validation over seeds, each point a mean over a twentieth of the epochs, or two, since the bound is noisy; None if it is unknown.

    A loss that there is beside a bound is in nats too, from as many samples of z as in training.
    """
    name = next((n for n in ("validation_loss", "validation_log_prob") if n in curves), "")
    seeds = [row for row in curves.get(name, ()) if len(row) >= TENTHS and None not in row]
    if not seeds:
        return None
    sign, epochs = -1.0 if name.endswith("loss") else 1.0, len(seeds[0])
    size = max(min(2, epochs // TENTHS), epochs // (2 * TENTHS))
    means = [fmean(sign * v for row in seeds for v in row[i : i + size] if v is not None) for i in range(epochs - size + 1)]
    return Course(means, size, epochs, "validation_log_prob" in curves)


def unfinished(found: Course | None, options: Mapping[str, Any]) -> Flaw | None:
    """Training whose last tenth still gained on validation, mean over seeds: from about its beginning to about its end."""
    if found is None:
        return None
    gain = found.means[-1] - found.means[found.epochs - found.epochs // TENTHS - 1 - found.size // 2]
    if not found.matters(gain):
        return None
    remedy = "validation follows the cycles of beta: use fewer" if options.get("objective") == "cyclical" else "train longer"
    return Flaw(f"not converged: the last tenth of training gained {found.told(gain)} on validation", remedy)


def too_early(options: Mapping[str, Any]) -> Flaw | None:
    """Weights of an early epoch, whose objective was another one."""
    if options.get("objective") not in MOVING or options.get("keep") != "best":
        return None
    return Flaw("kept the weights of the best ELBO, although its objective moves away from it", "keep=last")


def declined(found: Course | None, options: Mapping[str, Any]) -> Flaw | None:
    """Training that lost on validation, by its end, a quarter of what it had gained: mean over seeds.

    It harms no model that keeps its best weights. The bound of one sample may fall while that of several, which trains, rises.
    """
    keeps = options.get("keep") == "best" or str(options.get("patience", 0)) != "0"
    if found is None or keeps or options.get("objective") in MOVING or str(options.get("samples", 1)) != "1":
        return None
    best = max(found.means)
    gain, loss = best - found.means[0], best - found.means[-1]
    if not found.matters(gain) or not found.matters(loss) or loss <= LOST * gain:
        return None
    at = found.means.index(best) + found.size
    return Flaw(f"ended {found.told(loss)} under its best on validation, at epoch {at} of {found.epochs}", "keep=best, or train shorter")


def at_edge(tuning: Mapping[str, Any]) -> Flaw | None:
    """An option whose chosen value is the least or the greatest that was tried."""
    if not (edge := tuning.get("edge")):
        return None
    chosen = ", ".join(f"{key}={short(tuning['chosen'][key])}" for key in edge)
    return Flaw(f"{chosen} chosen at the edge of the values tried", "try values beyond it, in the [tuning] table of the suite")


def diverged(values: Values, status: Mapping[str, str], curves: Curves, objective: object, rate: str) -> Flaw | None:
    """Seeds that ended with a loss that is not finite, or with curves that have `fallen`, or far behind the others."""
    lost = {str(seed) for seed, state in status.items() if state == "diverged"}
    order = list(status)
    lost |= {order[i] for i in fallen(curves, objective) if i < len(order)}
    for metric, sign in JUDGED.items():
        lost |= {str(seed) for seed in outliers(values(metric), sign)}
    if not lost:
        return None
    seeds = ", ".join(sorted(lost, key=lambda seed: (len(seed), seed)))
    return Flaw(f"diverged seed{'s' * (len(lost) > 1)} {seeds}", rate)


def outliers(values: Mapping[int, float], sign: float) -> list[int]:
    """Seeds far worse than all others: by `ODD` times the range of the others, and by half of their median. Needs two others."""
    found = []
    for seed, value in values.items():
        others = [v for s, v in values.items() if s != seed]
        if len(others) > 1:
            behind = min(sign * v for v in others) - sign * value
            if behind > max(ODD * (max(others) - min(others)), 0.5 * abs(median(others))):
                found.append(seed)
    return found
