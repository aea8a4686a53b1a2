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
from PIL import Image

from tests.test_hostile import cifar
from vae_variants.datasets import DATASETS, load_dataset
from vae_variants.datasets.builtin import SOURCES, from_letters, from_parts
from vae_variants.datasets.downloads import Source, fetch
from vae_variants.likelihoods import Support
from vae_variants.registry import UserError


def test_splits_are_fixed_and_disjoint(digits):
    assert digits.sizes == {"train": 1197, "validation": 300, "test": 300}
    assert digits.levels == 17
    assert int(digits.train.max()) == 16
    again = DATASETS["digits"]()
    assert again.digest == digits.digest
    from sklearn.datasets import load_digits

    everything = torch.cat([digits.train, digits.validation, digits.test])
    original = torch.from_numpy(load_digits().data)
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, original.int().tolist()))
    rows = {tuple(image): label for image, label in zip(original.int().tolist(), load_digits().target.tolist(), strict=True)}
    assert [rows[tuple(image)] for image in digits.test.tolist()] == digits.labels["test"].tolist()


def test_the_digest_sees_a_changed_pixel_a_changed_label_and_static(digits):
    other = digits.train.clone()
    other[5, 5] += 1
    labels = {**digits.labels, "test": digits.labels["test"].flip(0)}
    found = {digits.digest, replace(digits, train=other).digest, replace(digits, labels=labels).digest, replace(digits, static=True).digest}
    assert len(found) == 4


def test_binary_test_images_are_drawn_once_with_the_grey_level_as_probability(digits):
    data = digits.as_(Support.BINARY)
    assert data.dynamic
    assert set(data.test.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(data.test, DATASETS["digits"]().as_(Support.BINARY).test)
    assert torch.equal(data.train, digits.grey("train"))
    grey = digits.grey()
    assert data.test[grey == 0].max() == 0
    assert data.test[grey == 1].min() == 1
    middle = (grey > 0.2) & (grey < 0.8)
    error = 4 * (grey * (1 - grey))[middle].mean().sqrt() / middle.sum().sqrt()
    assert abs(data.test[middle].mean() - grey[middle].mean()) < error
    static = load_dataset("digits?static=true")
    assert not static.as_(Support.BINARY).dynamic
    assert set(static.as_(Support.BINARY).train.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("support", [Support.UNIT, Support.REAL, Support.BYTE])
def test_grey_supports_keep_the_stored_levels(support, digits):
    data = digits.as_(support)
    torch.testing.assert_close(data.test * 16, digits.test.float())
    assert not data.dynamic


def test_a_subset_is_smaller_and_another(digits):
    part = digits.subset(100, 50)
    assert part.sizes == {"train": 100, "validation": 50, "test": 50}
    assert torch.equal(part.labels["test"][[0, -1]], digits.labels["test"][[0, -1]])  # taken over the whole length
    assert torch.equal(part.test[-1], digits.test[-1])
    assert part.digest != digits.digest
    assert digits.subset(None, None).digest == digits.digest


def test_a_subset_of_a_sorted_test_set_is_like_the_whole(mnist):
    small = mnist.subset(1000, 1000).grey("test").mean().item()
    assert small == pytest.approx(mnist.grey("test").mean().item(), rel=0.03)


def test_mnist_is_whole(mnist):
    assert mnist.sizes == {"train": 50_000, "validation": 10_000, "test": 10_000}
    assert mnist.shape == (1, 28, 28)
    assert mnist.grey("train").mean().item() == pytest.approx(0.1307, abs=3e-4)
    assert mnist.labels["test"][:5].tolist() == [7, 2, 1, 0, 4]
    assert mnist.digest == "e22ab7552eabd649c88a701c2813398dcf8d9e2f89538b7849397e670307cd2d"


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (70, 6, 5), dtype=np.uint8)


def save(path: Path, **arrays) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.mark.parametrize("kind", ["grey", "channels first", "channels last", "unit"])
def test_npz(kind, images, tmp_path):
    x = {
        "grey": images,
        "channels first": np.stack([images] * 3, 1),
        "channels last": np.stack([images] * 3, -1),
        "unit": images / 255,
    }[kind]
    dataset = load_dataset(save(tmp_path / "a.npz", x=x, y=np.arange(70) % 3))
    assert dataset.shape == ((3 if "channels" in kind else 1), 6, 5)
    assert dataset.sizes == {"train": 50, "validation": 10, "test": 10}
    stored = {image.tobytes(): i % 3 for i, image in enumerate(images)}
    for image, label in zip(dataset.test, dataset.labels["test"], strict=True):
        assert stored[image[:30].numpy().tobytes()] == label


def test_npz_without_labels_and_with_names(images, tmp_path):
    assert load_dataset(save(tmp_path / "a.npz", x=images)).labels is None
    named = load_dataset(save(tmp_path / "b.npz", x=images, y=np.array(["cat", "dog"] * 35)))
    assert named.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": np.zeros((70, 6, 5))}, "no array named 'x'"),
        ({"x": np.zeros((70, 30))}, "has shape (70, 30)"),
        ({"x": np.full((70, 6, 5), 7.0)}, "from 7.0 to 7.0"),
        ({"x": np.full((70, 6, 5), np.nan)}, "finite numbers from 0 to 1"),
        ({"x": np.zeros((70, 6, 5)), "y": np.zeros(3, int)}, "y has shape (3,)"),
        ({"x": np.zeros((70, 6, 5)), "y": np.zeros(70)}, "integers or strings"),
        ({"x": np.zeros((9, 6, 5))}, "at least 30"),
        ({"x": np.array([{}] * 70)}, "not a readable .npz"),
    ],
)
def test_bad_npz_gets_one_clear_line(arrays, says, tmp_path):
    with pytest.raises(UserError) as error:
        load_dataset(save(tmp_path / "a.npz", **arrays))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_or_absent_npz_gets_one_clear_line(images, tmp_path):
    save(tmp_path / "a.npz", x=images)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"truncated"):
        load_dataset(f"npz:{tmp_path}/a.npz")
    with pytest.raises(UserError, match=r"no file"):
        load_dataset(f"npz:{tmp_path}/b.npz")


def folder(root: Path, images: np.ndarray, classes: int = 2) -> Path:
    for i, image in enumerate(images):
        path = root / f"class{i % classes}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def test_image_folder(images, tmp_path):
    root = folder(tmp_path / "pictures", images)
    dataset = load_dataset(f"images:{root}?size=5")
    assert dataset.shape == (1, 5, 5)
    assert dataset.classes == ("class0", "class1")
    assert sum(map(int, dataset.labels["train"])) == pytest.approx(25, abs=10)
    assert load_dataset(f"images:{root}?size=8&grey=false").shape == (3, 8, 8)


def test_bad_image_folders_get_one_clear_line(images, tmp_path):
    root = folder(tmp_path / "pictures", images)
    outside = tmp_path / "outside.png"
    Image.fromarray(images[0]).save(outside)
    link = root / "class0" / "link.png"
    os.symlink(outside, link)
    with pytest.raises(UserError, match="leads out"):
        load_dataset(f"images:{root}")
    link.unlink()
    bad = root / "class0" / "bad.png"
    bad.write_bytes(outside.read_bytes()[:40])
    with pytest.raises(UserError, match="not a readable picture"):
        load_dataset(f"images:{root}?size=9")
    bad.unlink()
    for spec, says in [
        (f"images:{tmp_path}/nowhere", "no folder"),
        (f"images:{root}?size=2", "too small"),
        (f"images:{root}?sice=20", "did you mean 'size'"),
        (f"images:{root}?size=big", "takes a whole number"),
        ("images", "images:PATH"),
        ("digits:here", "takes no path"),
        ("mnits", "did you mean 'mnist'"),
    ]:
        with pytest.raises(UserError) as error:
            load_dataset(spec)
        assert says in str(error.value)


# -- what is downloaded ------------------------------------------------------------------------------------------------


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
