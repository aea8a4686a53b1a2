"""Files that are complete or absent: written atomically, sealed with a SHA-256, renamed when damaged."""

import errno
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from vae_variants.registry import UserError

SEALED = re.compile(r',\n "digest": "([0-9a-f]{64})"\n}\n', re.ASCII)
SEAL = len(',\n "digest": ""\n}\n') + 64  # bytes of a seal
TRIES = 20  # to write a file
SHORT = 8192  # characters of an entry of metadata that is remembered
BLANK = "0" * 64  # stands for the digest of a tensor file while that digest is computed
LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
DAMAGE = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError)  # raised by `unpacked`


class StoreError(UserError):
    """The folder of runs cannot be read or written. Every run stops, because none could keep its result."""


@contextmanager
def store_errors(action: str, path: Path) -> Iterator[None]:
    """Turns an `OSError` into a `StoreError` that says: cannot `action` `path`, and why."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter of filelock
        lockless = getattr(error, "errno", errno.ENOSYS) in LOCKLESS
        hint = "; its file system has no locks: name a folder on another one with --runs" if lockless else ""
        raise StoreError(f"cannot {action} {str(path)!r}: {getattr(error, 'strerror', None) or error}{hint}") from error


def seal(text: str) -> str:
    """Adds a last member to a JSON object that has a line for each, indented by one: the SHA-256 of everything before it."""
    head = text.rstrip().removesuffix("\n}")
    return f'{head},\n "digest": "{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def unseal(text: str) -> str:
    """The object without its seal, or `text` itself if it has none.

    Raises:
        ValueError: the seal does not match the text.
    """
    head, comma, tail = text.rpartition(',\n "digest": "')
    if not comma:
        return text
    match = SEALED.fullmatch(comma + tail)
    if match is None or match[1] != hashlib.sha256(head.encode()).hexdigest():
        raise ValueError("its content does not match its digest")
    return head + "\n}\n"


def intact(content: bytes) -> int:
    """How many bytes of a file its seal guards; 0 if it has none or does not match. Copies nothing."""
    match = SEALED.fullmatch(content[-SEAL:].decode(errors="replace"))
    guarded = memoryview(content)[:-SEAL]
    return len(guarded) if match is not None and match[1] == hashlib.sha256(guarded).hexdigest() else 0


def make_folder(folder: Path) -> Path:
    """Makes a folder and its parents so that they survive a power cut."""
    with store_errors("make the folder", folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_folder(path.parent)
    return folder


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder (new and renamed files) to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # this file system cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes | None:
    """The content, or None if there is no such regular file. An unreadable file is no damaged file: it raises `StoreError`."""
    with store_errors("read", path), suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        if path.is_file():  # a FIFO must not be opened
            return path.read_bytes()
    return None


def replace_file(path: Path, content: bytes) -> None:
    """Writes all of `content` or nothing: temporary name, fsync, rename, fsync of the folder.

    Where locks have no effect, another command may take the temporary file for one that was left behind. Then it is written again.
    """
    with store_errors("write", path):
        for left in reversed(range(TRIES)):
            temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
            try:
                with open(temporary, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
                sync_folder(path.parent)
                return
            except OSError as error:
                temporary.unlink(missing_ok=True)
                if not (left and isinstance(error, FileNotFoundError)):
                    raise


def set_aside(path: Path, reason: str) -> None:
    """Renames a damaged file to `<name>.damaged` and reports it in one line on stderr."""
    with store_errors("set aside the damaged file", path):
        try:
            os.replace(path, path.with_name(f"{path.name}.damaged"))
        except FileNotFoundError:  # another process did it
            return
    print(f"{str(path)!r} is damaged and was set aside ({(reason.splitlines() or ['unreadable'])[0][:120]})", file=sys.stderr)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Writes a safetensors file whose metadata hold the SHA-256 of the file with that digest left blank."""
    kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    content = save(kept, metadata={**metadata, "digest": BLANK, "sealed": "yes"})
    digest = hashlib.sha256(content).hexdigest()
    replace_file(path, content.replace(f'"digest":"{BLANK}"'.encode(), f'"digest":"{digest}"'.encode(), 1))


def load_tensors(path: Path, **expected: str) -> dict[str, Tensor] | None:
    """The tensors of a file; None if it is absent, damaged, or its metadata differ from `expected`."""
    found = load_with_metadata(path, **expected)
    return None if found is None else found[0]


def load_with_metadata(path: Path, **expected: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Like `load_tensors`, with the metadata."""
    if (content := read_file(path)) is None:
        return None
    try:
        tensors, metadata = unpacked(content)
    except DAMAGE as error:
        set_aside(path, str(error))
        return None
    return (tensors, metadata) if expected.items() <= metadata.items() else None


def unpacked(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a tensor file. Raises one of `DAMAGE` if it is not one or does not match its digest."""
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    metadata = dict(json.loads(header).get("__metadata__", {}))
    if {"digest", "sealed"} & metadata.keys():  # files from before seals have neither
        digest = str(metadata.get("digest"))
        if digest != hashlib.sha256(content.replace(digest.encode(), BLANK.encode(), 1)).hexdigest():
            raise ValueError("its content does not match its digest")
    return load(content), {k: v for k, v in metadata.items() if k not in ("digest", "sealed")}


def described(path: str) -> tuple[int, dict[str, str]]:
    """When a tensor file was changed (ns) and the short entries of its metadata; (0, {}) if it is none. Reads a header, and that once."""
    try:
        found = os.stat(path)
        return found.st_mtime_ns, short_metadata(path, found.st_mtime_ns, found.st_size, found.st_ino)
    except (OSError, SafetensorError):
        return 0, {}


@lru_cache(maxsize=100_000)
def short_metadata(path: str, *_: int) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return {key: value for key, value in (file.metadata() or {}).items() if len(value) <= SHORT}
