"""Published image sets with factors: small files in their formats, had from an address of the machine itself."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vae_variants.datasets import factored, factored_files, load_dataset
from vae_variants.datasets.dataset import SPLITS
from vae_variants.datasets.factored import SOURCES, absent
from vae_variants.datasets.factored_files import of_norb
from vae_variants.registry import UserError

SIZES = {"shape": 3, "turn": 4, "x": 20}  # 240 images
PIXELS = np.random.default_rng(0).integers(0, 256, (240, 6, 6, 3), dtype=np.uint8)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def hdf5(**arrays: np.ndarray) -> bytes:
    h5py = pytest.importorskip("h5py")
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for name, values in arrays.items():
            out.create_dataset(name, data=values)
    return file.getvalue()


def cars() -> bytes:
    """Sixty cars of 12x12 pixels at two elevations and two azimuths: the mean of four stored pixels is one of `PIXELS`."""
    from scipy.io import savemat

    stored = np.kron(PIXELS.reshape(2, 2, 60, 6, 6, 3), np.ones((1, 1, 1, 2, 2, 1), np.uint8))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for i in reversed(range(60)):
            file = io.BytesIO()
            savemat(file, {"im": stored[:, :, i].transpose(2, 3, 4, 1, 0)})
            member = tarfile.TarInfo(f"data/cars/car_{i:03}_mesh.mat")
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
    return out.getvalue()


FORMATS = {
    "dsprites": (lambda: npz(latents=np.zeros(3), imgs=PIXELS[..., 0] // 128), PIXELS[..., :1] // 128, SIZES),
    "mpi3d-toy": (lambda: npz(images=PIXELS), PIXELS, SIZES),
    "shapes3d": (lambda: hdf5(images=PIXELS, labels=np.zeros((240, 3))), PIXELS, SIZES),
    "cars3d": (cars, PIXELS, {"elevation": 2, "azimuth": 2, "model": 60}),
}


def published(name: str, content: bytes, sizes: dict[str, int], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has a set come from a file of this machine; returns where it is kept."""
    (folder / "there").mkdir(exist_ok=True)
    (folder / "there" / "file").write_bytes(content)
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(folder / "here"))
    files = {(folder / "there" / "file").as_uri(): f"md5:{hashlib.md5(content).hexdigest()}"}
    monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], files=files, sizes=sizes))
    return SOURCES[name].paths[0]


@pytest.mark.parametrize("name", FORMATS)
def test_images_have_the_factors_of_their_places_in_the_file(name: str, tmp_path, monkeypatch):
    make, pixels, sizes = FORMATS[name]
    monkeypatch.setattr(factored_files, "BLOCK", 1000)  # several blocks
    published(name, make(), sizes, tmp_path, monkeypatch)
    assert "not complete" in absent(name)
    data = load_dataset(f"{name}?images=140")
    assert absent(name) == ""
    assert data.sizes == {"train": 110, "validation": 10, "test": 20}
    assert data.factors.names == tuple(sizes) and data.levels == SOURCES[name].levels
    for part in SPLITS:
        rows = np.ravel_multi_index(data.factors.values[part].numpy().T, tuple(sizes.values()))
        expected = np.moveaxis(pixels[rows], 3, 1).reshape(len(rows), -1)
        assert np.array_equal(getattr(data, part).numpy(), expected)
    assert (data.labels is None) is ("shape" not in sizes)


def matrix(values: np.ndarray) -> bytes:
    """In the format of NORB."""
    magic = 0x1E3D4C55 if values.dtype == np.uint8 else 0x1E3D4C54
    shape = [*values.shape, *[1] * (3 - values.ndim)]
    return gzip.compress(struct.pack("<II", magic, values.ndim) + struct.pack(f"<{len(shape)}i", *shape) + values.tobytes())


def test_small_norb_is_ordered_by_its_factors(tmp_path, monkeypatch):
    sizes = (2, 2, 2, 3, 2)
    monkeypatch.setattr(factored_files, "NORB", sizes)
    table = np.random.default_rng(1).permutation(np.indices(sizes).reshape(5, -1).T).astype("<i4")
    images = np.zeros((len(table), 2, 8, 8), np.uint8) + np.ravel_multi_index(table.T, sizes)[:, None, None, None].astype(np.uint8)
    info = table[:, 1:] * np.array([1, 1, 2, 1], "<i4")  # azimuths are stored by twos
    paths = []
    for half in (slice(0, 20), slice(20, None)):
        for kind, values in (("cat", table[half, 0]), ("dat", images[half]), ("info", info[half])):
            paths.append(tmp_path / f"{half.start}-{kind}")
            paths[-1].write_bytes(matrix(np.ascontiguousarray(values)))
    rows = np.array([0, 7, 47])
    assert of_norb(paths, rows)[:, 2, 2, 0].tolist() == rows.tolist()


def test_a_file_is_had_once_checked_and_replaced_if_it_is_damaged(tmp_path, monkeypatch, capsys):
    make, _, sizes = FORMATS["mpi3d-toy"]
    path = published("mpi3d-toy", make(), sizes, tmp_path, monkeypatch)
    first = load_dataset("mpi3d-toy?images=139").digest
    path.write_bytes(path.read_bytes()[:-5])
    assert load_dataset("mpi3d-toy?images=141").digest != first
    assert factored.fault(path, next(iter(SOURCES["mpi3d-toy"].files.values()))) == ""
    assert capsys.readouterr().err.count("downloading") == 2


def test_without_a_network_or_with_another_file_there_is_one_line(tmp_path, monkeypatch):
    make, _, sizes = FORMATS["mpi3d-toy"]
    path = published("mpi3d-toy", make(), sizes, tmp_path, monkeypatch)
    (tmp_path / "there" / "file").write_bytes(b"another")
    for says in ("does not fit its digest", "could not be downloaded"):
        with pytest.raises(UserError, match=says) as error:
            load_dataset("mpi3d-toy?images=142")
        assert "\n" not in str(error.value) and "connect to the network" in str(error.value)
        (tmp_path / "there" / "file").unlink(missing_ok=True)
    assert not path.exists() and not list(path.parent.glob(".download-*"))
    with pytest.raises(UserError, match="takes 100 to 240"):
        load_dataset("mpi3d-toy?images=50")
