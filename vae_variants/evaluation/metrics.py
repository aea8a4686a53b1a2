"""Metrics, their registry, and the evaluator that computes all that apply to a model."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from vae_variants.evaluation.evaluation import Evaluation
from vae_variants.isolation import Snapshot
from vae_variants.memory import exhausted
from vae_variants.models.base import Model
from vae_variants.registry import Registry

BETTER = ("higher", "lower", "none")
KINDS = ("exact", "lower-bound", "estimate", "measurement")
NOTES = ("Formula", "Estimator", "Sample size", "Fails", "Reference")
LABELS = "|".join(NOTES)


TOLD = "the model was told labels of training images: see label_accuracy"


class Skip(Exception):
    """Raised by a metric that does not apply here; the message is the reason."""


@dataclass(frozen=True)
class Metric:
    """A function of an `Evaluation`, with unit, direction and kind."""

    name: str
    fn: Callable[[Evaluation], float]
    needs: tuple[type, ...]  # capabilities (classes of `vae_variants.models.base`) without which the metric does not apply
    unit: str
    better: str  # of `BETTER`
    kind: str | Callable[[Model], str]  # of `KINDS`, or a function of the model that gives one
    applies: Callable[[Evaluation], bool]
    description: str
    notes: Mapping[str, str] = field(default_factory=dict)  # of `NOTES`, from the docstring
    published: str = ""  # its name in records and reports; `{data}` stands for the data set's name
    module: str = ""

    def published_for(self, dataset: str) -> str:
        return self.published.format(data=data_name(dataset))

    def asked_of(self, e: Evaluation) -> bool:
        return all(isinstance(e.model, need) for need in self.needs) and self.applies(e)

    def kind_for(self, model: Model) -> str:
        return self.kind if isinstance(self.kind, str) else self.kind(model)


@dataclass(frozen=True)
class Value:
    """One value, or the reason why there is none."""

    metric: str
    value: float | None
    unit: str
    better: str
    kind: str
    status: str = "ok"
    reason: str = ""


METRICS: Registry[Metric] = Registry("metric")


@METRICS.validator
def _fault(obj: object) -> str:
    if not isinstance(obj, Metric):
        return "is not a metric; decorate a function with @metric(unit=..., better=...) in place of METRICS.add"
    if not isinstance(obj.unit, str) or not obj.unit.strip():
        return 'has no unit; write unit="nats", "fraction", "ratio" or what its figure counts'
    return ""


def trained(e: Evaluation) -> bool:
    return bool(e.model.players)


def data_name(dataset: str) -> str:
    """The data set's name in a published name: `mnist?static=true` -> `mnist`, `npz:a/My shapes.npz` -> `myshapes`."""
    kind, _, path = dataset.partition("?")[0].partition(":")
    return "".join(c for c in (PurePath(path).stem or kind).lower() if c.isalnum()) or kind


def labelled_notes(text: str) -> dict[str, str]:
    """The paragraphs of a docstring that begin with a label of `NOTES`, such as `Formula:`, each on one line.

    A paragraph ends at an empty line or at the next label. Raises ValueError for a repeated label.
    """
    found: dict[str, str] = {}
    first, _, rest = inspect.cleandoc(text).partition("\n")
    for label, note in re.findall(rf"^({LABELS}):(.*?)(?=\n(?:{LABELS}):|\n\s*\n|\Z)", rest, re.MULTILINE | re.DOTALL):
        if label in found:
            raise ValueError(f"{label!r} is there twice in the documentation of {first!r}")
        found[label] = " ".join(note.split())
    return found


def with_constants(text: str, known: Mapping[str, Any]) -> str:
    """The text with the values of the constants that it names."""

    def value(found: re.Match[str]) -> str:
        number = known[found[1]]
        return f"{number:g}" if number < 10_000 else f"{number:_}".replace("_", " ")

    return re.sub(r"\{([A-Z][A-Z_]+)\}", value, text)


def metric(
    *,
    needs: tuple[type, ...] = (),
    unit: str,
    better: str,
    kind: str | Callable[[Model], str] = "measurement",
    applies: Callable[[Evaluation], bool] = lambda e: True,
    name: str | None = None,
    published: str | None = None,
) -> Callable[[Callable[[Evaluation], float]], Callable[[Evaluation], float]]:
    """Decorator that registers a function of an `Evaluation` as a metric.

    The first line of the docstring is the description; labelled paragraphs are its `NOTES`. `{LIMIT}` stands for a constant of the module.

    Args:
        needs, kind, applies, published: As in `Metric`.
        unit: The unit, such as "nats".
        better: "higher", "lower" or "none".
        name: The registered name; the function's name by default.

    Raises:
        TypeError, ValueError: For arguments outside these choices.
    """
    if not (isinstance(needs, tuple) and all(isinstance(need, type) for need in needs)):
        raise TypeError(f"needs is a tuple of classes such as (Encoder,), not {needs!r}")
    if better not in BETTER or (isinstance(kind, str) and kind not in KINDS):
        raise ValueError(f"better is one of {BETTER}, kind one of {KINDS}")

    def register(fn: Callable[[Evaluation], float]) -> Callable[[Evaluation], float]:
        text, key = with_constants(inspect.getdoc(fn) or "", fn.__globals__), name or fn.__name__
        first, notes = text.split("\n")[0], labelled_notes(text)
        found = Metric(key, fn, needs, unit, better, kind, applies, first, notes, published or key, fn.__module__)
        METRICS.add(found, name=key, source=fn)
        return fn

    return register


def evaluate(e: Evaluation, metrics: Iterable[Metric] | None = None) -> list[Value]:
    """Computes every metric that applies, or those of `metrics`. A metric that fails becomes a value with its reason.

    Raises:
        MemoryError, RuntimeError: If memory ran out, which says nothing about the metric.
    """
    return [value_of(m, e) for m in (METRICS.values() if metrics is None else metrics) if m.asked_of(e)]


def evaluate_foreign(prepare: Callable[[], Evaluation]) -> list[Value]:
    """Computes a plug-in's metrics. One that changes what runs share, or the model, becomes a value with that reason.

    Args:
        prepare: Gives an evaluation with a copy of the model; called again after such a change.
    """
    found, before, e = list[Value](), None, prepare()
    for m in METRICS.foreign.values():
        before = before or Snapshot(e.model.state_dict().values())
        value = value_of(m, e) if m.asked_of(e) else None
        if names := before.changes():
            value = value or Value(m.published_for(e.dataset.name), None, m.unit, m.better, "measurement")
            value = replace(value, value=None, status="error", reason=f"it changes {', '.join(names)}"[:300])
            e, before = prepare(), None
        found += [value] if value else []
    return found


def value_of(m: Metric, e: Evaluation) -> Value:
    value, status, reason = None, "ok", ""
    try:
        value = float(m.fn(e))
        if not math.isfinite(value):
            value, status, reason = None, "error", f"the value is {value}"
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except Exception as error:
        if exhausted(error):
            raise
        status, reason = "error", f"{type(error).__name__}: {error}".split("\n")[0][:300]
    return Value(m.published_for(e.dataset.name), value, m.unit, m.better, m.kind_for(e.model), status, reason)
