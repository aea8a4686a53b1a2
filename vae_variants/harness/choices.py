"""How the options of a variant were chosen, as a record and a file beside a suite keep it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic refuses that of `typing` before Python 3.12

from vae_variants.harness.validation import Int, Name, Number, Scalar, Size, first_error
from vae_variants.registry import UserError

Values = dict[Name, Scalar | list[Scalar]]


@with_config(ConfigDict(extra="forbid"))
class Trial(TypedDict):
    """Values that were tried, and the mean score of their seeds, or the reason why there is none."""

    values: Values
    epochs: Size
    score: Number | None
    reason: str


@with_config(ConfigDict(extra="forbid"))
class Choice(TypedDict):
    """What was tried for a variant and what was chosen. `edge` has the options whose chosen value is the least or greatest tried."""

    problem: Name  # digest of what the choice is for: see `Tuning.problem`
    metric: Name  # on validation images
    better: Literal["higher", "lower", "none"]
    seeds: list[Int]
    images: Size
    tried: list[Trial]
    chosen: Values
    edge: list[Name]


CHOICES = TypeAdapter(dict[str, Choice])


def written(choices: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a file of choices by variant."""
    return json.dumps(dict(sorted(choices.items())), indent=1, allow_nan=False) + "\n"


def committed(suite: Path | None) -> dict[str, Choice]:
    """The choices beside a suite's file, in `NAME.tuning.json`; none without it. Raises `UserError` for a file that is damaged."""
    path = suite.with_suffix(".tuning.json") if suite else None
    if path is None or not path.is_file():
        return {}
    try:
        return CHOICES.validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise UserError(f"{str(path)!r} has no choices of options: {first_error(error)}; remove it, or make it again") from error


def choices_in(records: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Of pairs of a variant and how its options were chosen, those with a choice."""
    return {label: choice for label, choice in records if choice}
