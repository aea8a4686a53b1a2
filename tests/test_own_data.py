"""One's own images as they really come: pictures of any size and kind in any folder, and the whole report for them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae_variants.datasets import load_dataset, parse
from vae_variants.datasets.own import source_ids
from vae_variants.registry import UserError


def pattern(i: int, width: int = 9, height: int = 9) -> Image.Image:
    """A picture that no other number gives, and that is the same when it is scaled: halves of two greys, upper and lower."""
    x = np.full((height, width), (i * 37) % 251, np.uint8)
    x[height // 2 :] = (i * 91 + 5) % 253
    return Image.fromarray(x)


def fill(root: Path, n: int = 40, classes: int = 0, suffix: str = ".png") -> Path:
    for i in range(n):
        path = root / (f"class{i % classes}" if classes else "") / f"{i:03}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pattern(i, 8 + i % 5, 8 + i % 7).save(path)
    return root


def test_pictures_of_any_size_mode_and_name_are_read(tmp_path):
    root = fill(tmp_path / "photos", 30)
    for i, mode in enumerate(("1", "L", "LA", "P", "RGB", "RGBA")):
        pattern(i, 20, 11).convert(mode).save(root / f"mode-{mode}.PNG")
    for i, mode in enumerate(("L", "RGB", "CMYK")):
        pattern(i, 640, 480).convert(mode).save(root / f"photo-{mode}.JPEG")
    pattern(1).convert("RGB").save(root / "an image; of.some kind.webp")
    (root / "notes.txt").write_text("no picture")
    for hidden in ("._000.png", "__MACOSX/000.png", ".thumbnails/000.png"):
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_bytes(b"\0\5\26\7")
    for grey, channels in (("true", 1), ("false", 3)):
        found = load_dataset(f"images:{root}?size=10&grey={grey}")
        assert found.shape == (channels, 10, 10)
        assert sum(found.sizes.values()) == 40
        assert found.labels is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "MPO", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_pictures_of_every_kind_are_read_whatever_they_are_called(kind, tmp_path):
    path = fill(tmp_path / "photos", 30) / "other.png"
    pattern(1, 20, 20).convert("RGB").save(path, format=kind)
    assert sum(load_dataset(f"images:{path.parent}").sizes.values()) == 31


def test_a_turned_photograph_stands_upright_and_what_a_camera_wrote_is_no_error(tmp_path):
    root = fill(tmp_path / "photos", 30)
    upright = pattern(3, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(root / "a-turned.png", exif=exif)
    upright.save(root / "a-upright.png")
    broken = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 400, 0x0112, 3, 1, 1)  # of 400 tags one is there
    upright.save(root / "a-broken-exif.jpg", exif=broken)
    ids = source_ids(parse(f"images:{root}")[0])
    found = load_dataset(f"images:{root}?size=8")
    place = {name: image for part in ids for name, image in zip(ids[part], getattr(found, part), strict=True)}
    assert torch.equal(place["a-turned.png"], place["a-upright.png"])
    assert (place["a-broken-exif.jpg"].int() - place["a-upright.png"].int()).abs().max() < 60


@pytest.mark.parametrize(
    ("folders", "classes", "apart"),
    [
        ({"": 40}, None, False),
        ({"cat": 20, "dog": 20}, ("cat", "dog"), False),
        ({"photos/cat/2023": 10, "photos/cat/2024/may": 10, "photos/dog": 20}, ("cat", "dog"), False),
        ({"all": 40}, None, False),  # one class is none
        ({"train/cat": 20, "train/dog": 15, "test/cat": 5, "test/dog": 7}, ("cat", "dog"), True),
        ({"set/Train": 30, "set/Test": 10}, None, True),
        ({"train/cat": 20, "train/dog": 15, "val/cat": 5, "val/dog": 7}, ("cat", "dog"), False),
    ],
)
def test_folders_become_classes_and_parts(folders, classes, apart, tmp_path):
    names = []
    for folder, n in folders.items():
        for i in range(n):
            path = tmp_path / folder / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pattern(len(names)).save(path)
            names.append(path.relative_to(tmp_path).as_posix())
    found = load_dataset(f"images:{tmp_path}?size=9")
    assert found.classes == classes
    ids = source_ids(*parse_own(f"images:{tmp_path}?size=9"))
    assert sorted(name for part in ids.values() for name in part) == sorted(names)
    assert {part: len(of) for part, of in ids.items()} == found.sizes
    for part, of in ids.items():
        for row, name in enumerate(of):
            with Image.open(tmp_path / name) as stored:
                assert np.array_equal(np.asarray(stored).ravel(), getattr(found, part)[row].numpy())
            if classes:
                assert f"/{found.classes[int(found.labels[part][row])]}/" in f"/{name}"
    assert {name.lower().split("/")[-2 - bool(classes)] == "test" for name in ids["test"]} == {True} if apart else True
    assert not any("test/" in name.lower() for name in ids["train"] + ids["validation"]) or not apart


def parse_own(spec: str):
    load, common = parse(spec)
    return load, common["train"]


def test_ids_follow_train_and_rows_of_an_archive(tmp_path):
    x = np.arange(70, dtype=np.uint8)[:, None, None] + np.zeros((70, 4, 5), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(70) % 3)
    for query in ("", "?train=20", "?static=true"):
        found = load_dataset(f"npz:{tmp_path}/a.npz{query}")
        ids = source_ids(*parse_own(f"npz:{tmp_path}/a.npz{query}"))
        for part, of in ids.items():
            assert [int(name) for name in of] == getattr(found, part)[:, 0].tolist()
            assert [int(name) % 3 for name in of] == found.labels[part].tolist()


def test_one_class_in_an_archive_is_none(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((40, 4, 4)), y=np.ones(40, int))
    assert load_dataset(f"npz:{tmp_path}/a.npz").labels is None


def test_broken_pictures_are_named_in_one_line_and_left_out_if_one_says_so(tmp_path, capfd):
    root = fill(tmp_path / "photos", 40, classes=2)
    for name in ("class0/000.png", "class1/001.png", "class1/003.png"):
        (root / name).write_bytes((root / name).read_bytes()[:50])
    with pytest.raises(UserError) as refused:
        load_dataset(f"images:{root}")
    text = str(refused.value)
    assert "3 of 40 pictures cannot be read" in text
    assert "000.png" in text and "and 2 more" in text and "?broken=skip" in text and "\n" not in text
    found = load_dataset(f"images:{root}?broken=skip&size=9")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("left out: 3 of 40 pictures") and "000.png" in line
    ids = source_ids(*parse_own(f"images:{root}?broken=skip&size=9"))
    assert sum(found.sizes.values()) == 37 == len({name for part in ids.values() for name in part})
    assert "class0/000.png" not in [name for part in ids.values() for name in part]
    with pytest.raises(UserError, match="did you mean 'skip'"):
        load_dataset(f"images:{root}?broken=skipp")


def test_a_folder_of_broken_pictures_alone_is_refused(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.jpg").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="40 of 40 pictures cannot be read"):
        load_dataset(f"images:{tmp_path}?broken=skip")


def test_pictures_beside_and_inside_folders_need_a_word(tmp_path):
    root = fill(tmp_path / "photos", 30, classes=2)
    pattern(99).save(root / "beside.png")
    with pytest.raises(UserError, match=r"labels=false"):
        load_dataset(f"images:{root}")
    found = load_dataset(f"images:{root}?labels=false")
    assert found.labels is None
    assert sum(found.sizes.values()) == 31


def test_the_smallest_set_is_split_in_three_and_a_smaller_one_is_refused(tmp_path):
    assert load_dataset(f"images:{fill(tmp_path / 'thirty', 30)}").sizes == {"train": 22, "validation": 4, "test": 4}
    with pytest.raises(UserError, match="has 29 images; at least 30 are needed"):
        load_dataset(f"images:{fill(tmp_path / 'less', 29)}")
