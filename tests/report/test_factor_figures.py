"""Figures of disentanglement: units in the order of their factors, and how much metrics agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.made_up import grid, made_up
from vae_variants.analysis.entries import Entry
from vae_variants.harness.pictures import encoding
from vae_variants.report.factors import agreement, correlation, factor_information, information
from vae_variants.report.figures import caption
from vae_variants.report.sections import DISENTANGLEMENT

TABLE = {"shape": [0.1, 0.0, 0.6, 0.0], "scale": [0.0, 0.0, 0.7, 0.2], "x": [0.9, 0.0, 0.0, 0.1]}
METRICS = [metric for name, metric, _ in DISENTANGLEMENT if name.endswith("↑")]


def entry(label: str, values: dict[str, list[float]], table: dict[str, list[float]] | None = None) -> Entry:
    """A made-up variant with these values, a seed each, and what its units tell."""
    seeds = list(range(len(next(iter(values.values()), [0]))))
    rows = [
        {"seed": s, "metric": m, "value": v[s], "unit": "fraction", "better": "higher", "kind": "estimate", "status": "ok", "reason": ""}
        for m, v in values.items()
        for s in seeds
    ]
    series = {f"information/{name}": {"0": shares} for name, shares in (table or {}).items()}
    record = replace(made_up(grid(1)[0]), key=label.encode().hex().zfill(64), label=label, seeds=seeds, rows=rows, series=series)
    return Entry(label, record)


def test_units_and_factors_are_matched_so_that_they_tell_most_in_all():
    assert encoding(TABLE) == {2: 0, 3: 1, 0: 2}
    assert list(encoding(TABLE)) == [2, 3, 0], "in the order of the factors"
    assert encoding({}) == {} and encoding({"a": [0.0, 0.0]}) == {}


def test_a_table_has_its_units_in_the_order_of_their_factors():
    one = entry("one", {}, TABLE)
    assert information(one) == TABLE
    figure = factor_information([one, entry("two", {})])
    (panel,) = figure.subfigs
    words = [text.get_text() for text in panel.axes[0].texts]
    assert words[:4] == ["3", "4", "1", "2"]
    assert {".60", ".70", ".20", ".90", ".10"} <= set(words) and "shape" in words
    assert factor_information([entry("two", {})]) is None


def test_agreement_is_the_rank_correlation_over_seeds_of_all_variants():
    draw = np.random.default_rng(0)
    values = {label: {metric: draw.random(4).tolist() for metric in METRICS[:3]} for label in ("a", "b")}
    entries = [entry(label, found) for label, found in values.items()]
    pairs = [np.concatenate([values[label][metric] for label in ("a", "b")]) for metric in METRICS[:2]]
    keyed = [{("", i): float(v) for i, v in enumerate(pair)} for pair in pairs]
    assert correlation(*keyed) == pytest.approx(spearmanr(*pairs).statistic)
    assert correlation(keyed[0], {}) is None and correlation(keyed[0], dict.fromkeys(keyed[0], 1.0)) is None
    (panel,) = agreement(entries).subfigs
    words = [text.get_text() for text in panel.axes[0].texts]
    assert f"{correlation(*keyed):+.2f}".replace("-", "−") in words
    assert words.count("·") == 3
    assert agreement([entry("a", {METRICS[0]: [0.1, 0.2]})]) is None


def test_the_caption_of_traversals_names_factors_only_if_they_are_known():
    plain = entry("one", {})
    with_factors = replace(plain, record=replace(plain.record, dataset={**plain.record.dataset, "factors": ["shape"]}))
    assert "factor" not in caption("traversals", [plain], 1)
    assert "A unit for each factor" in caption("traversals", [with_factors], 1)
