"""What is trained for the training level of the study `one-sample`: settings, the cells that compare them, and how many of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vae_variants.datasets import Dataset
from vae_variants.evaluation.evaluation import spread
from vae_variants.models.likelihoods import Support
from vae_variants.studies.lab import LARGE, Lab

__all__ = [
    "BASE",
    "DECODED",
    "LARGER",
    "LINE",
    "RETUNED",
    "SMALL",
    "STATIC",
    "TIME",
    "UPDATES",
    "WHOLE",
    "Cell",
    "Plan",
    "Setting",
    "along",
    "cells",
    "data_name",
    "equal_time",
    "plan",
    "view",
]

BASE = 100  # images per update: what the claim takes for granted
PRODUCT = 64  # images x draws per update on the line along which both are exchanged
SMALL = 4  # images per update where draws are held against four times as many images

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
    pixels: str = "dynamic"  # or static
    whole: bool = False  # with all training images and the seeds of the suite, whose trained models it shares

    def updates(self, images: int) -> int:
        """Steps of the optimiser, for that many training images: the last, smaller batch of an epoch is left out."""
        return self.epochs * (images // min(self.batch, images))

    def decoded(self, images: int) -> int:
        """Decoder evaluations: updates x batch x K."""
        return self.updates(images) * min(self.batch, images) * self.samples


@dataclass(frozen=True)
class Cell:
    """A setting under a budget, and the one with K = 1 that it is held against: None for those with K = 1 themselves.

    `claim` says whether the verdict rests on it: IWAE is another objective, and a larger batch has no more draws.
    """

    budget: str
    setting: Setting
    against: Setting | None = None
    claim: bool = True


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured: what differs by fidelity and size of the images."""

    seeds: int
    images: int  # training images, a multiple of `PRODUCT`
    samples: tuple[int, ...]  # K of the ELBO; the first is 1
    cosine: tuple[int, ...]
    static: tuple[int, ...]
    paid: tuple[int, ...]  # where draws are paid for: equal decoder evaluations and equal time
    iwae: tuple[int, ...]
    whole: tuple[int, ...]  # where it is trained for as long as the suite trains
    retuned: int  # K
    epochs: int  # of equal updates
    long: int  # epochs of K = 1 where K > 1 has to make do with fewer
    batches: Mapping[int, int]  # images per update -> epochs, beside `BASE`
    batch_samples: tuple[int, ...]  # 1, some, and many where the batch is no larger than `SMALL`
    line: Mapping[int, int]  # images per update -> epochs
    rates: tuple[float, ...]
    tuning_seeds: int
    test: int  # images for the ELBO
    bound_images: int
    bound_samples: int


FULL = Plan(
    seeds=10,
    images=2000,
    samples=(1, 2, 4, 8, 16, 64),
    cosine=(1, 8, 64),
    static=(1, 8, 64),
    paid=(1, 2, 4, 8, 16, 64),
    iwae=(2, 8, 64),
    whole=(),
    retuned=64,
    epochs=32,
    long=64,
    batches={1: 2, 4: 8, 20: 32, 400: 32},
    batch_samples=(1, 8, 64),
    line={64: 64, 16: 16, 4: 4, 1: 1},
    rates=(1e-3, 3e-3, 1e-2, 3e-2),
    tuning_seeds=2,
    test=300,
    bound_images=300,
    bound_samples=1000,
)
QUICK = replace(
    FULL,
    seeds=5,
    samples=(1, 2, 4, 8, 16),
    cosine=(1, 4, 16),
    static=(1, 16),
    paid=(1, 2, 4, 8, 16),
    iwae=(2, 8, 16),
    retuned=16,
    epochs=32,
    long=32,
    batches={1: 1, 4: 2, 20: 8, 400: 32},
    batch_samples=(1, 8),
    line={64: 16, 16: 4, 4: 1},
    tuning_seeds=1,
    test=150,
    bound_images=150,
    bound_samples=200,
)
SMOKE = replace(
    QUICK,
    seeds=3,
    images=400,
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
    test=60,
    bound_images=30,
    bound_samples=50,
)
COSTLY = replace(  # large images: two cores, a little more than an hour
    FULL,
    seeds=5,
    images=10_000,
    cosine=(1, 4, 16),
    static=(1, 16),
    paid=(1, 4, 16, 64),
    iwae=(2, 4, 8, 16),
    whole=(1, 8),
    retuned=16,
    epochs=12,
    batches={1: 1, 4: 2, 20: 12, 400: 12},
    line={64: 16, 16: 4, 4: 1},
    tuning_seeds=1,
    test=1000,
    bound_images=500,
)
LARGE_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # a large network wants smaller ones


def plan(lab: Lab) -> Plan:
    """By fidelity, and at full fidelity by the size of the images too."""
    large = lab.dataset.dim >= LARGE
    chosen = lab.choose(smoke=SMOKE, quick=QUICK, full=COSTLY if large else FULL)
    images = min(chosen.images, len(lab.dataset.train)) // PRODUCT * PRODUCT
    return replace(chosen, images=images, rates=LARGE_RATES if large else chosen.rates)


def along(chosen: Plan, lr: float) -> list[Setting]:
    """Those with batch x K = `PRODUCT`, K = 1 first."""
    return [Setting(PRODUCT // batch, batch, lr, epochs) for batch, epochs in chosen.line.items()]


def cells(
    chosen: Plan,
    rate: Mapping[tuple[int, str], float],
    line: Mapping[int, float],
    retuned: float,
    seconds: Mapping[int, float],
    suite: Setting | None = None,
) -> list[Cell]:
    """All of them. `rate` is the best learning rate of K = 1, by (batch, decay), `line` that of the settings of `along`, by batch,
    `retuned` that of K = `chosen.retuned`, `seconds` what an update of `BASE` images takes, by K, `suite` the suite's own setting."""

    def with_samples(budget: str, one: Setting, samples: tuple[int, ...], claim: bool = True) -> list[Cell]:
        return [Cell(budget, one), *(Cell(budget, replace(one, samples=k), one, claim) for k in samples if k > 1)]

    base = Setting(1, BASE, rate[BASE, "constant"], chosen.epochs)
    found = with_samples(UPDATES, base, chosen.samples)
    found += with_samples(UPDATES, replace(base, lr=rate[BASE, "cosine"], decay="cosine"), chosen.cosine)
    found += [Cell(UPDATES, replace(base, samples=k, objective="iwae"), base, False) for k in chosen.iwae]
    if suite is not None and chosen.whole:
        found += with_samples(WHOLE, suite, chosen.whole)
        found += [Cell(WHOLE, replace(suite, samples=k, objective="iwae"), suite, False) for k in chosen.whole if k > 1]
    found.append(Cell(RETUNED, replace(base, samples=chosen.retuned, lr=retuned), base))
    found += with_samples(STATIC, replace(base, pixels="static"), chosen.static)
    for batch, epochs in chosen.batches.items():
        one = Setting(1, batch, rate[batch, "constant"], epochs)
        found += with_samples(UPDATES, one, chosen.batch_samples if batch <= SMALL else chosen.batch_samples[:2])
        if batch == SMALL:
            found.append(Cell(LARGER, replace(one, batch=4 * SMALL, epochs=4 * epochs), one, False))
    one = replace(base, epochs=chosen.long)
    found.append(Cell(DECODED, one))
    found += [Cell(DECODED, replace(one, samples=k, epochs=chosen.long // k), one) for k in chosen.paid if k > 1]
    found.append(Cell(TIME, one))
    found += [Cell(TIME, replace(one, samples=k, epochs=equal_time(chosen.long, k, seconds)), one) for k in chosen.paid if k > 1]
    one, *others = [replace(setting, lr=line[setting.batch]) for setting in along(chosen, 0.0)]
    found += [Cell(LINE, one), *(Cell(LINE, setting, one) for setting in others)]
    return found


def equal_time(epochs: int, samples: int, seconds: Mapping[int, float]) -> int:
    """Whole epochs nearest to what K = `samples` does in the time of `epochs` of K = 1: at least one, and no more than K = 1 has."""
    return min(epochs, max(1, round(epochs * seconds[1] / seconds[samples])))


def data_name(lab: Lab, images: int, pixels: str) -> str:
    """What to call the images of the lab with so many of them for training, static or not."""
    options = [f"train={images}"] * (images < len(lab.dataset.train)) + ["static=true"] * (pixels == "static")
    return lab.name + ("&" if "?" in lab.name else "?") * bool(options) + "&".join(options)


def view(dataset: Dataset, part: str, images: int) -> Dataset:
    """`images` of one part, at even distances, as the test images of a data set.

    Training images of a static data set are given in the two levels in which they were trained on.
    """
    binary = part == "train" and dataset.static
    rows = dataset.as_(Support.BINARY).train.byte() if binary else getattr(dataset, part)
    shown = rows[spread(len(rows), images)]
    kept = replace(dataset, train=shown[:1], validation=shown[:1], test=shown, labels=None, classes=None, static=False)
    return replace(kept, levels=2) if binary else kept
