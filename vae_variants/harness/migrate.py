"""Records of older schemas, brought to today's step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MEANING", "SCHEMA", "migrate"]

SCHEMA = 3  # of records: what a file holds; a change takes a step more below, and a fixture in tests/data
MEANING = 2  # of figures; a change of what one means makes a new one, and new runs


def from_1(found: dict[str, Any]) -> dict[str, Any]:
    """Records had neither series nor the classifier nor where they were trained; some of their figures meant something else."""
    return {"series": {}, "classifier": {}, "trained": {}, **found, "meaning": 1}


def from_2(found: dict[str, Any]) -> dict[str, Any]:
    """Records did not say which code had made them nor where a failure was, and had no digest."""
    return {"meaning": 2, "code": "", "failure": {}, "trained": {}, **found}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_1, 2: from_2}


def migrate(found: dict[str, Any]) -> dict[str, Any]:
    """`found` in today's schema, of which it is not said that it is a valid record. Raises KeyError for a schema that is not known."""
    while (schema := found["schema"]) != SCHEMA:
        found = {**STEPS[schema](found), "schema": schema + 1}
    return found
