"""Records of studies, and `run_study`, which measures and judges one claim."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, ValidationError, field_serializer

from vae_variants.harness.environment import environment
from vae_variants.harness.files import load_tensors, replace_file, save_tensors
from vae_variants.harness.migrate import MEANING
from vae_variants.harness.spec import TRAINING
from vae_variants.harness.store import slug
from vae_variants.isolation import unchanged
from vae_variants.registry import UserError
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Findings, Judgement, Study, rows, table
from vae_variants.variants import canonical

T = TypeVar("T")

STUDY_SCHEMA = 1
FILE, ARRAYS = "study.json", "arrays.safetensors"


def parsed(value: Any) -> pd.DataFrame:
    """A table from its JSON, which has a caption, columns and rows of cells."""
    if isinstance(value, pd.DataFrame):
        return value
    return table(value["caption"], [dict(zip(value["columns"], row, strict=True)) for row in value["rows"]])


def plain(frame: pd.DataFrame) -> dict[str, Any]:
    cells = [list(row.values()) for row in rows(frame)]
    return {"caption": frame.attrs.get("caption", ""), "columns": list(map(str, frame.columns)), "rows": cells}


Frame = Annotated[pd.DataFrame, PlainValidator(parsed), PlainSerializer(plain)]


class StudyRecord(BaseModel):
    """One study on one data set: the tables that it measured and their verdict. `error` says why there is no verdict."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    key: str
    name: str
    claim: str
    source: str
    criterion: str
    description: str  # what is measured
    dataset: dict[str, Any]
    fidelity: str
    seeds: list[int] | None
    command: str
    tables: dict[str, Frame] = {}
    asked: dict[str, str] = {}  # see `Lab.asked`
    arrays: list[str] = []  # names of the arrays beside the record, for figures
    judgement: Judgement | None = None
    captions: dict[str, str] = {}  # name of a figure -> caption
    error: str = ""
    environment: dict[str, Any] = {}
    started: str = ""
    seconds: float = 0.0

    @field_serializer("judgement")
    def named(self, judgement: Judgement | None) -> dict[str, Any] | None:
        """With the fields of an effect by name."""
        return None if judgement is None else {**asdict(judgement), "effects": [effect._asdict() for effect in judgement.effects]}

    def to_json(self) -> str:
        """The record and a SHA-256 of it, so that a changed record is not taken for a measured one."""
        found = {**self.model_dump(mode="json"), "schema": STUDY_SCHEMA}
        return json.dumps({**found, "sha256": digest(found)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, sealed: bool = False) -> StudyRecord:
        """Raises ValueError if the text is not a record of this schema, was changed after it was written, or lacks its `sealed` digest."""
        try:
            found = json.loads(text)
            seal = found.pop("sha256", None)  # absent from published records of earlier versions
            if seal != digest(found) and (sealed or seal is not None):
                raise ValueError("the record of a study that was changed after it was written")
            if found.pop("schema") != STUDY_SCHEMA:
                raise ValueError(f"the record of a study of a schema other than {STUDY_SCHEMA}")
            return cls.model_validate(found)
        except (AttributeError, KeyError, TypeError, ValidationError) as error:
            reason = error.errors()[0] if isinstance(error, ValidationError) else error
            raise ValueError(f"not the record of a study: {reason}") from error


def digest(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def attempt(work: Callable[[], T]) -> tuple[T | None, str]:
    """The result of `work` and "", or None and the error in one line."""
    try:
        return work(), ""
    except UserError as problem:
        return None, str(problem)
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        return None, f"{type(problem).__name__}: {problem} ({Path(where.filename).name}:{where.lineno})"


def run_study(name: str, lab: Lab, command: str, fresh: bool = False) -> tuple[StudyRecord, Findings]:
    """Measures a claim, unless the store has a measurement that is still current, and judges it.

    Args:
        name: in `STUDIES`.
        lab: the data set, preset, seeds and store.
        command: how to reproduce this, for the page.
        fresh: whether to measure in any case.

    Returns:
        The record and the findings. A study that fails has a record with its `error`; it is not stored, and measured again next time.

    Raises:
        UserError: the study is unknown, or its folder cannot be written.
    """
    study = STUDIES[name]()
    what = {"schema": STUDY_SCHEMA, "study": name, "version": study.version, "fidelity": lab.fidelity, "seeds": lab.given_seeds}
    what |= {"records": MEANING, "training": TRAINING}
    key = hashlib.sha256(f"{canonical(what)}|{lab.dataset.digest}".encode()).hexdigest()
    folder = lab.store.root / slug(lab.name) / f"study-{slug(name)}-{key[:12]}"
    known, _ = attempt(lambda: StudyRecord.from_json((folder / FILE).read_text(encoding="utf-8"), sealed=True))
    arrays = load_tensors(folder / ARRAYS, key=key) or {}
    if known and not fresh and known.key == key and set(known.arrays) == set(arrays) and lab.still(known.asked):
        return judged(known.model_copy(update={"command": command})), Findings(known.tables, arrays)
    lab.say(f"{name} on {lab.name}, preset {lab.fidelity}")
    lab.asked.clear()
    begin, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    found, error = attempt(lambda: measured(study, lab))
    record = StudyRecord(
        key=key,
        name=name,
        **about(study),
        dataset=lab.dataset.recorded(),
        fidelity=lab.fidelity,
        seeds=None if lab.given_seeds is None else list(lab.given_seeds),
        command=command,
        tables=dict(found.tables) if found else {},
        asked=dict(lab.asked),
        arrays=sorted(found.arrays) if found else [],
        error=error,
        environment=environment(lab.device),
        started=started,
        seconds=round(time.perf_counter() - begin, 3),
    )
    if found is None:
        return record, Findings({})
    record = judged(record)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"cannot make the folder {str(folder)!r}: {problem.strerror}") from problem
    if found.arrays:
        save_tensors(folder / ARRAYS, found.arrays, key=key)
    replace_file(folder / FILE, record.to_json().encode())
    return record, found


def measured(study: Study, lab: Lab) -> Findings:
    """What a study finds. Raises `Changed` if it changes what runs share; see `isolation`."""
    with unchanged("measuring", "let the study work on copies, and restore what it sets"):
        return finite(study.measure(lab))


def finite(found: Findings) -> Findings:
    """The findings. Raises ValueError for an infinite value."""
    for name, frame in found.tables.items():
        if np.isinf(frame.select_dtypes("float").to_numpy(float)).any():
            raise ValueError(f"table {name!r} has an infinite value; write None for a missing value")
    return found


def judged(record: StudyRecord) -> StudyRecord:
    """The record with the verdict of today's code on its tables."""
    study = STUDIES[record.name]()
    judgement, error = attempt(lambda: study.judge(record.tables))
    return record.model_copy(update={**about(study), "judgement": judgement, "error": error})


def about(study: Study) -> dict[str, Any]:
    return {"claim": study.claim, "source": study.source, "criterion": study.criterion, "description": inspect.getdoc(study) or ""}


def read_all(folder: Path) -> list[StudyRecord]:
    """Every record in a folder, by name of its file. Raises `UserError` for a file that is not a record."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(StudyRecord.from_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{str(path)!r} is {error}; move it away") from error
    return found
