"""Pictures in archives and tables: the same as in a folder, and one line for whatever is damaged, hostile or lacking."""

from __future__ import annotations

import io
import json
import stat
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from vae_variants.datasets import load_dataset, packed
from vae_variants.datasets.arrays import opened, quantised
from vae_variants.datasets.dataset import SPLITS
from vae_variants.datasets.folder import album
from vae_variants.datasets.scale import Scale
from vae_variants.datasets.tables import features_in
from vae_variants.registry import UserError


def png(i: int, kind: type = np.uint8) -> bytes:
    file = io.BytesIO()
    levels = np.random.default_rng(i).integers(0, np.iinfo(kind).max, (9, 9), kind, endpoint=True)
    Image.fromarray(levels).save(file, "png")
    return file.getvalue()


MEMBERS = {f"set/{part}/{'cat' if i % 3 else 'dog'}/{i:02}.png": png(i) for i in range(40) for part in ("test" if i % 5 == 0 else "train",)}
MEMBERS |= {"set/train/cat/deep.png": png(7, np.uint16), "set/notes.txt": b"no picture", "set/.hidden.png": b"x", "__MACOSX/a.png": b"x"}


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content, zipfile.ZIP_DEFLATED if len(content) > 1000 else zipfile.ZIP_STORED)
    return path


def taped(path: Path, members: dict[str, bytes]) -> Path:
    suffix = path.suffix[1:].replace("tgz", "gz")
    with tarfile.open(path, f"w:{suffix if suffix in ('gz', 'bz2', 'xz') else ''}") as file:  # type: ignore[call-overload]
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    return path


PACKED: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.zip": zipped, "a.tar": taped, "a.tar.gz": taped, "a.tgz": taped, "a.tar.bz2": taped, "a.tar.xz": taped,
}  # fmt: skip


def read(path: Path, **options):
    return album(str(path), **{"size": 9, "grey": "true", "labels": True, "broken": "refuse"} | options)


@pytest.mark.parametrize("name", PACKED)
def test_an_archive_is_read_as_its_folder_and_nothing_is_written(name, tmp_path, monkeypatch):
    for member, content in MEMBERS.items():
        (tmp_path / "folder" / member).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / member).write_bytes(content)
    turned = dict(reversed(MEMBERS.items()))  # the order of names counts, not that of the archive
    path = PACKED[name](tmp_path / name, turned)
    before = sorted(tmp_path.rglob("*"))
    folder, packed_ = (load_dataset(f"images:{place}?size=9") for place in (tmp_path / "folder", path))
    assert folder.digest == packed_.digest and folder.ids == packed_.ids and folder.classes == packed_.classes == ("cat", "dog")
    assert folder.sizes["test"] == 8 and {name.split("/")[1] for name in packed_.ids["test"]} == {"test"}
    assert "1 .txt" in packed_.described and "1 of 41 pictures have more than 8 bits" in packed_.described
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8])
def test_a_truncated_archive_gets_one_line(name, share, tmp_path):
    path = PACKED[name](tmp_path / name, MEMBERS)
    content = path.read_bytes()
    cuts = [int(share * len(content))] + ([512 * 6] if name == "a.tar" else [])  # the last before a header
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(UserError, match="truncated") as refused:
            read(path)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_name_or_link_that_leads_out_is_left_out_and_counted(name, tmp_path):
    (tmp_path / "secret.png").write_bytes(png(99))
    outside = {"../secret.png": png(50), "/etc/a.png": png(51), "cat/../../secret.png": png(52), "..\\secret.png": png(53)}
    path = PACKED[name](tmp_path / name, {"./cat/1.png": png(1), "dog\\2.png": png(2), **outside})
    if name == "a.zip":
        with zipfile.ZipFile(path, "a") as file:
            link = zipfile.ZipInfo("cat/link.png")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(link, str(tmp_path / "secret.png"))
    else:
        taped(path.with_name("plain.tar"), {"./cat/1.png": png(1), "dog\\2.png": png(2), **outside})
        with tarfile.open(path.with_name("plain.tar"), "a") as file:
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
                about = tarfile.TarInfo("cat/link.png")
                about.type, about.linkname = kind, str(tmp_path / "secret.png")
                file.addfile(about)
        path = path.with_name("plain.tar")
    found = read(path)
    assert list(found.ids) == ["cat/1.png", "dog/2.png"] and found.classes == ["cat", "dog"]
    assert "4 of a path outside the archive" in found.read and f"{1 if name == 'a.zip' else 2} links" in found.read


def test_a_damaged_encrypted_or_huge_member_is_a_broken_picture(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", {f"{i}.png": png(i) for i in range(30)})
    content = bytearray(path.read_bytes())
    content[content.index(png(3)) + 60] ^= 255  # bits of one member
    content[content.index(b"PK\1\2") + 8] |= 1  # the first is called encrypted
    path.write_bytes(content)
    with pytest.raises(UserError, match="2 of 30 pictures cannot be read"):
        read(path)
    assert len(read(path, broken="skip").stored) == 28
    path = taped(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2) + bytes(5000)})
    monkeypatch.setattr(packed, "LARGEST", 4000)
    with pytest.raises(UserError, match=r"1 of 2 pictures cannot be read: '2\.png'"):
        read(path)


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "SMALL", 2**20)
    for name in ("a.zip", "a.tar.gz"):
        path = PACKED[name](tmp_path / name, {"1.png": png(1), "2.png": bytes(2**23)})
        with pytest.raises(UserError, match="over 200 times its size"):
            read(path)


def test_a_header_of_any_size_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "b.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        about = tarfile.TarInfo("1.png")
        about.pax_headers, about.size = {"comment": "x" * 2**16}, len(png(1))
        file.addfile(about, io.BytesIO(png(1)))
    assert len(read(path).stored) == 1
    monkeypatch.setattr(packed, "LARGEST", 2**15)
    with pytest.raises(UserError, match="not a readable zip or tar archive"):
        read(path)


FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}


def table(path: Path, rows: range, column: str = "image", label: str = "label", about: dict | None = None, group: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [{"bytes": png(i), "path": f"{i}.png"} for i in rows]
    columns = {"id": list(rows), column: pictures} | ({label: [i % 2 for i in rows]} if label else {})
    found = pa.table(columns)
    found = found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": about}})}) if about else found
    parquet.write_table(found, path, row_group_size=group)
    return path


def levels(i: int) -> list[int]:
    return np.asarray(Image.open(io.BytesIO(png(i)))).ravel().tolist()


def test_a_table_of_hugging_face_has_its_pictures_classes_and_parts(tmp_path):
    data = tmp_path / "cats" / "data"
    table(data / "train-00000-of-00002.parquet", range(20), about=FEATURES)
    table(data / "train-00001-of-00002.parquet", range(20, 40), about=FEATURES)
    table(data / "test-00000-of-00001.parquet", range(40, 50), about=FEATURES)
    (tmp_path / "cats" / "README.md").write_text("about")
    found = load_dataset(f"images:{tmp_path / 'cats'}?size=9")
    assert found.classes == ("cat", "dog") and found.sizes == {"train": 35, "validation": 5, "test": 10}
    for part in SPLITS:
        for image, label, name in zip(getattr(found, part), found.labels[part], found.ids[part], strict=True):
            folder, place, number = name.split("/")
            i = int(number) + 40 * (place == "test")
            assert image.tolist() == levels(i) and int(label) == i % 2 and folder == "data" and (place == "test") == (part == "test")
    assert load_dataset(f"images:{tmp_path / 'cats'}?size=9&labels=false").labels is None


@pytest.mark.parametrize(
    ("column", "label", "about", "classes"),
    [
        ("img", "fine_label", {"img": {"_type": "Image"}, "fine_label": FEATURES["label"]}, ("cat", "dog")),
        ("image", "label", None, ("0", "1")),
        ("scan", "", None, None),
    ],
)
def test_columns_are_found_by_type_or_name(column, label, about, classes, tmp_path):
    found = load_dataset(f"images:{table(tmp_path / 'a.parquet', range(40), column, label, about)}?size=9")
    assert found.classes == classes and sum(found.sizes.values()) == 40
    assert [image.tolist() for image in found.test] == [levels(int(name.split("/")[-1])) for name in found.ids["test"]]


def test_a_table_that_cannot_be_used_gets_one_line(tmp_path, monkeypatch):
    good = table(tmp_path / "a.parquet", range(40))
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:-50])
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    parquet.write_table(pa.table({"image": [{"bytes": None, "path": "/etc/passwd"}] * 40}), tmp_path / "paths.parquet")
    for name, says in (("cut", "not a readable Parquet"), ("text", "has text"), ("paths", "40 of 40 .* no bytes|has no column")):
        with pytest.raises(UserError, match=says) as refused:
            read(tmp_path / f"{name}.parquet")
        assert "\n" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'vae-variants\[parquet\]'"):
        read(good)


def test_an_npy_file_is_mapped_and_its_labels_lie_in_another(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(40) % 3)
    found = load_dataset(f"npy:{tmp_path}/x.npy?labels={tmp_path}/y.npy")
    assert found.shape == (3, 6, 5) and found.classes == ("0", "1", "2")
    for part, ids in found.ids.items():
        rows = [int(name) for name in ids]
        assert torch.equal(getattr(found, part), torch.from_numpy(np.moveaxis(x, 3, 1)[rows].reshape(len(rows), -1)))
        assert found.labels[part].tolist() == [row % 3 for row in rows]
    np.save(tmp_path / "y.npy", np.arange(40) % 4)  # is seen although only the labels have changed
    assert len(load_dataset(f"npy:{tmp_path}/x.npy?labels={tmp_path}/y.npy").classes) == 4
    pages = opened(f"{tmp_path}/x.npy")
    assert isinstance(pages, np.memmap) and np.shares_memory(pages, quantised([pages], Scale(0, 255)))
    pages[:] = 0
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)  # the file stays as it was


def test_an_npy_file_that_cannot_be_used_gets_one_line(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.zeros((40, 6, 5)))
    np.save(tmp_path / "y.npy", np.arange(39))
    np.save(tmp_path / "objects.npy", np.array([None] * 40, object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:300])
    np.savez(tmp_path / "z.npy.npz", x=np.zeros((40, 6, 5)))
    (tmp_path / "z.npy.npz").rename(tmp_path / "z.npy")
    for name, says in (("objects", "Python objects"), ("cut", "not a readable .npy"), ("z", "npz:"), ("none", "no file")):
        with pytest.raises(UserError, match=says) as refused:
            load_dataset(f"npy:{tmp_path}/{name}.npy")
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"y has shape \(39,\)"):
        load_dataset(f"npy:{tmp_path}/x.npy?labels={tmp_path}/y.npy")
    (tmp_path / "z.zip").write_bytes(b"")
    for path, kind in (("x.npy", "npy"), ("z.zip", "images")):
        with pytest.raises(UserError, match=f"as {kind}:"):
            load_dataset(f"{tmp_path}/{path}")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"info": []}', b'{"info": {"features": [1]}}', b'{"info": {"features": {"a": 1}}}'])
def test_a_description_of_columns_that_is_none_is_left_out(text):
    assert features_in(text) == {}
