"""The archive beside a report: the records and pictures that it was made from, sealed and compressed, so that it needs no runs."""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from safetensors.torch import load, save
from torch import Tensor
from typing_extensions import TypedDict  # pydantic refuses that of `typing` before Python 3.12

from vae_variants.harness.files import DAMAGE, read_file, seal, unseal
from vae_variants.harness.record import NewerSchema, Record
from vae_variants.harness.store import Store
from vae_variants.harness.validation import first_error, parse_json
from vae_variants.registry import UserError

HEADER, RECORDS, PICTURES = "archive.json", "records.json.gz", "pictures.safetensors.gz"
SCHEMA = 1
END = "\n}\n"  # of a record
LARGEST = 2**31  # bytes of a file without its compression

Pictures = Mapping[str, Tensor]
Run = tuple[str, Record, Callable[[], Pictures]]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@with_config(ConfigDict(extra="forbid"))
class Kept(TypedDict):
    """A run: digests of its record and of its pictures, None if the report shows no pictures of it."""

    label: str
    key: Digest
    record: Digest
    pictures: Digest | None


@with_config(ConfigDict(extra="forbid"))
class Header(TypedDict):
    """archive.json: what the report says beside its runs, digests of the compressed files, and the runs in the report's order."""

    schema: Literal[1]
    report: dict[str, Any]
    files: dict[str, Digest]
    runs: Annotated[list[Kept], Field(min_length=1)]


@dataclass(frozen=True)
class Archive:
    """`report` is what the writer of the report said beside its runs, in their order; `files` are compressed, name -> content."""

    folder: Path
    report: dict[str, Any]
    runs: tuple[Run, ...]
    kept: tuple[Kept, ...]
    files: Mapping[str, bytes]

    def lacks_pictures(self, keys: Collection[str]) -> list[str]:
        """Labels of those runs in `keys` whose pictures are not kept, because the report did not show them."""
        return [run["label"] for run in self.kept if run["key"] in keys and run["pictures"] is None]

    def with_report(self, report: Mapping[str, Any]) -> dict[str, bytes]:
        """Name -> content of each file of the archive, with another `report`. The compressed files stay as they are."""
        return {HEADER: header(report, self.files, self.kept), **self.files}


def packed(report: Mapping[str, Any], runs: Sequence[Run], pictures: Mapping[str, Pictures]) -> dict[str, bytes]:
    """Name -> content of each file of an archive, the same bytes for the same arguments.

    Args:
        report: what the report says beside its runs, as JSON.
        runs: those of the report, in its order.
        pictures: key of a run -> those that the report shows of it.
    """
    records = {record.key: record.to_json().encode() for _, record, _ in runs}
    tensors = {f"{key}/{name}": t.contiguous().clone() for key, shown in pictures.items() for name, t in shown.items()}
    files = {RECORDS: compressed(b"".join(records.values())), PICTURES: compressed(save(tensors))}
    kept = [Kept(label=label, key=r.key, record=sha(records[r.key]), pictures=digest_of(pictures.get(r.key))) for label, r, _ in runs]
    return {HEADER: header(report, files, kept), **files}


def header(report: Mapping[str, Any], files: Mapping[str, bytes], kept: Sequence[Kept]) -> bytes:
    digests = {name: sha(content) for name, content in files.items()}
    return seal(json.dumps({"schema": SCHEMA, "report": report, "files": digests, "runs": kept}, indent=1, allow_nan=False)).encode()


def read_archive(folder: Path) -> Archive:
    """The archive in a report's folder.

    Raises:
        UserError: there is none, a newer version wrote it, or any of its bytes was changed; the message names the run, if it is a run's.
    """
    head = read_header(folder)
    kept, files = head["runs"], {name: content_of(folder, name) for name in (RECORDS, PICTURES)}
    try:
        records = read_records(folder, kept, files[RECORDS])
        pictures = read_pictures(folder, kept, files[PICTURES])
    except (*DAMAGE, zlib.error) as error:
        refuse(folder, str(error))
    for name, content in files.items():
        if head["files"].get(name) != sha(content):
            refuse(folder, f"{name} does not match its digest")
    runs = tuple((run["label"], records[run["key"]], pictures[run["key"]].copy) for run in kept)
    return Archive(folder, head["report"], runs, tuple(kept), files)


def adopt(folder: Path, store: Store) -> int:
    """Copies to `store` the runs that it lacks of the archive in a report's folder, and says how many. Raises as `read_archive` does."""
    return sum(store.adopt(record, pictures()) for _, record, pictures in read_archive(folder).runs)


def read_header(folder: Path) -> Header:
    """The header of an archive: everything but records and pictures. Raises as `read_archive` does."""
    try:
        text = content_of(folder, HEADER).decode()
        found = parse_json(body := unseal(text))
        if type(schema := found.get("schema")) is int and schema > SCHEMA:
            raise UserError(f"{str(folder / HEADER)!r} has schema {schema}, which is newer than {SCHEMA}: update vae-variants")
        if body is text:
            raise ValueError("it has no digest")
        return adapter().validate_python(found)
    except ValidationError as error:
        refuse(folder, f"{HEADER}: {first_error(error)}")
    except (ValueError, TypeError, AttributeError) as error:
        refuse(folder, f"{HEADER}: {error}")


def read_records(folder: Path, kept: Sequence[Kept], content: bytes) -> dict[str, Record]:
    """Key -> record. Raises as `read_archive` does, or one of `DAMAGE`."""
    first = {run["key"]: run for run in reversed(kept)}
    wanted = [first[key] for key in dict.fromkeys(run["key"] for run in kept)]
    *texts, rest = restored(content).decode().split(END)
    found = dict[str, Record]()
    for run, text in zip_longest(wanted, [text + END for text in texts]):
        if run is None or text is None or rest:
            raise ValueError(f"{RECORDS} has not the records that {HEADER} lists")
        if sha(text.encode()) != run["record"]:
            refuse(folder, f"the record of {run['label']!r} does not match its digest")
        try:
            record = Record.from_json(text)
        except NewerSchema as error:
            raise UserError(f"{str(folder / RECORDS)!r} has {error}: update vae-variants") from error
        except ValueError as error:
            refuse(folder, f"the record of {run['label']!r}: {error}")
        if record.key != run["key"]:
            refuse(folder, f"the record of {run['label']!r} is that of another run")
        found[run["key"]] = record
    return found


def read_pictures(folder: Path, kept: Sequence[Kept], content: bytes) -> dict[str, dict[str, Tensor]]:
    """Key -> pictures of each run. Raises as `read_archive` does, or one of `DAMAGE`."""
    found: dict[str, dict[str, Tensor]] = {run["key"]: {} for run in kept}
    for name, tensor in load(restored(content)).items():
        key, _, kind = name.partition("/")
        found[key][kind] = tensor
    for run in kept:
        if digest_of(found[run["key"]] or (None if run["pictures"] is None else {})) != run["pictures"]:
            refuse(folder, f"the pictures of {run['label']!r} do not match their digest")
    return found


def content_of(folder: Path, name: str) -> bytes:
    content = read_file(folder / name)
    if content is None:
        raise UserError(
            f"{str(folder)!r} has no archive: {name} is missing; give a report's folder that has one, or a folder of records with --runs"
        )
    return content


def refuse(folder: Path, why: str) -> NoReturn:
    line = "".join(c if c.isprintable() else "?" for c in why)[:200]
    raise UserError(f"the archive in {str(folder)!r} was changed or damaged: {line}; restore it, or write the report again with --runs")


def compressed(content: bytes) -> bytes:
    """gzip without time or name."""
    file = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as out:
        out.write(content)
    return file.getvalue()


def restored(content: bytes) -> bytes:
    """The content of a gzip file. Raises `zlib.error`, or ValueError for one that is cut, followed by other bytes, or too large."""
    reader = zlib.decompressobj(wbits=31)
    found = reader.decompress(content, LARGEST)
    if not reader.eof or reader.unused_data:
        raise ValueError("a compressed file is incomplete, has a tail, or is too large")
    return found


def digest_of(pictures: Pictures | None) -> str | None:
    """A digest of names, types, shapes and values."""
    if pictures is None:
        return None
    parts = [(name, str(t.dtype), tuple(t.shape), sha(t.contiguous().numpy().tobytes())) for name, t in sorted(pictures.items())]
    return sha(repr(parts).encode())


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=1)
def adapter() -> TypeAdapter[Header]:
    return TypeAdapter(Header)
