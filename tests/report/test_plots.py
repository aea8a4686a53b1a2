"""What figures show is what the records have, read back from what is drawn; and the page's SVG is the same figure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from tests.drawn import HOSTILE, bold, described, drawn, entries, labelled, panels, parsed, read, svgs, variants
from vae_variants.analysis.entries import LOOKS, Entry, best
from vae_variants.analysis.prominence import prominent
from vae_variants.report import lines, tradeoffs
from vae_variants.report.dots import dot_panel
from vae_variants.report.drawing import BREAK, PAPER, Part, compose, in_points, scale, width_of, without_worst
from vae_variants.report.figures import FIGURES, SECTIONS, WHOLE, drawings, plots
from vae_variants.report.label_layout import HEIGHT
from vae_variants.report.matrix import CELL, MOST, brief, differences, excludes, layers
from vae_variants.report.svg import markup
from vae_variants.report.tradeoffs import COSTS, front
from vae_variants.variants import configure

COLOURS = re.compile(r"(var\(--(v[0-7]|ink|line|paper|muted)\)|none)")


def dots(metric: str, group: list[Entry]):
    (ax,) = panels(compose([dot_panel("a title", metric, group, group)])).values()
    return ax


def with_values(group: list[Entry], metric: str, value) -> list[Entry]:
    """The same with other values of a metric: value(place of the entry, row)."""
    found = []
    for i, e in enumerate(group):
        rows = [{**r, "value": value(i, r)} if r["metric"] == metric else r for r in e.record.rows]
        found.append(replace(e, record=replace(e.record, rows=rows), index=i))
    return found


@pytest.mark.parametrize("metric", ["log_likelihood", "elbo", "probe_accuracy", "reconstruction_mse", "train_images_per_second"])
def test_every_variant_with_a_value_has_one_mark_where_its_mean_is(metric):
    group = [e for e in entries() if e.record.support == "binary"]
    ax = dots(metric, group)
    low, high = ax.get_xlim()
    rows, expected = variants(ax), [e for e in group if e.interval(metric)]
    assert set(rows) == {e.label for e in expected} and len(rows) > 3
    for e in expected:
        found, (mark,) = e.interval(metric), labelled(rows[e.label], "mean")
        assert mark.get_xdata().tolist() == [found.mean]
        assert (mark.get_markerfacecolor() == PAPER) == (e.kind(metric) == "lower-bound")
        spans = labelled(rows[e.label], "interval")
        assert len(spans) == (found.low is not None and found.n > 2)
        for span in spans:
            assert span.get_xdata()[:2].tolist() == [max(found.low, low), min(found.high, high)]
            assert set(span.get_ydata()[:2]) == set(mark.get_ydata())
        beyond = [a.get_marker() for a in labelled(rows[e.label], "beyond")]
        assert beyond == (["<"] * int(found.low < low) + [">"] * int(found.high > high) if spans else [])
        seeds = [x for a in labelled(rows[e.label], "seeds") for x in a.get_xdata()[::3]]
        assert seeds == ([v for v in e.values(metric).values() if low <= v <= high] if found.n > 1 else [])
    (line,) = labelled(ax.lines, "baseline")
    assert set(line.get_xdata()) == {expected[0].interval(metric).mean}
    order = sorted(rows, key=lambda label: labelled(rows[label], "mean")[0].get_ydata()[0])
    means = [next(e for e in expected if e.label == label).interval(metric).mean for label in order]
    assert means == sorted(means, reverse=metric != "reconstruction_mse")


def test_an_interval_that_leaves_the_plot_says_so():
    group = [e for e in entries() if e.interval("elbo") and e.record.support == "binary" and len(e.record.seeds) > 2][:3]
    found = with_values(group, "elbo", lambda i, row: i + (40 if i == 1 else 0.1) * (row["seed"] - 1))
    rows = variants(dots("elbo", found))
    assert [len(labelled(rows[e.label], "beyond")) for e in found] == [0, 2, 0]
    assert labelled(rows[found[1].label], "mean")[0].get_xdata() == [found[1].interval("elbo").mean]


def test_a_collapsed_variant_does_not_squeeze_the_others():
    group = [e for e in entries(24) if e.interval("elbo") and e.record.support == "binary"][:5]
    found = with_values(group, "elbo", lambda i, row: i if i < 4 else -1000.0)
    ax = dots("elbo", found)
    low, high = ax.get_xlim()
    assert -2 < low < 0 and 3 < high < 5
    collapsed = variants(ax)[found[4].label]
    assert labelled(collapsed, "mean") == [] and [a.get_marker() for a in labelled(collapsed, "beyond")] == ["<"]
    assert any("000" in a.get_text() for a in collapsed if isinstance(a, Text)), "its figure is there all the same"


@pytest.mark.parametrize(
    "draw", [tradeoffs.rate_distortion, lines.bounds, lambda group: compose([dot_panel("a title", "elbo", group, group)])]
)
def test_a_flagged_variant_has_a_dagger_by_its_name(draw):
    binary = [e for e in entries(24) if e.record.support == "binary" and e.kind("log_likelihood") == "lower-bound"]
    group = [e for e in binary if e.interval("active_units") and e.interval("rate") and not e.flaws][:3]
    found = with_values(group, "active_units", lambda i, row: 5.0 * (i != 1))
    assert [bool(e.flaws) for e in found] == [False, True, False]
    said = " ".join(t.get_text() for ax in panels(draw(found)).values() for t in ax.findobj(Text))
    assert [f"{e.label} †" in said for e in found] == [False, True, False]


@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=30), st.sampled_from(["higher", "lower"]))
def test_what_is_out_of_view_is_a_quarter_at_most_and_the_worst(values, better):
    kept = without_worst(values, better)
    ordered = sorted(values, reverse=better == "higher")
    assert kept == ordered[: len(kept)] and len(values) - len(kept) <= len(values) // 4
    assert len(kept) == len(values) or 4 * (max(kept) - min(kept)) < max(values) - min(values)


def test_values_that_differ_by_orders_are_shown_by_their_logarithm():
    group = [e for e in entries() if e.interval("train_seconds")][:5]
    far = with_values(group, "train_seconds", lambda i, row: row["value"] * 10.0**i)
    ax = dots("train_seconds", far)
    assert ax.get_xscale() == "log"
    for e in far:
        (mark,) = labelled(variants(ax)[e.label], "mean")
        assert mark.get_xdata() == [e.interval("train_seconds").mean]


def test_what_is_not_significantly_different_from_the_best_is_marked():
    group = [e for e in entries() if e.record.support == "binary" and e.interval("log_likelihood")]
    up = with_values(group, "log_likelihood", lambda i, row: row["value"] + 200.0 * (i in (1, 2)))
    top, ax = set(best(up, "log_likelihood")), dots("log_likelihood", up)
    assert bold(ax) == {best(up, "log_likelihood")[0]}
    assert 0 < len(top) < len(up)
    assert all(label in described(ax).partition("Best: ")[2] for label in top)


def test_nothing_in_nats_is_drawn_beside_that_of_other_pixels():
    supports, seen = {e.label: e.record.support for e in entries()}, 0
    for each in drawn():
        for title, ax in panels(each.figure).items():
            if any(words in title for words in ("nats", "log p(x)", "ELBO", "L_K")) and each.name not in ("latent_units", "losses"):
                assert len({supports[label] for label in variants(ax) if label}) <= 1, (each.name, title)
                seen += 1
    assert seen > 12


@pytest.mark.parametrize(("name", "sizes"), [("ladder-vae", [32, 16, 8]), ("vdvae", [64, 64, 16, 4])])
def test_the_rate_of_a_layer_is_that_of_its_units(name, sizes):
    units = {str(seed): [(seed + 1.0) * layer for layer, n in enumerate(sizes) for _ in range(n)] for seed in (0, 1)}
    other, values = entries()[0], configure(name)[0].values
    record = replace(
        other.record, key="f" * 64, values=values, dataset=other.record.dataset | {"shape": [1, 8, 8]}, series={"kl_units": units}
    )
    (ax,) = panels(layers([other, replace(other, label=name, record=record)])).values()
    numbers = [t.get_text() for t in ax.texts if re.fullmatch(r"[\d.]+", t.get_text())]
    assert numbers == [f"{1.5 * layer * n:.2f}" for layer, n in enumerate(sizes)]
    fewer = {"kl_units": {"0": units["0"][:-1]}}
    assert layers([replace(other, record=replace(record, series=fewer))]) is None, "sizes that do not fit tell nothing"


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


def test_the_front_is_drawn_through_the_variants_that_are_on_it():
    group = [e for e in entries(24) if e.record.support == "binary" and e.interval("log_likelihood")]
    for (title, ax), (cost, words) in zip(panels(tradeoffs.cost(group)).items(), COSTS.items(), strict=True):
        assert words in title
        better = ("higher" if cost == "sample_images_per_second" else "lower", "higher")
        points = [(e.interval(cost).mean, e.interval("log_likelihood").mean) for e in group]
        (low, high), rows = ax.get_ylim(), variants(ax)
        assert set(rows) == {e.label for e in group}
        for e, point in zip(group, points, strict=True):
            mark = rows[e.label][-1]
            assert (mark.get_xdata()[0], mark.get_ydata()[0]) == point or not low <= point[1] <= high
            assert (mark.get_markerfacecolor() == PAPER) == (e.kind("log_likelihood") == "lower-bound")
        line = labelled(ax.lines, "front")[0].get_xydata()
        assert line[::2].tolist() == [list(points[i]) for i in front(points, better)]
        for (x0, y0), (x, y), (x1, y1) in zip(line[::2], line[1::2], line[2::2], strict=False):  # what is certain to be had at that cost
            assert (x, y) == ((x1, y0) if better[0] == "lower" else (x0, y1))


def test_curves_end_where_the_means_end_and_labels_do_not_meet():
    group = [e for e in entries(24) if e.record.support == "binary" and e.kind("log_likelihood") == "lower-bound"]
    ax, _ = panels_in_order(lines.curves(group))
    rows = variants(ax)
    for e in group:
        mean = np.array(e.record.curves["validation_log_prob"]).mean(0)
        (curve,) = labelled(rows[e.label], "curve")
        assert curve.get_xdata() == pytest.approx(np.arange(1, len(mean) + 1))
        assert curve.get_ydata() == pytest.approx(mean)
        assert sum("FillBetween" in type(a).__name__ or "PolyCollection" in type(a).__name__ for a in rows[e.label]) == (
            len(e.record.seeds) > 2
        )
    places = sorted(a.get_position()[1] for own in rows.values() for a in own if isinstance(a, Text))
    assert len(places) == len(group)
    assert min(np.diff(places)) > HEIGHT - 0.02


@pytest.mark.parametrize(("exact", "titles"), [(0, ["bound"]), (1, ["bound", "log p(x)"]), (3, ["log p(x)"])])
def test_curves_of_bounds_and_of_exact_values_have_panels_of_their_own(exact, titles):
    group = [e for e in entries(24) if e.record.support == "binary" and e.interval("log_likelihood")]
    group = [replace(e, record=replace(e.record, rows=[r | {"kind": "lower-bound"} for r in e.record.rows])) for e in group[:3]]
    for i, e in enumerate(group[:exact]):
        group[i] = replace(e, record=replace(e.record, rows=[r | {"kind": "exact"} for r in e.record.rows]))
    found = [place.get_label().split(", nats")[0] for place in lines.curves(group).subfigs]
    assert found == [f"validation {title} by {unit}" for title in titles for unit in ("epoch", "second")]


def panels_in_order(figure):
    return [place.axes[0] for place in figure.subfigs]


def test_the_matrix_is_antisymmetric_and_what_is_compared():
    group = [e for e in entries(24) if e.interval("log_likelihood")]
    found = panels_in_order(differences(group))
    assert len(found) == 2
    for ax, support in zip(found, ("binary", "real"), strict=True):
        own = {e.label: e for e in group if e.record.support == support}
        labels = sorted(own, key=lambda label: -own[label].interval("log_likelihood").mean)
        patches = {(int(p.get_y()), int(p.get_x())): p for p in ax.patches if isinstance(p, Rectangle)}
        texts = {
            (int(t.get_position()[1]), int(t.get_position()[0])): t for t in ax.texts if t.get_position()[0] >= 0 <= t.get_position()[1]
        }
        assert len(texts) == len(labels) ** 2 and set(patches) == {cell for cell in texts if cell[0] != cell[1]}
        for (i, a), (j, b) in combinations(enumerate(labels), 2):
            expected = own[a].compared("log_likelihood", own[b])
            one, other = (read(texts[cell].get_text().replace("+", "")) for cell in ((i, j), (j, i)))
            assert one == pytest.approx(expected.difference.mean, abs=0.006)
            assert one == -other
            assert patches[i, j].get_label() == patches[j, i].get_label() == ("clear" if excludes(expected) else "unclear")
            assert (texts[i, j].get_weight() == "bold") == excludes(expected)
            assert patches[i, j].get_facecolor() != patches[j, i].get_facecolor()
            assert texts[i, j].get_gid().startswith(f"{a}{BREAK}{a} less {b}: ")


def test_a_large_matrix_shows_the_first_and_the_best():
    group = [e for e in entries(120, (0, 1)) if e.record.support == "binary" and e.interval("log_likelihood")]
    ((title, ax),) = panels(differences(prominent(group, LOOKS))).items()
    assert set(variants(ax)) == {e.label for e in prominent(prominent(group, LOOKS), MOST)}
    assert f"{MOST} of" in title


def test_the_page_has_the_marks_where_the_figure_has_them():
    (each,) = [each for each in drawn() if each.name == "likelihood"]
    for ax, svg in zip(panels_in_order(each.figure), parsed(markup(each.figure, "x")).iter("svg"), strict=True):
        groups = {g.get("data-variant"): g for g in svg.iter("g") if g.get("data-variant")}
        assert list(groups) == list(variants(ax)), "one group of each variant"
        for label, own in variants(ax).items():
            (mark,) = labelled(own, "mean")
            x, y = (ax.transData + in_points(ax)).transform(mark.get_xydata())[0]
            there = re.fullmatch(r"translate\((\S+) (\S+)\)", groups[label].findall("path")[-1].get("transform"))
            assert [float(v) for v in there.groups()] == pytest.approx([x, 72 * each.figure.get_figheight() - y], abs=0.06)
            assert (groups[label].findtext("title") or "").startswith(f"{label}: ")


def test_plots_are_the_same_twice_and_keep_to_the_rules_of_the_page():
    found, again = plots(drawn()), plots(drawings(entries()))
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
            if element.get("clip-path"):
                assert element.get("clip-path")[5:-1] in here
            if element.tag == "svg":
                assert element.get("role") == "img" and element.get("viewBox")
                assert element.findtext("title") and element.findtext("desc")
            if element.tag == "image":
                assert element.get("href").startswith("data:image/png;base64,")
            assert element.tag in {"body", "div", "svg", "g", "path", "text", "image", "title", "desc", "clipPath", "rect"}
    assert max(ids.values()) == 1
    assert all(i.startswith("plot-") for i in ids)
    assert any(e.get("data-variant") == HOSTILE for p in found for e in parsed(p.body).iter())


@pytest.mark.parametrize("ends", [(-23.62, -22.68), (-23.5, 12.0), (0.001, 0.0032), (-91000.0, 4000.0), (0.0, 1.0), (99.91, 99.99)])
@pytest.mark.parametrize("width", [90.0, 150.0, 300.0])
def test_numbers_of_an_axis_do_not_touch(ends, width):
    def draw(ax):
        scale(ax, "x", ends)

    figure = compose([Part("title", "a panel", draw, 50.0, width=width + 48)])
    figure.canvas.draw()
    (ax,) = (ax for sub in figure.subfigs for ax in sub.axes)
    boxes = [label.get_window_extent() for label, x in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True) if ends[0] <= x <= ends[1]]
    assert boxes and all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert len(boxes) > 1 or width < 100


def test_what_is_not_there_is_not_drawn():
    assert drawings([]) == []
    (entry, *_) = entries(4)
    bare = replace(entry.record, rows=[], curves={}, series={}, status={"0": "error"}, seeds=[0])
    assert drawings([Entry("failed", bare)]) == []
    older = {name: value for name, value in entry.pictures.items() if not name.startswith(("traversal", "latent_share", "interpolations"))}
    names = {each.name for each in drawings([Entry("of-before", entry.record, older.copy)])}
    assert {"samples", "reconstructions", "latent_plane"} <= names
    assert not {"traversals", "interpolations"} & names


def test_a_page_of_many_is_no_larger_and_loads_no_more_pictures():
    loaded: list[str] = []
    group = [replace(e, load=lambda e=e: loaded.append(e.label) or e.pictures) for e in entries(3 * LOOKS, (0, 1))]
    found = plots(drawings(group))
    assert len(loaded) == LOOKS
    assert sum(len(p.body) for p in found) < 2_000_000
    shown = {e.get("data-variant") for _, svg in svgs(found) for e in svg.iter() if e.get("data-variant")}
    assert shown == {e.label for e in prominent(group, LOOKS)}
    assert all(f"{LOOKS} of {len(group)} variants" in p.caption for p in found if p.name not in WHOLE)
    assert {p.name for p in found} <= set(FIGURES)


def test_no_title_is_wider_than_its_panel_and_no_number_than_its_cell():
    widest, seen = 0.0, 0
    for each in drawn(24):
        for place in each.figure.subfigs:
            room = place.bbox.width / place.figure.dpi * 72
            for text in place.texts:
                bold = text.get_weight() == "bold"
                size = width_of(text.get_text(), text.get_fontsize(), bold)
                assert size <= room and not (bold and "…" in text.get_text()), (each.name, text.get_text())
                widest, seen = max(widest, size / room), seen + 1
    assert widest > 0.8 and seen > 40
    for power in range(-2, 14):
        for value in (9.9951 * 10.0**power, -9.9951 * 10.0**power):
            assert width_of(brief(value), 8, bold=True) < 0.94 * CELL


def test_a_loss_has_a_name_that_fits():
    names = ["train_loss", "train_regularizer.critic_loss", "validation_loss"]
    assert lines.short(names) == ["train", "train critic", "validation"]
    assert lines.short(["train_a.critic_loss", "train_b.critic_loss"]) == ["train a.critic loss", "train b.critic loss"]
