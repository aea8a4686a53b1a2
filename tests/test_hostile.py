"""Files and names that mean harm: they are refused in one line, run nothing, and write nowhere."""

from __future__ import annotations

import ast
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.made_up import grid, made_up
from vae_variants.datasets import load_dataset, own
from vae_variants.harness import Record
from vae_variants.registry import Registry, UserError, load_plugins
from vae_variants.report.content import content
from vae_variants.report.entries import Entry
from vae_variants.report.html import page as html_page
from vae_variants.report.readme import notes, plain
from vae_variants.variants import configure

PACKAGE = Path(own.__file__).parents[1]


def test_nothing_is_unpickled_and_no_text_is_run():
    """But for plug-ins, which the user names."""
    called = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"} & set(names), path
            if isinstance(node, ast.Call):
                called.append((path.name, ast.unparse(node.func), ast.unparse(node)))
    assert not [call for call in called if call[1] in ("eval", "exec", "torch.load", "torch.jit.load", "os.system", "compile")]
    assert [call[0] for call in called if call[1].endswith("np.load")] == ["own.py"]
    assert all("allow_pickle=False" in call[2] for call in called if call[1].endswith("np.load"))
    assert [call[0] for call in called if call[1].endswith("exec_module")] == ["registry.py"]


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
    page = "\n".join(notes([Entry("vae-0", record)], [], ["vae-0"]))
    assert "<script>" not in page
    assert r"\[x\](javascript:y) \`z\` \# title !\[i\]" in page
    assert "Made by older code than this page: `vae-0`." in page
    assert plain("a & b") == "a &amp; b"
    html = html_page(content("digits", [Entry("vae-0", replace(record, failure={"epoch": 1, "traceback": hostile}))], "c"))
    assert "<script>alert" not in html and html.count("&lt;script&gt;alert(1)&lt;/script&gt; | [x](javascript:y)") == 2


def test_an_archive_that_unpacks_to_more_than_there_is_room_for_is_refused_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((3000, 28, 28), np.uint8))
    monkeypatch.setattr(own, "LARGEST", 10**6)
    with pytest.raises(UserError, match="GiB of arrays"):
        load_dataset(f"npz:{tmp_path / 'a.npz'}")


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


@pytest.mark.parametrize("size", ["1025", "1000000000", "-5"])
def test_pictures_are_not_blown_up(tmp_path, size):
    with pytest.raises(UserError, match=r"too (large|small)"):
        load_dataset(f"images:{tmp_path}?size={size}")
