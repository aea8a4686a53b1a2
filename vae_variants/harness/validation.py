"""Strict types for JSON and TOML that others may have written, and one line that says what does not fit."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Strict, ValidationError
from pydantic_core import from_json

__all__ = ["Int", "Number", "first_error", "parse_json"]

Int = Annotated[int, Strict()]  # refuses true, 1.0 and "1"
Number = Annotated[float, Strict()]  # refuses true and "1"; `parse_json` refuses infinity and NaN


def parse_json(text: str) -> Any:
    """Raises ValueError for text that is not JSON, nested too deeply, or with a number that is not finite."""
    found = from_json(text, allow_inf_nan=False)
    json.dumps(found, allow_nan=False)  # `from_json` reads 1e999 as infinity
    return found


def first_error(error: ValidationError) -> str:
    """The first thing that does not fit, in one printable line: `rows.0.value: Input should be a valid number`."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    line = f"{place}: {first['msg']}" if place else first["msg"]
    return "".join(c if c.isprintable() else "?" for c in line)[:200]
