"""What is downloaded: checked by its digest, set aside where it is damaged, had again."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.harness.test_hostile import cifar
from vae_variants.datasets import load_dataset
from vae_variants.datasets.builtin import SOURCES, from_letters, from_parts
from vae_variants.datasets.downloads import Source, fetch
from vae_variants.registry import UserError


def idx_files(seed: int = 0, test: str = "t10k", prefix: str = "", first: int = 0) -> dict[str, bytes]:
    """Forty images and ten, with their labels, in MNIST's format."""
    rng, found = np.random.default_rng(seed), {}
    for part, n in (("train", 40), (test, 10)):
        head = struct.pack(">IIII", 0x803, n, 28, 28)
        found[f"{prefix}{part}-images-idx3-ubyte"] = head + rng.integers(0, 256, (n, 784), dtype=np.uint8).tobytes()
        found[f"{prefix}{part}-labels-idx1-ubyte"] = struct.pack(">II", 0x801, n) + bytes(first + i % 10 for i in range(n))
    return found


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def known(files: dict[str, bytes]) -> Source:
    """As MNIST, with these files in place of the true ones."""
    digests = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
    return replace(SOURCES["mnist"], files=digests)


@pytest.fixture
def net(tmp_path, monkeypatch):
    """A root of data, and what the network has, which is nothing before it is told."""
    import torchvision

    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))
    state = SimpleNamespace(root=tmp_path, files=None, asked=0)

    def download(self):
        state.asked += 1
        if state.files is None:
            raise OSError("network is unreachable")
        write(Path(self.raw_folder), state.files)

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    return state


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :]


DAMAGE = {
    "pixel": ("train-images-idx3-ubyte", lambda content: flip(content, 5000)),
    "label": ("train-labels-idx1-ubyte", lambda content: flip(content, 20)),
    "magic": ("t10k-images-idx3-ubyte", lambda content: flip(content, 3)),
    "count": ("t10k-labels-idx1-ubyte", lambda content: flip(content, 6)),
    "truncated": ("train-images-idx3-ubyte", lambda content: content[:1000]),
    "longer": ("train-labels-idx1-ubyte", lambda content: content + b"\0"),
    "empty": ("t10k-labels-idx1-ubyte", lambda content: b""),
}


@pytest.mark.parametrize("digests", ["published", "noted"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_set_aside_and_downloaded_again(damage, digests, net, capsys):
    files, (name, spoil) = idx_files(), DAMAGE[damage]
    source = known(files) if digests == "published" else replace(SOURCES["fashion-mnist"], kind="MNIST", folder="MNIST/raw")
    folder = write(net.root / "MNIST" / "raw", files)
    whole = fetch("mnist", source)
    (folder / name).write_bytes(spoil(files[name]))
    with pytest.raises(UserError) as refused:
        fetch("mnist", source)
    said = str(refused.value)
    assert str(folder / name) in said and "is damaged" in said and "network is unreachable" in said and "VAE_VARIANTS_DATA" in said
    assert "\n" not in said
    assert (folder / name).read_bytes() == spoil(files[name]), "nothing is touched before there is better"
    net.files = files
    again = fetch("mnist", source)
    assert all(torch.equal(one, other) for one, other in zip(again, whole, strict=True))
    assert (folder / name).read_bytes() == files[name]
    assert (folder / f"{name}.damaged").read_bytes() == spoil(files[name])
    *tries, line = capsys.readouterr().err.splitlines()
    assert tries == [f"downloading MNIST to {str(net.root)!r}"] * 2
    assert str(folder / name) in line and "is damaged" in line and "was set aside" in line
    fetch("mnist", source)
    assert net.asked == 2


@pytest.mark.parametrize("damage", [name for name in DAMAGE if name not in ("pixel", "label")])
def test_what_cannot_be_such_a_file_is_seen_without_any_digest(damage, net):
    files, (name, spoil) = idx_files(), DAMAGE[damage]
    write(net.root / "MNIST" / "raw", {**files, name: spoil(files[name])})
    with pytest.raises(UserError, match=f"{name}' is damaged"):
        fetch("mnist", replace(SOURCES["mnist"], files=dict.fromkeys(files, "")))


def test_a_label_of_no_class_is_seen_without_any_digest(net):
    files = idx_files()
    write(net.root / "MNIST" / "raw", {**files, "train-labels-idx1-ubyte": flip(files["train-labels-idx1-ubyte"], 20)})
    with pytest.raises(UserError, match="labels that are not of 0 to 9"):
        fetch("mnist", replace(SOURCES["mnist"], files=dict.fromkeys(files, "")))


def test_what_was_downloaded_is_checked_before_it_counts(net):
    files = idx_files()
    net.files = {**files, "train-labels-idx1-ubyte": b"<html>"}
    with pytest.raises(UserError, match=r"downloaded as 'train-labels-idx1-ubyte' is damaged"):
        fetch("mnist", known(files))
    assert not (net.root / "MNIST").exists()
    assert [path.name for path in net.root.iterdir()] == [".MNIST.lock"]


def test_a_folder_that_cannot_be_written_is_read_and_never_written(net, monkeypatch):
    files = idx_files()
    folder = write(net.root / "MNIST" / "raw", files)
    unknown = replace(SOURCES["mnist"], files=dict.fromkeys(files, ""))

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("write_text", "write_bytes", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    monkeypatch.setattr(os, "replace", refused)
    for source in (known(files), unknown):
        assert len(fetch("mnist", source)) == 4
    assert sorted(path.name for path in net.root.rglob("*")) == sorted(["MNIST", "raw", *files])
    monkeypatch.undo()
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(net.root))
    name = "t10k-images-idx3-ubyte"
    (folder / name).write_bytes(files[name][:-1])
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(UserError, match=rf"{name}' is damaged .*Permission denied.*VAE_VARIANTS_DATA"):
        fetch("mnist", known(files))


def test_a_file_that_cannot_be_read_is_not_taken_for_a_damaged_one(net, monkeypatch):
    files = idx_files()
    write(net.root / "MNIST" / "raw", files)

    def broken(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte' cannot be read: Input/output error"):
        fetch("mnist", known(files))
    assert net.asked == 0


def test_two_that_start_at_once_download_once_and_what_a_killed_one_left_goes(net, monkeypatch):
    import torchvision

    files = idx_files()
    left = write(net.root / ".MNIST-killed" / "MNIST" / "raw", {"train-images-idx3-ubyte": b"half"})

    def slowly(self):
        net.asked += 1
        for name, content in files.items():
            write(Path(self.raw_folder), {name: content[:9]})
            time.sleep(0.05)
            write(Path(self.raw_folder), {name: content})

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", slowly)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: fetch("mnist", known(files)), range(3)):
            assert found[0].numpy().tobytes() == files["train-images-idx3-ubyte"][16:]
    assert net.asked == 1
    assert not left.exists()
    assert sorted(path.name for path in (net.root / "MNIST" / "raw").iterdir()) == sorted(files)


def test_files_of_older_versions_of_torchvision_do_not_stand_for_the_images(net):
    files = idx_files()
    write(net.root / "MNIST" / "raw", files)
    write(net.root / "MNIST" / "processed", {"training.pt": b"other images", "test.pt": b"other images"})
    assert fetch("mnist", known(files))[1].tolist() == [i % 10 for i in range(40)]


def packed(files: dict[str, bytes], monkeypatch) -> dict[str, bytes]:
    """Fashion-MNIST's archives, were these its files."""
    import torchvision

    archives = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    digests = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", digests)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["file:///nowhere/"])
    return archives


def test_a_file_is_compared_with_its_archive_where_it_is_seen_first_and_had_again_from_there(tmp_path, monkeypatch, capsys):
    files, source = idx_files(), SOURCES["fashion-mnist"]
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))
    archives = packed(files, monkeypatch)
    folder = write(tmp_path / source.folder, {**files, **archives})
    name = "train-images-idx3-ubyte"
    (folder / name).write_bytes(flip(files[name], 5000))
    assert fetch("fashion-mnist", source)[0].numpy().tobytes() == files[name][16:]
    assert "was set aside" in capsys.readouterr().err
    sums = {line.split()[1]: line.split()[0] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for archive, content in archives.items():
        (folder / archive).write_bytes(content[:-1])
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}' is not there, and it could not be downloaded"):
        fetch("fashion-mnist", source)


def test_letters_are_unpacked_by_torchvision_itself(tmp_path, monkeypatch):
    from torchvision.datasets import mnist as module

    files, source = idx_files(test="test", prefix="emnist-letters-", first=1), SOURCES["emnist-letters"]
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))

    def unzipped(url, download_root, md5):
        write(Path(download_root) / "gzip", {f"{name}.gz": gzip.compress(content) for name, content in files.items()})

    monkeypatch.setattr(module, "download_and_extract_archive", unzipped)
    (images, labels), (test, _) = from_letters(*fetch("emnist-letters", source))
    first = np.frombuffer(files["emnist-letters-train-images-idx3-ubyte"], np.uint8, 784, 16).reshape(28, 28)
    assert np.array_equal(images[0, 0].numpy(), first.T)
    assert labels.tolist() == [i % 10 for i in range(40)]
    assert len(test) == 10


def test_house_numbers_are_downloaded_in_two_parts(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import svhn as module

    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))
    stored, labels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8), np.arange(20) % 10 + 1

    def download(url, root, filename, md5):
        assert url == f"http://ufldl.stanford.edu/housenumbers/{filename}"
        savemat(Path(root) / filename, {"X": stored, "y": labels[:, None].astype(np.uint8)})

    monkeypatch.setattr(module, "download_url", download)
    source = SOURCES["svhn"]
    (images, found), _ = from_parts(*fetch("svhn", replace(source, files=dict.fromkeys(source.files, ""))))
    assert np.array_equal(images.numpy(), np.moveaxis(stored, (3, 2), (0, 1)))
    assert found.tolist() == (labels % 10).tolist()


def test_photographs_are_unpacked_from_their_archive(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    stored = np.random.default_rng(0).integers(0, 256, (6, 2, 3072), dtype=np.uint8)
    files = {name: cifar(part, [i, 9 - i]) for i, (name, part) in enumerate(zip(SOURCES["cifar10"].files, stored, strict=True))}
    whole = write(tmp_path / "whole" / CIFAR10.base_folder, files)
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        archive.add(whole, CIFAR10.base_folder)
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((tmp_path / CIFAR10.filename).read_bytes()).hexdigest())
    digests = {name: f"md5:{hashlib.md5(content).hexdigest()}" for name, content in files.items()}
    (images, labels), (test, test_labels) = from_parts(*fetch("cifar10", replace(SOURCES["cifar10"], files=digests)))
    assert np.array_equal(torch.cat([images, test]).numpy().reshape(6, 2, 3072), stored)
    assert [*labels.tolist(), *test_labels.tolist()] == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4]


def test_digests_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10, SVHN

    assert SOURCES["cifar10"].files == {name: f"md5:{md5}" for name, md5 in CIFAR10.train_list + CIFAR10.test_list}
    assert [options["url"] for options in SOURCES["svhn"].options] == [SVHN.split_list[part][0] for part in ("train", "test")]
    assert SOURCES["svhn"].files == {SVHN.split_list[part][1]: f"md5:{SVHN.split_list[part][2]}" for part in ("train", "test")}


def test_a_set_that_is_neither_here_nor_to_be_had_gets_one_clear_line(tmp_path, monkeypatch):
    import torchvision

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / name).write_bytes(b"\x00\x00\x08\x03\x00\x00")
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))
    with pytest.raises(UserError, match="VAE_VARIANTS_DATA") as error:
        load_dataset("mnist")
    assert "\n" not in str(error.value)

    def unreachable(*_args, **_kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", unreachable)
    with pytest.raises(UserError, match="network is unreachable"):
        load_dataset("cifar10")


@pytest.mark.parametrize("level", [1, 9])
def test_an_archive_of_anybodys_packing_is_read_by_its_contents_digest(level, net):
    files = idx_files()
    folder = write(net.root / "MNIST" / "raw", {f"{name}.gz": gzip.compress(content, level) for name, content in files.items()})
    found = fetch("mnist", known(files))
    assert [part.shape[0] for part in found] == [40, 40, 10, 10] and net.asked == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in files)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(UserError, match="train-labels-idx1-ubyte' is not there"):
        fetch("mnist", known(files))
