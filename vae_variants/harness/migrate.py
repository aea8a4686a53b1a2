"""Converts records of earlier schemas to the current one, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MEANING", "SCHEMA", "migrate"]

SCHEMA = 3  # what a record holds; a change needs one more step below, and a fixture in tests/data
MEANING = 2  # what the numbers mean; raise it when a metric changes its meaning: all runs are then new


def from_1(found: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no series, classifier or place of training, and some numbers had another meaning."""
    return {"series": {}, "classifier": {}, "trained": {}, **found, "meaning": 1}


def from_2(found: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 had no code, failure or digest."""
    return {"meaning": 2, "code": "", "failure": {}, "trained": {}, **found}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_1, 2: from_2}


def migrate(found: dict[str, Any]) -> dict[str, Any]:
    """Converts `found`, which need not be a valid record. Raises KeyError for an unknown schema."""
    while (schema := found["schema"]) != SCHEMA:
        found = {**STEPS[schema](found), "schema": schema + 1}
    return found
