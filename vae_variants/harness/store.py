"""Runs on disk: one folder each, written so that an interruption leaves either the old state or the new one."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vae_variants.harness.record import OtherSchema, Record, identity_of
from vae_variants.harness.spec import RunSpec
from vae_variants.registry import UserError

__all__ = ["Store", "load_tensors", "save_tensors", "slug"]

RECORD, CHECKPOINT, MODEL, PICTURES = "record.json", "training.safetensors", "model.safetensors", "pictures.safetensors"
BEGINNING = 8192  # characters of a record, by which it is looked at first


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:80] or "run"


def replace_file(path: Path, content: bytes) -> None:
    """All of `content` or nothing new: temporary name, fsync, rename."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    replace_file(path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata=metadata))


def load_tensors(path: Path, **expected: str) -> dict[str, Tensor] | None:
    """The tensors of a file, or None where there is none, it is damaged, or its metadata are not those expected."""
    found = load_with_metadata(path, **expected)
    return None if found is None else found[0]


def load_with_metadata(path: Path, **expected: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if any(metadata.get(k) != v for k, v in expected.items()):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        set_aside(path, str(error))
        return None


def set_aside(path: Path, why: str) -> None:
    try:
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    except OSError as error:
        raise UserError(f"{str(path)!r} is damaged and cannot be set aside: {error.strerror or error}") from error
    print(f"{str(path)!r} is damaged and was set aside ({why.splitlines()[0][:120]})", file=sys.stderr)


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
        folder = self.locate(spec, key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error
        return folder

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Every readable record with its folder, in the order of their names."""
        for path in sorted(self.root.glob(f"*/*/{RECORD}")):
            if (record := self.read(path)) is not None:
                yield path.parent, record

    def read(self, path: Path) -> Record | None:
        if not path.is_file():
            return None
        try:
            return Record.from_json(path.read_text(encoding="utf-8"))
        except OtherSchema:
            return None
        except (ValueError, OSError) as error:
            set_aside(path, str(error))
            return None

    def get(self, spec: RunSpec, key: str) -> Record | None:
        record = self.read(self.locate(spec, key) / RECORD)
        return record if record is not None and record.key == key else None

    def epochs_done(self, spec: RunSpec) -> int:
        """Of a run that was interrupted: what its checkpoint holds. Needs no data."""
        states = [load_tensors(path, identity=spec.identity) for path in (self.root / slug(spec.dataset)).glob(f"*/{CHECKPOINT}")]
        return max((int(state["epoch"]) for state in states if state is not None), default=0)

    def trained(self, spec: RunSpec, key: str, training_key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and metadata of the models trained for this run, else of the last ones for another that shares its training."""
        own = self.locate(spec, key) / MODEL
        others = sorted((self.root / slug(spec.dataset)).glob(f"*/{MODEL}"), key=lambda path: path.stat().st_mtime, reverse=True)
        found = (load_with_metadata(path, training=training_key) for path in (own, *others))
        return next((state for state in found if state is not None), None)

    def newest(self, wanted: Iterable[str]) -> dict[str, tuple[Path, Record]]:
        """identity -> the last record of it, with its folder, of those `wanted`; of all others no more than the beginning is looked at."""
        identities, found = set(wanted), dict[str, tuple[Path, Record]]()
        for path in sorted(self.root.glob(f"*/*/{RECORD}")):
            if (begun := self.glance(path)) is not None and begun not in identities:
                continue
            record = self.read(path)
            if record is None or (identity := record.identity) not in identities:
                continue
            if identity not in found or record.started > found[identity][1].started:
                found[identity] = (path.parent, record)
        return found

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
        replace_file(folder / RECORD, record.to_json().encode())
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def pictures(self, folder: Path) -> dict[str, Tensor]:
        return load_tensors(folder / PICTURES) or {}


def finite(rows: list[list[float]]) -> list[list[float | None]]:
    """NaN and infinity as null: JSON has neither."""
    return json.loads(re.sub(r"-?(NaN|Infinity)", "null", json.dumps(rows)))
