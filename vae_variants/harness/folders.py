"""A folder that changes as a whole: all of its files are new, or all are the former ones."""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux's renameat2
OLD = 60.0  # seconds from which on a copy that nobody has locked counts as left behind


@contextmanager
def rewritten(folder: Path) -> Iterator[Path]:
    """A copy of a folder to write in, which takes the folder's place if the block ends without an exception.

    On Linux that is one exchange of names, so a kill or a full disk at any moment leaves the former folder or the new one. The next
    call removes the copy that a killed process leaves behind.

    Raises:
        OSError: The copy cannot be written. The folder is as it was.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{escape(folder.name)}.*.tmp"):
        remove(left)
    copy = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    copy.mkdir()
    lock = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            shutil.copytree(folder, copy, dirs_exist_ok=True, symlinks=True)
        yield copy
        for path in copy.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        exchange(copy, folder)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
        os.close(lock)


def exchange(copy: Path, folder: Path) -> None:
    """Gives each of two folders the other's name, or a copy the name of a folder that is not there."""
    if not folder.is_dir():
        os.rename(copy, folder)
        return
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is not None and rename(HERE, os.fsencode(copy), HERE, os.fsencode(folder), EXCHANGE) == 0:
        return
    aside = copy.with_suffix(".old.tmp")  # a file system that cannot exchange names
    os.rename(folder, aside)
    os.rename(copy, folder)
    shutil.rmtree(aside, ignore_errors=True)


def remove(left: Path) -> None:
    """Removes an old copy whose process is gone."""
    with suppress(OSError):
        if left.is_symlink() or time.time() - left.stat().st_mtime < OLD:
            return
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)
