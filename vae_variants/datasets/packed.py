"""Pictures in a zip or tar archive, read in place. Nothing is written to the disk, and no name or link is followed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from vae_variants.datasets.walk import Picture, Walk
from vae_variants.registry import UserError

ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz"}
LARGEST = 2**28  # bytes of a member, and of a header
RATIO, SMALL = 200, 2**30  # unpacked bytes per packed byte beyond so many unpacked bytes: pictures hardly compress
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)
COMPRESSED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # by first bytes
BLOCK = 512  # bytes of a tar file


@contextmanager
def unpacked(path: str, file: Path) -> Iterator[Walk]:
    """The pictures in an archive, in the order in which they are stored. Raises `UserError`."""
    with ExitStack() as stack:
        try:
            if zipfile.is_zipfile(file):
                walk = zipped(stack.enter_context(zipfile.ZipFile(file)), Budget(path, file))
            else:
                with file.open("rb") as stored:
                    start = stored.read(8)
                open_ = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), partial(open, mode="rb"))
                stream = stack.enter_context(open_(file))
                walk = taped(stack.enter_context(tarfile.open(fileobj=Limited(stream), mode="r:")), stream, Budget(path, file))  # type: ignore[call-overload]
        except BROKEN as error:
            raise UserError(
                f"{path!r} is not a readable zip or tar archive: truncated, damaged or of another format; pack it again"
            ) from error
        yield walk


class Budget:
    """Counts the unpacked bytes. Raises `UserError` if they are too many for the archive's size."""

    def __init__(self, path: str, file: Path) -> None:
        self.path, self.total, self.most = path, 0, max(SMALL, RATIO * file.stat().st_size)

    def spend(self, size: int) -> None:
        self.total += size
        if self.total > self.most:
            raise UserError(f"{self.path!r} unpacks to over {RATIO} times its size, which pictures do not; unpack it, and give the folder")


class Limited:
    """A stream that reads no more than `LARGEST` bytes at once, whatever a header says."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.stream.read(size)


def zipped(packed: zipfile.ZipFile, budget: Budget) -> Walk:
    walk, found = Walk(), dict[str, zipfile.ZipInfo]()
    for member in packed.infolist():
        budget.spend(member.file_size)
        if stat.S_ISLNK(member.external_attr >> 16):
            walk.junk["links"] += 1
        elif not member.is_dir() and (name := inside(member.filename, walk)):
            found[name] = member  # of two with one name the last counts
    walk.files = [Picture(name, name, partial(content, packed.open, m, m.file_size)) for name, m in found.items() if walk.sift(name)]
    return walk


def taped(tape: tarfile.TarFile, stream: IO[bytes], budget: Budget) -> Walk:
    """Raises `ReadError` if the end is missing: tarfile ends without a word at a header that is cut."""
    walk, found = Walk(), dict[str, tarfile.TarInfo]()
    for member in tape:
        budget.spend(member.size)
        if member.issym() or member.islnk():
            walk.junk["links"] += 1
        elif member.isfile() and (name := inside(member.name, walk)):
            found.pop(name, None)  # so that the order stays that of the tape
            found[name] = member
    stream.seek(tape.offset)
    if stream.read(BLOCK) != bytes(BLOCK):
        raise tarfile.ReadError("no end")
    walk.files = [Picture(name, name, partial(content, tape.extractfile, m, m.size)) for name, m in found.items() if walk.sift(name)]
    return walk


def inside(name: str, walk: Walk) -> str:
    """A member's name with / between folders; empty, and counted, if it leads out of the archive."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith(("/", "\\")):
        walk.junk["of a path outside the archive"] += 1
        return ""
    return "/".join(parts)


def content(open_: Callable[[Any], IO[bytes] | None], member: Any, size: int) -> IO[bytes]:
    """A member in memory. Raises `OSError` for whatever is wrong with it."""
    if size > LARGEST:
        raise OSError(f"it has {size / 2**20:.0f} MiB, and at most {LARGEST / 2**20:.0f} are read")
    try:
        with open_(member) or io.BytesIO() as stream:
            return io.BytesIO(stream.read(LARGEST))
    except BROKEN as error:
        raise OSError(str(error) or type(error).__name__) from error
