"""Strict types for JSON and TOML that others may have written, and one line that says what does not fit."""

import json
import math
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError

LARGEST = 1e100  # of a number: sums of squares of such numbers are finite


Int = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]  # refuses true, 1.0 and "1"
Size = Annotated[int, Strict(), Field(ge=0, le=2**40)]
Number = Annotated[float, Strict(), Field(ge=-LARGEST, le=LARGEST)]  # refuses true and "1"; `parse_json` refuses infinity and NaN
Name = Annotated[str, Field(max_length=500, pattern=r"^([^\p{C}\p{Z}`|]| )*$")]  # printable; checked in Rust, as records have thousands
Scalar = str | Annotated[bool, Strict()] | Int | Number | None


def parse_json(text: str) -> Any:
    """Raises ValueError for text that is not JSON, nested too deeply, or with a number that is not finite."""
    try:
        return DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def finite(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text[:20]} is not a finite number")
    return found


DECODER = json.JSONDecoder(parse_float=finite, parse_constant=finite)


def first_error(error: ValidationError) -> str:
    """The first thing that does not fit, in one printable line: `rows.0.value: Input should be a valid number`."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    line = f"{place}: {first['msg']}" if place else first["msg"]
    return "".join(c if c.isprintable() else "?" for c in line)[:200]
