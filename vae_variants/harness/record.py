"""What a run leaves behind: plain JSON, and the only thing that a report is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

from vae_variants.harness.files import seal, unseal
from vae_variants.harness.fingerprint import fingerprint
from vae_variants.harness.migrate import MEANING, SCHEMA, migrate
from vae_variants.harness.spec import LATER, identifying
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, canonical

__all__ = ["STATUSES", "OtherSchema", "Record", "identity_of", "is_a"]


class OtherSchema(ValueError):
    """Written by a version of the program that is younger than this."""


# type -> what JSON gives for it: a whole number is a float as well
SIMPLE: dict[Any, set[type]] = {str: {str}, int: {int}, float: {float, int}, float | None: {float, int, type(None)}}
TEXTS = ("metric", "unit", "better", "kind", "status", "reason")
ROW = {"seed": int, "value": float | None, **dict.fromkeys(TEXTS, str)}  # what each of a record's rows has, and of which type
DATASET = {"name": str, "digest": str, "shape": list[int], "levels": int, "sizes": dict[str, int]}
# of a seed: `interrupted` is by no fault of the run's, which the next start makes again
STATUSES = ("ok", "diverged", "oom", "timeout", "error", "skipped", "interrupted")


def identity(meaning: int, values: dict[str, Any], dataset: dict[str, Any], seeds: list[int], fidelity: str) -> str:
    found = {"schema": meaning, "values": identifying(values), "dataset": dataset["name"]}
    return canonical({**found, "seeds": seeds, "fidelity": fidelity})


def identity_of(text: str) -> str | None:
    """Identity of a record, if its figures mean what today's do, from the beginning of its file; None where that does not tell."""
    try:
        parts = json.loads(text.partition(',\n "status": ')[0] + "}")
        return identity(MEANING, *(parts[name] for name in ("values", "dataset", "seeds", "fidelity")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True)
class Record:
    """One run, its seeds' values and states. Keys of `status` and `reason` are seeds as text, as JSON wants them.

    `failure` says of a run that failed as a whole how many epochs were done, `epoch`, and has the end of the `traceback`, if there is one;
    of one that was interrupted it says how often so far, `tries`.
    """

    key: str
    label: str
    values: dict[str, Any]
    dataset: dict[str, Any]
    support: str
    fidelity: str
    seeds: list[int]
    status: dict[str, str]
    reason: dict[str, str] = field(default_factory=dict)
    failure: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)  # each with what is in `ROW`
    curves: dict[str, list[list[float | None]]] = field(default_factory=dict)  # name -> seed -> epoch
    epoch_seconds: list[float] = field(default_factory=list)
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # name -> seed as text -> one number per latent unit
    classifier: dict[str, Any] = field(default_factory=dict)  # digest and test accuracy of that in whose features samples are compared
    environment: dict[str, Any] = field(default_factory=dict)  # where it was measured
    trained: dict[str, Any] = field(default_factory=dict)  # the same of where it was trained, which may have been for another run
    started: str = ""
    seconds: float = 0.0
    code: str = ""  # fingerprint of the sources that made it; none before schema 3
    meaning: int = MEANING
    schema: int = SCHEMA

    @property
    def ok(self) -> bool:
        return all(status == "ok" for status in self.status.values())

    @property
    def interrupted(self) -> bool:
        """Whether something from outside ended it, so that it is to be gone on with."""
        return "interrupted" in self.status.values()

    @property
    def current(self) -> bool:
        """Whether it was trained and measured by the code that there is now."""
        try:
            now, training = fingerprint(self.values), fingerprint(self.values, evaluation=False)
        except (UserError, TypeError):  # of a plug-in that is not here
            return False
        return self.code == now and self.trained.get("code", training) == training

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.label, self.values)

    @property
    def identity(self) -> str:
        """Equal to that of the `RunSpec` it came from."""
        return identity(self.meaning, self.values, self.dataset, self.seeds, self.fidelity)

    def value(self, metric: str, seed: int) -> float | None:
        return next((row["value"] for row in self.rows if row["metric"] == metric and row["seed"] == seed), None)

    def to_json(self) -> str:
        """With a digest of all of it at its end."""
        return seal(json.dumps(asdict(self), indent=1, allow_nan=False))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises OtherSchema for a record of a schema to come, ValueError where the text is not a record or does not fit its digest."""
        body = unseal(text)
        try:
            found = json.loads(body, parse_float=number, parse_constant=number)
        except RecursionError as error:
            raise ValueError("not a record") from error
        if not isinstance(found, dict) or type(found.get("schema")) is not int:
            raise ValueError("not a record")
        if found["schema"] > SCHEMA:
            raise OtherSchema(f"a record of schema {found['schema']}, which is younger than {SCHEMA}")
        if found["schema"] == SCHEMA and body is text:
            raise ValueError(f"a record of schema {SCHEMA} without its digest")
        try:
            found = migrate(found)
            if "epochs" in found["values"]:  # it was trained, by what `LATER` says where it does not say so itself
                found["values"] = {**LATER, **found["values"]}
            record = cls(**found)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"a record with missing or unknown parts: {error}") from error
        if fault := record.fault():
            raise ValueError(f"a record {fault}")
        return record

    def fault(self) -> str:
        """What is wrong with its parts, in some words; empty where they are what they should be."""
        for name, hint in hints().items():
            if not is_a(getattr(self, name), hint):
                return f"whose {name} is not what it should be"
        if set(self.status) != {str(s) for s in self.seeds} or not set(self.status.values()) <= set(STATUSES):
            return "whose states do not belong to its seeds"
        if not all(name in self.dataset and is_a(self.dataset[name], hint) for name, hint in DATASET.items()):
            return "without what has to be known of its data"
        if not all(name in row for row in self.rows for name in ROW):
            return "with a row that is not one"
        if not all(all_are([row[name] for row in self.rows], hint) for name, hint in ROW.items()):
            return "with a row that is not one"
        return ""


@lru_cache(maxsize=1)
def hints() -> dict[str, Any]:
    return get_type_hints(Record)


def is_a(value: object, hint: Any) -> bool:
    """Whether a value of JSON is of a type."""
    if hint is Any or type(value) in SIMPLE.get(hint, ()):
        return True
    match get_origin(hint), get_args(hint):
        case (origin, (key, inner)) if origin is dict:
            return isinstance(value, dict) and all_are(value, key) and all_are(value.values(), inner)
        case (origin, (inner,)) if origin is list:
            return isinstance(value, list) and all_are(value, inner)
    return False


def all_are(values: Collection[object], hint: Any) -> bool:
    return hint is Any or (set(map(type, values)) <= SIMPLE[hint] if hint in SIMPLE else all(is_a(value, hint) for value in values))


def number(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text[:20]} is no number of a record")
    return found
