"""Files and names that mean harm: they are refused in one line, run nothing, and write nowhere."""

from __future__ import annotations

import ast
import os
import pickle
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt
from PIL import EpsImagePlugin

from tests.made_up import grid, made_up
from vae_variants import isolation
from vae_variants.analysis.entries import Entry
from vae_variants.datasets import folder, load_dataset, own
from vae_variants.datasets.builtin import batch
from vae_variants.datasets.walk import SUFFIXES
from vae_variants.harness import Record
from vae_variants.plugins import load_plugins
from vae_variants.registry import Registry, UserError
from vae_variants.report.content import content
from vae_variants.report.html import page as html_page
from vae_variants.report.markdown import escaped
from vae_variants.report.readme import readme
from vae_variants.variants import configure

PACKAGE = Path(own.__file__).parents[1]


def test_nothing_is_unpickled_and_no_text_is_run():
    """But for plug-ins, which the user names, and CIFAR-10, which is published so: of it numbers and arrays of bytes alone."""
    called = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                unpickles = {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"} & set(names)
                assert not unpickles or (path.name == "builtin.py" and unpickles == {"pickle"}), path
            if isinstance(node, ast.Call):
                called.append((path.name, ast.unparse(node.func), ast.unparse(node)))
    forbidden = {"eval", "exec", "compile", "os.system", "torch.load"}
    assert [call[0] for call in called if call[1].endswith("torch.jit.load")] == ["given_networks.py"]  # a file that the user names
    assert not {call[1] for call in called} & {*forbidden, "pickle.load", "pickle.loads", "pickle.Unpickler"}
    assert [call[0] for call in called if call[1].endswith("np.load")] == ["arrays.py", "arrays.py"]
    assert all("allow_pickle=False" in call[2] for call in called if call[1].endswith("np.load"))
    assert [call[0] for call in called if call[1].endswith("exec_module")] == ["plugins.py"]


class Hostile:
    def __init__(self, *called: object) -> None:
        self.called = called

    def __reduce__(self):
        return self.called[0], self.called[1:]


def cifar(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 wrote it, in whose arrays are neither text in unicode nor today's names."""
    of_bytes = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in images.shape) + b"t"
    array = empty + b"(K\x01" + shape + of_bytes + b"\x89T" + struct.pack("<i", images.size) + images.tobytes() + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x0bbatch_labelU\x15training batch 1 of 5U\x06labels" + numbers + b"U\x04data" + array + b"u."


def test_of_what_is_pickled_numbers_and_arrays_of_bytes_are_read(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    images, labels = batch(np.frombuffer(cifar(stored, [3, 1, 4, 1]), np.uint8))
    assert np.array_equal(images.numpy(), stored.reshape(4, 3, 32, 32))
    assert labels.tolist() == [3, 1, 4, 1]
    ran = tmp_path / "ran"
    for evil in (Hostile(os.system, f"touch {ran}"), Hostile(eval, "1"), Hostile(Path, "x"), np.array([print]), np.arange(3), [1], "x"):
        with pytest.raises(ValueError, match=r"no batch of CIFAR-10"):
            batch(np.frombuffer(pickle.dumps({"data": evil, "labels": evil}, protocol=2), np.uint8))
    assert not ran.exists()


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "a b", "<b>", "x\n", "`", ".x", "a|b", "x" * 81])
def test_a_name_that_could_be_a_path_or_markup_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"is not valid|registered"):
        Registry[int]("thing").add(1, name=name or " ")
    (tmp_path / "plugin.py").write_text(f"from vae_variants import OBJECTIVES\nOBJECTIVES.add(lambda draws: 0, name={name or ' '!r})\n")
    with pytest.raises(UserError, match="failed to import") as error:
        load_plugins([tmp_path / "plugin.py"])
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["vae[latent=2\n]", "vae`", "vae[latent=\x1b[31m]"])
def test_a_selector_that_would_not_be_one_line_of_text_is_refused(text):
    with pytest.raises(UserError) as error:
        configure(text)
    assert str(error.value).isprintable()


def test_reports_show_errors_as_text():
    record: Record = made_up(grid(1, (0,))[0])
    hostile = "<script>alert(1)</script> | [x](javascript:y) `z`\n# title ![i](http://i)"
    record = replace(record, status={"0": "error"}, reason={"0": hostile})
    page = readme(content("digits", [Entry("vae-0", record)], "c", [], ["vae-0"]), [])
    assert not any("html" in token.type for token in MarkdownIt().parse(page))
    assert r"\<script>alert(1)\</script> | [x\](javascript:y) 'z' \# title ![i\](http:\//i)" in page
    assert "1 row is stale, made by other code than this report: `vae-0`." in page
    assert escaped("a & b &lt; `c|d` e|f") == r"a & b \&lt; <code>c&#124;d</code> e|f"
    html = html_page(content("digits", [Entry("vae-0", replace(record, failure={"epoch": 1, "traceback": hostile}))], "c"))
    assert "<script>alert" not in html and html.count("&lt;script&gt;alert(1)&lt;/script&gt; | [x](javascript:y)") == 3


def test_an_archive_that_unpacks_to_more_than_there_is_room_for_is_refused_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((3000, 28, 28), np.uint8))
    monkeypatch.setattr(folder, "LARGEST", 10**6)
    with pytest.raises(UserError, match="GiB of arrays"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")
    (tmp_path / "a.png").write_bytes(png(4, 4))
    with pytest.raises(UserError, match=r"size=1024, and there is room for .* smaller size"):
        load_dataset(f"images:{tmp_path}?size=1024")


def test_an_archive_may_take_a_quarter_of_the_memory_and_says_so_where_even_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "installed", lambda: 2**22)
    assert folder.room() == 2**20
    monkeypatch.undo()
    np.savez(tmp_path / "a.npz", x=np.zeros((40, 4, 4)))

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(UserError, match="than there is memory for"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")


def test_an_archive_takes_no_more_memory_than_its_arrays_and_the_images(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.ones((20_000, 28, 28), bool))
    tracemalloc.start()
    try:
        own.archive(str(tmp_path / "a.npz"))
        assert tracemalloc.get_traced_memory()[1] < 4 * 20_000 * 28 * 28
    finally:
        tracemalloc.stop()


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 5), (2**31 - 1, 1)])
def test_a_picture_of_huge_dimensions_takes_no_memory(tmp_path, size):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(*size))
    with pytest.raises(UserError, match="not a readable picture"):
        load_dataset(f"images:{tmp_path}")


def test_a_picture_that_is_a_program_is_not_run(tmp_path, monkeypatch):
    def started(*_, **__):
        pytest.fail("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/tmp/x) (w) file\nshowpage\n%%EOF\n"
    for suffix in sorted(SUFFIXES):
        (tmp_path / f"a{suffix}").write_bytes(eps)
        with pytest.raises(UserError, match="not a readable picture"):
            load_dataset(f"images:{tmp_path}")
        (tmp_path / f"a{suffix}").unlink()


@pytest.mark.parametrize("size", ["1025", "1000000000", "-5"])
def test_pictures_are_not_blown_up(tmp_path, size):
    with pytest.raises(UserError, match=r"too (large|small)"):
        load_dataset(f"images:{tmp_path}?size={size}")


class Same:
    """Says that it equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __call__(self, *given: object, **options: object) -> object:
        return given[0]


def test_what_says_that_it_equals_a_function_is_found_and_the_function_is_back():
    before = torch.relu
    with pytest.raises(isolation.Changed, match=r"torch\.relu"), isolation.unchanged("it", "restore it"):
        torch.relu = Same()
    assert torch.relu is before
