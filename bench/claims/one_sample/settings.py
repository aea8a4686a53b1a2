"""What is trained: settings, the comparisons of K samples with one, and how many of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vae_variants.datasets import Dataset
from vae_variants.evaluation.pieces import spread
from vae_variants.models.likelihoods import Support
from vae_variants.studies.lab import LARGE, Lab

BASE = 100  # images per update, which the claim takes for granted
PRODUCT = 64  # images x samples per update where images are exchanged for samples
SMALL = 4  # images per update where K samples are compared with four times as many images

UPDATES = "equal updates"
STATIC = "equal updates, pixels drawn once"
RETUNED = "equal updates, rate tuned for K"
WHOLE = "equal updates, all images, as the suite trains"
DECODED = "equal decoder evaluations"
LINE = f"equal updates and decoder evaluations (batch x K = {PRODUCT})"
TIME = "equal time"
LARGER = "four times the batch in place of K"


@dataclass(frozen=True)
class Setting:
    """One training, of all seeds at once."""

    samples: int  # K
    batch: int
    lr: float
    epochs: int
    decay: str = "constant"
    objective: str = "elbo"
    pixels: str = "dynamic"  # or static: binarised once
    whole: bool = False  # with all training images and the seeds of the suite, whose trained models it shares: to the end

    def updates(self, images: int) -> int:
        """Optimiser steps for that many training images: the last, smaller batch of an epoch is left out."""
        return self.epochs * (images // min(self.batch, images))

    def decoded(self, images: int) -> int:
        """Decoder evaluations: updates x batch x K."""
        return self.updates(images) * min(self.batch, images) * self.samples


@dataclass(frozen=True)
class Comparison:
    """A setting under a budget, and the one with K = 1 to compare it with: None if it is that one itself.

    `claim` says whether the verdict rests on it. IWAE is another objective, and a larger batch has no more samples: neither has a vote.
    """

    budget: str
    setting: Setting
    against: Setting | None = None
    claim: bool = True


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured, which differs by preset and size of the images: small images at full size by default."""

    seeds: int = 10
    training_images: int = 2000  # training images, a multiple of `PRODUCT`
    samples: tuple[int, ...] = (1, 2, 4, 8, 16, 64)  # K of the ELBO; the first is 1
    cosine: tuple[int, ...] = (1, 8, 64)  # K with cosine decay of the learning rate
    static: tuple[int, ...] = (1, 8, 64)  # K with pixels binarised once
    paid: tuple[int, ...] = (1, 2, 4, 8, 16, 64)  # K under equal decoder evaluations and equal time
    iwae: tuple[int, ...] = (2, 8, 64)  # K of IWAE
    whole: tuple[int, ...] = (1, 8)  # K of the trainings of the suite, of the ELBO and IWAE; none in presets that do not train to the end
    retuned: int = 64  # K for which the learning rate is tuned again
    epochs: int = 32  # under equal updates
    long: int = 64  # epochs of K = 1 under equal decoder evaluations and equal time
    batches: Mapping[int, int] = field(default_factory=lambda: {1: 2, 4: 8, 20: 32, 400: 32})  # images per update -> epochs, beside `BASE`
    batch_samples: tuple[int, ...] = (1, 8, 64)  # K there; the third only for batches of at most `SMALL`
    line: Mapping[int, int] = field(default_factory=lambda: {64: 64, 16: 16, 4: 4, 1: 1})  # the same, where batch x K = `PRODUCT`
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)  # learning rates to choose from
    tuning_seeds: int = 2
    test_images: int = 300  # for the ELBO
    bound_images: int = 300
    bound_samples: int = 1000


FULL = Plan()
QUICK = replace(
    FULL,
    seeds=5,
    samples=(1, 2, 4, 8, 16),
    cosine=(1, 4, 16),
    static=(1, 16),
    paid=(1, 2, 4, 8, 16),
    iwae=(2, 8, 16),
    whole=(),
    retuned=16,
    long=32,
    batches={1: 1, 4: 2, 20: 8, 400: 32},
    batch_samples=(1, 8),
    line={64: 16, 16: 4, 4: 1},
    tuning_seeds=1,
    test_images=150,
    bound_images=150,
    bound_samples=200,
)
SMOKE = replace(
    QUICK,
    seeds=3,
    training_images=400,
    samples=(1, 4),
    cosine=(1, 4),
    static=(1, 4),
    paid=(1, 4),
    iwae=(4,),
    retuned=4,
    epochs=4,
    long=4,
    batches={4: 1},
    batch_samples=(1, 4),
    line={64: 4, 16: 1},
    rates=(1e-3, 1e-2),
    test_images=60,
    bound_images=30,
    bound_samples=50,
)
COSTLY = replace(  # large images at full size: a little more than an hour on two cores
    FULL,
    seeds=5,
    training_images=10_000,
    cosine=(1, 4, 16),
    static=(1, 16),
    paid=(1, 4, 16, 64),
    iwae=(2, 4, 8, 16),
    retuned=16,
    epochs=12,
    batches={1: 1, 4: 2, 20: 12, 400: 12},
    line={64: 16, 16: 4, 4: 1},
    tuning_seeds=1,
    test_images=1000,
    bound_images=500,
)
LARGE_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # larger networks need smaller ones


def plan(lab: Lab) -> Plan:
    """By preset, and at full size by the number of pixels too."""
    large = lab.dataset.dim >= LARGE
    chosen = lab.choose(smoke=SMOKE, quick=QUICK, full=COSTLY if large else FULL)
    images = min(chosen.training_images, len(lab.dataset.train)) // PRODUCT * PRODUCT
    return replace(chosen, training_images=images, rates=LARGE_RATES if large else chosen.rates)


def along(chosen: Plan, lr: float) -> list[Setting]:
    """The settings with batch x K = `PRODUCT`, K = 1 first."""
    return [Setting(PRODUCT // batch, batch, lr, epochs) for batch, epochs in chosen.line.items()]


def comparisons(
    chosen: Plan,
    rate: Mapping[tuple[int, str], float],
    line: Mapping[int, float],
    retuned: float,
    seconds: Mapping[int, float],
    suite: Sequence[Setting],
) -> list[Comparison]:
    """All comparisons of a plan.

    Args:
        rate: (batch, decay) -> best learning rate of K = 1.
        line: batch -> best learning rate of the settings of `along`.
        retuned: best learning rate of K = `chosen.retuned`.
        seconds: K -> seconds for an update of `BASE` images.
        suite: the settings of the suite, K = 1 first.
    """

    def with_samples(budget: str, one: Setting, samples: tuple[int, ...], iwae: tuple[int, ...] = ()) -> list[Comparison]:
        others = [Comparison(budget, replace(one, samples=k), one) for k in samples if k > 1]
        others += [Comparison(budget, replace(one, samples=k, objective="iwae"), one, claim=False) for k in iwae if k > 1]
        return [Comparison(budget, one), *others]

    base = Setting(1, BASE, rate[BASE, "constant"], chosen.epochs)
    found = with_samples(UPDATES, base, chosen.samples, chosen.iwae)
    found += with_samples(UPDATES, replace(base, lr=rate[BASE, "cosine"], decay="cosine"), chosen.cosine)
    found += [Comparison(WHOLE, s, suite[0] if s.samples > 1 else None, s.objective == "elbo") for s in suite]
    found.append(Comparison(RETUNED, replace(base, samples=chosen.retuned, lr=retuned), base))
    found += with_samples(STATIC, replace(base, pixels="static"), chosen.static)
    for batch, epochs in chosen.batches.items():
        one = Setting(1, batch, rate[batch, "constant"], epochs)
        found += with_samples(UPDATES, one, chosen.batch_samples if batch <= SMALL else chosen.batch_samples[:2])
        if batch == SMALL:
            found.append(Comparison(LARGER, replace(one, batch=4 * SMALL, epochs=4 * epochs), one, claim=False))
    one = replace(base, epochs=chosen.long)
    for budget, epochs_of in ((DECODED, lambda k: chosen.long // k), (TIME, lambda k: equal_time(chosen.long, k, seconds))):
        found.append(Comparison(budget, one))
        found += [Comparison(budget, replace(one, samples=k, epochs=epochs_of(k)), one) for k in chosen.paid if k > 1]
    one, *others = [replace(setting, lr=line[setting.batch]) for setting in along(chosen, 0.0)]
    return [*found, Comparison(LINE, one), *(Comparison(LINE, setting, one) for setting in others)]


def equal_time(epochs: int, samples: int, seconds: Mapping[int, float]) -> int:
    """Whole epochs nearest to what K = `samples` does in the time of `epochs` of K = 1: at least one, and no more than K = 1 has."""
    return min(epochs, max(1, round(epochs * seconds[1] / seconds[samples])))


def data_name(lab: Lab, images: int, pixels: str) -> str:
    """Name of the lab's data set with so many training images, static or not."""
    options = [f"train={images}"] * (images < len(lab.dataset.train)) + ["static=true"] * (pixels == "static")
    return lab.name + ("&" if "?" in lab.name else "?") * bool(options) + "&".join(options)


def view(dataset: Dataset, part: str, images: int) -> Dataset:
    """A data set whose test images are `images` of one part, at even distances.

    Training images of a static data set come in the two levels in which they were trained on.
    """
    binary = part == "train" and dataset.static
    rows = dataset.as_(Support.BINARY).train[:].byte() if binary else getattr(dataset, part)
    shown = rows[spread(len(rows), images)]
    kept = replace(dataset, train=shown[:1], validation=shown[:1], test=shown, labels=None, classes=None, static=False)
    return replace(kept, levels=2) if binary else kept
