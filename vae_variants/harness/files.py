"""Files that are whole or not there: written under a temporary name, sealed by a digest, set aside where that does not fit."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vae_variants.registry import UserError

__all__ = [
    "DAMAGE",
    "StoreError",
    "announces",
    "load_tensors",
    "load_with_metadata",
    "make_folder",
    "read_file",
    "replace_file",
    "save_tensors",
    "seal",
    "set_aside",
    "sweep",
    "unpacked",
    "unseal",
]

SEALED = re.compile(r',\n "digest": "([0-9a-f]{64})"\n}\n', re.ASCII)
BLANK = "0" * 64
PLACE = re.compile(rb'"digest":"([0-9a-f]{64})"')  # in the header of a file of tensors
HEADER = 8  # bytes that say how long the header is
LONGEST = 2**27  # bytes of a header, at most
DAMAGE = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class StoreError(UserError):
    """The folder of runs cannot be written to: no run can leave anything behind, so that all of them stop."""


def seal(text: str) -> str:
    """A JSON object of `json.dumps(..., indent=1)` with a last member more: the SHA-256 of what stands before it."""
    head = text.rstrip().removesuffix("\n}")
    return f'{head},\n "digest": "{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def unseal(text: str) -> str:
    """The object without its seal, or `text` if it has none. Raises ValueError where the seal does not fit."""
    head, comma, tail = text.rpartition(',\n "digest": "')
    if not comma:
        return text
    match = SEALED.fullmatch(comma + tail)
    if match is None or match[1] != hashlib.sha256(head.encode()).hexdigest():
        raise ValueError("its content does not fit its digest")
    return head + "\n}\n"


def make_folder(folder: Path) -> Path:
    """With those above it, each of them there after a power cut."""
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_names(path.parent)
    except OSError as error:
        raise StoreError(f"cannot make the folder {str(folder)!r}: {error.strerror or error}") from error
    return folder


def sync_names(folder: Path) -> None:
    """What a folder says of its files, new and renamed ones, is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that does that by itself, or not at all
            raise
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes | None:
    """None where there is none, or another process has just set it aside. What cannot be read is not damaged: raises `StoreError`."""
    try:
        return path.read_bytes() if path.is_file() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {str(path)!r}: {error.strerror or error}") from error


def replace_file(path: Path, content: bytes) -> None:
    """All of `content` or nothing new: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_names(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def sweep(folder: Path) -> None:
    """Removes what processes that died have left half written; to be called by whoever alone may write there."""
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """With a SHA-256 of the whole file, that digest left blank, among the metadata."""
    kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save(kept, metadata={**metadata, "digest": BLANK, "sealed": "yes"})
    digest = hashlib.sha256(content).hexdigest()
    replace_file(path, content.replace(f'"digest":"{BLANK}"'.encode(), f'"digest":"{digest}"'.encode(), 1))


def load_tensors(path: Path, **expected: str) -> dict[str, Tensor] | None:
    """The tensors of a file, or None where there is none, it is damaged, or its metadata are not those expected."""
    found = load_with_metadata(path, **expected)
    return None if found is None else found[0]


def load_with_metadata(path: Path, **expected: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The same, and the metadata."""
    if (content := read_file(path)) is None:
        return None
    try:
        tensors, metadata = unpacked(content)
    except DAMAGE as error:
        set_aside(path, str(error) or type(error).__name__)
        return None
    return (tensors, metadata) if agrees(metadata, expected) else None


def unpacked(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of tensors. Raises one of `DAMAGE` where it is none, or does not fit its digest."""
    header = content[HEADER : HEADER + int.from_bytes(content[:HEADER], "little")]
    metadata = dict(json.loads(header).get("__metadata__", {}))
    check(content, header, metadata)
    return load(content), {k: v for k, v in metadata.items() if k not in ("digest", "sealed")}


def announces(path: Path, **expected: str) -> bool:
    """Whether the header of a file, which is all that is read, has these metadata."""
    try:
        with open(path, "rb") as file:
            header = file.read(min(int.from_bytes(file.read(HEADER), "little"), LONGEST))
        return agrees(dict(json.loads(header).get("__metadata__", {})), expected)
    except (OSError, *DAMAGE):
        return False


def agrees(metadata: Mapping[str, str], expected: Mapping[str, str]) -> bool:
    return all(metadata.get(k) == v for k, v in expected.items())


def check(content: bytes, header: bytes, metadata: Mapping[str, str]) -> None:
    """Raises ValueError where a file of tensors does not fit its digest; one from before there were digests has none."""
    if "digest" not in metadata and "sealed" not in metadata:
        return
    match = PLACE.search(header)
    if match is None or metadata.get("sealed") != "yes":
        raise ValueError("its seal is broken")
    blank = header[: match.start(1)] + BLANK.encode() + header[match.end(1) :]
    if hashlib.sha256(content[:HEADER] + blank + content[HEADER + len(header) :]).hexdigest().encode() != match[1]:
        raise ValueError("its content does not fit its digest")


def set_aside(path: Path, why: str) -> None:
    """Renames a damaged file to `.damaged`, and says so in one line."""
    try:
        os.replace(path, path.with_name(f"{path.name}.damaged"))
    except FileNotFoundError:  # somebody else did
        return
    except OSError as error:
        raise StoreError(f"{str(path)!r} is damaged and cannot be set aside: {error.strerror or error}") from error
    print(f"{str(path)!r} is damaged and was set aside ({why.splitlines()[0][:120]})", file=sys.stderr)
