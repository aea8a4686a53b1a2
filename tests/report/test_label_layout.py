"""Where ticks and labels go: round, in order, and none upon another."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import entries, parsed, read, svgs
from vae_variants.analysis.entries import Entry
from vae_variants.report.drawing import DPI
from vae_variants.report.figures import FIGURES
from vae_variants.report.label_layout import HEIGHT, MARK, Box, apart, beside
from vae_variants.report.plots import plots
from vae_variants.report.svg import Scale, fitted, tick_labels, width_of, x_axis


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6, allow_subnormal=False), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_few_round_and_say_where_they_are(low, span, most):
    scale = Scale(low, low + span, 50.0, 350.0)
    ticks = scale.ticks(most)
    assert len(ticks) <= most
    assert all(scale.low - 1e-6 * span <= t <= scale.high + 1e-6 * span for t in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)
    for value, label in zip(ticks, labels, strict=True):
        assert read(label) == pytest.approx(value, rel=1e-5, abs=1e-5 * span)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 400, allow_subnormal=False), min_size=1, max_size=30))
def test_labels_at_the_side_are_apart_in_order_and_stay_when_they_can(wanted):
    found = apart(wanted, 0, 400)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    gaps = np.diff([found[i] for i in order])
    assert all(gaps > HEIGHT - 1e-6)
    assert min(found) >= 0 and max(found) <= 400 + 1e-6
    if len(wanted) == 1:
        assert found == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(60, 390), st.floats(40, 320)), min_size=1, max_size=20), st.data())
def test_labels_of_a_scatter_meet_neither_each_other_nor_a_mark(points, data):
    words = [data.draw(st.text("abm-", min_size=1, max_size=18)) for _ in points]
    within = Box(50, 30, 400, 330)
    found = beside(points, words, within, 11.5)
    boxes = [
        Box(p.x - width_of(w, 11.5) / 2, p.y - HEIGHT / 2, p.x + width_of(w, 11.5) / 2, p.y + HEIGHT / 2)
        for p, w in zip(found, words, strict=True)
        if p is not None
    ]
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))
    assert not any(b.meets(Box(x - MARK, y - MARK, x + MARK, y + MARK)) for b in boxes for x, y in points)
    assert all(b.left >= within.left and b.right <= within.right and b.top >= within.top and b.bottom <= within.bottom for b in boxes)
    assert found[0] is not None or len(points) > 1


def test_a_long_label_loses_its_middle():
    long = "vae[likelihood=gaussian,sigma=0.1,latent=2,samples=64]"
    short = fitted(long, 120)
    assert width_of(short) <= 120 and "…" in short
    head, _, tail = short.partition("…")
    assert long.startswith(head) and long.endswith(tail) and min(len(head), len(tail)) > 3
    assert fitted("vae", 120) == "vae"


def long_names() -> list[Entry]:
    long = ["vae[likelihood=my_plugin:student_t]", "vae?likelihood=my_plugin:student_t", "vae[likelihood=my_plugin:laplace,latent=20]"]
    return [replace(e, label=long[i // 2] if i % 2 == 0 and i < 6 else e.label) for i, e in enumerate(entries(16))]


def test_no_text_of_a_picture_is_cut_and_a_shortened_one_is_whole_in_a_title():
    """By widths that are rather too large than too small."""
    found, shortened = svgs(plots(long_names())), 0
    for name, svg in found:
        left, _, width, _ = map(float, (svg.get("viewBox") or "").split())
        parents = {child: parent for parent in svg.iter() for child in parent}
        for element in svg.iter("text"):
            above = [element]
            while above[-1] is not svg:
                above.append(parents[above[-1]])
            words, size = element.text or "", next(float(e.get("font-size", 0)) for e in above if e.get("font-size"))
            span = width_of(words, size)
            start = float(element.get("x", 0)) - span * {"start": 0.0, "middle": 0.5, "end": 1.0}[element.get("text-anchor", "start")]
            assert left - 0.5 <= start and start + span <= left + width + 0.5, (name, words)
            if "…" in words:
                head, _, tail = words.partition("…")
                titles = [e.findtext("title") or "" for e in above]
                assert any(head in title and tail in title.partition(head)[2] for title in titles), (name, words)
                shortened += 1
    assert len(found) > 20 and shortened > 50


def test_a_shortened_name_of_a_matrix_is_whole_in_its_title():
    bodies = [parsed(plot.body) for plot in plots(long_names()) if plot.name.startswith("differences")]
    shortened = [th for body in bodies for th in body.iter("th") if "…" in (th.text or "")]
    assert len(shortened) > 3
    assert {th.get("title") for th in shortened} <= {e.label for e in long_names()}


def test_a_tick_at_the_edge_stays_in_the_picture():
    scale = Scale(0.0, 1.0, 50.0, 394.0)
    places = [(float(t.get("x")), t.text) for t in parsed(x_axis(scale, 0, 9, 5, within=400.0)).iter("text")]
    assert [text for _, text in places] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert places[-1][0] + width_of("1.00", 11.5) / 2 <= 400.0 < scale(1.0) + width_of("1.00", 11.5) / 2
    assert [x for x, _ in places[:-1]] == pytest.approx([scale(v) for v in (0.0, 0.25, 0.5, 0.75)], abs=0.01)


@pytest.mark.parametrize("name", ["samples", "reconstructions"])
def test_names_in_a_figure_are_neither_cut_nor_upon_each_other(name):
    group = long_names()
    figure = FIGURES[name](group)
    assert figure is not None
    figure.canvas.draw()
    words = [t for ax in figure.axes for t in (ax.title, *ax.texts) if t.get_text()]
    assert len(words) >= len(group) and any("…" in t.get_text() for t in words)
    boxes = [t.get_window_extent() for t in words]
    width, height = figure.get_size_inches() * DPI
    assert all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@pytest.mark.parametrize("name", ["curves", "bounds", "cost", "labels", "latent_units"])
def test_long_names_leave_room_for_the_figure(name):
    figure = FIGURES[name](long_names())
    assert figure is not None
    figure.canvas.draw()
    width = figure.get_size_inches()[0] * DPI
    assert max(ax.get_window_extent().width for ax in figure.axes) > width * (0.3 if name == "cost" else 0.55)
