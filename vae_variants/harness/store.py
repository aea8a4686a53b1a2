"""Runs on disk: one folder each, written so that an interruption leaves either the old state or the new one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vae_variants.harness.files import (
    announces,
    load_tensors,
    load_with_metadata,
    make_folder,
    read_file,
    replace_file,
    save_tensors,
    seal,
    set_aside,
    unseal,
)  # fmt: skip
from vae_variants.harness.record import OtherSchema, Record, identity_of, is_a
from vae_variants.harness.spec import RunSpec
from vae_variants.registry import UserError

__all__ = ["Store", "load_tensors", "load_with_metadata", "replace_file", "save_tensors", "slug"]

RECORD, CHECKPOINT, MODEL, PICTURES = "record.json", "training.safetensors", "model.safetensors", "pictures.safetensors"
PLANS = "plans"
PLANNED = {"key": str, "label": str, "dataset": str, "seeds": list[int], "fidelity": str}  # what is read of a planned run
UNFINISHED = {"error", "timeout", "oom", "interrupted"}  # states of a run that has not come to its end
BEGINNING = 8192  # characters of a record, by which it is looked at first


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:80] or "run"


class Store:
    """Run folders `ROOT/<data set>/<label>-<key>/`; the label is for the eye, the key decides."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def locate(self, spec: RunSpec, key: str) -> Path:
        """The run's folder, there or not."""
        parent = self.root / slug(spec.dataset)
        usual = parent / f"{slug(spec.label)}-{key[:12]}"
        if usual.is_dir():
            return usual
        known = sorted(parent.glob(f"*-{key[:12]}")) if parent.is_dir() else []
        return known[0] if known else usual

    def folder(self, spec: RunSpec, key: str) -> Path:
        """The run's folder, made if there is none."""
        return make_folder(self.locate(spec, key))

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Every readable record with its folder, in the order of their names."""
        for path in sorted(self.root.glob(f"*/*/{RECORD}")):
            if (record := self.read(path)) is not None:
                yield path.parent, record

    def read(self, path: Path) -> Record | None:
        """None where there is none, it is damaged, or a younger version of the program wrote it."""
        try:
            return self.strictly(path)
        except OtherSchema:
            return None

    def strictly(self, path: Path) -> Record | None:
        """The same, but raises OtherSchema."""
        if (content := read_file(path)) is None:
            return None
        try:
            return Record.from_json(content.decode())
        except OtherSchema:
            raise
        except ValueError as error:
            set_aside(path, str(error))
            return None

    def get(self, spec: RunSpec, key: str) -> Record | None:
        """The record of that key; one that calls its data otherwise, as once was done, would not be found for a report.

        Raises `UserError` where a younger version of the program wrote it: it is not for this one to write over.
        """
        path = self.locate(spec, key) / RECORD
        try:
            record = self.strictly(path)
        except OtherSchema as error:
            raise UserError(f"{str(path)!r} is {error}: update vae-variants, or name another folder with --runs") from error
        return record if record is not None and record.key == key and record.identity == spec.identity else None

    def epochs_done(self, spec: RunSpec) -> int:
        """Of a run that was interrupted: what its checkpoint holds. Needs no data."""
        paths = (self.root / slug(spec.dataset)).glob(f"*/{CHECKPOINT}")
        states = [load_tensors(path) for path in paths if announces(path, identity=spec.identity)]
        return max((int(state["epoch"]) for state in states if state is not None), default=0)

    def trained(self, spec: RunSpec, key: str, training_key: str, code: str = "") -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and metadata of the models trained for this run, else of the last ones for another that shares its training.

        `code` asks for models that were trained by that code.
        """
        wanted = {"training": training_key, **({"code": code} if code else {})}
        own = self.locate(spec, key) / MODEL
        others = sorted((self.root / slug(spec.dataset)).glob(f"*/{MODEL}"), key=modified, reverse=True)
        paths = (own, *(path for path in others if announces(path, **wanted)))
        found = (load_with_metadata(path, **wanted) for path in paths)
        return next((state for state in found if state is not None), None)

    def newest(self, wanted: Iterable[str], digests: Mapping[str, str] | None = None) -> dict[str, tuple[Path, Record]]:
        """identity -> its record, with the folder, of those `wanted`: the last one of today's code, else the last one.

        Of all others no more than the beginning is looked at. `digests` has, for identities, that of the data which is asked for.
        """
        identities, found = set(wanted), dict[str, tuple[tuple[bool, str], Path, Record]]()
        for path in sorted(self.root.glob(f"*/*/{RECORD}")):
            if (begun := self.glance(path)) is not None and begun not in identities:
                continue
            record = self.read(path)
            if record is None or (identity := record.identity) not in identities:
                continue
            if digests is not None and record.dataset["digest"] != digests[identity]:
                continue
            rank = (record.current, record.started)
            if identity not in found or rank > found[identity][0]:
                found[identity] = (rank, path.parent, record)
        return {identity: (folder, record) for identity, (_, folder, record) in found.items()}

    def glance(self, path: Path) -> str | None:
        """Identity of a record from the beginning of its file; None where that does not tell."""
        try:
            with open(path, encoding="utf-8") as file:
                return identity_of(file.read(BEGINNING))
        except (OSError, UnicodeDecodeError):
            return None

    def find(self, wanted: Callable[[Record], bool]) -> tuple[Path, Record] | None:
        """The newest record for which `wanted` holds."""
        return max((found for found in self.records() if wanted(found[1])), key=lambda found: found[1].started, default=None)

    def put(self, folder: Path, record: Record) -> None:
        """Keeps the record; of a run that may yet be gone on with, the checkpoint as well."""
        replace_file(folder / RECORD, record.to_json().encode())
        if UNFINISHED.isdisjoint(record.status.values()):
            (folder / CHECKPOINT).unlink(missing_ok=True)

    def plan(self, runs: Sequence[Mapping[str, Any]]) -> Path:
        """Keeps the manifest of what is about to be run, under a name that is its digest: the same plan is the same file."""
        text = seal(json.dumps({"schema": 1, "runs": list(runs)}, indent=1, allow_nan=False))
        path = make_folder(self.root / PLANS) / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        if not path.is_file() or path.read_bytes() != text.encode():
            replace_file(path, text.encode())
        return path

    def planned(self) -> dict[str, dict[str, Any]]:
        """key -> what a manifest says of the run, of all that were ever planned here."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted((self.root / PLANS).glob("*.json")):
            try:
                runs = json.loads(unseal(path.read_text(encoding="utf-8")))["runs"]
                if not all(is_a(run[name], hint) for run in runs for name, hint in PLANNED.items()):
                    raise ValueError("not a manifest")
                found |= {run["key"]: run for run in runs}
            except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
                set_aside(path, str(error) or type(error).__name__)
        return found

    def packed(self, folder: Path, seen: dict[str, float]) -> dict[str, bytes]:
        """What beside the record lies in a run's folder, of what is not as `seen` has it, to be sent to another machine."""
        found = dict[str, bytes]()
        for path in (folder / name for name in (CHECKPOINT, MODEL, PICTURES)):
            at = modified(path)
            if at != seen.get(path.name) and (content := read_file(path)) is not None:  # else the run's end has just removed it
                seen[path.name], found[path.name] = at, content
        return found

    def unpack(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Puts there what `packed` gave on another machine, and nothing else."""
        for name in (CHECKPOINT, MODEL, PICTURES):
            if name in files:
                replace_file(folder / name, files[name])

    def pictures(self, folder: Path) -> dict[str, Tensor]:
        return load_tensors(folder / PICTURES) or {}


def modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # set aside by another process just now
        return 0.0


def finite(rows: list[list[float]]) -> list[list[float | None]]:
    """NaN and infinity as null: JSON has neither."""
    return json.loads(re.sub(r"-?(NaN|Infinity)", "null", json.dumps(rows)))
