"""Laws of the page's plots: what is drawn can be read back, and is what the records have."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import HOSTILE, entries, inverse, of, parsed, place, read, svgs, title
from vae_variants.analysis.entries import LOOKS, Entry, best, prominent
from vae_variants.report.dots import dot_panel
from vae_variants.report.label_layout import HEIGHT
from vae_variants.report.lines import lines
from vae_variants.report.matrix import MOST, differences, excludes
from vae_variants.report.plots import SECTIONS, plots
from vae_variants.report.tradeoffs import COSTS, front, tradeoffs

COLOURS = re.compile(r"(var\(--(v[0-7]|ink|line|paper|muted)\)|none|rgba\([\d.,]+\))")


@pytest.mark.parametrize("metric", ["log_likelihood", "elbo", "probe_accuracy", "reconstruction_mse", "train_images_per_second"])
def test_every_variant_with_a_value_has_one_mark_where_its_mean_is(metric):
    group = [e for e in entries() if e.record.support == "binary"]
    svg = parsed(dot_panel("p", "a title", metric, group, group)).find("svg")
    back, error = inverse(svg)
    rows = {row.get("data-variant"): row for row in of(svg, "row")}
    expected = [e for e in group if e.interval(metric)]
    assert len(of(svg, "row")) == len(rows) == len(expected) > 3
    for e in expected:
        found, (mark,) = e.interval(metric), of(rows[e.label], "mark")
        x, y = place(mark)
        assert back(x) == pytest.approx(found.mean, abs=error)
        assert (mark.get("fill") == "var(--paper)") == (e.kind(metric) == "lower-bound")
        lines = of(rows[e.label], "interval")
        assert len(lines) == (found.low is not None and found.n > 2)
        beyond = of(rows[e.label], "beyond")
        for line in lines:
            assert float(line.get("y1")) == float(line.get("y2")) == pytest.approx(y)
            if not beyond:
                assert [back(float(line.get(end))) for end in ("x1", "x2")] == pytest.approx([found.low, found.high], abs=error)
        seeds = [back(float(x)) for d in of(rows[e.label], "seeds") for x in re.findall(r"M([\d.]+) ", d.get("d"))]
        if seeds:
            assert sorted(seeds) == pytest.approx(sorted(e.values(metric).values()), abs=6 * error)  # to a tenth of a pixel
        else:
            assert found.n == 1
    (line,) = of(svg, "baseline")
    assert back(float(line.get("x1"))) == pytest.approx(expected[0].interval(metric).mean, abs=error)


def test_an_interval_that_leaves_the_plot_says_so():
    group = [e for e in entries() if e.interval("elbo") and e.record.support == "binary" and len(e.record.seeds) > 2][:4]
    for i, e in enumerate(group):
        spread = 40 if i == 1 else 0.1
        rows = [{**r, "value": i + spread * (r["seed"] - 1)} if r["metric"] == "elbo" else r for r in e.record.rows]
        group[i] = Entry("wild" if i == 1 else e.label, replace(e.record, rows=rows), index=i)
    svg = parsed(dot_panel("p", "a title", "elbo", group, group)).find("svg")
    assert [bool(of(row, "beyond")) for row in of(svg, "row") if row.get("data-variant") != "wild"] == [False] * 3
    (row,) = [row for row in of(svg, "row") if row.get("data-variant") == "wild"]
    assert len(re.findall("M", of(row, "beyond")[0].get("d"))) == 2
    back, error = inverse(svg)
    assert back(place(of(row, "mark")[0])[0]) == pytest.approx(group[1].interval("elbo").mean, abs=error)


def test_values_that_differ_by_orders_are_shown_by_their_logarithm():
    group = [e for e in entries() if e.interval("train_seconds")][:5]
    far = [
        Entry(e.label, replace(e.record, rows=[{**r, "value": r["value"] * 10.0**i} for r in e.record.rows]), index=i)
        for i, e in enumerate(group)
    ]
    svg = parsed(dot_panel("p", "a title", "train_seconds", far, far)).find("svg")
    back, error = inverse(svg, log=True)
    for row, e in zip(of(svg, "row"), sorted(far, key=lambda e: e.interval("train_seconds").mean), strict=True):
        assert row.get("data-variant") == e.label
        assert math.log10(back(place(of(row, "mark")[0])[0])) == pytest.approx(math.log10(e.interval("train_seconds").mean), abs=error)


def test_what_cannot_be_told_from_the_best_is_marked():
    group = [e for e in entries() if e.record.support == "binary" and e.interval("log_likelihood")]
    up = [
        Entry(e.label, replace(e.record, rows=[{**r, "value": r["value"] + 200.0 * (e in group[1:3])} for r in e.record.rows]))
        for e in group
    ]
    top = set(best(up, "log_likelihood"))
    svg = parsed(dot_panel("p", "a title", "log_likelihood", up, up)).find("svg")
    bold = {row.get("data-variant") for row in of(svg, "row") if any(t.get("font-weight") == "600" for t in row.iter("text"))}
    assert bold == top
    assert 0 < len(top) < len(up)
    assert all(label in svg.findtext("desc").partition("Cannot be told from the best: ")[2] for label in top)


def test_nothing_in_nats_is_drawn_beside_that_of_other_pixels():
    group = entries(24)
    supports = {e.label: e.record.support for e in group}
    seen = 0
    for name, svg in svgs(plots(group)):
        if "nats" in title(svg) or "log p(x)" in title(svg) or "ELBO" in title(svg) or "L_K" in title(svg):
            drawn = {supports[g.get("data-variant")] for g in svg.iter("g") if g.get("data-variant")}
            assert len(drawn) <= 1, (name, title(svg))
            seen += 1
    assert seen > 12


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12),
    st.tuples(*[st.sampled_from(["higher", "lower"])] * 2),
)
def test_the_pareto_front_is_that_of_brute_force(points, better):
    signs = [1 if b == "higher" else -1 for b in better]
    score = [(signs[0] * x, signs[1] * y) for x, y in points]
    expected = {i for i, p in enumerate(score) if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in score)}
    found = front(points, better)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [points[i] for i in found] == sorted(points[i] for i in found)


@pytest.mark.parametrize("cost", list(COSTS))
def test_the_front_is_drawn_through_the_variants_that_are_on_it(cost):
    group = [e for e in entries(24) if e.record.support == "binary" and e.interval("log_likelihood")]
    for metric in ("train_seconds", "sample_images_per_second", "parameters"):
        if not all(e.interval(metric) for e in group):
            pytest.fail(f"no {metric}")
    (plot,) = [p for p in tradeoffs(group) if p.name == "cost-likelihood-binary"]
    (svg,) = [s for s in parsed(plot.body).iter("svg") if s.get("id").endswith(cost)]
    better = ("higher" if cost == "sample_images_per_second" else "lower", "higher")
    on = [group[i] for i in front([(e.interval(cost).mean, e.interval("log_likelihood").mean) for e in group], better)]
    across, error = inverse(svg)
    up, error_up = inverse(svg, "y")
    marks = {g.get("data-variant"): place(of(g, "mark")[0]) for g in svg.iter("g") if g.get("data-variant")}
    assert set(marks) == {e.label for e in group}
    for e in group:
        assert across(marks[e.label][0]) == pytest.approx(e.interval(cost).mean, abs=error)
        assert up(marks[e.label][1]) == pytest.approx(e.interval("log_likelihood").mean, abs=error_up)
    line = [tuple(map(float, p.split())) for p in of(svg, "front")[0].get("d")[1:].split("L")]
    corners = [tuple(round(v, 1) for v in marks[e.label]) for e in on]
    assert line[::2] == pytest.approx(np.array(corners), abs=0.11)
    for (x0, y0), (x, y), (x1, y1) in zip(line[::2], line[1::2], line[2::2], strict=False):  # what is certain to be had at that cost
        assert (x, y) == ((x1, y0) if better[0] == "lower" else (x0, y1))


def test_curves_end_where_the_means_end_and_labels_do_not_meet():
    group = [e for e in entries(24) if e.record.support == "binary" and e.interval("log_likelihood")]
    (plot,) = [p for p in lines(group, group) if p.name == "curves-binary"]
    svg = parsed(plot.body).find("div").find("svg")
    (up, error), (across, error_across) = inverse(svg, "y"), inverse(svg)
    for e in group:
        (g,) = [g for g in svg.iter("g") if g.get("data-variant") == e.label]
        points = [tuple(map(float, p.split())) for p in of(g, "curve")[0].get("d")[1:].split("L")]
        mean = np.array(e.record.curves["validation_log_prob"]).mean(0)
        assert [across(x) for x, _ in points] == pytest.approx(np.arange(1, len(mean) + 1), abs=6 * error_across)
        assert [up(y) for _, y in points] == pytest.approx(mean, abs=6 * error)
        assert len(of(g, "band")) == (len(e.record.seeds) > 2)
    places = sorted(float(t.get("y")) for t in of(svg, "label"))
    assert len(places) == len(group)
    assert min(np.diff(places)) > HEIGHT - 0.02


def test_the_matrix_is_antisymmetric_and_what_is_compared():
    group = [e for e in entries(24) if e.interval("log_likelihood")]
    found = differences(group)
    assert len(found) == 2
    for plot in found:
        rows = parsed(plot.body).find("div/table/tbody").findall("tr")
        own = {e.label: e for e in group if e.record.support == plot.name.partition("-")[2]}
        labels = [row.get("data-variant") for row in rows]
        assert sorted(labels) == sorted(own)
        heads = [th.get("title") for th in parsed(plot.body).findall("div/table/thead/tr/th")]
        assert heads == labels
        cells = {(row.get("data-variant"), head): td for row in rows for head, td in zip(heads, row.findall("td"), strict=True)}
        assert len(cells) == len(labels) ** 2
        for a, b in combinations(labels, 2):
            one, other = cells[a, b], cells[b, a]
            expected = own[a].compared("log_likelihood", own[b])
            assert read(one.text.replace("+", "")) == pytest.approx(expected.difference.mean, abs=0.006)
            assert read(one.text.replace("+", "")) == -read(other.text.replace("+", ""))
            assert one.get("class") == other.get("class") == ("clear" if excludes(expected) else "unclear")
            assert ("font-weight:600" in one.get("style")) == excludes(expected)
            shades = re.search(r"rgba\(([\d,]+),", one.get("style"))[1], re.search(r"rgba\(([\d,]+),", other.get("style"))[1]
            assert shades[0] != shades[1]


def test_a_large_matrix_shows_the_first_and_the_best():
    group = [e for e in entries(120, (0, 1)) if e.record.support == "binary" and e.interval("log_likelihood")]
    (plot,) = differences(prominent(group, LOOKS))
    labels = {row.get("data-variant") for row in parsed(plot.body).find("div/table/tbody")}
    assert labels == {e.label for e in prominent(prominent(group, LOOKS), MOST)}
    assert f"{MOST} of" in plot.caption


def test_plots_are_the_same_twice_and_keep_to_the_rules_of_the_page():
    found, again = plots(entries()), plots(entries())
    assert found == again
    assert len({p.name for p in found}) == len(found) > 12
    assert [p.section for p in found] == sorted((p.section for p in found), key=SECTIONS.index)
    assert {p.section for p in found} == set(SECTIONS)
    ids: Counter[str] = Counter()
    for plot in found:
        assert "<script" not in plot.body
        assert HOSTILE not in plot.body + plot.caption + plot.title
        root = parsed(plot.body)
        here = [e.get("id") for e in root.iter() if e.get("id")]
        ids.update(here)
        for element in root.iter():
            for name in ("fill", "stroke"):
                assert COLOURS.fullmatch(element.get(name, "none")), element.attrib
            if element.get("aria-labelledby"):
                assert all(i in here for i in element.get("aria-labelledby").split())
            if element.tag == "svg":
                assert element.get("role") == "img" and element.get("viewBox")
                assert element.get("aria-label") or (element.findtext("title") and element.findtext("desc"))
            if element.tag == "img":
                assert element.get("alt") and element.get("src").startswith("data:image/png;base64,")
    assert max(ids.values()) == 1
    assert all(i.startswith("plot-") for i in ids)
    assert any(e.get("data-variant") == HOSTILE for p in found for e in parsed(p.body).iter())


def test_what_is_not_there_is_not_drawn():
    assert plots([]) == []
    (entry, *_) = entries(4)
    bare = replace(entry.record, rows=[], curves={}, series={}, status={"0": "error"}, seeds=[0])
    assert plots([Entry("failed", bare)]) == []
    older = {name: value for name, value in entry.pictures.items() if not name.startswith(("traversal", "latent_share"))}
    names = {p.name for p in plots([Entry("of-before", entry.record, older.copy)])}
    assert {"samples", "reconstructions", "latent-plane"} <= names
    assert "traversals" not in names


def test_a_page_of_many_is_no_larger_and_loads_no_more_pictures():
    loaded: list[str] = []
    group = [replace(e, load=lambda e=e: loaded.append(e.label) or e.pictures) for e in entries(3 * LOOKS, (0, 1))]
    found = plots(group)
    assert len(loaded) == LOOKS
    assert sum(len(p.body) for p in found) < 2_000_000
    shown = {e.get("data-variant") for p in found for e in parsed(p.body).iter() if e.get("data-variant")}
    assert shown == {e.label for e in prominent(group, LOOKS)}
    assert all(f"{LOOKS} of {len(group)} variants" in p.caption for p in found if p.name != "latent-size")
