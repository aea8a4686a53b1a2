"""What a metric is, and the evaluator that asks every registered one of every model capable of it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.model import Model
from vae_variants.registry import Registry

__all__ = ["METRICS", "Metric", "Skip", "Value", "evaluate", "metric", "trained"]

BETTER = ("higher", "lower", "none")
KINDS = ("exact", "lower-bound", "estimate", "measurement")


class Skip(Exception):
    """A metric that cannot be had here though the model is capable of it; its message is the reason."""


@dataclass(frozen=True)
class Metric:
    """A function of an `Evaluation` with its unit, direction and kind.

    `kind` says what the figure is to the quantity named: exact, a lower bound, an estimate, or a measurement.
    """

    name: str
    fn: Callable[[Evaluation], float]
    needs: tuple[type, ...]
    unit: str
    better: str
    kind: str | Callable[[Model], str]
    applies: Callable[[Evaluation], bool]
    description: str

    def asked_of(self, e: Evaluation) -> bool:
        return all(isinstance(e.model, need) for need in self.needs) and self.applies(e)

    def kind_for(self, model: Model) -> str:
        return self.kind if isinstance(self.kind, str) else self.kind(model)


@dataclass(frozen=True)
class Value:
    """One figure, or the reason why there is none."""

    metric: str
    value: float | None
    unit: str
    better: str
    kind: str
    status: str = "ok"
    reason: str = ""


METRICS: Registry[Metric] = Registry("metric")


def trained(e: Evaluation) -> bool:
    return bool(e.model.players)


def metric(
    *,
    needs: tuple[type, ...] = (),
    unit: str,
    better: str,
    kind: str | Callable[[Model], str] = "measurement",
    applies: Callable[[Evaluation], bool] = lambda e: True,
    name: str | None = None,
) -> Callable[[Callable[[Evaluation], float]], Callable[[Evaluation], float]]:
    """Registers a function under its own name; the first line of its docstring is its description.

    `needs` names the capabilities, classes of `vae_variants.model`, without which a model is not asked.
    """
    if not (isinstance(needs, tuple) and all(isinstance(need, type) for need in needs)):
        raise TypeError(f"needs is a tuple of classes such as (Encoder,), not {needs!r}")
    if better not in BETTER or (isinstance(kind, str) and kind not in KINDS):
        raise ValueError(f"better is one of {BETTER}, kind one of {KINDS}")

    def register(fn: Callable[[Evaluation], float]) -> Callable[[Evaluation], float]:
        description = (inspect.getdoc(fn) or "").split("\n")[0]
        entry = Metric(name or fn.__name__, fn, needs, unit, better, kind, applies, description)
        METRICS.add(entry, name=entry.name)
        return fn

    return register


def evaluate(e: Evaluation) -> list[Value]:
    """Every metric that the model is capable of; one that fails is a value with its reason and stops no other."""
    return [value_of(m, e) for m in METRICS.values() if m.asked_of(e)]


def value_of(m: Metric, e: Evaluation) -> Value:
    kind = m.kind_for(e.model)
    try:
        value = float(m.fn(e))
    except Skip as skip:
        return Value(m.name, None, m.unit, m.better, kind, "skipped", str(skip))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:300]
        return Value(m.name, None, m.unit, m.better, kind, "error", reason)
    if not math.isfinite(value):
        return Value(m.name, None, m.unit, m.better, kind, "error", f"the value is {value}")
    return Value(m.name, value, m.unit, m.better, kind)
