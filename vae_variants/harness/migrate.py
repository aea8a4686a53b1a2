"""Converts records of earlier schemas to the current one, one step at a time."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

SCHEMA = 5  # what a record holds; a change needs one more step below, and a fixture in tests/data
MEANING = 2  # what the numbers mean; raise it when a metric changes its meaning: all runs are then new


def from_1(found: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no series, classifier or place of training, and some numbers had another meaning."""
    return {"series": {}, "classifier": {}, "trained": {}, **found, "meaning": 1}


def from_2(found: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 had no code, failure or digest."""
    return {"meaning": 2, "code": "", "failure": {}, "trained": {}, **found}


def from_3(found: dict[str, Any]) -> dict[str, Any]:
    """Schema 3 had no order: the clock said which record is newer."""
    return {"order": microseconds(found.get("started", "")), **found}


def from_4(found: dict[str, Any]) -> dict[str, Any]:
    """Schema 4 had no choice of options."""
    return {"tuning": {}, **found}


def microseconds(time: str) -> int:
    """A time (ISO 8601) in microseconds since 1970; 0 if it is none."""
    with suppress(ValueError, OverflowError):
        return max(0, round(datetime.fromisoformat(time).timestamp() * 1e6))
    return 0


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_1, 2: from_2, 3: from_3, 4: from_4}


def migrate(found: dict[str, Any]) -> dict[str, Any]:
    """Converts `found`, which need not be a valid record. Raises KeyError for an unknown schema."""
    while (schema := found["schema"]) != SCHEMA:
        found = {**STEPS[schema](found), "schema": schema + 1}
    return found
