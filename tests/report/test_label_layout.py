"""Where ticks and labels go: round, in order, and none upon another."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tests.drawn import entries, read, variants
from vae_variants.analysis.entries import Entry
from vae_variants.harness.pictures import OF_CLASS
from vae_variants.report.drawing import BREAK, axes, scale, shortened, width_of, wrapped
from vae_variants.report.figures import FIGURES
from vae_variants.report.label_layout import HEIGHT, MARK, apart, beside
from vae_variants.report.sections import DISENTANGLEMENT
from vae_variants.variants import configure


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6, allow_subnormal=False), st.floats(1e-2, 1e6), st.integers(3, 8))
def test_ticks_are_few_round_and_say_where_they_are(low, span, most):
    _, (ax,) = axes(1, 1, 4, 3)
    scale(ax, "x", (low, low + span), most=most)
    values = [v for v in ax.get_xticks() if low <= v <= low + span]
    assert 1 < len(values) <= most + 1
    labels = ax.xaxis.get_major_formatter().format_ticks(list(ax.get_xticks()))
    labels = [label for v, label in zip(ax.get_xticks(), labels, strict=True) if v in values]
    assert len(set(labels)) == len(labels)
    for value, label in zip(values, labels, strict=True):
        assert read(label) == pytest.approx(value, rel=1e-5, abs=1e-5 * span)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(1.3, 1e5))
def test_ticks_of_a_scale_by_factors_are_apart(low, factor):
    _, (ax,) = axes(1, 1, 4, 3)
    scale(ax, "x", (low, factor * low), log=True)
    shown = [t.get_window_extent() for v, t in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True) if low <= v <= factor * low]
    assert shown
    assert not any(a.overlaps(b) for a, b in combinations(shown, 2))


def test_epochs_are_whole_numbers():
    _, (ax,) = axes(1, 1, 4, 3)
    scale(ax, "x", (1, 2), whole=True)
    assert all(float(v).is_integer() for v in ax.get_xticks())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 400, allow_subnormal=False), min_size=1, max_size=30))
def test_labels_at_the_side_are_apart_in_order_and_stay_when_they_can(wanted):
    found = apart(wanted, 0, 400)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    gaps = np.diff([found[i] for i in order])
    assert all(gaps > HEIGHT - 1e-6)
    assert min(found) >= -1e-9 and max(found) <= 400 + 1e-6
    if len(wanted) == 1:
        assert found == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(60, 390), st.floats(40, 320)), min_size=1, max_size=20), st.data())
def test_labels_of_a_scatter_meet_neither_each_other_nor_a_mark(points, data):
    widths = [width_of(data.draw(st.text("abm-", min_size=1, max_size=18))) for _ in points]
    within = Bbox([[50, 30], [400, 330]])
    found = beside(points, widths, within)
    boxes = [box for box in found if box is not None]
    assert [box.width for box in boxes] == pytest.approx([w for box, w in zip(found, widths, strict=True) if box is not None])
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert not any(b.overlaps(Bbox([[x - MARK, y - MARK], [x + MARK, y + MARK]])) for b in boxes for x, y in points)
    assert all(b.x0 >= within.x0 and b.x1 <= within.x1 and b.y0 >= within.y0 and b.y1 <= within.y1 for b in boxes)
    assert found[0] is not None or len(points) > 1


def test_a_long_label_loses_its_middle():
    long = "vae[likelihood=gaussian,sigma=0.1,latent=2,samples=64]"
    short = shortened(long, 120)
    assert width_of(short) <= 120 and "…" in short
    head, _, tail = short.partition("…")
    assert long.startswith(head) and long.endswith(tail) and min(len(head), len(tail)) > 3
    assert shortened("vae", 120) == "vae"


def long_names(variants: int = 16) -> list[Entry]:
    long = ["vae[likelihood=my_plugin:student_t]", "vae?likelihood=my_plugin:student_t", "vae[likelihood=my_plugin:laplace,latent=20]"]
    return [replace(e, label=long[i // 2] if i % 2 == 0 and i < 6 else e.label) for i, e in enumerate(entries(variants))]


def layered(group: list[Entry]) -> list[Entry]:
    """The same as models of three layers, with the KL of their units."""
    values, series = configure("ladder-vae")[0].values, {"kl_units": {"0": [0.123] * 56}}
    data = group[0].record.dataset | {"shape": [1, 8, 8]}
    return [replace(e, record=replace(e.record, key=f"{i:064}", values=values, dataset=data, series=series)) for i, e in enumerate(group)]


def seen(figure: Figure) -> list[tuple[Figure, Text, Bbox]]:
    """Texts with their places, and the panel they are in."""
    figure.canvas.draw()
    found = []
    for place in figure.subfigs:
        (ax,) = place.axes
        axis = [t for way in (ax.xaxis, ax.yaxis) if ax.axison for t in (way.label, *(tick.label1 for tick in way._update_ticks()))]
        found += [(place, t, t.get_window_extent()) for t in (*place.texts, *ax.texts, *axis) if t.get_text()]
    return found


def of_classes(group: list[Entry]) -> list[Entry]:
    """The same with pictures by class, whose names are long."""
    images, rows = torch.zeros(10 * OF_CLASS, 64, dtype=torch.uint8), torch.tensor([[part, c] for part in range(3) for c in range(10)])
    shown = {"classes": images, "contact": images[: len(rows)], "contact_rows": rows}
    data = group[0].record.dataset | {
        "shape": [1, 8, 8],
        "class_names": [f"a class that has a rather long name, number {c}" for c in range(10)],
    }
    return [replace(e, record=replace(e.record, dataset=data), load=(e.pictures | shown).copy) for e in group]


def of_factors(group: list[Entry]) -> list[Entry]:
    """The same on data of three factors, with what units tell of them and the scores of that."""
    table = {f"information/{name}": {"0": [0.1 * (i == j) for j in range(8)]} for i, name in enumerate(("shape", "orientation", "x"))}
    found = []
    for i, e in enumerate(group):
        row = {"unit": "fraction", "better": "higher", "kind": "estimate", "status": "ok", "reason": ""}
        scores = [
            row | {"seed": s, "metric": m, "value": 0.1 * ((i + s * j) % 7)} for j, (_, m, _) in enumerate(DISENTANGLEMENT) for s in (0, 1)
        ]
        found.append(replace(e, record=replace(e.record, rows=[*e.record.rows, *scores], series=table)))
    return found


MADE = {  # what a figure needs besides
    "layers": layered,
    "contact_sheet": of_classes,
    "samples_by_class": of_classes,
    "disentanglement": of_factors,
    "factor_information": of_factors,
    "agreement": of_factors,
}


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "further"])
def test_no_text_is_cut_or_upon_another_and_a_shortened_one_is_whole_when_pointed_at(name):
    group = long_names(48 if name == "latent_size" else 16)
    figure = FIGURES[name].draw(MADE.get(name, list)(group))
    assert figure is not None
    found = seen(figure)
    for place, text, box in found:
        words, panel = text.get_text(), place.bbox
        assert panel.x0 - 2 <= box.x0 and box.x1 <= panel.x1 + 2 and panel.y0 - 2 <= box.y0 and box.y1 <= panel.y1 + 2, words
        if "…" in words:
            head, _, tail = words.removesuffix(" (noisy)").removesuffix(": decoded").removesuffix(" ↓").partition("…")
            whole = (text.get_gid() or place.get_label()).replace(BREAK, "\n").split("\n")
            assert any(head in line and tail in line.partition(head)[2] for line in whole), words
    for (one, a, box), (other, b, second) in combinations(found, 2):
        if one is other and a.get_gid() and b.get_gid():
            near = Bbox([[second.x0 + 1.5, second.y0 + 1.5], [second.x1 - 1.5, second.y1 - 1.5]])
            assert not box.overlaps(near), (a.get_text(), b.get_text())


def test_names_are_whole_and_leave_room_for_the_figure():
    endless = "vae[likelihood=my_plugin:" + "x" * 3000 + "]"
    for name in ("bounds", "labels", "latent_units"):
        group = long_names()
        figure = FIGURES[name].draw(group)
        assert figure is not None
        panels = [(place, place.axes[0]) for place in figure.subfigs]
        assert not any("…" in t.get_text() for place, ax in panels for t in (*place.texts, *ax.texts)), name
        assert all(ax.get_window_extent().width > 0.2 * place.bbox.width for place, ax in panels)
        assert all(variants(ax) for _, ax in panels)
        cut = FIGURES[name].draw([replace(group[0], label=endless), *group[1:]])
        assert cut is not None and cut.get_figwidth() < 20


def test_a_name_is_broken_between_its_parts():
    label = "reference-random-projection[latent=50,sigma=0.1]"
    found = wrapped(label, 112)
    assert "".join(found) == label and len(found) > 1 and all(width_of(line) <= 112 for line in found)
    assert wrapped("vae", 112) == ["vae"]
    assert "…" in wrapped("x" * 300, 112)[0] and len(wrapped("a-" * 300, 112)) <= 4


def test_levels_of_the_elbo_and_names_hide_the_lines_below_them_and_stay_inside():
    figure = FIGURES["rate_distortion"].draw(entries())
    assert figure is not None
    for place, text, box in seen(figure):
        (ax,) = place.axes
        if text in ax.texts:
            assert text.get_bbox_patch() is not None, text.get_text()
            inside = ax.get_window_extent()
            assert inside.x0 - 2 <= box.x0 and box.x1 <= inside.x1 + 2 and inside.y0 - 1 <= box.y0 and box.y1 <= inside.y1 + 4
