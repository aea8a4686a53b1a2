"""The folder of runs: one subfolder for each run, whose files an interruption leaves in the old state or the new one."""

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict  # pydantic refuses that of `typing` before Python 3.12

from vae_variants.harness.files import (
    described,
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
from vae_variants.harness.members import Member, split
from vae_variants.harness.record import NewerSchema, Record, beginning_of, summary
from vae_variants.harness.spec import RunSpec
from vae_variants.harness.validation import Int, first_error, parse_json
from vae_variants.registry import UserError, user_path

RECORD, CHECKPOINT, MODEL, PICTURES = "record.json", "training.safetensors", "model.safetensors", "pictures.safetensors"
TENSORS = (CHECKPOINT, MODEL, PICTURES)
PLANS = "plans"
UNFINISHED = {"error", "timeout", "oom", "interrupted"}  # states of a run whose checkpoint is kept
BEGINNING = 8192  # characters of a record that hold its identity
KEY = 12  # characters of a key in the name of a folder
SETTLED = 2_000_000_000  # nanoseconds after which a change of a folder has a later time than the one before


class PlannedRun(TypedDict):
    """What a manifest says of a run, as far as it is read."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    key: str
    label: str
    dataset: str
    seeds: list[Int]
    fidelity: str


MANIFEST = TypeAdapter(list[PlannedRun])


def slug(text: str) -> str:
    """`text` as part of a file name: letters, digits, `.`, `=` and `-`."""
    return re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:80] or "run"


def named(shown: str, whole: str) -> str:
    """`shown` as part of a file name, with a short digest of `whole` unless it says all of that."""
    name = slug(shown)
    told = re.sub(r"[?,:]", "-", whole) == name
    return name if told else f"{name[:69]}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:10]}"


class Store:
    """Run folders `ROOT/<data set>/<label>-<key>/`. The label is for people; the key identifies the run.

    `latest` is the greatest order of a record that was seen here. A new record gets a greater one.
    """

    def __init__(self, root: str | Path, latest: int = 0) -> None:
        self.root, self.latest = user_path(root), latest
        self.listed = dict[Path, tuple[int, dict[str, str]]]()  # folder -> time of its last change, and `names` at that time

    def locate(self, spec: RunSpec, key: str) -> Path:
        """The run's folder, whether it exists or not."""
        parent = self.root / slug(spec.dataset)
        usual = parent / f"{slug(spec.label)}-{key[:12]}"
        if usual.is_dir():
            return usual
        known = self.names(parent).get(key[:12])
        return parent / known if known else usual

    def names(self, parent: Path) -> dict[str, str]:
        """The first of the folders there, by the beginning of their key; read again only if one may have come or gone since."""
        with suppress(OSError):
            changed = parent.stat().st_mtime_ns
            before, found = self.listed.get(parent, (0, {}))
            if changed != before:
                every = [name for name in os.listdir(parent) if name[-KEY - 1 : -KEY] == "-"]
                found = {name[-KEY:]: name for name in every}
                if len(found) < len(every):  # rarely; it takes time
                    found = {name[-KEY:]: name for name in sorted(every, reverse=True)}
                self.listed[parent] = (changed if time.time_ns() - changed > SETTLED else 0), found
            return found
        return {}

    def folder(self, spec: RunSpec, key: str) -> Path:
        """The run's folder, made if necessary."""
        return make_folder(self.locate(spec, key))

    def files(self, name: str, *of: str) -> list[str]:
        """Paths of this name in the folders of runs of these data sets, or of all, sorted, whether there is such a file or not."""
        return [f"{self.root}/{data}/{run}/{name}" for data in of or below(self.root) for run in below(self.root / data)]

    def described(self, name: str, data: str) -> list[tuple[Path, dict[str, str]]]:
        """The tensor files of this name in the folders of runs of a data set, the latest first, each with its short metadata."""
        found = ((*described(path), path) for path in self.files(name, slug(data)))
        return [(Path(path), metadata) for changed, metadata, path in sorted(found, key=itemgetter(0), reverse=True) if changed]

    def records(self, brief: bool = False) -> Iterator[tuple[Path, Record]]:
        """Every readable record with its folder, sorted by path; see `read`."""
        for path in map(Path, self.files(RECORD)):
            if (record := self.read(path, brief=brief)) is not None:
                yield path.parent, record

    def read(self, path: Path, newer_allowed: bool = True, brief: bool = False) -> Record | None:
        """The record in a file, or None if there is none. A damaged file is set aside.

        The record of a newer version counts as none, or raises `NewerSchema` if `newer_allowed` is false. If it is to be `brief`, it may
        lack rows, curves and series, and must not be written.
        """
        if (content := read_file(path)) is None:
            return None
        try:
            return (summary(content) if brief else None) or Record.from_json(content.decode())
        except NewerSchema:
            if not newer_allowed:
                raise
        except ValueError as error:
            set_aside(path, str(error))
        return None

    def get(self, spec: RunSpec, key: str) -> Record | None:
        """The record with that key, if it also has the identity of `spec`: an older one may name its data in another way.

        Raises:
            UserError: a newer version of the program wrote the record, and this one must not replace it.
        """
        path = self.locate(spec, key) / RECORD
        try:
            record = self.read(path, newer_allowed=False)
        except NewerSchema as error:
            raise UserError(f"{str(path)!r} is {error}: update vae-variants, or name another folder with --runs") from error
        return record if record is not None and record.key == key and record.identity == spec.identity else None

    def epochs_done(self, specs: Iterable[RunSpec]) -> Counter[str]:
        """Epochs in the checkpoint of each interrupted run, by identity. Needs no data."""
        wanted, found = {spec.identity: spec.dataset for spec in specs}, Counter[str]()
        for path, metadata in (pair for data in sorted(set(wanted.values())) for pair in self.described(CHECKPOINT, data)):
            if (identity := metadata.get("identity", "")) in wanted and (state := load_tensors(path)) and "epoch" in state:
                found[identity] = max(found[identity], int(state["epoch"]))
        return found

    def trained(self, spec: RunSpec, key: str, training_key: str, *codes: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Models of this run, or else the latest ones of another run that shares its training: tensors and metadata.

        Only of the first of these `codes` that trained any; "" is any code.
        """
        own, known = self.locate(spec, key) / MODEL, self.described(MODEL, spec.dataset)
        for wanted in ({"training": training_key, **({"code": code} if code else {})} for code in codes or ("",)):
            for path in (own, *(path for path, metadata in known if wanted.items() <= metadata.items())):
                if (state := load_with_metadata(path, **wanted)) is not None:
                    return state
        return None

    def members(self, spec: RunSpec, **wanted: str) -> dict[int, Member]:
        """The seeds of `spec` that other runs have trained; of several, the one that was trained last. `wanted` are metadata of theirs."""
        found = dict[int, Member]()
        for path, known in self.described(MODEL, spec.dataset):
            if wanted.items() <= known.items() and (loaded := load_with_metadata(path, **wanted)) is not None:
                state, metadata = loaded
                members = split(state, json.loads(metadata["history"]), json.loads(metadata["seeds"]))
                found = {seed: member for seed, member in members.items() if seed in spec.seeds} | found
            if len(found) == len(spec.seeds):
                break
        return found

    def newest(
        self, wanted: Iterable[str], digests: Mapping[str, str] | None = None, brief: bool = False
    ) -> dict[str, tuple[Path, Record]]:
        """For each identity in `wanted`, its folder and record: the newest one of today's code, or else the newest one.

        `digests` maps an identity to the digest of its data, if that is known. `brief` is that of `read`.
        """
        return newest_of(self.candidates(wanted, brief), digests or {})

    def candidates(self, wanted: Iterable[str], brief: bool = False) -> dict[str, list[tuple[Path, Record]]]:
        """For each identity in `wanted`, every folder and record; see `read`. Only the beginning of others is read, if that tells."""
        identities, found = set(wanted), dict[str, list[tuple[Path, Record]]]()
        for path in map(Path, self.files(RECORD)):
            glimpse, order = beginning(path)
            self.latest = max(self.latest, order)
            if glimpse is not None and glimpse not in identities:
                continue
            record = self.read(path, brief=brief)
            if record is not None and (identity := record.identity) in identities:
                found.setdefault(identity, []).append((path.parent, record))
        return found

    def put(self, folder: Path, record: Record) -> None:
        """Writes the record, and removes the checkpoint unless the run may be resumed."""
        replace_file(folder / RECORD, record.to_json().encode())
        if UNFINISHED.isdisjoint(record.status.values()):
            (folder / CHECKPOINT).unlink(missing_ok=True)

    def adopt(self, record: Record, pictures: Mapping[str, Tensor]) -> bool:
        """Keeps a record of elsewhere with its pictures, unless it is here already; whether it was not."""
        spec = RunSpec(record.configuration, record.dataset["name"], tuple(record.seeds), record.fidelity)
        folder = self.folder(spec, record.key)
        if new := not (folder / RECORD).is_file():
            if pictures:
                save_tensors(folder / PICTURES, pictures, key=record.key)
            self.put(folder, record)
        return new

    def plan(self, runs: Sequence[Mapping[str, Any]]) -> Path:
        """Writes the manifest of the runs to come. Its name is its digest, so the same plan is the same file."""
        content = seal(json.dumps({"schema": 1, "runs": list(runs)}, indent=1, allow_nan=False)).encode()
        path = make_folder(self.root / PLANS) / f"{hashlib.sha256(content).hexdigest()[:12]}.json"
        if not path.is_file() or path.read_bytes() != content:
            replace_file(path, content)
        return path

    def planned(self) -> dict[str, dict[str, Any]]:
        """Every run in a manifest of this folder, by its key."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted((self.root / PLANS).glob("*.json")):
            try:
                runs = parse_json(unseal(path.read_text(encoding="utf-8")))["runs"]
                found |= {run["key"]: dict(run) for run in MANIFEST.validate_python(runs)}
            except ValidationError as error:
                set_aside(path, first_error(error))
            except (ValueError, KeyError, TypeError, OSError) as error:
                set_aside(path, str(error))
        return found

    def packed(self, folder: Path, seen: dict[str, float]) -> dict[str, bytes]:
        """The tensor files of a run that have changed since `seen`, to be sent to another machine. Updates `seen`."""
        found = dict[str, bytes]()
        for path in (folder / name for name in TENSORS):
            changed = modified(path)
            if changed != seen.get(path.name) and (content := read_file(path)) is not None:  # else the run has just ended
                seen[path.name], found[path.name] = changed, content
        return found

    def unpack(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Writes what `packed` gave on another machine, and nothing else."""
        for name in TENSORS:
            if name in files:
                replace_file(folder / name, files[name])

    def pictures(self, folder: Path) -> dict[str, Tensor]:
        """The pictures of the run in this folder; empty if they are absent or those of another run."""
        found = load_with_metadata(folder / PICTURES)
        if found is None or not found[1].get("key", folder.name[-12:]).startswith(folder.name[-12:]):  # earlier ones have no key
            return {}
        return found[0]


def below(folder: Path) -> list[str]:
    """Names in a folder, sorted; none if it cannot be read."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return sorted(os.listdir(folder))
    return []


def newest_of(known: Mapping[str, list[tuple[Path, Record]]], digests: Mapping[str, str]) -> dict[str, tuple[Path, Record]]:
    """The newest of the `candidates` of each identity; see `Store.newest`."""
    found = {}
    for identity, pairs in known.items():
        if fitting := [pair for pair in pairs if digests.get(identity) in (None, pair[1].dataset["digest"])]:
            found[identity] = fitting[0] if len(fitting) == 1 else max(fitting, key=lambda pair: (pair[1].current, pair[1].age))
    return found


def beginning(path: Path) -> tuple[str | None, int]:
    """Identity and order of a record from the beginning of its file. If that does not tell: None, and the time of the file."""
    try:
        with open(path, encoding="utf-8") as file:
            identity, order = beginning_of(file.read(BEGINNING))
            return identity, int(os.fstat(file.fileno()).st_mtime * 1e6) if order is None else order
    except (OSError, UnicodeDecodeError):
        return None, 0


def modified(path: Path) -> float:
    """Time of the last change; 0 if another process has just removed the file."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
