"""Two estimators of the ELBO on frozen models: their variance within an image and between images, their bias, and its checks.

A is log w = log p(x, z) - log q(z | x), everything by sampling. B, which is trained on, is log p(x | z) - KL(q(z | x) || p(z)), with the
KL in closed form. Values are (S, N): S samples of z for each of N images, in nats and float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr
from torch import Tensor

from vae_variants.analysis.statistics import LEAST_SEEDS, holm
from vae_variants.analysis.verdicts import compared
from vae_variants.evaluation.evaluation import ELEMENTS
from vae_variants.evaluation.pieces import spread
from vae_variants.models.base import LatentVariable
from vae_variants.models.objectives import OBJECTIVES, Objective
from vae_variants.models.vae import VAE
from vae_variants.studies import Effect, Lab, Tables, Verdict, table

VARIANTS = ("vae-latent-2", "vae-latent-20", "vae-latent-50", "vae-gaussian", "vae-gaussian-learnt")
SEEDS, EPOCHS = 3, 30  # of training, at most
IMAGES, REPEATS = 100, 4096  # images and minibatches at a time
KS = (1, 2, 4, 8, 16, 32, 64)
BATCHES, BATCH_KS = (1, 4, 16, 64, 100, 256), (1, 8, 64)
BLOCKS = 6  # of K samples, of which a variance is taken at least
BIASED = {1: 64, 8: 8, 64: 1}  # K -> how often K new samples are drawn
ESTIMATORS = {"B, KL in closed form": "elbo", "A, all sampled": "elbo-sampled"}

SLOPE, DEVIATION = 0.05, 0.05  # for the slopes in K and B, and the formula for both
BIAS, CHANCE = 0.5, 0.01  # nats; level of the tests of bias
CHECKS = (
    "variance in K: largest |slope + 1|",
    "variance in B: largest |slope + 1|",
    "variance in B and K: largest relative error of the formula",
    "bias of the ELBO of K draws: largest",
    "bias of the ELBO of K draws: smallest p, Holm",
)
CRITERION = (
    f"The checks of the estimators: slopes of log variance in log K and log B are -1 within {SLOPE:g}, the formula (σ_b² + σ_w²/K)/B holds "
    f"within {DEVIATION:.0%}, the ELBO of K samples is off by less than {BIAS:g} nats, and no z-test of its bias rejects at {CHANCE:g} "
    "after Holm. If one was not made or did not hold, the verdict is inconclusive."
)


class FrozenModel(NamedTuple):
    """One trained model; `age` is early, middle or final, `epochs` how long it was trained."""

    name: str
    age: str
    epochs: int
    seed: int
    model: VAE

    @property
    def where(self) -> dict[str, str | int]:
        """The columns by which a table finds its row."""
        return {"model": self.name, "age": self.age, "epochs": self.epochs, "latent units": self.model.latent, "seed": self.seed}


def ages(epochs: int) -> dict[str, int]:
    """age -> epochs: 1, a third of all (unless that is one of the others), all."""
    found = {"early": 1, "middle": round(epochs / 3), "final": epochs}
    return {age: n for age, n in found.items() if age == "final" or (n < epochs and (age == "early" or n > 1))}


def frozen_models(lab: Lab, names: Sequence[str] = VARIANTS) -> Iterator[FrozenModel]:
    """Trains, or takes from the store, every model; those of one variant follow each other, young ones first.

    A recipe is constant over its epochs, so that a model trained for one epoch is the one that the full training had after its first.
    """
    for name in names:
        configuration = lab.configurations(name)[0].with_defaults(decay="constant", keep="last")
        for age, epochs in ages(min(configuration.recipe.epochs, EPOCHS)).items():
            for seed, model in lab.models(configuration.with_defaults(epochs=epochs), lab.seeds(SEEDS)).items():
                assert isinstance(model, VAE)
                yield FrozenModel(name, age, epochs, seed, model)


def some_images(lab: Lab, model: VAE, count: int) -> Tensor:
    """`count` test images at even distances, or all, (N, D) in the model's support."""
    images = lab.dataset.as_(model.support).test
    return images[spread(len(images), count)].to(lab.device)


def sampled(model: LatentVariable, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """A and B from the same z: x (N, D) -> two of (samples, N)."""
    a = torch.empty(samples, len(x), dtype=torch.float64)
    b, t = torch.empty_like(a), x.new_ones(())
    at_once = max(1, ELEMENTS // (min(len(x), IMAGES) * x.shape[-1]))
    with torch.no_grad():
        for first in range(0, len(x), IMAGES):
            some = slice(first, first + IMAGES)
            for start in range(0, samples, at_once):
                found = model.infer(x[some], min(at_once, samples - start), t)
                a[start : start + at_once, some] = found.log_w.double().cpu()
                b[start : start + at_once, some] = (found.log_px.double() - found.kl.double()).cpu()
    return a, b


class Spread(NamedTuple):
    """Of an estimator, by image: mean (nats) and variance of one sample (nats^2), each (N,), from `samples` samples."""

    mean: Tensor
    within: Tensor
    samples: int

    @classmethod
    def of(cls, values: Tensor) -> Spread:
        return cls(values.mean(0), values.var(0), len(values))

    @property
    def sigma_w2(self) -> float:
        """Variance within an image, mean over images: E_x Var_z, nats^2."""
        return self.within.mean().item()

    @property
    def sigma_b2(self) -> float:
        """Variance between images, Var_x E_z, nats^2: that of their means, less what the finite number of samples adds to it."""
        return (self.mean.var() - self.within.mean() / self.samples).item()

    @property
    def ratio(self) -> float:
        """r = within / between: infinitely many samples would take r / (1 + r) of the variance of one sample per image away."""
        return self.sigma_w2 / self.sigma_b2


def slope(points: Mapping[int, float], power: float = 0.0) -> float:
    """Least squares of log y on log x, with weights x^power: -1 if y is a variance of means of x samples, each used once."""
    x, y = (np.log(np.array(list(side), dtype=float)) for side in (points.keys(), points.values()))
    return float(np.polyfit(x, y, 1, w=np.exp(0.5 * power * x))[0])


def blocks(values: Tensor, k: int) -> Tensor:
    """Means of the floor(S / k) disjoint blocks of k samples: (S, N) -> (S // k, N)."""
    count = len(values) // k
    return values[: count * k].unflatten(0, (count, k)).mean(1)


def by_samples(values: Tensor, ks: Iterable[int]) -> dict[int, float]:
    """K -> variance of the mean of K samples, mean over images: from the disjoint blocks of K samples, nothing assumed about K."""
    return {k: blocks(values, k).var(0).mean().item() for k in ks}


def by_batch(values: Tensor, sizes: Sequence[int], k: int, repeats: int) -> dict[int, float]:
    """B -> variance over `repeats` minibatches of the mean over B images, each estimated from K samples of its own.

    Images are drawn with replacement, and for each of them a block of K samples.
    """
    pool, found = blocks(values - values.mean(), k).flatten(), {}
    for b in sizes:
        counts = [min(REPEATS, repeats - start) for start in range(0, repeats, REPEATS)]
        means = [pool[torch.randint(len(pool), (count, b))].mean(1) for count in counts]  # an image, and one of its blocks
        found[b] = torch.cat(means).var().item()
    return found


def batch_formula(found: Spread, b: int, k: int) -> float:
    """(sigma_b^2 + sigma_w^2 / K) / B for images drawn from these N, whose variance has the divisor N."""
    n = len(found.mean)
    return (found.sigma_b2 * (n - 1) / n + found.sigma_w2 / k) / b


def bias(objective: Objective, model: LatentVariable, x: Tensor, reference: Spread, k: int, repeats: int) -> tuple[float, float]:
    """Mean difference of -`objective` of K samples to the `reference` of the same images, and its standard error; nats.

    From `repeats` times K new samples. Both errors are those of sampling alone: sum_n within_n (1 / (K repeats) + 1 / S) / N^2.
    """
    t = x.new_ones(())
    with torch.no_grad():
        values = [-objective(model.infer(part, k, t)).double().cpu() for _ in range(repeats) for part in x.split(IMAGES)]
    mean = torch.cat(values).unflatten(0, (repeats, len(x))).mean(0)
    variance = (reference.within * (1 / (k * repeats) + 1 / reference.samples)).sum().item()
    return (mean - reference.mean).mean().item(), math.sqrt(variance) / len(x)


def measure(lab: Lab) -> Tables:
    """Tables `value_spread` and `value_bias` of every model at every age; `value_draws` and `value_batch` of fully trained ones."""
    images, samples = (lab.choose(smoke=50, quick=150, full=1000), lab.choose(smoke=128, quick=1000, full=1000))
    repeats = lab.choose(smoke=4_000, quick=50_000, full=80_000)
    spreads, by_k, batches, biases = (list[dict[str, Any]]() for _ in range(4))
    for s in frozen_models(lab):
        x = some_images(lab, s.model, images)
        with lab.noise(f"estimator values {s.seed}"):
            a, b = sampled(s.model, x, samples)
        moments = {}
        for name, values in zip(ESTIMATORS, (b, a), strict=True):
            m = moments[name] = Spread.of(values)
            variances = by_samples(values, [k for k in KS if BLOCKS * k <= samples])
            row = {"ELBO (nats)": m.mean.mean().item(), "within (nats²)": m.sigma_w2, "between (nats²)": m.sigma_b2, "r": m.ratio}
            spreads.append({**s.where, "estimator": name, **row, "slope in K": slope(variances, power=-1.0)})
            if s.age == "final":
                by_k += [{**s.where, "estimator": name, "K": k, "variance (nats²)": v} for k, v in variances.items()]
        with lab.noise(f"estimator bias {s.seed}"):
            biases += [{**s.where, **row} for name, m in moments.items() for row in bias_rows(s.model, x, name, m)]
        if s.age == "final":
            with lab.noise(f"estimator minibatches {s.seed}"):
                batches += [{**s.where, **row} for row in batch_rows(b, repeats)]
    return {
        "value_spread": table("Variance of estimates of the ELBO by model, age, seed and estimator", spreads),
        "value_bias": table("Error of the ELBO of K samples against that of many samples of the same images", biases),
        "value_draws": table("Variance within an image of the mean of K samples, fully trained models", by_k),
        "value_batch": table("Variance of the mean over a minibatch of B images with K samples each, estimator B", batches),
    }


def bias_rows(model: VAE, x: Tensor, name: str, reference: Spread) -> Iterator[dict[str, Any]]:
    for k, repeats in BIASED.items():
        value, error = bias(OBJECTIVES[ESTIMATORS[name]], model, x, reference, k, repeats)
        z = value / error if error > 0 else 0.0
        yield {"estimator": name, "K": k, "bias (nats)": value, "standard error (nats)": error, "z": z}


def batch_rows(values: Tensor, repeats: int) -> Iterator[dict[str, Any]]:
    """The formula's two variances come from one half of the samples, the minibatches from the other."""
    half = len(values) // 2
    expected = Spread.of(values[:half])
    for k in (k for k in BATCH_KS if BLOCKS * k <= half):
        for b, variance in by_batch(values[half:], BATCHES, k, repeats).items():
            yield {"B": b, "K": k, "variance (nats²)": variance, "formula (nats²)": batch_formula(expected, b, k)}


def judge(tables: Tables) -> tuple[list[Effect], list[str]]:
    """The effects with `part` "laws" are the checks; those with "values" are r of B, which has no vote. With them a sentence on r."""
    found, ratios, spreads = checks(tables), list[Effect](), tables.get("value_spread", pd.DataFrame())
    if not spreads.empty:
        ours = spreads[spreads["estimator"].str.startswith("B") & spreads["age"].isin(["early", "final"])]
        for (age, name), r in ours.sort_values("age", kind="stable").groupby(["age", "model"], sort=False)["r"]:
            where = {"part": "values", "quantity": "r = within / between, estimator B", "model": str(name), "age": str(age)}
            ratios.append(compared(where, r.tolist(), below=1.0))
    final = [e for e in ratios if e.where["age"] == "final"]
    if not final:
        return found, ["No fully trained model could be measured."]
    worst = max(final, key=lambda e: e.value)
    said = f"Within an image the ELBO of one sample varies at most {worst.value:.2g} times as much as between images"
    return [*found, *ratios], [f"{said} ({worst.where['model']}, fully trained)."]


def checks(tables: Tables) -> list[Effect]:
    """What has to hold of any right estimator: 1 / K, 1 / B, the formula for both, no bias. Absent if nothing was measured."""
    spreads, batches, biases = (tables.get(name, pd.DataFrame()) for name in ("value_spread", "value_batch", "value_bias"))

    def largest(table: pd.DataFrame, error: Callable[[pd.DataFrame], pd.Series]) -> list[float]:
        """For each seed, over everything else."""
        return [] if table.empty else error(table.set_index("seed")).abs().groupby(level="seed").max().tolist()

    def slopes(table: pd.DataFrame) -> pd.Series:
        groups = table.groupby(["model", "K", "seed"])[["B", "variance (nats²)"]]
        return groups.apply(lambda rows: slope(dict(rows.to_numpy())) + 1)

    errors = (
        (largest(spreads, lambda t: t["slope in K"] + 1), SLOPE, ""),
        (largest(batches, slopes), SLOPE, ""),
        (largest(batches, lambda t: t["variance (nats²)"] / t["formula (nats²)"] - 1), DEVIATION, ""),
        (largest(biases, lambda t: t["bias (nats)"]), BIAS, "nats"),
    )
    found = [
        compared({"part": "laws", "quantity": quantity}, values, below=margin, unit=unit)
        for quantity, (values, margin, unit) in zip(CHECKS, errors, strict=False)
        if values
    ]
    if not biases.empty:
        p = min(holm((2 * ndtr(-biases["z"].abs())).tolist()))
        verdict = Verdict.SUPPORTED if p >= CHANCE else Verdict.REFUTED
        verdict = verdict if biases["seed"].nunique() >= LEAST_SEEDS else Verdict.INCONCLUSIVE
        where = {"part": "laws", "quantity": CHECKS[-1]}
        found.append(Effect(where, p, None, None, None, len(biases), "tests", "", f"not below {CHANCE:g}", verdict))
    return found
