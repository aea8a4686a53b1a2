"""Checks of metrics: a finite number of some model, the same each time."""

import math
from functools import lru_cache

import torch

from vae_variants.checks.base import Failed, Skipped, check
from vae_variants.checks.fixtures import changed_by, digits, members
from vae_variants.evaluation import METRICS, Evaluation, Skip, fidelity
from vae_variants.evaluation.metrics import KINDS
from vae_variants.models.base import MODELS

USUAL = ("vae", "made", "autoencoder", "gan", "pca", "linear-vae", "categorical-vae")  # together they have every capability
COST = {"train_seconds": 1.0, "train_images_per_second": 1000.0, "peak_memory_bytes": 1e8}
CHANCE = ("images/s", "s", "ms", "bytes")  # units of what a machine does, which is never the same twice


@lru_cache(maxsize=64)
def evaluations(model: str) -> tuple[Evaluation, Evaluation, Evaluation]:
    """Three evaluations of one untrained model on digits, each with its own copy; all metrics share them."""
    data = digits(200, 60)
    return tuple(Evaluation(members(model, data)[0], data, 0, fidelity("smoke"), cost=COST) for _ in range(3))  # type: ignore[return-value]


def first(name: str) -> tuple[str, float]:
    """The first model that the metric has a value for, and the value."""
    metric, reason = METRICS[name], ""
    capable = [model for model in dict.fromkeys([*USUAL, *MODELS]) if all(issubclass(MODELS[model], need) for need in metric.needs)]
    if not capable:
        needs = " and ".join(need.__name__ for need in metric.needs)
        raise Failed(f"is asked of no model: none is {needs}", "name capabilities of vae_variants.models.base in needs")
    for model in capable:
        if metric.applies(evaluations(model)[0]):
            try:
                return model, metric.fn(evaluations(model)[0])
            except Skip as skip:
                reason = str(skip)
    raise Skipped(reason or "it applies to no model on digits at smoke fidelity")


@check("metric", first=True)
def says_what_it_is(name: str) -> None:
    """It has a description for `list`, and is of a known kind."""
    if len(METRICS[name].description) < 8:
        raise Failed("has no description", "write a docstring: its first line is what `list` shows")
    if (kind := METRICS[name].kind_for(evaluations(first(name)[0])[0].model)) not in KINDS:
        raise Failed(f"is of kind {kind!r}", f"kind is one of {', '.join(KINDS)}")


@check("metric", first=True)
def gives_a_number(name: str) -> None:
    """It gives a finite number of a model that has what it needs."""
    model, value = first(name)
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        found = f"gives {type(value).__name__} of {model}"
        raise Failed(f"{found}, which is not one number", "reduce it, and end with .item()") from None
    if not math.isfinite(number):
        raise Failed(f"is {number} of {model}", 'raise Skip("why") where there is no value')


@check("metric")
def is_the_same_again(name: str) -> None:
    """Measured twice it is the same, whatever was drawn before."""
    if METRICS[name].unit in CHANCE:
        raise Skipped("what a machine takes is never the same")
    model, value = first(name)
    torch.manual_seed(12345)
    if not math.isclose(float(METRICS[name].fn(evaluations(model)[1])), float(value), rel_tol=1e-9, abs_tol=1e-12):
        raise Failed("is another number the second time", f'draw inside `with e.noise("{name}"):`, whose stream is its own')


@check("metric")
def leaves_the_model_as_it_is(name: str) -> None:
    """Measuring changes no parameter or buffer: other metrics come after it."""
    e = evaluations(first(name)[0])[2]
    if changed := changed_by(lambda: METRICS[name].fn(e), e.model):
        raise Failed(f"changes {changed[0]} of the model", "work on copy.deepcopy(e.model)")
