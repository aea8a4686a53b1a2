"""The archive beside a report: it gives the same report again, and a changed byte anywhere in it is refused in one line."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.made_up import fill, grid, made_up
from vae_variants import report
from vae_variants.analysis.entries import entries_of
from vae_variants.cli.app import app
from vae_variants.cli.reporting import make_report, remake_report
from vae_variants.harness import Store
from vae_variants.harness.archive import HEADER, PICTURES, RECORDS, adopt, compressed, packed, read_archive, restored, sha
from vae_variants.harness.files import load_with_metadata, save_tensors, seal, unseal
from vae_variants.harness.record import Record
from vae_variants.registry import UserError
from vae_variants.report import Change, Claim, figures, grids, write_index, write_report
from vae_variants.report.context import Context, context_of

DATA = Path(__file__).parents[1] / "data"
FILES = (HEADER, RECORDS, PICTURES)
CONTEXT = Context("mine", "vae-variants bench mine", (), (), (), ()).as_json()


@pytest.fixture(scope="module", autouse=True)
def fewer() -> Iterator[None]:
    """Figures of pictures and one more; `test_committed.py` has all."""
    names = ("likelihood", "samples", "reconstructions", "traversals", "latent_plane", "latent_components")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in names})
        yield


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def sealed(header: dict[str, object]) -> bytes:
    return seal(json.dumps(header, indent=1)).encode()


def refused(folder: Path) -> str:
    """The one line with which an archive is refused."""
    with pytest.raises(UserError) as caught:
        context_of(folder, read_archive(folder).report)
    line = str(caught.value)
    assert line.isprintable() and str(folder) in line
    return line


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `reports` with the report of runs that have more pictures than a report shows."""
    path = tmp_path_factory.mktemp("archive")
    store, plan = Store(path / "runs"), grid(5, (0, 1, 2))
    fill(store, plan)
    noise = torch.Generator().manual_seed(0)
    for i, file in enumerate(sorted(store.root.rglob("pictures.safetensors"))):
        found, _ = load_with_metadata(file)
        latent = torch.randn(2000 if i else 500, 2, generator=noise)
        found |= {"latent": latent, "latent_labels": (latent[:, 0] > 0).long(), "traversal": found["samples"].repeat(2, 1)[:56]}
        found |= {"latent_grid": found["samples"][0].repeat(225, 1)} if i else {"latent_share": torch.tensor([0.5, 0.25])}
        save_tensors(file, found)
    make_report("digits", [*plan, *grid(6, (0, 1, 2))[5:]], store.root, path / "reports", {})
    return path / "reports"


@pytest.fixture(scope="module")
def small() -> dict[str, bytes]:
    """The files of a small archive."""
    runs = [(spec.label, made_up(spec), dict) for spec in grid(2, (0,))]
    shown = {record.key: {"samples": torch.full((2, 4), i, dtype=torch.uint8)} for i, (_, record, _) in enumerate(runs)}
    return packed(CONTEXT, runs, shown)


def test_a_report_from_its_archive_is_the_same_bytes(written, tmp_path, capsys):
    before = contents(written / "digits")
    assert set(FILES) <= before.keys() and "1 variant has not run yet: `vae-5`" in before["README.md"].decode()
    remake_report("digits", written / "digits", tmp_path, {})
    assert contents(tmp_path / "digits") == before
    assert "--mark-stale" not in capsys.readouterr().err  # made-up runs were stale when the report was written


def test_copied_runs_make_the_same_report(written, tmp_path):
    store = Store(tmp_path / "runs")
    assert (adopt(written / "digits", store), adopt(written / "digits", store)) == (5, 0)
    make_report("digits", [*grid(5, (0, 1, 2)), *grid(6, (0, 1, 2))[5:]], store.root, tmp_path, {})
    assert contents(tmp_path / "digits") == contents(written / "digits")


def test_an_archive_keeps_what_figures_show_and_no_more(written):
    archive = read_archive(written / "digits")
    for _, record, load in archive.runs:
        found = load()
        (original,) = (written.parent / "runs").rglob(f"*-{record.key[:12]}/pictures.safetensors")
        whole, _ = load_with_metadata(original)
        assert len(found["latent"]) == len(found["latent_labels"]) == grids.SHOWN < len(whole["latent"])
        assert len(found["traversal"]) == 35 < len(whole["traversal"])
        assert found.keys() == whole.keys()
        assert all(torch.equal(t, whole[name][: len(t)]) for name, t in found.items())
        assert len(found["samples"]) == 36 and len(found["originals"]) == 10


def test_images_that_no_figure_has_room_for_are_left_out():
    """Of 3x128x128 pixels two variants show 9 samples, 6 pairs and 1 unit."""
    size = 3 * 128 * 128
    records = [replace(r, dataset=r.dataset | {"shape": [3, 128, 128]}) for r in map(made_up, grid(2))]
    images = torch.zeros(1, size, dtype=torch.uint8)
    has = {"samples": 36, "originals": 10, "reconstructions": 10, "traversal": 56}
    pictures = {name: images.expand(n, size) for name, n in has.items()}
    entries = entries_of([(r.label, r, lambda: pictures) for r in records])
    kept = grids.kept(entries)[records[0].key]
    assert {name: len(t) for name, t in kept.items()} == {"samples": 9, "originals": 6, "reconstructions": 6, "traversal": 7}
    for figure in (grids.samples, grids.reconstructions, grids.traversals):
        drawn = [drawn_pixels(figure([replace(e, load=lambda p=p: p) for e in entries])) for p in (pictures, kept)]
        assert drawn[0] == drawn[1] and drawn[0]


def drawn_pixels(figure) -> list[bytes]:
    return [image.get_array().tobytes() for panel in figure.subfigs for ax in panel.axes for image in ax.images]


def test_an_archive_has_no_time_and_no_order_of_its_own(small):
    runs = [(spec.label, made_up(spec), dict) for spec in grid(2, (0,))]
    shown = {record.key: {"samples": torch.full((2, 4), i, dtype=torch.uint8)} for i, (_, record, _) in enumerate(runs)}
    assert packed(CONTEXT, runs, dict(reversed(shown.items()))) == small
    assert all(small[name][:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" for name in (RECORDS, PICTURES))
    assert gzip.decompress(small[RECORDS]).decode() == "".join(record.to_json() for _, record, _ in runs)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_refused(name, small, tmp_path):
    chance, content = random.Random(0), small[name]
    folder = put(small, tmp_path / "a")
    places = {*range(24), *range(len(content) - 16, len(content)), *chance.sample(range(len(content)), 80)}
    for place in sorted(places):
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        (folder / name).write_bytes(changed)
        refused(folder)
    (folder / name).write_bytes(content)
    assert [label for label, _, _ in read_archive(folder).runs] == ["vae-0", "vae-1"]


@pytest.mark.parametrize("name", FILES)
def test_a_cut_longer_foreign_or_missing_file_is_refused(name, small, tmp_path):
    folder, content = put(small, tmp_path / "a"), small[name]
    foreign = [b"", b"{}", b"[]", b"\xff\xfe", b"null", gzip.compress(b"{}"), compressed(b""), b'{"schema": 1}', sealed({"schema": 1})]
    for changed in (content[:-1], content[: len(content) // 2], content[:1], content + b"\0", content + content, *foreign):
        (folder / name).write_bytes(changed)
        refused(folder)
    (folder / name).unlink()
    assert "is missing" in refused(folder)
    assert "is missing" in refused(tmp_path / "nowhere")


def edited(small: dict[str, bytes], name: str, change: Callable[[bytes], bytes], told: bool = True) -> dict[str, bytes]:
    """An archive whose uncompressed file was changed; with `told` its header has the new digest of the whole file."""
    content = compressed(change(restored(small[name])))
    header = json.loads(unseal(small[HEADER].decode()))
    header["files"][name] = sha(content)
    return small | {name: content} | ({HEADER: sealed(header)} if told else {})


@pytest.mark.parametrize("told", [False, True])
def test_a_changed_record_is_named(small, told, tmp_path):
    def forge(content: bytes) -> bytes:  # with a seal that fits
        first, second = (text + "\n}\n" for text in content.decode().split("\n}\n")[:2])
        record = Record.from_json(second)
        better = [{**row, "value": row["value"] + 1.0} for row in record.rows]
        return (first + replace(record, rows=better).to_json()).encode()

    changes = [lambda content: content.replace(b'"a made-up one"', b'"a borrowed one"', 1), forge]
    for label, change in zip(("vae-0", "vae-1"), changes, strict=True):
        line = refused(put(edited(small, RECORDS, change, told), tmp_path / "a"))
        assert f"the record of {label!r} does not match" in line


@pytest.mark.parametrize("told", [False, True])
def test_changed_pictures_are_named(small, told, tmp_path):
    assert restored(small[PICTURES])[-16:] == b"\0" * 8 + b"\1" * 8 or restored(small[PICTURES])[-16:] == b"\1" * 8 + b"\0" * 8
    line = refused(put(edited(small, PICTURES, lambda content: content[:-1] + b"\2", told), tmp_path / "a"))
    assert "the pictures of 'vae-" in line
    both = edited(small, PICTURES, lambda content: content[:-16] + content[-8:] + content[-16:-8], told)  # of the other run each
    assert "the pictures of 'vae-0'" in refused(put(both, tmp_path / "b"))


def test_records_must_be_those_of_the_header(small, tmp_path):
    for i, change in enumerate((lambda c: c + c, lambda c: c[: c.index(b"\n}\n") + 3], lambda c: c + b"{")):
        assert "has not the records" in refused(put(edited(small, RECORDS, change), tmp_path / str(i)))
    header = json.loads(unseal(small[HEADER].decode()))
    a, b = header["runs"]
    for runs in ([b, a], [{**a, "record": b["record"]}, {**b, "record": a["record"]}], []):
        refused(put(small | {HEADER: sealed({**header, "runs": runs})}, tmp_path / "c"))


@pytest.mark.parametrize(
    "change",
    [{"suite": 3}, {"missing": "x"}, {"claims": [{"name": "a"}]}, {"claims": [vars(Claim(*"abcde", "javascript:alert(1)"))]}, {"new": [1]}],
    ids=str,
)
def test_a_context_that_does_not_fit_is_refused(small, change, tmp_path):
    header = json.loads(unseal(small[HEADER].decode()))
    header["report"] |= change
    refused(put(small | {HEADER: sealed(header)}, tmp_path / "a"))


def test_what_a_newer_version_wrote_is_told_from_damage(small, tmp_path):
    header = json.loads(unseal(small[HEADER].decode()))
    assert "update vae-variants" in refused(put(small | {HEADER: sealed({**header, "schema": 2})}, tmp_path / "a"))
    text = gzip.decompress(small[RECORDS]).decode().split("\n}\n")[0] + "\n}\n"
    newer = seal(json.dumps({**json.loads(unseal(text)), "schema": 99}, indent=1)).encode()
    header["runs"] = [{**header["runs"][0], "record": sha(newer)}]
    files = edited(small | {HEADER: sealed(header)}, RECORDS, lambda _: newer)
    assert "update vae-variants" in refused(put(files, tmp_path / "b"))


@pytest.mark.parametrize("schema", [1, 2, 3, 4, 5])
def test_records_of_an_earlier_schema_are_read_and_kept_as_they_are(schema, tmp_path):
    text = (DATA / f"record-{schema}.json").read_text(encoding="utf-8")
    record = Record.from_json(text)
    assert Record.from_json(record.to_json()).to_json() == record.to_json()  # in this order from the first
    files = packed(CONTEXT, [("old", record, dict)], {})
    header = json.loads(unseal(files[HEADER].decode()))
    header["runs"][0]["record"] = sha(text.encode())
    folder = put(edited(files | {HEADER: sealed(header)}, RECORDS, lambda _: text.encode()), tmp_path / "a")
    archive = read_archive(folder)
    assert [(label, found) for label, found, _ in archive.runs] == [("old", record)]
    assert archive.with_report(archive.report) == contents(folder)


def test_stale_runs_are_those_of_the_writing_unless_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "drawings", lambda *_: [])
    runs = [(spec.label, Record.from_json(made_up(spec).to_json()), dict) for spec in grid(2)]
    claims, changes = [Claim(*"abcde", "../claims/a.md")], [Change("better", *"abcd")]
    said = {"missing": ["x"], "stale": ["vae-1"], "claims": claims, "changes": changes}
    write_report("digits", runs, tmp_path / "digits", command="vae-variants bench digits", **said)
    before = contents(tmp_path / "digits")
    remake_report("digits", tmp_path / "digits", tmp_path / "kept", {})
    remake_report("digits", tmp_path / "digits", tmp_path, {})  # in place
    assert contents(tmp_path / "kept" / "digits") == contents(tmp_path / "digits") == before
    told = capsys.readouterr().err
    assert "1 of 2 runs have become stale: vae-0;" in told and "--mark-stale" in told
    remake_report("digits", tmp_path / "digits", tmp_path / "today", {}, mark_stale=True)
    assert not capsys.readouterr().err
    assert read_archive(tmp_path / "today" / "digits").report["stale"] == ["vae-0", "vae-1"]
    assert "this report: `vae-0` and `vae-1`" in (tmp_path / "today" / "digits" / "README.md").read_text()
    for name in ("kept", "today"):
        write_index(tmp_path / name)
    assert "| 2 runs, 1 stale |" in (tmp_path / "kept" / "README.md").read_text()
    assert "| 2 runs, 2 stale |" in (tmp_path / "today" / "README.md").read_text()


def test_a_figure_without_pictures_is_told(tmp_path, capsys, monkeypatch):
    """As when the report's code changes which variants its figures show."""
    monkeypatch.setattr(report, "drawings", lambda *_: [])
    runs = [(spec.label, made_up(spec), dict) for spec in grid(2)]
    context = Context("digits", "vae-variants bench digits", (), ("vae-0", "vae-1"), (), ()).as_json()
    remake_report("digits", put(packed(context, runs, {runs[0][1].key: {}}), tmp_path / "a"), tmp_path / "b", {})
    assert capsys.readouterr().err == "no pictures of 1 of 2 runs that figures should show: vae-1; --runs has them\n"


def test_commands_say_what_does_not_go_together(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = str(written / "digits")
    for words, said in (
        (["report", "zoo", "--records", archive], "not of 'zoo'"),
        (["report", "digits", "--seeds", "2", "--records", archive], "not of 'digits-seeds-2'"),
        (["report", "digits", "--records", archive, "--runs", "x"], "--records excludes"),
        (["status", "digits", "--records", archive, "--planned"], "--records excludes"),
        (["report", "digits", "--mark-stale"], "--mark-stale needs --records"),
        (["report", "digits", "--records", "nothing"], "archive.json is missing"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and said in result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


def test_status_shows_the_runs_of_an_archive(tmp_path, monkeypatch):
    from vae_variants.harness import load_suite

    spec = load_suite("digits").plan(tune="none")[0]
    monkeypatch.setattr(report, "drawings", lambda *_: [])
    write_report("digits", [(spec.label, made_up(spec), dict)], tmp_path / "digits", command="vae-variants bench digits")
    result = CliRunner().invoke(app, ["status", "digits", "--records", str(tmp_path / "digits"), "--json"])
    (first,) = json.loads(result.stdout)["runs"]
    assert (first["variant"], first["state"], first["folder"]) == (spec.label, "ok, stale", str(tmp_path / "digits"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["bench", "digits", "--records", "digits", "--dry-run", "--tune", "none"])
    (row,) = (line for line in result.stdout.splitlines() if line.split()[:1] == [spec.label])
    assert row.split()[-2:] == ["ok,", "stale"]
