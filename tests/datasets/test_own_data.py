"""One's own images as they really come: pictures of any size and kind in any folder, and the whole report for them."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.trying import flushed
from vae_variants.analysis.advice import TITLE
from vae_variants.cli.app import app
from vae_variants.datasets import load_dataset
from vae_variants.harness import RunSpec, Store, run_all
from vae_variants.registry import UserError
from vae_variants.variants import configure


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
    found = load_dataset(f"images:{root}?size=8")
    ids = found.ids
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
    ids = found.ids
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


def test_ids_follow_train_and_rows_of_an_archive(tmp_path):
    x = np.arange(70, dtype=np.uint8)[:, None, None] + np.zeros((70, 4, 5), np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(70) % 3)
    for query in ("", "?train=20", "?static=true"):
        found = load_dataset(f"npz:{tmp_path}/a.npz{query}")
        ids = found.ids
        for part, of in ids.items():
            assert [int(name) for name in of] == getattr(found, part)[:, 0].tolist()
            assert [int(name) % 3 for name in of] == found.labels[part].tolist()


def test_one_class_in_an_archive_is_none(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((40, 4, 4)), y=np.ones(40, int))
    assert load_dataset(f"npz:{tmp_path}/a.npz").labels is None


def test_broken_pictures_are_named_in_one_line_and_left_out_if_one_says_so(tmp_path):
    root = fill(tmp_path / "photos", 40, classes=2)
    for name in ("class0/000.png", "class1/001.png", "class1/003.png"):
        (root / name).write_bytes((root / name).read_bytes()[:50])
    with pytest.raises(UserError) as refused:
        load_dataset(f"images:{root}")
    text = str(refused.value)
    assert "3 of 40 pictures cannot be read" in text
    assert "000.png" in text and "and 2 more" in text and "?broken=skip" in text and "\n" not in text
    found = load_dataset(f"images:{root}?broken=skip&size=9")
    line = found.described
    assert "left out: 3 of 40 pictures" in line and "000.png" in line and "\n" not in line
    ids = found.ids
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


SUITE = """
dataset = "digits"
seeds = 2
fidelity = "smoke"
[defaults]
hidden = [16]
latent = 4
[[runs]]
variants = ["vae-bernoulli", "vae-latent-2", "vae-latent-5", "vae-gaussian-learnt", OTHERS"gan", "reference-data"]
[[runs]]
seeds = "0,"
variants = ["reference-pca-2", "reference-pixels"]
"""


def report(tmp_path: Path, dataset: str, monkeypatch, others: str = "") -> tuple[str, set[str]]:
    """The page and the names of the figures that `bench` makes for a data set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(SUITE.replace("OTHERS", others))
    with flushed():
        result = CliRunner().invoke(app, ["bench", "mine.toml", "--dataset", dataset, "--jobs", "0"])
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "reports").glob("mine-*")
    assert {path.name for path in folder.iterdir()} >= {"README.md", "results.csv", "summary.csv", "figures"}
    page = (folder / "README.md").read_text()
    assert f"Data: `{dataset}`" in page
    assert f"## {TITLE}" in page
    assert "trains and measures too little to choose by" in page
    table = pd.read_csv(folder / "results.csv")
    assert set(table.status) <= {"ok", "skipped"}
    assert set(table.dataset) == {dataset}
    return page, {path.stem for path in (folder / "figures").glob("*.png")}


@pytest.fixture(scope="module")
def five_hundred(mnist, tmp_path_factory) -> Path:
    """A folder of 500 pictures of digits, as somebody might have them: of many sizes, some JPEG, some in folders of folders."""
    root = tmp_path_factory.mktemp("pictures") / "my digits"
    for i, (x, y) in enumerate(zip(mnist.train[:500], mnist.labels["train"][:500].tolist(), strict=True)):
        path = root / str(y) / ("more" if i % 7 == 0 else "") / f"{i:03}.{('png', 'jpg', 'JPEG')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (28 + i % 60, 28 + i % 60 + i % 5)
        Image.fromarray(x.reshape(28, 28).numpy()).convert(("L", "RGB")[i % 2]).resize(size).save(path)
    return root


def test_a_folder_of_500_images_gets_its_report(five_hundred, tmp_path, monkeypatch):
    assert load_dataset(f"images:{five_hundred}").shape == (1, 32, 32)
    page, figures = report(tmp_path, f"images:{five_hundred}?size=14", monkeypatch)  # a quarter of the pixels, and of the time
    assert "1×14×14 pixels in 256 levels; 358 / 71 / 71 training" in page
    assert "Failed or skipped" not in page
    whole = {"samples", "reconstructions", "curves", "losses", "bounds", "latent_units", "latent_plane", "latent_size", "labels", "cost"}
    assert figures >= whole
    assert "`fd-mydigitscnn`" in page
    assert "71 test images" in page


@pytest.mark.parametrize("kind", ["colour", "archive"])
def test_small_sets_without_labels_get_their_report_and_it_says_what_is_missing_in_a_line(kind, tmp_path, monkeypatch):
    if kind == "colour":
        root = tmp_path / "photos"
        root.mkdir()
        for i in range(40):
            x = np.random.default_rng(i).integers(0, 256, (9 + i % 4, 12, 3), dtype=np.uint8)
            Image.fromarray(x).save(root / f"{i}.png")
        page, figures = report(tmp_path, f"images:{root}?size=8&grey=false", monkeypatch, '"vae-discretized", "made", ')
        assert "3×8×8 pixels in 256 levels; 30 / 5 / 5 training" in page
    else:
        np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).random((30, 5, 6)))
        page, figures = report(tmp_path, f"npz:{tmp_path}/mine.npz", monkeypatch, '"vae-discretized", "made", ')
        assert "1×5×6 pixels in 256 levels; 22 / 4 / 4 training" in page
    assert {"samples", "reconstructions", "latent_size"} <= figures
    assert "labels" not in figures
    faults = page.split("## Failed or skipped\n")[1].split("\n## ")[0].strip().splitlines()
    assert any("probe_accuracy, clustering_score: skipped: the data set has no labels" in line for line in faults)
    assert len(faults) < 8
    assert "**Latents for classification.** No evidence: the data set has no labels." in page
    assert "Without labels there is no classifier" in page


def test_the_record_of_own_data_is_found_by_what_it_was_asked_for(tmp_path, monkeypatch):
    root = fill(tmp_path / "photos", 40, classes=2)
    monkeypatch.chdir(tmp_path)
    for dataset in (f"images:{root}", f"images:{root}?size=8", f"images:{root}?size=8&static=true"):
        (spec,) = [RunSpec(c, dataset, (0,), "smoke") for c in configure("reference-pca-2")]
        (record,) = run_all([spec], Store("runs"), torch.device("cpu"))
        assert record.identity == spec.identity
        assert list(Store("runs").newest([spec.identity])) == [spec.identity]


def test_a_record_that_calls_its_data_otherwise_is_made_again(tmp_path):
    (spec,) = [RunSpec(c, "digits", (0,), "smoke") for c in configure("reference-pca-2")]
    store = Store(tmp_path)
    (record,) = run_all([spec], store, torch.device("cpu"))
    store.put(store.folder(spec, record.key), replace(record, dataset=record.dataset | {"name": "numbers"}))
    (again,) = run_all([spec], store, torch.device("cpu"))
    assert again.dataset["name"] == "digits"
    assert again.key == record.key
