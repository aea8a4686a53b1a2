"""Parts of the user's images: given ones are kept, the others drawn by class, and copies are together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vae_variants.datasets import load_dataset
from vae_variants.datasets.dataset import SPLITS
from vae_variants.datasets.division import divided
from vae_variants.datasets.folder import sorted_into
from vae_variants.registry import UserError

V, T = "validation", "test"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3)), min_size=1, max_size=6), st.randoms())
def test_parts_are_drawn_by_class_with_copies_together(classes, random):
    rows = [(c, f"{c}-{i}".encode()) for c, (n, times) in enumerate(classes) for i in range(n) for _ in range(times)]
    random.shuffle(rows)
    labels, copies = [c for c, _ in rows], [copy for _, copy in rows]
    found = divided([""] * len(rows), copies, labels)
    assert sorted(row for part in found.values() for row in part) == list(range(len(rows)))
    held = max(1, len(rows) // 7)
    if sum(n > 2 for n, _ in classes) == len(classes) <= held // 3 and len(rows) >= 30:
        places = {part: {copies[row] for row in index} for part, index in found.items()}
        assert not (places["train"] & places[V] or places["train"] & places[T] or places[V] & places[T])
        for part in (V, T):
            counts = Counter(labels[row] for row in found[part])
            for c, (n, times) in enumerate(classes):
                assert counts[c] >= (times == 1)
                assert counts[c] <= n * times / 7 + 1 + (times == 1 and n < 14)
    assert found == divided([""] * len(rows), copies, labels)


def test_a_rare_class_is_in_each_part_if_it_can_be():
    labels = [0] * 200 + [1] * 3 + [2] * 2 + [3]
    found = divided([""] * 206, [str(i).encode() for i in range(206)], labels)
    assert {part: Counter(labels[row] for row in index) for part, index in found.items()} == {
        "train": Counter({0: 145, 1: 1, 2: 1, 3: 1}), V: Counter({0: 28, 1: 1}), T: Counter({0: 27, 1: 1, 2: 1}),
    }  # fmt: skip
    assert {part: len(rows) for part, rows in divided([""] * 40, [b"same"] * 40, None).items()} == {"train": 30, V: 5, T: 5}
    names = [str(i).encode() for i in range(40)]
    assert {part: len(rows) for part, rows in divided([""] * 40, names, list(range(40))).items()} == {"train": 30, V: 5, T: 5}


def test_given_parts_are_kept_and_missing_ones_drawn_from_training_images():
    names = [str(i).encode() for i in range(40)]
    given_parts = ["train"] * 28 + ["test"] * 12
    found = divided(given_parts, names, [i % 2 for i in range(40)])
    assert found[T] == list(range(28, 40)) and len(found[V]) == 4 and len(found["train"]) == 24
    found = divided(["train"] * 28 + [V] * 12, names, None)
    assert found[V] == list(range(28, 40)) and len(found[T]) == 4 and not {*found[T]} & {*found[V]}


SPELLINGS = [  # folders -> the part of each, or None if they are classes
    ({"train": "train", "test": T}),
    ({"Train": "train", "TEST": T, "Val": V}),
    ({"training": "train", "validation": V, "testing": T}),
    ({"trainset": "train", "testset": T}),
    ({"training_set": "train", "test_set": T}),
    ({"train-images": "train", "test-images": T}),
    ({"train": "train", "dev": V, "test": T}),
    ({"train": "train", "eval": T}),
    ({"train": "train", "eval": V, "test": T}),
    ({"train": "train", "val": V}),
    ({"seg_train": "train", "seg_test": T, "seg_val": V}),
    ({"train2017": "train", "val2017": V, "test2017": T}),
    ({"cat": None, "dog": None}),
    ({"train": None, "bus": None, "car": None}),
    ({"valid": None, "invalid": None}),
    ({"0": None, "1": None}),
]


@pytest.mark.parametrize("names", SPELLINGS, ids=lambda names: "+".join(names))
def test_folders_are_parts_by_any_of_their_names(names):
    for nested in (False, True):
        folders = [("set", name, *((name,) if nested else ()), c) for name in names for c in ("a", "b")]
        parts, classes, _ = sorted_into("photos", folders, True)
        assert parts == [names[f[1]] or "" for f in folders]
        assert classes == [f[-1] if names[f[1]] else f[1] for f in folders]
    folders = [(c, name) for c in ("a", "b") for name in names]  # each class divided
    parts, classes, _ = sorted_into("photos", folders, True)
    assert parts == [names[name] or "" for _, name in folders] and classes == [c for c, _ in folders]


@pytest.mark.parametrize("names", [("val", "test"), ("train", "test", "other"), ("cat", "dog", "test"), ("train", "test", "")])
def test_parts_without_training_images_or_beside_others_are_refused(names):
    folders = [(name, "a") if name else () for name in names]
    with pytest.raises(UserError, match="labels=false"):
        sorted_into("photos", folders, True)


def test_one_line_says_what_was_read_and_goes_into_the_record(tmp_path):
    for i in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[i % 4 == 0] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i % 36).integers(0, 256, (9, 9), np.uint8)).save(path)
    (tmp_path / "photos" / "a\x1b[31mb.heic").write_bytes(b"")
    found = load_dataset(f"images:{tmp_path / 'photos'}?size=9")
    line = found.described
    assert line == found.recorded()["described"] and line.isprintable()
    for part in (
        "1×9×9 pixels in 256 levels",
        "30 / 5 / 5",
        "2 classes (cat 22/4/4, dog 8/1/1)",
        "80.0 % of the test",
        "4 images are exact copies",
        "1 .heic",
    ):
        assert part in line
    assert "of training images" not in line and found.copies == 0
    assert load_dataset(f"images:{tmp_path / 'photos'}?size=9&train=9").described != line
    assert {part: len(of) for part, of in found.ids.items()} == found.sizes and set(found.ids) == set(SPLITS)
    for i in range(6):
        path = tmp_path / "given" / ("train" if i else "test") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        for j in range(10):
            Image.fromarray(np.random.default_rng(j + 10 * max(i, 1)).integers(0, 256, (9, 9), np.uint8)).save(path.with_stem(f"{i}-{j}"))
    assert (
        "10 test images are exact copies of training images" not in (kept := load_dataset(f"images:{tmp_path / 'given'}?size=9")).described
    )
    assert f"{kept.copies} test images are exact copies of training images" in kept.described and kept.copies > 0


def frames(path, count: int, labels: bool = False):
    """An .npz file of images that differ, in order: the first pixels tell the number of each."""
    x = np.zeros((count, 4, 4), np.uint8)
    x[:, 0, 0], x[:, 0, 1] = np.arange(count) // 200, np.arange(count) % 200
    np.savez(path, x=x, **({"y": np.arange(count) % 2} if labels else {}))
    return path


def blocks_of(part, size: int) -> Counter[int]:
    return Counter((200 * part[:, 0].long() + part[:, 1].long()).div(size, rounding_mode="floor").tolist())


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(("count", "size"), [(1965, 50), (70, 10), (71, 10), (300, 7)])
def test_a_block_of_frames_is_in_one_part(count, size, labels, tmp_path):
    data = load_dataset(f"npz:{frames(tmp_path / 'x.npz', count, labels)}?block={size}")
    found = [blocks_of(getattr(data, part), size) for part in SPLITS]
    assert sum(found, Counter()) == Counter(row // size for row in range(count))  # each image is there once
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    held = count // 7
    assert all(held - size * (1 + labels) < n <= held for n in (found[1].total(), found[2].total()))
    single = load_dataset(f"npz:{tmp_path / 'x.npz'}")
    assert blocks_of(single.train, size) & blocks_of(single.test, size)  # without it, blocks are divided
    assert single.digest != data.digest


@pytest.mark.parametrize("block", [0, -1, 15, 100])
def test_a_block_that_no_part_can_hold_is_refused(block, tmp_path):
    with pytest.raises(UserError, match=f"block={block} .* it takes 1 to 14"):
        load_dataset(f"npz:{frames(tmp_path / 'x.npz', 100)}?block={block}")


def test_frey_faces_are_divided_by_blocks(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_VARIANTS_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"freyfaces\.npz.*frey_rawface"):
        load_dataset("freyfaces")
    frames(tmp_path / "freyfaces.npz", 1965)
    data = load_dataset("freyfaces")
    assert not blocks_of(data.train, 50) & blocks_of(data.test, 50) and data.sizes["test"] == 250 + 15
