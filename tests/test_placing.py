"""Where ticks and labels go: round, in order, and none upon another."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import read
from vae_variants.report.placing import HEIGHT, MARK, Box, apart, beside
from vae_variants.report.svg import Scale, fitted, tick_labels, width_of


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
