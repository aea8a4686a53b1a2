"""What a study leaves behind, and the one function that runs studies."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from vae_variants.harness.environment import environment
from vae_variants.harness.migrate import MEANING
from vae_variants.harness.spec import TRAINING
from vae_variants.harness.store import load_tensors, replace_file, save_tensors, slug
from vae_variants.registry import UserError
from vae_variants.studies.lab import Lab
from vae_variants.studies.study import STUDIES, Cell, Effect, Findings, Judgement, Study, Table, Verdict
from vae_variants.variants import canonical

__all__ = ["StudyRecord", "attempt", "read_all", "run_study"]

T = TypeVar("T")

STUDY_SCHEMA = 1
FILE, ARRAYS = "study.json", "arrays.safetensors"


@dataclass(frozen=True)
class StudyRecord:
    """One study on one data set: what was measured, and the verdict on it. `error` says why there is none."""

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
    tables: dict[str, Table] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)  # see `Lab.asked`
    arrays: list[str] = field(default_factory=list)  # names of what lies beside the record, for figures
    judgement: Judgement | None = None
    captions: dict[str, str] = field(default_factory=dict)  # name of a figure -> caption
    error: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    schema: int = STUDY_SCHEMA

    def to_json(self) -> str:
        found = asdict(self)
        if self.judgement is not None:
            found["judgement"]["effects"] = [effect._asdict() for effect in self.judgement.effects]
        return json.dumps(found, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> StudyRecord:
        """Raises ValueError where the text is not a record of a study."""
        try:
            found = json.loads(text)
            if found.get("schema") != STUDY_SCHEMA or set(found) != {f.name for f in fields(cls)}:
                raise ValueError(f"not the record of a study of schema {STUDY_SCHEMA}")
            tables = {
                name: Table(**{**t, "columns": tuple(t["columns"]), "rows": tuple(map(tuple, t["rows"]))})
                for name, t in found["tables"].items()
            }
            if (judgement := found["judgement"]) is not None:
                effects = tuple(Effect(**{**parts, "verdict": Verdict(parts["verdict"])}) for parts in judgement["effects"])
                judgement = Judgement(Verdict(judgement["verdict"]), judgement["reason"], effects, tuple(judgement.get("more", ())))
            return cls(**{**found, "tables": tables, "judgement": judgement})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"the record of a study with missing parts: {error}") from error


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], folded: bool) -> Table:
    """From JSON, which has lists alone."""
    return Table(caption, tuple(columns), tuple(map(tuple, rows)), folded)


def attempt(work: Callable[[], T]) -> tuple[T | None, str]:
    """The result of `work` and no error, or no result and what went wrong in one line."""
    try:
        return work(), ""
    except UserError as problem:
        return None, str(problem)
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        return None, f"{type(problem).__name__}: {problem} ({Path(where.filename).name}:{where.lineno})"


def run_study(name: str, lab: Lab, command: str, fresh: bool = False) -> tuple[StudyRecord, Findings]:
    """Measures unless that was done before, of what would be the same today, and judges in any case.

    A study that fails is a record with its `error`, and is measured again next time.
    """
    study = STUDIES[name]()
    what = {"schema": STUDY_SCHEMA, "study": name, "version": study.version, "fidelity": lab.fidelity, "seeds": lab.given_seeds}
    what |= {"records": MEANING, "training": TRAINING}
    key = hashlib.sha256(f"{canonical(what)}|{lab.dataset.digest}".encode()).hexdigest()
    folder = lab.store.root / slug(lab.name) / f"study-{slug(name)}-{key[:12]}"
    known = None if fresh else read(folder / FILE, key)
    arrays = load_tensors(folder / ARRAYS, key=key) or {}
    if known is not None and set(known.arrays) == set(arrays) and lab.still(known.asked):
        found = Findings(known.tables, arrays)
        kept: dict[str, Any] = {"environment": known.environment, "started": known.started, "seconds": known.seconds, "asked": known.asked}
        return judged(study, name, key, lab, command, found, kept), found
    lab.say(f"{name} on {lab.name}, {lab.fidelity} fidelity")
    lab.asked.clear()
    begin = time.perf_counter()
    kept = {"environment": environment(lab.device), "started": datetime.now(UTC).isoformat(timespec="seconds")}
    measured, error = attempt(lambda: study.measure(lab))
    kept |= {"seconds": round(time.perf_counter() - begin, 3), "asked": dict(lab.asked)}
    if measured is None:
        return blank(study, name, key, lab, command, error=error, **kept), Findings({})
    record = judged(study, name, key, lab, command, measured, kept)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"cannot make the folder {str(folder)!r}: {problem.strerror}") from problem
    if measured.arrays:
        save_tensors(folder / ARRAYS, measured.arrays, key=key)
    replace_file(folder / FILE, record.to_json().encode())
    return record, measured


def judged(study: Study, name: str, key: str, lab: Lab, command: str, found: Findings, kept: Mapping[str, Any]) -> StudyRecord:
    judgement, error = attempt(lambda: study.judge(found.tables))
    parts = {"tables": dict(found.tables), "arrays": sorted(found.arrays), "judgement": judgement, "error": error}
    return blank(study, name, key, lab, command, **parts, **kept)


def blank(study: Study, name: str, key: str, lab: Lab, command: str, **rest: Any) -> StudyRecord:
    seeds = None if lab.given_seeds is None else list(lab.given_seeds)
    kept = (study.claim, study.source, study.criterion, inspect.getdoc(study) or "")
    return StudyRecord(key, name, *kept, lab.dataset.recorded(), lab.fidelity, seeds, command, **rest)


def read(path: Path, key: str) -> StudyRecord | None:
    if not path.is_file():
        return None
    try:
        record = StudyRecord.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    return record if record.key == key else None


def read_all(folder: Path) -> Sequence[StudyRecord]:
    """Every record of a study in a folder of them, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(StudyRecord.from_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise UserError(f"{str(path)!r} is {error}; move it away") from error
    return found
