"""Pictures and arrays of every kind, against known pixels: what is understood, and what is refused in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vae_variants.datasets import load_dataset
from vae_variants.datasets.arrays import archive
from vae_variants.datasets.folder import album
from vae_variants.registry import UserError

A = (np.arange(64).reshape(8, 8) * 4 + 3).astype(np.uint8)  # 3, 7, ..., 255: no symmetry
RGB = np.stack([A, A[::-1], A.T], -1)
ORIENTED = {  # EXIF's number -> how an upright picture is stored, from its specification
    1: A, 2: A[:, ::-1], 3: A[::-1, ::-1], 4: A[::-1], 5: A.T, 6: np.rot90(A), 7: A[::-1, ::-1].T, 8: np.rot90(A, -1),
}  # fmt: skip


def album_of(folder: Path, **options) -> tuple[dict[str, np.ndarray], str]:
    """Name -> levels (H, W) or (H, W, 3), and what was said."""
    found = album(str(folder), **{"size": 8, "grey": "true", "labels": True, "broken": "refuse"} | options)
    return {name: x.movedim(0, -1).squeeze(-1).numpy() for name, x in zip(found.ids, found.stored, strict=True)}, found.read


def turned(number: int) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = number
        Image.fromarray(ORIENTED[number]).save(path, exif=exif)

    return save


def palette(path: Path) -> None:
    image = Image.fromarray((A > 127).astype(np.uint8), mode="P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(path, transparency=0)


def animated(path: Path) -> None:
    Image.fromarray(A).save(path, save_all=True, append_images=[Image.fromarray(255 - A)])


ALPHA = np.full((8, 8), 51, np.uint8)  # a fifth
PALETTE = np.where((A > 127)[..., None], [200, 100, 50], [255, 255, 255])
KINDS = {  # name of a file -> how it is made, pixels in colour, and how far off they may be
    **{f"turned-{k}.jpg": (turned(k), A, 6) for k in ORIENTED},
    **{f"turned-{k}.png": (turned(k), A, 0) for k in ORIENTED},
    "grey.png": (lambda path: Image.fromarray(A).save(path), A, 0),
    "colour 100%.bmp": (lambda path: Image.fromarray(RGB).save(path), RGB, 0),
    "größe; ünïcode?.webp": (lambda path: Image.fromarray(RGB).save(path, lossless=True), RGB, 0),
    "cmyk.tif": (lambda path: Image.fromarray(np.stack([A * 0, A * 0, A * 0, 255 - A], -1), mode="CMYK").save(path), A, 1),
    "palette.png": (palette, PALETTE, 0),
    "alpha.png": (lambda path: Image.fromarray(np.dstack([RGB, ALPHA])).save(path), 204 + RGB / 5, 1),
    "grey-alpha.png": (lambda path: Image.fromarray(np.dstack([A, ALPHA])).save(path), 204 + A / 5, 1),
    "bits.png": (lambda path: Image.fromarray(A > 100).save(path), (A > 100) * 255, 0),
    "bits.tif": (lambda path: Image.fromarray(A > 100).save(path), (A > 100) * 255, 0),
    "animated.gif": (animated, A, 0),
    "pages.tiff": (animated, A, 0),
    "photo.JFIF": (lambda path: Image.fromarray(np.full((8, 8), 77, np.uint8)).save(path, format="JPEG"), np.full((8, 8), 77), 1),
    "16.png": (lambda path: Image.fromarray(A.astype(np.uint16) * 257).save(path), A, 0),
    "16.tif": (lambda path: Image.fromarray(A.astype(np.uint16) * 257).save(path), A, 0),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_has_the_pixels_that_were_put_in(name, tmp_path):
    make, expected, off = KINDS[name]
    make(tmp_path / name)
    expected = np.asarray(expected, float)
    colour = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
    ((_, x),) = album_of(tmp_path, grey="false")[0].items()
    assert np.abs(x - colour).max() <= off
    ((_, x),), said = album_of(tmp_path)[0].items(), album_of(tmp_path)[1]
    assert np.abs(x - colour @ [0.299, 0.587, 0.114]).max() <= off + 1  # ITU-R 601
    assert ("frame or page of 1 pictures" in said) == (name in ("animated.gif", "pages.tiff"))
    assert ("1 pictures in colour" in said) == (name in ("colour 100%.bmp", "größe; ünïcode?.webp", "cmyk.tif", "palette.png", "alpha.png"))


def save_all(folder: Path, kind: type, *pictures: np.ndarray) -> Path:
    for i, x in enumerate(pictures):
        Image.fromarray(x.astype(kind)).save(folder / f"{i}.tif")
    return folder


@pytest.mark.parametrize(
    ("kind", "pictures", "expected"),
    [
        (np.float32, (A, A / 255), (A, np.rint(A / 255))),  # one of them alone would look like 0 to 1
        (np.float32, (A / 255, A / 2550), (A, np.rint(A / 10))),
        (np.float32, (A / 127.5 - 1, A * 0), (A, A * 0 + 128)),
        (np.int32, (A * 257.0, A), (A, np.rint(A / 257))),  # and one like 8 bits
        (np.uint16, (A * 16.0 + 15, A), (A * (16 * 255 / 4095) + 1, A * (255 / 4095))),  # 12 bits
        (np.uint16, (A, A // 2), (A, A // 2)),
    ],
)
def test_the_range_of_all_pictures_decides_the_levels_of_each(kind, pictures, expected, tmp_path):
    found, said = album_of(save_all(tmp_path, kind, *pictures))
    assert "2 of 2 pictures have more than 8 bits" in said and " as white" in said
    for x, y in zip(found.values(), expected, strict=True):
        assert np.abs(x - y.astype(float)).max() <= 1


@pytest.mark.parametrize(
    ("kind", "pictures", "says"),
    [
        (np.float32, (A / 255, A * np.nan), "NaN"),
        (np.float32, (A / 255 - 0.1,), "from -0.0882353 to 0.9"),
        (np.float32, (A / 100.5,), "to 2.53731"),
        (np.int32, (A * 66000.0,), "to 1.683e+07"),
        (np.int32, (A * -1.0,), "from -255 to -3"),
    ],
)
def test_ranges_that_are_not_clear_are_refused(kind, pictures, says, tmp_path):
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        album_of(save_all(tmp_path, kind, *pictures))
    assert "\n" not in str(refused.value) and "0.tif" in str(refused.value)


def test_floats_beside_8_bit_pictures_are_refused_and_16_bits_are_not(tmp_path):
    Image.fromarray(A).save(tmp_path / "a.png")
    Image.fromarray(A.astype(np.uint16) * 257).save(tmp_path / "b.png")
    found, _ = album_of(tmp_path)
    assert (found["a.png"] == A).all() and (found["b.png"] == A).all()
    save_all(tmp_path, np.float32, A / 283)
    with pytest.raises(UserError, match="beside 8-bit pictures"):
        album_of(tmp_path)


def test_whatever_is_left_out_is_counted_and_said(tmp_path):
    for name in ("cat/1.png", "cat/more/2.png", "cat/other/3.png", "dog/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(A).save(tmp_path / name)
    for name in ("fox/1.HEIC", "fox/2.heic", "dog/3.avif", "notes", "@eaDir/a.png", "cat/.b.png", ".git/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "cat" / "gone.png").symlink_to("nowhere.png")
    found, said = album_of(tmp_path)
    assert sorted(found) == ["cat/1.png", "cat/more/2.png", "cat/other/3.png", "dog/4.png"]
    for part in (
        "2 .heic",
        "1 .avif",
        "1 without suffix",
        "2 hidden",
        "1 dangling link",
        "1 @eaDir",
        "without a picture: fox",
        "cat (more, other)",
    ):
        assert part in said
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no pictures .* it has 1 \.heic"):
        album_of(tmp_path / "only")


def test_links_are_followed_and_loops_refused(tmp_path):
    outside, root = tmp_path / "store", tmp_path / "photos"
    (outside / "dogs").mkdir(parents=True)
    root.mkdir()
    for i, place in enumerate((outside, outside / "dogs")):
        Image.fromarray(A // (i + 1)).save(place / f"{i}.png")
    (root / "cat").mkdir()
    (root / "cat" / "0.png").symlink_to(outside / "0.png")
    (root / "dog").symlink_to(outside / "dogs")
    found, _ = album_of(root)
    assert (found["cat/0.png"] == A).all() and (found["dog/1.png"] == A // 2).all()
    (outside / "dogs" / "up").symlink_to(outside)  # loops through the folder outside
    (outside / "again").symlink_to(outside / "dogs")
    with pytest.raises(UserError, match="links to a folder that holds it") as refused:
        album_of(root)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("zero.png", b"", "not a readable picture"),
        ("cut.jpg", None, "not a readable picture"),
        ("album.7z", b"7z", "nor a zip or tar archive"),
        ("a.npz", b"x", "npz:"),
        ("a.npy", b"x", "npy:"),
    ],
)
def test_what_is_no_folder_of_pictures_gets_one_line(name, content, says, tmp_path):
    if content is None:
        Image.fromarray(RGB).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()[:300]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as refused:
        album_of(tmp_path if says.startswith("not") else tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_path_may_have_a_question_mark_or_a_tilde_and_its_kind_may_be_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "what?size=3").mkdir()
    for i in range(30):
        Image.fromarray(np.roll(A, i)).save(tmp_path / "what?size=3" / f"{i}.png")
    assert load_dataset("images:~/what?size=3").shape == (1, 8, 8)
    assert load_dataset("images:~/what?size=3?size=9").shape == (1, 9, 9)
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((30, 4, 5)))
    assert load_dataset("npz:~/a.npz").sizes["train"] == 22
    for spec, says in ((f"{tmp_path}/a.npz", "as npz:"), (f"{tmp_path}", "as images:"), ("images:~nobody-here/a", "whole path")):
        with pytest.raises(UserError, match=says):
            load_dataset(spec)


RANGES = {  # name -> type, black, white, levels
    "uint8": (np.uint8, 0, 255, 256),
    "0-255 floats": (np.float64, 0, 255, 256),
    "0-255 integers": (np.int64, 0, 255, 256),
    "unit": (np.float32, 0, 1, 256),
    "-1 to 1": (np.float32, -1, 1, 256),
    "uint16": (np.uint16, 0, 65535, 256),
    "4 bits": (np.uint8, 0, 15, 16),
    "digits": (np.float64, 0, 16, 17),
    "bool": (np.bool_, 0, 1, 2),
}
AXES: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {  # name -> channels, and from (N, C, H, W)
    "NHW": (1, lambda x: x[:, 0]),
    "NCHW": (3, lambda x: x),
    "NHWC": (3, lambda x: np.moveaxis(x, 1, 3)),
    "NHW1": (1, lambda x: np.moveaxis(x, 1, 3)),
    "flat": (1, lambda x: x.reshape(len(x), -1)),
}
LABELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "integers": lambda y: y,
    "(N, 1)": lambda y: y[:, None],
    "floats": lambda y: y.astype(float),
    "texts": lambda y: np.array(["null", "nan", "NA", "007"])[y],
    "bytes": lambda y: np.array([b"a", b"b", b"c", b"d"])[y],
    "one-hot": lambda y: np.eye(4, dtype=np.float32)[y],
    "bool": lambda y: y > 1,
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(RANGES)), st.sampled_from(sorted(AXES)), st.sampled_from(sorted(LABELS)), st.integers(0, 99), st.booleans())
@example("digits", "flat", "one-hot", 0, True)
@example("-1 to 1", "NHWC", "(N, 1)", 0, False)
def test_an_array_has_the_levels_that_were_put_in(tmp_path, numbers, axes, labels, seed, parts):
    kind, black, white, levels = RANGES[numbers]
    channels, arranged = AXES[axes]
    rng = np.random.default_rng(seed)
    expected = rng.integers(0, levels, (12, channels, 7, 7))
    expected.flat[:2] = 0, levels - 1
    x = arranged((expected * ((white - black) / (levels - 1)) + black).astype(kind))
    y = rng.integers(0, 4, 12)
    arrays = {"x": x, "y": LABELS[labels](y)}
    if parts:
        split = {"train": slice(0, 6), "test": slice(6, 12)}
        arrays = {f"{key}_{part}": value[rows] for key, value in arrays.items() for part, rows in split.items()}
        order = ("train", "test") if np.random.default_rng(seed).random() < 0.5 else ("test", "train")
        arrays = {f"{key}_{part}": arrays[f"{key}_{part}"] for part in order for key in "xy"}
    np.savez(tmp_path / "a.npz", **arrays)
    found = archive(str(tmp_path / "a.npz"))
    top = 256 if numbers == "bool" else levels
    assert found.levels == top
    assert np.array_equal(found.stored.numpy(), expected * ((top - 1) // (levels - 1)))
    assert np.array_equal(
        np.equal.outer(found.classes, found.classes), np.equal.outer(arrays_y := y > 1 if labels == "bool" else y, arrays_y)
    )
    assert list(found.parts) == (["train"] * 6 + ["test"] * 6 if parts else [""] * 12)
    assert f"{black:g} as black and {white:g} as white" in found.read and "y" in found.read


Z = np.zeros((40, 6, 5))
BAD = {
    "one image (H, W, C)": ({"x": np.zeros((64, 48, 3))}, r"shape \(64, 48, 3\), which may be one image"),
    "RGBA": ({"x": np.zeros((40, 9, 9, 4))}, "fourth channel"),
    "either axis": ({"x": np.zeros((40, 3, 9, 3))}, "first or last"),
    "flat and not square": ({"x": np.zeros((40, 30))}, r"\(40, 30\)"),
    "flat or one image": ({"x": np.zeros((64, 64))}, r"\(64, 64\)"),
    "images last": ({"x": np.zeros((28, 28, 100))}, r"\(H, W, N\)"),
    "complex": ({"x": Z + 1j}, "complex128"),
    "empty": ({"x": Z[:0]}, r"\(0, 6, 5\)"),
    "infinite": ({"x": Z + np.inf}, "infinite"),
    "negative": ({"x": Z - 0.1}, "-0.1"),
    "too bright": ({"x": Z + np.linspace(0, 1.5, 5)}, "0 to 1.5"),
    "32 bits": ({"x": (Z + np.linspace(0, 1e6, 5)).astype(np.uint32)}, "1e"),
    "soft labels": ({"x": Z, "y": np.full((40, 2), 0.5)}, "not one-hot"),
    "numbers as labels": ({"x": Z, "y": np.linspace(0, 1, 40)}, "not whole"),
    "objects": ({"x": Z, "y": np.array([None, "a"] * 20, object)}, "y holds Python objects"),
    "names": ({"images": Z, "target": Z}, "it has images, target"),
    "x and x_test": ({"x": Z, "x_test": Z}, "x, x_test"),
    "no training images": ({"x_val": Z, "x_test": Z}, "x_val, x_test"),
    "narrow": ({"x": Z[:, :1, :2]}, r"\(40, 1, 2\); it must be"),
    "flat": ({"x": Z[:, :1]}, r"\(40, 1, 5\); it must be"),
    "sizes": ({"x_train": Z, "x_test": Z[:, 1:]}, "several shapes"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_array_that_is_not_clear_is_refused(name, tmp_path):
    arrays, says = BAD[name]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=says) as refused:
        archive(str(tmp_path / "a.npz"))
    assert "\n" not in str(refused.value)


def test_only_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    np.save(tmp_path / "a.npy", Z)
    for path in (tmp_path / "pipe.npz", Path("/dev/zero"), tmp_path):
        with pytest.raises(UserError, match="no file"):
            archive(str(path))
    with pytest.raises(UserError, match="not a readable"):
        archive(str(tmp_path / "a.npy"))


def test_a_folder_that_is_named_as_an_archive_is_not_looked_through(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "walk", lambda *_: pytest.fail("looked through"))
    with pytest.raises(UserError, match="no file"):
        load_dataset(f"npz:{tmp_path}")


@pytest.mark.parametrize(
    ("sizes", "kinds", "shape"),
    [
        ([(20, 20)], ["grey"], (1, 20, 20)),
        ([(20, 20)], ["grey as RGB"], (1, 20, 20)),
        ([(20, 24)], ["colour"], (3, 20, 20)),
        ([(20, 20), (30, 20)], ["colour", "colour", "grey"], (3, 32, 32)),
        ([(80, 80)], ["colour", "grey", "grey"], (1, 32, 32)),
        ([(4, 4)], ["colour"], (3, 32, 32)),
    ],
)
def test_size_and_colour_are_those_of_the_pictures(sizes, kinds, shape, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(36):
        width, height = sizes[i % len(sizes)]
        levels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        kind = kinds[i % len(kinds)]
        image = Image.fromarray(levels if kind == "colour" else levels[..., 0])
        (image.convert("RGB") if kind == "grey as RGB" else image).save(tmp_path / f"{i:02}.png")
    assert load_dataset(f"images:{tmp_path}").shape == shape
