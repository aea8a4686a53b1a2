"""What a run leaves behind: plain JSON, and the only thing that a report is made of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vae_variants.harness.spec import LATER, SCHEMA, identifying
from vae_variants.variants import Configuration, canonical

__all__ = ["STATUSES", "OtherSchema", "Record", "identity_of"]


class OtherSchema(ValueError):
    """Written by another version of the program: its figures may mean something else."""


STATUSES = ("ok", "diverged", "oom", "timeout", "error", "skipped", "interrupted")


def identity(schema: int, values: dict[str, Any], dataset: dict[str, Any], seeds: list[int], fidelity: str) -> str:
    found = {"schema": schema, "values": identifying(values), "dataset": dataset["name"]}
    return canonical({**found, "seeds": seeds, "fidelity": fidelity})


def identity_of(text: str) -> str | None:
    """Identity of a record of this schema from the beginning of what `to_json` made; None where that does not tell."""
    try:
        parts = json.loads(text.partition(',\n "status": ')[0] + "}")
        return identity(SCHEMA, *(parts[name] for name in ("values", "dataset", "seeds", "fidelity")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@dataclass(frozen=True)
class Record:
    """One run, its seeds' values and states. Keys of `status` and `reason` are seeds as text, as JSON wants them."""

    key: str
    label: str
    values: dict[str, Any]
    dataset: dict[str, Any]
    support: str
    fidelity: str
    seeds: list[int]
    status: dict[str, str]
    reason: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)  # seed, metric, value, unit, better, kind, status, reason
    curves: dict[str, list[list[float | None]]] = field(default_factory=dict)  # name -> seed -> epoch
    epoch_seconds: list[float] = field(default_factory=list)
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # name -> seed as text -> one number per latent unit
    classifier: dict[str, Any] = field(default_factory=dict)  # digest and test accuracy of that in whose features samples are compared
    environment: dict[str, Any] = field(default_factory=dict)  # where it was measured
    trained: dict[str, Any] = field(default_factory=dict)  # the same of where it was trained, which may have been for another run
    started: str = ""
    seconds: float = 0.0
    schema: int = SCHEMA

    @property
    def ok(self) -> bool:
        return all(status == "ok" for status in self.status.values())

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.label, self.values)

    @property
    def identity(self) -> str:
        """Equal to that of the `RunSpec` it came from."""
        return identity(self.schema, self.values, self.dataset, self.seeds, self.fidelity)

    def value(self, metric: str, seed: int) -> float | None:
        return next((row["value"] for row in self.rows if row["metric"] == metric and row["seed"] == seed), None)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises OtherSchema for a record of another schema, ValueError where the text is not a record."""
        found = json.loads(text)
        names = {f.name for f in fields(cls)}
        if isinstance(found, dict) and isinstance(found.get("schema"), int) and found["schema"] != SCHEMA:
            raise OtherSchema(f"a record of schema {found['schema']}, not {SCHEMA}")
        if not isinstance(found, dict) or "schema" not in found or not names.issuperset(found):
            raise ValueError(f"not a record of schema {SCHEMA}")
        try:
            if "epochs" in found["values"]:  # it was trained, by what `LATER` says where it does not say so itself
                found["values"] = {**LATER, **found["values"]}
            record = cls(**found)
            valid = set(record.status) == {str(s) for s in record.seeds} and set(record.status.values()) <= set(STATUSES)
            record.dataset["name"]
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"a record with missing parts: {error}") from error
        if not valid:
            raise ValueError("a record whose states do not belong to its seeds")
        return record
