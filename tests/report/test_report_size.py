"""Reports of many variants: the work grows with their number, and what a page leaves out it says."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.drawn import panels
from tests.made_up import fill, grid, made_up
from vae_variants.analysis.entries import LOOKS, Entry
from vae_variants.analysis.notes import MOST
from vae_variants.analysis.prominence import family, prominent
from vae_variants.analysis.sample_quality import PLACE, placed
from vae_variants.analysis.tables import results, summary
from vae_variants.harness import Record, Store
from vae_variants.harness.record import beginning_of
from vae_variants.harness.store import RECORD
from vae_variants.report import figures, lines, tradeoffs
from vae_variants.report.content import ROWS, content
from vae_variants.report.readme import readme
from vae_variants.variants import VARIANTS


def entries(variants: int, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Entry]:
    return [Entry(spec.label, made_up(spec), index=i) for i, spec in enumerate(grid(variants, seeds))]


def calls(work: Callable[[], object]) -> int:
    """How many functions of Python and of C are called, a generator counting for each of its items."""
    found = Counter[str]()

    def count(frame: object, event: str, argument: object) -> None:
        found[event] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found["call"] + found["c_call"]


@pytest.mark.parametrize(("part", "seeds", "most"), [("tables", (0,), 1.1), ("page", (0, 1, 2), 1.25)])  # three are compared
def test_the_work_grows_with_the_number_of_variants(part, seeds, most):
    def work(n: int) -> int:
        group = entries(n, seeds)
        if part == "tables":
            return calls(lambda: (results(group), summary(group)))
        return calls(lambda: readme(content("digits", group, "vae-variants bench", ["x"] * n), ["samples"]))

    one, two, three = (work(n * (ROWS + 40)) for n in (1, 2, 3))
    assert three - two < most * (two - one)


def test_an_interval_is_computed_once(monkeypatch):
    from vae_variants.analysis import entries as module

    asked: list[tuple[float, ...]] = []
    real = module.interval
    monkeypatch.setattr(module, "interval", lambda values: asked.append(tuple(values)) or real(values))
    group = entries(8)
    summary(group)
    once = len(asked)
    readme(content("digits", group, "vae-variants bench"), [])
    tradeoffs.rate_distortion(group)
    assert 0 < once <= sum(len(e.rows) for e in group)
    assert set(asked[once:]) <= {tuple(e.values(PLACE).values()) for e in placed(group, "fd-digitscnn")}, "known only then"


def test_a_record_is_read_once_if_it_is_wanted_and_not_at_all_if_not(tmp_path, monkeypatch):
    store, specs, others = Store(tmp_path), grid(6, (0,)), grid(20, (1,))
    fill(store, [*specs, *others])
    read: list[str] = []
    real = Record.from_json
    monkeypatch.setattr(Record, "from_json", lambda text: read.append(text) or real(text))
    found = store.newest(spec.identity for spec in specs)
    assert set(found) == {spec.identity for spec in specs}
    assert len(read) == len(specs)


def test_the_newest_of_a_run_counts_and_a_damaged_one_does_not(tmp_path, capsys):
    store, (spec, other) = Store(tmp_path), grid(2, (0,))
    for turn in (1, 2, 0):
        record = made_up(spec, turn)
        store.put(store.folder(spec, record.key), record)
    fill(store, [other])
    assert store.newest([spec.identity])[spec.identity][1] == made_up(spec, 2)
    newest = store.locate(spec, made_up(spec, 2).key) / RECORD
    newest.write_text(newest.read_text()[:9000])  # its beginning is whole
    assert store.newest([spec.identity])[spec.identity][1] == made_up(spec, 1)
    assert newest.with_name("record.json.damaged").is_file()
    assert "damaged" in capsys.readouterr().err


def test_the_beginning_of_a_record_tells_its_identity():
    for spec in grid(8):
        record = made_up(spec)
        text = record.to_json()
        assert beginning_of(text) == beginning_of(text[:4000]) == (record.identity, record.order)
        assert record.identity == spec.identity
        assert beginning_of(text[:200]) == (None, None)
    for text in ("", "[]", "null", "{}", '{\n "values": null,\n "status": {}'):
        assert beginning_of(text) == (None, None)


def test_prominent_are_the_first_and_the_best_of_each_kind_of_pixels():
    group = entries(80)
    assert prominent(group, 80) == group
    chosen = prominent(group, 20)
    assert len(chosen) == 20 and chosen == [e for e in group if e in chosen]
    for support in ("binary", "real"):
        own = [e for e in group if e.record.support == support and e.interval("log_likelihood")]
        best = sorted(own[1:], key=lambda e: -e.interval("log_likelihood").mean)
        kept = [e for e in own if e in chosen]
        assert kept[0] == own[0] and {e.label for e in kept[1:]} == {e.label for e in best[: len(kept) - 1]}
        assert len(kept) in (6, 7)
    without = [e for e in group if not e.interval("log_likelihood")]
    kept = [e for e in without if e in chosen]
    assert kept == without[: len(kept)] and len(kept) in (6, 7)


def test_each_family_is_shown_before_any_has_a_second():
    found = [*VARIANTS.values()]
    group = [replace(e, label=v.name) for e, v in zip(entries(len(found), (0, 1)), found, strict=True)]
    titles = list(dict.fromkeys(v.family for v in found))
    assert 8 < len(titles) < LOOKS < len(group)
    for most in (len(titles), len(titles) + 1, LOOKS):
        chosen = prominent(group, most)
        assert len(chosen) == most and {family(e) for e in chosen} == set(titles)
        assert chosen == [e for e in group if e in chosen]
    assert [family(e) for e in prominent(group, 3)] == titles[:3]


def test_failed_runs_take_nobodys_place():
    group = entries(10)
    failed = [Entry(f"failed-{i}", replace(e.record, key=f"f{i}", rows=[], status={"0": "error"}, seeds=[0])) for i, e in enumerate(group)]
    assert prominent([*failed, *group], 10) == group
    assert prominent(failed, 5) == []
    assert "Tables show 0 of them" in readme(content("digits", failed * 30, "vae-variants bench"), [])


def test_the_page_says_what_it_leaves_out():
    group = entries(ROWS + 50, (0, 1))
    page = readme(content("digits", group, "vae-variants bench", [f"m{i}" for i in range(ROWS + 7)]), ["samples", "cost", "latent_size"])
    assert f"There are {len(group)} variants. Tables show {ROWS} of them and figures {LOOKS}" in page
    assert page.count(f"Shown: {LOOKS} of {len(group)} variants") == 2  # families of latent sizes are drawn of all
    assert f"{ROWS} of {len(group)} variants: all are in" in page
    assert f"{ROWS + 7} variants have not run yet: `m0`, " in page and f"`m{MOST - 1}` and {ROWS + 7 - MOST} more." in page
    for support, title in (("binary", "### Binary pixels"), ("real", "### Continuous pixels on the real line")):
        table = page.partition(f"{title}\n")[2].partition("\n#")[0]
        rows, of = table.count("\n| `"), sum(e.record.support == support and e.interval("log_likelihood") is not None for e in group)
        assert (f"{rows} of {of} rows: all are in" in table) == (rows < of)
        assert (rows < of) == (support == "binary")


def test_a_page_of_few_leaves_nothing_out():
    page = readme(content("digits", entries(LOOKS, (0, 1)), "vae-variants bench", ["x"]), ["samples"])
    for phrase in ("Shown:", "There are", r"all are in \[summary", r"\d more\."):
        assert not re.search(phrase, page), phrase


def test_failures_that_are_not_listed_are_counted():
    (entry,) = entries(1)
    rows = [{**row, "status": "skipped", "reason": f"too few {i}"} for i, row in enumerate(entry.record.rows)]
    group = [Entry(f"a{i}", replace(entry.record, key=str(i), rows=rows)) for i in range(5)]
    page = readme(content("digits", group, "vae-variants bench"), [])
    assert page.count(": skipped: too few") == ROWS
    assert f"\n- and {5 * len(rows) - ROWS} more, with their status in" in page


def test_what_one_reason_takes_from_many_is_one_line():
    (entry,) = entries(1)
    rows = [{**row, "value": None, "status": "skipped", "reason": "too few"} for row in entry.record.rows]
    group = [Entry(f"a{i}", replace(entry.record, key=str(i), rows=rows)) for i in range(9)]
    page = readme(content("digits", group, "vae-variants bench"), [])
    (line,) = [line for line in page.splitlines() if "too few" in line and line.startswith("- ") and "No evidence" not in line]
    assert line.startswith("- 9 variants: elbo, rate, ")
    few = readme(content("digits", [Entry("a", replace(entry.record, rows=rows[:3]))], "vae-variants bench"), [])
    assert few.count("- `a`, seed 0, ") == 3


def test_figures_load_no_pictures_but_those_they_show(tmp_path, monkeypatch):
    loaded: list[str] = []
    group = [replace(e, load=lambda label=e.label: loaded.append(label) or {}) for e in entries(LOOKS + 24, (0, 1))]
    seen: dict[str, list[Entry]] = {}
    spies = {
        name: figures.FIGURES[name]._replace(draw=lambda found, name=name: seen.update({name: list(found)}))
        for name in ("samples", "latent_size")
    }
    monkeypatch.setattr(figures, "FIGURES", spies | {"reconstructions": figures.FIGURES["reconstructions"]})
    assert figures.write_figures(figures.drawings(group), tmp_path) == []
    assert {e.label for e in seen["samples"]} == {e.label for e in prominent(group, LOOKS)}
    assert seen["latent_size"] == group
    assert set(loaded) == {e.label for e in prominent(group, LOOKS)}


def test_families_that_are_not_drawn_are_counted():
    few, many = (panels(lines.latent_size(entries(n, (0,)))) for n in (40, 120))
    assert not any("families" in title for title in few)
    assert all("the first 8 of " in title for title in many)


def test_losses_of_many_models_have_a_panel_each():
    group = [e for e in entries(80, (0,)) if "loss" in e.record.curves]
    assert len(group) == 20 == len(panels(lines.losses(group)))
