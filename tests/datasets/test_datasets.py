"""Data sets built in and of one's own: what is on the images, and what is said where they cannot be had."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae_variants.datasets import DATASETS, load_dataset
from vae_variants.models.likelihoods import Support
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
        ({"x": np.full((70, 6, 5), 7.0)}, "from 7 to 7"),
        ({"x": np.full((70, 6, 5), np.nan)}, "NaN or infinite"),
        ({"x": np.zeros((70, 6, 5)), "y": np.zeros(3, int)}, "y has shape (3,)"),
        ({"x": np.zeros((70, 6, 5)), "y": np.linspace(0, 1, 70)}, "not whole"),
        ({"x": np.zeros((9, 6, 5))}, "at least 30"),
        ({"x": np.array([{}] * 70)}, "Python objects"),
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
    assert sum(load_dataset(f"images:{root}").sizes.values()) == 71  # links that lead out are followed
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
