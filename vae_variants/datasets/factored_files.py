"""The formats of published image sets with known factors: readers of some rows of their images."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from vae_variants.registry import UserError

BLOCK = 2**20  # bytes
BYTES, INTEGERS = 0x1E3D4C55, 0x1E3D4C54  # first four bytes of a file of NORB
NORB = (5, 10, 9, 18, 6)  # categories, instances of each, elevations, azimuths and lights of small NORB


def packed_rows(path: Path, member: str, rows: np.ndarray) -> np.ndarray:
    """Some rows of an array in an .npz file, which need not fit into memory."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        if fortran or dtype != np.uint8:
            raise ValueError(f"{member} is of {dtype}")
        return np.stack(list(picked(stream, shape, rows)))


def picked(stream: IO[bytes], shape: tuple[int, ...], rows: np.ndarray) -> Iterator[np.ndarray]:
    """Some rows, in ascending order, of the uint8 array that a stream holds."""
    size, wanted, start = int(np.prod(shape[1:])), iter(rows.tolist()), 0
    row, block = next(wanted, None), max(1, BLOCK // int(np.prod(shape[1:])))
    while row is not None:
        content = stream.read(size * min(block, shape[0] - start))
        if not content or len(content) % size:
            raise ValueError("it is cut")
        found = np.frombuffer(content, np.uint8).reshape(-1, *shape[1:])
        while row is not None and row < start + len(found):
            yield found[row - start]
            row = next(wanted, None)
        start += len(found)


def of_npz(member: str) -> Callable[[list[Path], np.ndarray], np.ndarray]:
    return lambda paths, rows: packed_rows(paths[0], member, rows)


def of_hdf5(paths: list[Path], rows: np.ndarray) -> np.ndarray:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{str(paths[0])!r} needs the package h5py to be read; pip install vae-variants[hdf5]") from error
    with h5py.File(paths[0]) as file:
        return file["images"][rows]


def of_cars(paths: list[Path], rows: np.ndarray) -> np.ndarray:
    """Each car is a file of 4 elevations and 24 azimuths; every pixel is the mean of four of the 128x128 stored ones."""
    from scipy.io import loadmat

    found: dict[str, np.ndarray] = {}
    with tarfile.open(paths[0]) as archive:
        for member in archive:
            if member.name.endswith("_mesh.mat") and (file := archive.extractfile(member)) is not None:
                stored = loadmat(io.BytesIO(file.read()))["im"]  # type: ignore[arg-type]  # (128, 128, 3, 24, 4)
                found[member.name] = halved(stored.transpose(4, 3, 0, 1, 2))
    cars = np.stack([found[name] for name in sorted(found)], 2)  # (4, 24, 183, 64, 64, 3)
    return cars.reshape(-1, *cars.shape[3:])[rows]


def halved(images: np.ndarray) -> np.ndarray:
    """(..., H, W, C) uint8 -> (..., H / 2, W / 2, C): means of 2x2 pixels, rounded."""
    *n, high, wide, channels = images.shape
    sums = images.reshape(*n, high // 2, 2, wide // 2, 2, channels).sum((-4, -2), dtype=np.uint16)
    return ((sums + 2) // 4).astype(np.uint8)


def of_norb(paths: list[Path], rows: np.ndarray) -> np.ndarray:
    """Images of the first camera in the order of their factors; every pixel is the mean of four of the 96x96 stored ones."""
    images, values = list[np.ndarray](), list[np.ndarray]()
    for i in range(0, len(paths), 3):
        kinds, pictures, info = (norb(path) for path in paths[i : i + 3])
        images.append(halved(pictures[:, 0, ..., None]))
        instance, elevation, azimuth, light = info.T
        values.append(np.stack([kinds, instance, elevation, azimuth // 2, light]))
    order = np.ravel_multi_index(tuple(np.concatenate(values, 1)), NORB).argsort()
    return np.concatenate(images)[order[rows]]


def norb(path: Path) -> np.ndarray:
    """A matrix in the format of NORB: bytes or 32-bit integers."""
    content = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    magic, axes = content[:8].view("<u4").tolist()
    shape, body = content[8 : 8 + 4 * axes].view("<u4").tolist(), content[8 + 4 * max(3, axes) :]
    if magic not in (BYTES, INTEGERS):
        raise ValueError(f"{path.name} does not begin as such a file does")
    return (body if magic == BYTES else body.view("<i4")).reshape(shape)
