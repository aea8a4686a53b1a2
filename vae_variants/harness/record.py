"""The record of a run: plain JSON with a strict schema, and all that a report is made from."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema, Strict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic refuses that of `typing` before Python 3.12

from vae_variants.components import chosen
from vae_variants.harness.choices import Choice
from vae_variants.harness.files import intact, seal, unseal
from vae_variants.harness.fingerprint import fingerprint
from vae_variants.harness.migrate import MEANING, SCHEMA, microseconds, migrate
from vae_variants.harness.spec import added, identifying
from vae_variants.harness.validation import Int, Name, Number, Scalar, Size, first_error, parse_json
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, canonical

# state of a seed; an interrupted one was stopped from outside, and the next start resumes it
Status = Literal["ok", "diverged", "oom", "timeout", "error", "skipped", "interrupted"]


LAST = 2**53  # greatest order
FINITE = json.JSONEncoder(allow_nan=False)
LONG = b',\n "rows": ', b',\n "classifier": '  # the first of the long members, and what follows the last
METRIC = re.compile(rb'"metric": ("[^"]*")')  # in rows


class NewerSchema(ValueError):
    """The record was written by a newer version of the program."""


@with_config(ConfigDict(extra="allow"))
class Row(TypedDict):
    """One metric of one seed. If `value` is None, `reason` says why."""

    seed: Int
    metric: Name
    value: Number | None
    unit: Name
    better: Literal["higher", "lower", "none"]
    kind: Literal["exact", "lower-bound", "estimate", "measurement"]
    status: Literal["ok", "skipped", "error"]
    reason: str


@with_config(ConfigDict(extra="forbid"))
class Sizes(TypedDict):
    """The number of images of each split."""

    train: Size
    validation: Size
    test: Size


@with_config(ConfigDict(extra="allow"))
class DatasetSummary(TypedDict):
    """The data of a run. `shape` is (channels, height, width)."""

    name: str
    digest: Name
    shape: Annotated[list[Annotated[Size, Field(ge=1)]], Field(min_length=3, max_length=3)]
    levels: Size
    sizes: Sizes
    classes: NotRequired[Size | None]
    class_names: NotRequired[list[Name]]  # of the first classes
    described: NotRequired[str]  # parts, classes, copies, and what was read, in words


@with_config(ConfigDict(extra="allow"))
class Environment(TypedDict, total=False):
    """Where something was trained or measured; see `environment.environment`."""

    python: Name
    platform: Name
    versions: dict[Name, Name | None]
    commit: Name | None
    device: Name
    device_type: Name
    threads: Int
    jobs: Int
    step: Name  # how a training step is made
    lr: Number  # learning rate
    code: Name  # fingerprint of the sources that trained the models


@with_config(ConfigDict(extra="allow"))
class FailureDetails(TypedDict, total=False):
    """Of a run that failed as a whole: last finished epoch, end of the traceback, how often it was interrupted."""

    epoch: Int
    traceback: str
    tries: Int


@with_config(ConfigDict(extra="allow"))
class Classifier(TypedDict):
    """The classifier in whose features samples are compared."""

    digest: Name
    test_accuracy: Number


@with_config(ConfigDict(extra="allow"))
class Values(TypedDict, total=False):
    """Options that reports calculate with; further ones are numbers, texts, or lists of these."""

    model: Required[str]
    epochs: Size
    latent: Annotated[Size, Field(ge=1)]
    samples: Size


SINCE_3 = {"code", "failure", "digest"}  # members that schema 3 added
Empty = Annotated[dict[str, Any], Field(max_length=0)]


def schema_of(kind: Any) -> GetPydanticSchema:
    """Validates a field as `kind`, although its static type is that of plain JSON."""
    return GetPydanticSchema(lambda _, handler: handler(kind))


OPTIONS = TypeAdapter(dict[Name, Scalar | list[Scalar]])


def check_values(values: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(values[kind.key], str) for kind in chosen() if kind.key in values):
        raise ValueError("a part is not named")
    OPTIONS.validate_python(values)
    return values


def check_time(text: str) -> str:
    if text:
        datetime.fromisoformat(text)
    return text


def identity(meaning: int, values: dict[str, Any], dataset: str, seeds: list[int], fidelity: str) -> str:
    return canonical({"schema": meaning, "values": identifying(values), "dataset": dataset, "seeds": seeds, "fidelity": fidelity})


def beginning_of(text: str) -> tuple[str | None, int | None]:
    """Identity and order of a record, read from the beginning of its file; None if that does not tell."""
    try:
        found = parse_json(text.partition(',\n "status": ')[0] + "}")
        order = found.get("order")
        told = order if type(order) is int and 0 <= order <= LAST else None
        return identity(MEANING, found["values"], found["dataset"]["name"], found["seeds"], found["fidelity"]), told
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, None


@dataclass(frozen=True)
class Record:
    """One run: the values and states of its seeds. Keys of `status`, `reason` and `series` are seeds as text, as JSON wants them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    label: Name
    values: Annotated[dict[str, Any], schema_of(Values), AfterValidator(check_values)]  # the configuration
    dataset: Annotated[dict[str, Any], schema_of(DatasetSummary)]
    support: Literal["binary", "unit", "byte", "real"]
    fidelity: Name
    seeds: Annotated[list[Int], Field(min_length=1)]
    order: Annotated[int, Strict(), Field(ge=0, le=LAST)] = field(default=0, kw_only=True)  # of two records, the newer has the greater one
    status: Annotated[dict[str, str], schema_of(dict[str, Status])]
    reason: dict[str, str] = field(default_factory=dict)
    failure: Annotated[dict[str, Any], schema_of(FailureDetails)] = field(default_factory=dict)
    rows: Annotated[list[dict[str, Any]], schema_of(list[Row])] = field(default_factory=list)
    curves: dict[Name, list[list[Number | None]]] = field(default_factory=dict)  # name -> seed -> epoch
    epoch_seconds: list[Number] = field(default_factory=list)
    series: dict[Name, dict[str, Annotated[list[Number], Field(min_length=1)]]] = field(
        default_factory=dict
    )  # name -> seed -> one number per latent unit
    classifier: Annotated[dict[str, Any], schema_of(Classifier | Empty)] = field(default_factory=dict)
    environment: Annotated[dict[str, Any], schema_of(Environment)] = field(default_factory=dict)  # where it was measured
    trained: Annotated[dict[str, Any], schema_of(Environment)] = field(
        default_factory=dict
    )  # where it was trained, perhaps for another run
    started: Annotated[str, AfterValidator(check_time)] = ""  # ISO 8601
    seconds: Number = 0.0
    tuning: Annotated[dict[str, Any], schema_of(Choice | Empty)] = field(default_factory=dict)  # how its options were chosen
    code: Name = ""  # fingerprint of the sources that made it; empty before schema 3
    meaning: Int = MEANING
    schema: Int = SCHEMA

    @property
    def ok(self) -> bool:
        return all(status == "ok" for status in self.status.values())

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped from outside, so that it has to be resumed."""
        return "interrupted" in self.status.values()

    @property
    def current(self) -> bool:
        """Whether today's code trained and measured it."""
        try:
            now, training = fingerprint(self.values), fingerprint(self.values, evaluation=False)
        except (UserError, TypeError):  # made with a plug-in that is not loaded
            return False
        return self.code == now and self.trained.get("code", training) == training

    @property
    def age(self) -> tuple[int, str]:
        """Sorts records from the oldest to the newest."""
        return self.order, self.started

    def after(self, order: int) -> Record:
        """The same with the order of its start, or the next after `order` if that is later: the clock may have been set back."""
        return replace(self, order=min(max(microseconds(self.started), order + 1), LAST))

    @property
    def configuration(self) -> Configuration:
        return Configuration(self.label, self.values)

    @property
    def identity(self) -> str:
        """Equal to the identity of the `RunSpec` that it came from."""
        return identity(self.meaning, self.values, self.dataset["name"], self.seeds, self.fidelity)

    def value(self, metric: str, seed: int) -> float | None:
        return next((row["value"] for row in self.rows if row["metric"] == metric and row["seed"] == seed), None)

    def to_json(self) -> str:
        """The record as JSON, a line for each member, sealed with a digest."""
        lines = [f" {json.dumps(each.name)}: {json.dumps(getattr(self, each.name), allow_nan=False)}" for each in fields(self)]
        return seal("{\n" + ",\n".join(lines) + "\n}")

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Reads a record of this schema or an earlier one.

        Raises:
            NewerSchema: a newer version of the program wrote it.
            ValueError: the text is not a record, or does not match its digest.
        """
        body = unseal(text)
        record = (None if body is text else at_once(body)) or step_by_step(body, body is not text)
        if not belongs(record):
            raise ValueError("a record whose states do not belong to its seeds")
        if any(len(rows) != len(record.seeds) or len(set(map(len, rows))) > 1 for rows in record.curves.values()):
            raise ValueError("a record whose curves do not belong to its seeds")
        if any(not set(found) <= set(record.status) or len(set(map(len, found.values()))) > 1 for found in record.series.values()):
            raise ValueError("a record whose series do not belong to its seeds")
        if any(row["seed"] not in record.seeds or (row["value"] is None) is (row["status"] == "ok") for row in record.rows):
            raise ValueError("a record whose values do not belong to its seeds")
        return record


def summary(content: bytes) -> Record | None:
    """The record in a file without rows, curves and series, in a fraction of the time; None if that does not tell whether it is one."""
    end = intact(content)
    first, last = content.find(LONG[0], 0, end), content.rfind(LONG[1], 0, end)
    record = at_once((content[:first] + content[last:end]).decode(errors="replace") + "\n}\n") if 0 < first < last else None
    return record if record is not None and belongs(record) else None


def metrics_in(content: bytes) -> set[str]:
    """Names of the metrics in the file of a record."""
    return set(parse_json(f"[{','.join(name.decode() for name in set(METRIC.findall(content)))}]"))


def belongs(record: Record) -> bool:
    """Whether its states are those of its seeds."""
    return len(set(record.seeds)) == len(record.seeds) and set(record.status) == set(map(str, record.seeds))


def at_once(body: str) -> Record | None:
    """Reads a record of this schema in a fraction of the time; None if that does not tell whether it is one."""
    with suppress(ValueError):
        if body.endswith(f'"schema": {SCHEMA}\n}}\n'):
            record = adapter().validate_json(body)
            loose = [row for row in record.rows if len(row) > len(Row.__annotations__)], record.dataset, record.failure, record.classifier
            FINITE.encode((*loose, record.environment, record.trained))  # parts that may have unknown members
            return record if added(record.values).keys() <= record.values.keys() else None
    return None


def step_by_step(body: str, sealed: bool) -> Record:
    """Reads a record of any schema; see `Record.from_json`."""
    found = parse_json(body)
    if not isinstance(found, dict) or type(schema := found.get("schema")) is not int or schema < 1:
        raise ValueError("not a record")
    if schema > SCHEMA:
        raise NewerSchema(f"a record of schema {schema}, which is newer than {SCHEMA}")
    if schema >= 3 and not sealed:
        raise ValueError(f"a record of schema {schema} without its digest")
    if newer := SINCE_3 & found.keys() if schema < 3 else set():
        raise ValueError(f"a record of schema {schema} with {min(newer)!r}, which schema 3 added")
    try:
        found = migrate(found)
        found["values"] = {**added(found["values"]), **found["values"]}  # it used the defaults of options added since
        return adapter().validate_python(found)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("a record without values") from error
    except ValidationError as error:
        raise ValueError(f"not a record: {first_error(error)}") from error


@lru_cache(maxsize=1)
def adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)
