"""report.html: whole without script, the same bytes each time, and harmless whatever the names; `test_page_browser.py` uses it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.made_up import grid, made_up
from vae_variants.analysis.entries import COLOURS, LOOKS, Entry
from vae_variants.analysis.notes import MOST
from vae_variants.report import Change, Claim, html, write_report
from vae_variants.report.content import ROWS, content
from vae_variants.report.figures import Plot
from vae_variants.report.html import DARK, LARGEST, page
from vae_variants.report.overview import overview

HOSTILE = "\"><script>alert(1)</script><img src=http://x onerror=alert(1)>{{ 7 * 7 }}' onclick='alert(1)"
COMMAND = "vae-variants bench digits"
SVG = '<svg id="plot-x" role="img" aria-labelledby="plot-x-title" viewBox="0 0 90 20" width="90"><title id="plot-x-title">A plot</title>'
VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}


def entries(variants: int, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Entry]:
    return [Entry(spec.label, made_up(spec), index=i) for i, spec in enumerate(grid(variants, seeds))]


def plot(group: list[Entry]) -> Plot:
    marks = [f'<rect data-variant="{e.label}" x="{9 * i}" width="8" height="9" fill="var(--v{i % 8})"/>' for i, e in enumerate(group)]
    return Plot("x", "A plot", "What it shows.", "quality", f"{SVG}{''.join(marks)}</svg>")


def failed(entry: Entry, text: str = "lost") -> Entry:
    record = replace(entry.record, key="f", rows=[], status={"0": "error"}, seeds=[0], reason={"0": text})
    return replace(entry, label=f"failed-{text}", record=replace(record, failure={"epoch": 3, "traceback": f"Traceback: {text}"}))


class Read(HTMLParser):
    """Elements with their attributes, and the text that is seen; what is left open is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.seen.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.seen).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def group() -> list[Entry]:
    return entries(16)


def whole_page(group: list[Entry]) -> str:
    """With something in every section."""
    found = content("digits", [*group, failed(group[0])], COMMAND, ["not-run"], ["vae-0"])
    claims = [Claim("blur", "Samples are blurred.", "✔ supported", "They are.", "digits", "../claims/digits-blur.md")]
    changes = [Change("worse", "vae-0", "elbo", "−20.0 ± 0.1", "−21.0 ± 0.1")]
    return page(found, [plot(group)], claims, changes, {"summary.csv": "variant,metric\nvae-0,1\n"})


@pytest.fixture(scope="module")
def whole(group) -> str:
    return whole_page(group)


def test_what_is_said_is_there_without_script(whole, group):
    read = Read(whole)
    assert read.open == []
    for e in group:
        assert e.label in read.text
    said = [COMMAND, "a made-up one", "not-run", "1 stale", "Samples are blurred.", "✔ supported", "lost", "Traceback: lost"]
    for words in (*said, "−21.0 ± 0.1", "What it shows.", "Best by purpose", "Reconstruction", "Cost"):
        assert words in read.text, words
    assert re.search(r"\b16 runs ok, 1 failed , 1 missing", read.text)
    best = content("digits", group, COMMAND).sheets[0].rows[0][1][0].text
    assert " ".join(best.split()) in read.text.replace("\u2007", " ")


def test_a_table_can_be_read_by_ear(whole):
    read = Read(whole)
    tables, captions = len(read.all("table")), len(read.all("caption"))
    assert tables == captions > 8
    assert all(th.get("scope") in ("col", "row", "rowgroup") for th in read.all("th"))
    ids = Counter(attributes["id"] for _, attributes in read.elements if "id" in attributes)
    assert [i for i, times in ids.items() if times > 1] == []
    for _, attributes in read.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids), attributes
    fragments = [a["href"][1:] for a in read.all("a") if (a.get("href") or "").startswith("#")]
    assert len(fragments) > 20 and set(fragments) <= set(ids)
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in read.elements}


def test_nothing_is_fetched(whole):
    for tag, attributes in Read(whole).elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            value = attributes.get(name)
            if value is not None and name in attributes:
                assert not re.match(r"\s*(https?:|//|file:|javascript:)", value), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
    assert "@import" not in (bare := re.sub(r"<script.*?</script>", "", whole, flags=re.DOTALL)) and "url(" not in bare
    assert "default-src 'none'" in whole


def test_the_same_records_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        runs = [(spec.label, made_up(spec), dict) for spec in grid(3)]
        write_report("digits", runs, tmp_path / folder, command=COMMAND)
    a, b = ((tmp_path / folder / "report.html").read_bytes() for folder in ("a", "b"))
    assert a == b
    assert b"vae-0" in a and b"data:text/csv" in a


def test_names_and_errors_are_text(group):
    entry = replace(group[0], label=HOSTILE)
    record = replace(entry.record, environment={"device": HOSTILE, "python": HOSTILE, "commit": HOSTILE, "versions": {"torch": HOSTILE}})
    entry = replace(entry, record=replace(record, values={**record.values, HOSTILE: HOSTILE}))
    found = content(HOSTILE, [entry, *group[1:3], failed(group[3], HOSTILE)], HOSTILE, [HOSTILE], [HOSTILE])
    claims = [Claim(*[HOSTILE] * 5, "../claims/a.md")]
    text = page(found, [Plot("x", HOSTILE, HOSTILE, "summary", "<p>body</p>")], claims, [Change(*[HOSTILE] * 5)], {"summary.csv": HOSTILE})
    read = Read(text)
    assert read.open == [] and not read.all("img")
    assert {html.asset(f"{name}.js") for name in html.SCRIPTS} == set(re.findall(r"<script>(.*?)</script>", text, re.DOTALL))
    assert not [a for _, a in read.elements if any(name.startswith("on") for name in a)]
    assert "alert(1)" in read.text and "49" not in HOSTILE and "{{ 7 * 7 }}" in read.text
    assert read.text.count("<script>alert(1)</script>") > 12


def test_only_the_page_s_own_script_may_run(whole):
    found = re.findall(r"<script>(.*?)</script>", whole, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert len(found) > 1 and f"script-src {allowed};" in whole


def test_nats_are_best_within_one_kind_of_pixels(group):
    found = overview(content("digits", group, COMMAND))
    log_p = next(i for i, c in enumerate(found.columns) if c.metric == "log_likelihood")
    names = [g.name for g in found.groups]
    assert {"binary", "real"} <= set(names)
    kinds = [b.title for b in found.best if b.title.startswith("log p(x)")]
    assert (
        len(kinds)
        == len(set(kinds))
        == sum(len({e.record.key for e, _ in g.rows if e.interval("log_likelihood")}) > 1 for g in found.groups)
    )
    for g in found.groups:
        values = [cells[log_p][0].value for _, cells in g.rows if cells[log_p][0].value is not None]
        leading = [cells[log_p][0].value for _, cells in g.rows if cells[log_p][0].best]
        assert not leading or max(values) in leading


def test_what_is_not_trained_is_never_the_best(group):
    reference = replace(group[0], label="reference", record=replace(group[0].record, key="r", values={"model": "pixels"}))
    better = [{**row, "value": 0.0} if row["metric"] == "reconstruction_mse" else row for row in reference.record.rows]
    reference = replace(reference, record=replace(reference.record, rows=better))
    found = overview(content("digits", [*group, reference], COMMAND))
    assert "reference" not in {e.label for b in found.best for e in b.entries}
    (rows,) = [g.rows for g in found.groups if g.name == "reference"]
    assert [e.label for e, _ in rows] == ["reference"] and not any(cell.best for cell, _ in rows[0][1])


def test_a_bar_is_where_its_figure_is(group):
    found = overview(content("digits", group, COMMAND))
    bars = [bar for g in found.groups for _, cells in g.rows for _, bar in cells if bar]
    assert len(bars) > 20
    assert all(0 <= bar.low <= bar.mean <= bar.high <= 100 for bar in bars)
    assert any(bar.low < bar.high for bar in bars)
    two = overview(content("digits", entries(6, (0, 1)), COMMAND))
    assert all(bar.low == bar.mean == bar.high for g in two.groups for _, cells in g.rows for _, bar in cells if bar)


@pytest.mark.parametrize("variants", [ROWS + 30])
def test_a_page_of_many_says_what_it_leaves_out(variants):
    group = entries(variants, (0, 1))
    text = page(content("digits", group, COMMAND, ["x"] * (ROWS + 7)), [], [], [], {"results.csv": "x" * LARGEST})
    assert len(text.encode()) < LARGEST
    assert f"There are {variants} variants. Tables show {ROWS} of them and figures {LOOKS}" in text
    assert f"{ROWS} of {variants} variants: all are in" in text
    assert f"{ROWS + 7} variants have not run yet</summary>" in text and f"and {ROWS + 7 - MOST} more.</p></details>" in text
    assert 'href="results.csv"' in text and "data:text/csv" not in text
    assert text.count('<article id="card-') == ROWS


def test_a_card_says_what_is_not_the_default(group):
    text = Read(page(content("digits", group, COMMAND))).text
    assert "Variational autoencoder (Kingma & Welling 2014)" in text
    assert "Importance" in text or "importance-weighted bound" in text
    iwae = next(e for e in group if e.record.values.get("objective") == "iwae")
    card = next(c for c in html.cards(group) if c.entry is iwae)
    assert {"objective": "iwae", "samples": "8"}.items() <= dict(card.differs).items()
    assert "epochs" not in dict(card.differs) and ("epochs", "25") in html.common(group)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_the_paper():
    pairs = dict(re.findall(r"--(\w+): light-dark\((#\w+, #\w+)\)", html.asset("style.css")))
    colours = {name: pair.split(", ") for name, pair in pairs.items()}
    for theme in (0, 1):
        for name in ("ink", "muted", "link"):
            for ground in ("paper", "tint"):
                assert contrast(colours[name][theme], colours[ground][theme]) >= 4.5, (name, ground, theme)
    assert len(DARK) == len(COLOURS) == len(set(DARK))
    assert all(contrast(c, colours["paper"][1]) >= 4.5 for c in DARK)
    assert all(contrast(c, colours["paper"][0]) >= 2 for c in COLOURS)
