"""What a variant scores for a purpose on a task: 0 is the default variant, 1 what cannot be beaten, or one bit per dimension more."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from vae_variants.analysis.advice import DEFAULT
from vae_variants.analysis.entries import SUPPORTS, Entry, trained
from vae_variants.analysis.tasks import Task
from vae_variants.evaluation.metrics import data_name

REAL = "reference-data"  # the baseline of real training images
ANCHORS = {"binary": DEFAULT, "byte": "vae-discretized", "unit": "vae-continuous-bernoulli", "real": "vae-gaussian-learnt"}
FEATURES = "cnn"  # end of the name of a metric in the features of a classifier


class Reference(Enum):
    """What scores 1, if it depends on the task: one bit per dimension more than the default, or real images."""

    BIT = "one bit per dimension more"
    REAL = "real images"


@dataclass(frozen=True)
class Purpose:
    """A purpose. Its score is the mean over its metrics of (value − default) / (one − default), `one` being what cannot be beaten.

    `said` describes the score. Times `scale` it is in `unit`. `supports` are compared apart, or all pixel types together if there are none.
    """

    title: str
    metrics: tuple[str, ...]
    one: float | Reference
    unit: str
    said: str
    supports: tuple[str, ...] = ()
    scale: float = 100.0


PURPOSES = (
    Purpose(
        "Likelihood",
        ("log_likelihood",),
        Reference.BIT,
        "bits per dimension more",
        "log p(x) less that of the default, in bits per dimension, within one pixel type. Lower bounds stand for log p(x): more posterior "
        "samples may raise them.",
        tuple(SUPPORTS),
        1.0,
    ),
    Purpose(
        "Compression",
        ("bits_per_dim",),
        0.0,
        "% of the bits saved",
        "The share of the default's bits per dimension that is saved, within one pixel type of discrete pixels.",
        ("binary", "byte"),
    ),
    Purpose(
        "Reconstruction",
        ("reconstruction_mse",),
        0.0,
        "% of the error removed",
        "The share of the default's squared error against grey test images that is removed. More latent units lower it for every variant.",
    ),
    Purpose(
        "Samples",
        ("fd-{data}cnn", "precision", "coverage"),
        Reference.REAL,
        "% of the way to real images",
        "The share of the way from the default to real training images, a mean over Fréchet distance, precision and coverage.",
    ),
    Purpose(
        "Latents",
        ("probe_accuracy",),
        1.0,
        "% of the errors removed",
        "The share of the default's errors that is removed, of a linear classifier on the latents.",
    ),
)


class Scored(NamedTuple):
    """Of a task: the label of its default variant, and seed -> score for each label."""

    anchor: str
    scores: dict[str, dict[int, float]]


def names(purpose: Purpose, task: Task) -> list[str]:
    """The purpose's metrics on the task's data."""
    return [metric.replace("{data}", data_name(task.data)) for metric in purpose.metrics]


def value_of_one(purpose: Purpose, task: Task, metric: str, zero: float) -> float | None:
    """The value of a metric that scores 1; None if there are no real images."""
    if purpose.one is Reference.BIT:
        return zero + task.pixels * math.log(2)
    if purpose.one is Reference.REAL:
        found = task.by_label.get(REAL)
        return found.mean(metric) if found is not None and found.values(metric) else None
    assert isinstance(purpose.one, float)
    return purpose.one


def scored(purpose: Purpose, task: Task, support: str = "") -> Scored | str:
    """The scores of all trained variants that have the metrics, of one pixel type if `support` names it; or why there are none."""
    label = ANCHORS[support] if support else DEFAULT
    anchor, metrics = task.by_label.get(label), names(purpose, task)
    if anchor is None or not all(anchor.values(metric) for metric in metrics):
        return f"{label} has no {next((m for m in metrics if anchor is None or not anchor.values(m)), '')}"
    if anchor.collapsed:
        return f"{label} has collapsed"
    if support and anchor.record.support != support:
        return f"{label} has other pixels"
    ends = []
    for metric in metrics:
        zero = anchor.mean(metric)
        one, sign = value_of_one(purpose, task, metric, zero), {"higher": 1.0, "lower": -1.0}.get(anchor.rows[metric][0]["better"], 0.0)
        if one is None:
            return f"no {REAL} to measure {metric} against"
        if sign * (one - zero) <= 0:
            return f"{label} is no worse by {metric} than what would score 1"
        ends.append((metric, zero, one - zero))
    found = dict[str, dict[int, float]]()
    for e in task.entries:
        if trained(e) and support in ("", e.record.support) and alike(e, anchor, metrics):
            values = [(e.values(metric), zero, width) for metric, zero, width in ends]
            common = sorted(set.intersection(*(set(own) for own, _, _ in values)))
            if common:
                found[e.label] = {s: math.fsum((own[s] - zero) / width for own, zero, width in values) / len(values) for s in common}
    return Scored(label, found)


def alike(entry: Entry, anchor: Entry, metrics: list[str]) -> bool:
    """Whether features, if a metric uses any, are those of the same classifier."""
    if not any(metric.endswith(FEATURES) for metric in metrics):
        return True
    return bool(entry.record.classifier.get("digest") == anchor.record.classifier.get("digest"))
