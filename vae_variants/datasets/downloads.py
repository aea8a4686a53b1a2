"""Downloaded data sets: files are checked when they are read; damaged files are set aside and downloaded again."""

import gzip
import hashlib
import os
import secrets
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from vae_variants.registry import UserError, user_path

SUMS = "SHA256SUMS"  # digests of files without a published one, as first seen, in the format of sha256sum
LARGEST = 2**28  # bytes of an unpacked file
FAILURES = (OSError, RuntimeError, ValueError, AttributeError, EOFError, LookupError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def data_root() -> Path:
    """Folder of the images: `VAE_VARIANTS_DATA`, or a folder in the user's cache."""
    if given := os.environ.get("VAE_VARIANTS_DATA"):
        return user_path(given)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vae_variants"


@dataclass(frozen=True)
class Source:
    """Files of a data set."""

    kind: str  # its class in torchvision.datasets, which downloads it
    folder: str  # of the files under `data_root()`
    files: Mapping[str, str]  # name -> digest, as `sha256:...` or `md5:...`; empty if unknown
    parse: Callable[[np.ndarray, str], Any]  # (bytes, name) -> content; raises ValueError for impossible content
    archives: str = ""  # pattern of the downloaded archives, from which files can be restored
    options: Sequence[Mapping[str, str]] = ({},)  # of the constructor, for each download


def fetch(name: str, source: Source) -> list[Any]:
    """The parsed content of each file, in order. Writes nothing if all files are intact, except unknown digests.

    Raises:
        UserError: One line for any failure of network or files.
    """
    root = data_root()
    found, faults = look(source, root)
    if faults:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{source.kind}.lock", fallback_to_soft=False):
                found, faults = look(source, root)  # another process may have fixed it
                if faults:
                    found = download_again(source, root, faults)
        except FAILURES as error:
            path, fault = next(iter(faults.items()))
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200].rstrip(" :")
            fix = "connect to the network, or set VAE_VARIANTS_DATA to a folder that holds the data set"
            raise UserError(f"data set {name!r}: {str(path)!r} {fault}, and it could not be downloaded ({reason}); {fix}") from error
    return found


def look(source: Source, root: Path) -> tuple[list[Any], dict[Path, str]]:
    """The parsed files, and a description of each missing or damaged one."""
    folder, found, faults = root / source.folder, list[Any](), dict[Path, str]()
    sums, seen = noted(folder), dict[str, str]()
    for name, digest in source.files.items():
        path = folder / name
        try:
            content = bytearray(stored(path, digest))
            algorithm, _, expected = (digest or f"sha256:{sums.get(name) or unpacked(path, source)}").partition(":")
            actual = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
            if expected and actual != expected:
                raise ValueError("its content does not fit its digest")
            found.append(source.parse(np.frombuffer(content, np.uint8), name))
            seen |= {} if digest else {name: actual}
        except FileNotFoundError:
            faults[path] = "is not there"
        except OSError as error:
            raise UserError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            faults[path] = f"is damaged ({error})"
    if not faults and any(sums.get(name) != digest for name, digest in seen.items()):
        note(folder, {**sums, **seen})
    return found, faults


def stored(path: Path, digest: str) -> bytes:
    """Content of a file, or of its .gz beside it, whoever packed that, if it has the known digest."""
    if digest and not path.is_file():
        with suppress(OSError, EOFError, zlib.error), gzip.open(path.with_name(f"{path.name}.gz")) as archive:
            algorithm, _, expected = digest.partition(":")
            content = archive.read(LARGEST)
            if hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == expected:
                return content
    return path.read_bytes()


def noted(folder: Path) -> dict[str, str]:
    """name -> SHA-256, as noted earlier; malformed lines are ignored."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    parts = (line.split(maxsplit=1) for line in lines)
    return {part[1]: part[0] for part in parts if len(part) == 2 and len(part[0]) == 64}


def note(folder: Path, digests: Mapping[str, str]) -> None:
    """Stores digests for the next time, if the folder is writable."""
    temporary = folder / f"{SUMS}.{secrets.token_hex(4)}.tmp"
    try:
        temporary.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())), encoding="utf-8")
        os.replace(temporary, folder / SUMS)
    except OSError:
        return


def unpacked(path: Path, source: Source) -> str:
    """SHA-256 of the file in torchvision's archive; empty if the archive is missing or not the published one."""
    archive = path.with_name(f"{path.name}.gz")
    if not archive.is_file() or not os.access(path.parent, os.W_OK):  # the digest could not be noted otherwise
        return ""
    from torchvision import datasets

    published = dict(getattr(datasets, source.kind).resources)
    packed = archive.read_bytes()
    if hashlib.md5(packed, usedforsecurity=False).hexdigest() != published.get(archive.name):
        return ""
    return hashlib.sha256(gzip.decompress(packed)).hexdigest()


def download_again(source: Source, root: Path, faults: Mapping[Path, str]) -> list[Any]:
    """Downloads all files to a temporary folder, checks them, and moves them into place; sets damaged files aside."""
    from torchvision import datasets

    for left in root.glob(f".{source.kind}-*"):  # left by a killed process
        shutil.rmtree(left, ignore_errors=True)
    print(f"downloading {source.kind} to {str(root)!r}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=f".{source.kind}-", dir=root) as name:
        temporary = Path(name)
        for archive in root.glob(source.archives) if source.archives else ():
            copy = temporary / archive.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, copy)
        kind = getattr(datasets, source.kind)
        for options in source.options:
            half_made = kind.__new__(kind)  # its constructor would also read and unpickle the files
            vars(half_made).update(root=name, train=True, **options)
            half_made.download()
        found, wrong = look(source, temporary)
        for path, fault in wrong.items():
            raise ValueError(f"what was downloaded as {path.name!r} {fault}")
        for path, fault in faults.items():
            if path.exists():
                os.replace(path, path.with_name(f"{path.name}.damaged"))
                print(f"{str(path)!r} {fault} and was set aside", file=sys.stderr)
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                target = root / path.relative_to(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    return found
