"""Twelve awkward folders and files, as people have them: each gives the right images, or one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.test_archives import taped, zipped
from vae_variants.datasets import Dataset, load_dataset
from vae_variants.registry import UserError


def picture(i: int, kind: type = np.uint8) -> Image.Image:
    """9 x 9 levels that no other number gives, the same in 8 and in 16 bits."""
    levels = np.random.default_rng(i).integers(0, 256, (9, 9))
    levels[0, :2] = 0, 255
    return Image.fromarray((levels * (257 if kind is np.uint16 else 1)).astype(kind))


def fill(root: Path, folders: dict[str, int], start: int = 0) -> int:
    """Saves so many pictures in each folder, numbered on. Returns the number after the last."""
    for folder, n in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(start, start + n):
            picture(i).save(root / folder / f"{i:03}.png")
        start += n
    return start


def turned(root: Path) -> str:
    for i in range(34):
        exif = Image.Exif()
        exif[0x0112] = 6
        picture(i).transpose(Image.Transpose.ROTATE_90).save(root / f"{i:03}.png", exif=exif)
    return f"images:{root}"


def modes(root: Path) -> str:
    fill(root, {"": 30})
    picture(30).convert("RGBA").save(root / "030.png")
    picture(31).quantize(256).save(root / "031.png")
    black = 255 - np.asarray(picture(32))
    Image.fromarray(np.stack([black * 0, black * 0, black * 0, black], -1), mode="CMYK").save(root / "032.tif")
    picture(33, np.uint16).save(root / "033.png")
    return f"images:{root}"


def frames(root: Path) -> str:
    fill(root, {"": 33})
    picture(33).save(root / "033.gif", save_all=True, append_images=[picture(99)])
    return f"images:{root}"


def broken(root: Path) -> str:
    fill(root, {"": 34})
    (root / "zero.png").write_bytes(b"")
    (root / "cut.png").write_bytes((root / "000.png").read_bytes()[:60])
    return f"images:{root}?broken=skip"


def names(root: Path) -> str:
    fill(root, {"": 31})
    for i, name in ((31, "50% off; größe.png"), (32, "what?size=3.png"), (33, " blank .PNG")):
        picture(i).save(root / name, format="png")
    return f"images:{root}"


def junk(root: Path) -> str:
    fill(root, {"cat": 20})
    fill(root, {"dog": 14}, 20)
    for name in (".DS_Store", "Thumbs.db", "__MACOSX/._000.png", "@eaDir/000.png", "cat/._000.png", "fox/a.heic"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"\0\5\26\7")
    return f"images:{root}"


def parts(root: Path) -> str:
    fill(root, {"train/cat": 12, "train/dog": 12, "validation/cat": 2, "validation/dog": 3, "test/cat": 3, "test/dog": 2})
    return f"images:{root}"


def unseen(root: Path) -> str:
    fill(root, {"trainset/cat": 14, "trainset/dog": 14, "testset/dog": 3, "testset/fox": 3})
    return f"images:{root}"


def single(root: Path) -> str:
    fill(root, {"cat": 33, "dog": 1})
    return f"images:{root}"


def linked(root: Path) -> str:
    fill(root / "store", {"": 34})
    (root / "album").mkdir()
    (root / "album" / "all").symlink_to(root / "store")
    return f"images:{root / 'album'}"


def archives(pack: Callable[[Path, dict[str, bytes]], Path], name: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        fill(root / "loose", {"": 34})
        return f"images:{pack(root / name, {file.name: file.read_bytes() for file in (root / 'loose').iterdir()})}"

    return make


GIVEN = {"train": 24, "validation": 5, "test": 5}
KINDS: dict[str, tuple[Callable[[Path], str], dict[str, int] | None, tuple[str, ...] | None, str]] = {  # sizes, classes, and what is said
    "pictures that are turned": (turned, None, None, "turned as their EXIF data say: 34"),
    "palette, alpha, CMYK, 16 bits": (modes, None, None, "in CMYK: 1, with a palette: 1, with transparency, laid on white: 1"),
    "animations": (frames, None, None, "only the first frame or page of 1"),
    "empty and cut files": (broken, None, None, "left out: 2 of 36"),
    "strange names": (names, None, None, "34 training"),
    "hidden files and junk": (junk, None, ("cat", "dog"), "folders without a picture: fox"),
    "train, validation, test": (parts, GIVEN, ("cat", "dog"), "validation (validation)"),
    "a class in the test part alone": (unseen, {"train": 24, "validation": 4, "test": 6}, ("cat", "dog", "fox"), "fox 0/0/3"),
    "a class of one picture": (single, None, ("cat", "dog"), "dog 1/0/0"),
    "links": (linked, None, None, "26 / 4 / 4"),
    "a zip archive": (archives(zipped, "a.zip"), None, None, "26 / 4 / 4"),
    "a tar archive": (archives(taped, "a.tar.gz"), None, None, "26 / 4 / 4"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_awkward_folder_gives_the_right_images(kind, tmp_path):
    make, sizes, classes, says = KINDS[kind]
    found: Dataset = load_dataset(f"{(spec := make(tmp_path))}{'&' if '?' in spec else '?'}size=9")
    assert found.sizes == (sizes or {"train": 26, "validation": 4, "test": 4}) and found.classes == classes
    images = [tuple(row) for part in (found.train, found.validation, found.test) for row in part.tolist()]
    assert sorted(images) == sorted(tuple(np.asarray(picture(i)).ravel().tolist()) for i in range(34))
    assert says.replace("34 training", "26 / 4 / 4") in found.described and "\n" not in found.described


@pytest.mark.parametrize("count", [0, 1, 3, 29])
def test_too_few_pictures_get_one_line(count, tmp_path):
    fill(tmp_path, {"": count})
    with pytest.raises(UserError, match=r"at least 30|no pictures") as refused:
        load_dataset(f"images:{tmp_path}")
    assert "\n" not in str(refused.value)


def test_an_archive_in_parts_has_them_too(tmp_path):
    fill(tmp_path / "loose", {"train/cat": 15, "train/dog": 15, "val/cat": 4, "val/dog": 4, "test/cat": 5, "test/dog": 5})
    members = {file.relative_to(tmp_path / "loose").as_posix(): file.read_bytes() for file in (tmp_path / "loose").rglob("*.png")}
    found = load_dataset(f"images:{zipped(tmp_path / 'a.zip', members)}?size=9")
    assert found.sizes == {"train": 30, "validation": 8, "test": 10}
    assert all(
        {name.split("/")[0] for name in ids} == {part} for part, ids in zip(("train", "val", "test"), found.ids.values(), strict=True)
    )
