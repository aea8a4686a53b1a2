"""Values of the ELBO from K draws: how they vary within an image, between images and over minibatches, and what explains it.

The parts (i) and (iii) of the study of one draw: moments of both estimators on frozen models, then whether the variance within an
image is what a sharp posterior predicts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from vae_variants.models.objectives import OBJECTIVES
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import Findings, Picture, Table

from .estimator_models import Subject, some_images, subjects
from .estimator_moments import (
    Spread,
    batch_formula,
    bias,
    bound_bias,
    by_batch,
    by_draws,
    closed_form_variance,
    drawn,
    slope,
    unit_variance,
    widened_variance,
)
from .estimator_pictures import value_pictures
from .estimator_verdicts import CRITERION, checks, judge

__all__ = ["CRITERION", "checks", "draw", "judge", "measure"]

KS = (1, 2, 4, 8, 16, 32, 64)
BATCHES, BATCH_KS = (1, 4, 16, 64, 100, 256), (1, 8, 64)
BLOCKS = 6  # of K draws, of which a variance is taken at least
WIDTHS = (0.25, 0.5, 1.0, 2.0)
BIASED = {1: 64, 8: 8, 64: 1}  # K -> how often K draws are made anew
ESTIMATORS = {"B, KL in closed form": "elbo", "A, all sampled": "elbo-sampled"}
BOUNDS = (
    "Bias of the importance-weighted bound of K draws against that of all S, and −CV² (1/K − 1/S) / 2; this applies where "
    "CV² (CV² + 3) ≤ K/5, since for log-normal weights the next term is then less than 2/15 of it"
)
UNIT_IMAGES, UNIT_DRAWS = 50, 100  # for the variance of single units
NARROW = 0.5  # scale of q, in those of the prior, below which a unit is narrow at an image
ACTIVE = 0.01  # variance of a unit's mean over images, as for the metric `active_units`


def measure(lab: Lab) -> Findings:
    """Moments for every model of the star at every age; minibatches, bounds and widths for those that are fully trained."""
    images, draws = lab.choose(smoke=50, quick=150, full=1000), lab.choose(smoke=128, quick=1000, full=1000)
    repeats = lab.choose(smoke=4_000, quick=50_000, full=80_000)
    spreads, by_k, batches, biases, bounds, peaks, widths, units = (list[dict[str, Any]]() for _ in range(8))
    arrays: dict[str, Tensor] = {}
    for s in subjects(lab):
        x = some_images(lab, s.model, images)
        with lab.noise(f"estimator values {s.seed}"):
            a, b = drawn(s.model, x, draws)
        found = dict(zip(ESTIMATORS, (b, a), strict=True))
        moments = {name: Spread.of(values) for name, values in found.items()}
        by_draw = {name: by_draws(values, [k for k in KS if BLOCKS * k <= draws]) for name, values in found.items()}
        spreads += [spread_row(s, name, moments[name], by_draw[name]) for name in found]
        with lab.noise(f"estimator bias {s.seed}"):
            biases += [row for name in found for row in bias_rows(s, name, x, moments[name])]
        peaks.append(peak_row(s, x, moments[next(iter(found))].within))
        if s.age != "final":
            continue
        by_k += [{**s.where, "estimator": name, "K": k, "variance (nats²)": v} for name in found for k, v in by_draw[name].items()]
        with lab.noise(f"estimator minibatches {s.seed}"):
            batches += batch_rows(s, b, repeats)
        bounds += bound_rows(s, a)
        for t in WIDTHS:
            with lab.noise(f"estimator widths {s.seed}"):
                measured = widened_variance(s.model, x[:100], t, draws).mean().item()
            predicted = closed_form_variance(*posterior(s, x[:100]), t).mean().item()
            widths.append({**s.where, "t": t, "variance (nats²)": measured, "closed form (nats²)": predicted})
        with lab.noise(f"estimator units {s.seed}"):
            units.append(unit_row(s, x))
        if f"sharp/{s.name}/variance" not in arrays:
            arrays[f"sharp/{s.name}/variance"] = moments[next(iter(found))].within
            arrays[f"sharp/{s.name}/closed form"] = closed_form_variance(*posterior(s, x))
    tables = {
        "value_summary": summary(spreads, peaks),
        "value_spread": Table.of("Variance of estimates of the ELBO, one row per model, age, seed and estimator", spreads, folded=True),
        "value_draws": Table.of("Variance within an image of the mean of K draws, fully trained models", by_k, folded=True),
        "value_batch": Table.of("Variance of the mean over a minibatch of B images with K draws each, estimator B", batches, folded=True),
        "value_bias": Table.of("Error of the ELBO of K draws against that of many draws, same images", biases, folded=True),
        "value_bound": Table.of(BOUNDS, bounds, folded=True),
        "sharp_images": Table.of("Variance of log p(x|z) within an image against the closed form, over images", peaks, folded=True),
        "sharp_widths": Table.of("Variance of log p(x|z) with q's scale multiplied by t, decoder as it is", widths, folded=True),
        "sharp_units": Table.of(
            f"Variance of log p(x|z) with one unit drawn and the others at their mean: units in use, narrow (scale of q below {NARROW:g}) "
            "and wider at an image; means over images and units",
            units,
            folded=True,
        ),
    }
    return Findings(tables, arrays)


def spread_row(s: Subject, name: str, m: Spread, by_draw: dict[int, float]) -> dict[str, Any]:
    return {
        **s.where,
        "estimator": name,
        "ELBO (nats)": m.mean.mean().item(),
        "within (nats²)": m.sigma_w2,
        "between (nats²)": m.sigma_b2,
        "r": m.ratio,
        "skewness": m.skewness.mean().item(),
        "slope in K": slope(by_draw, power=-1.0),
    }


def bias_rows(s: Subject, name: str, x: Tensor, reference: Spread) -> list[dict[str, Any]]:
    rows = []
    for k, repeats in BIASED.items():
        value, error = bias(OBJECTIVES[ESTIMATORS[name]], s.model, x, reference, k, repeats)
        z = value / error if error > 0 else 0.0
        rows.append({**s.where, "estimator": name, "K": k, "bias (nats)": value, "standard error (nats)": error, "z": z})
    return rows


def batch_rows(s: Subject, values: Tensor, repeats: int) -> list[dict[str, Any]]:
    """The formula's two variances come from one half of the draws, the minibatches from the other."""
    half = len(values) // 2
    expected = Spread.of(values[:half])
    rows = []
    for k in (k for k in BATCH_KS if BLOCKS * k <= half):
        for b, variance in by_batch(values[half:], BATCHES, k, repeats).items():
            rows.append({**s.where, "B": b, "K": k, "variance (nats²)": variance, "formula (nats²)": batch_formula(expected, b, k)})
    return rows


def bound_rows(s: Subject, log_w: Tensor) -> list[dict[str, Any]]:
    rows = []
    for k in (k for k in (1, 8, 64) if 4 * k <= len(log_w)):
        measured, formula, squared = bound_bias(log_w, k)
        calm = squared * (squared + 3) <= k / 5
        rows.append(
            {
                **s.where,
                "K": k,
                "images": len(measured),
                "L_K − L_S (nats)": measured.mean().item(),
                "formula (nats)": formula.mean().item(),
                "median CV²": squared.median().item(),
                "images where it applies": int(calm.sum()),
                "sum there, L_K − L_S (nats)": measured[calm].sum().item(),
                "sum there, formula (nats)": formula[calm].sum().item(),
            }
        )
    return rows


def posterior(s: Subject, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        mean, scale = s.model.posterior(x)
    return mean.double().cpu(), scale.double().cpu()


def peak_row(s: Subject, x: Tensor, within: Tensor) -> dict[str, Any]:
    """What the variance within an image goes with, over images, and how much of it there is for each unit that is used."""
    mean, scale = posterior(s, x)
    predicted, active = closed_form_variance(mean, scale), mean.var(0) > ACTIVE
    centred = predicted - predicted.mean()
    units = int(active.sum())
    return {
        **s.where,
        "active units": units,
        "mean scale of active units": scale[:, active].mean().item() if units else None,
        "variance (nats²)": within.mean().item(),
        "closed form (nats²)": predicted.mean().item(),
        "variance / closed form": within.mean().item() / predicted.mean().item(),
        "variance per active unit (nats²)": within.mean().item() / units if units else None,
        "rank correlation": rank(within, predicted),
        "regression slope": ((centred * within).sum() / centred.square().sum()).item(),
        "rank correlation with trace of q": rank(within, scale.square().sum(-1)),
    }


def unit_row(s: Subject, x: Tensor) -> dict[str, Any]:
    """How much single units add: those that are used, where q is narrow and where it is wider."""
    active = posterior(s, x)[0].var(0) > ACTIVE
    some = x[:UNIT_IMAGES]
    mean, scale = posterior(s, some)
    variance = unit_variance(s.model, some, UNIT_DRAWS)
    predicted = 0.5 * (1 - scale.square()).square() + (mean * scale).square()
    row: dict[str, Any] = {**s.where, "active units": int(active.sum())}
    for side, chosen in (("narrow", active & (scale < NARROW)), ("wider", active & (scale >= NARROW))):
        row[f"{side} units"] = int(chosen.sum())
        for name, values in (("variance", variance), ("closed form", predicted), ("scale", scale)):
            unit = "" if name == "scale" else " (nats²)"
            row[f"{name}, {side}{unit}"] = values[chosen].mean().item() if chosen.any() else None
    return row


def rank(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation."""
    return float(spearmanr(x.numpy(), y.numpy()).statistic)


def summary(spreads: list[dict[str, Any]], peaks: list[dict[str, Any]]) -> Table:
    """Means over seeds."""

    def mean(rows: list[dict[str, Any]], column: str) -> float | None:
        values = [row[column] for row in rows if row[column] is not None]
        return math.fsum(values) / len(values) if values else None

    rows = []
    for name, age in dict.fromkeys((row["model"], row["age"]) for row in spreads):
        mine = [row for row in spreads if (row["model"], row["age"]) == (name, age)]
        b, a = ([row for row in mine if row["estimator"] == estimator] for estimator in ESTIMATORS)
        why = [row for row in peaks if (row["model"], row["age"]) == (name, age)]
        rows.append(
            {
                "model": name,
                "age": age,
                "epochs": mine[0]["epochs"],
                "seeds": len(b),
                "within, B (nats²)": mean(b, "within (nats²)"),
                "within, A (nats²)": mean(a, "within (nats²)"),
                "between, B (nats²)": mean(b, "between (nats²)"),
                "r, B": mean(b, "r"),
                "r, A": mean(a, "r"),
                "active units": mean(why, "active units"),
                "scale of q there": mean(why, "mean scale of active units"),
                "closed form, B (nats²)": mean(why, "closed form (nats²)"),
                "within, B / closed form": mean(why, "variance / closed form"),
                "rank correlation": mean(why, "rank correlation"),
            }
        )
    return Table.of("Variance of one draw within an image and between images, mean over seeds", rows)


def draw(found: Findings) -> list[Picture]:
    return value_pictures(found)
