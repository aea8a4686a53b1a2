"""Intervals and tests against SciPy, against theory, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vae_variants.analysis.statistics import bca, compare, holm, interval, rank_intervals, sign_flip, smallest_p, top_group


def test_the_t_interval_is_scipys():
    x = np.random.default_rng(1).normal(3, 2, size=7)
    found, expected = interval(list(x)), stats.t.interval(0.95, 6, x.mean(), stats.sem(x))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert found.mean == pytest.approx(x.mean())
    assert interval([2.0]) == (2.0, None, None, 1)
    assert interval([2.0] * 12).half == 0
    assert interval([0.1] * 3).half == 0
    assert interval([1e6 + 0.1, 1e6 + 0.3]).half == pytest.approx(stats.t.ppf(0.975, 1) * 0.1, rel=1e-6)
    with pytest.raises(ValueError, match="no values"):
        interval([])


@pytest.mark.parametrize("shape", [0.7, 3.0])
def test_bca_is_scipys(shape):
    x = np.random.default_rng(2).gamma(shape, size=25)
    expected = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(0)).confidence_interval
    assert bca(list(x), expand=False) == pytest.approx(tuple(expected), rel=0.01)  # Monte-Carlo error of the quantiles
    low, high = bca(list(x))
    assert low < bca(list(x), expand=False)[0] < x.mean() < bca(list(x), expand=False)[1] < high


@pytest.mark.parametrize(("n", "repeats", "off"), [(5, 10_000, 0.0085), (20, 1500, 0.02)])
def test_a_nominal_interval_covers(n, repeats, off):
    generator = np.random.default_rng(3)
    found = [interval(list(generator.normal(size=n))) for _ in range(repeats)]
    assert abs(np.mean([i.low <= 0 <= i.high for i in found]) - 0.95) < off


def test_the_sign_flip_test_is_exact_and_holds_its_level():
    generator = np.random.default_rng(4)
    d = generator.normal(0.5, size=9)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip(list(d)) == pytest.approx(expected, rel=1e-12)
    assert sign_flip([1.0, 2.0, 3.0, 4.0, 5.0]) == smallest_p(5) == 0.0625
    assert sign_flip([0.0, 0.0]) == 1
    for level in (0.05, 0.1):
        p = [sign_flip(list(generator.standard_t(3, size=8))) for _ in range(2000)]
        assert np.mean(np.array(p) <= level) <= level + 2.6 * np.sqrt(level / 2000)


def test_random_signs_agree_with_all_of_them():
    d = list(np.random.default_rng(5).normal(0.3, size=17))
    assert sign_flip(d) == pytest.approx(sign_flip(d, resamples=2**17), abs=0.01)


def test_holm_is_that_of_its_author():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_comparison_is_paired():
    noise = np.random.default_rng(6).normal(0, 10, size=5)
    base = dict(enumerate(noise))
    shifted = {seed: value + 0.1 + 0.001 * seed for seed, value in base.items()} | {9: 0.0}
    found = compare(shifted, base)
    assert found.difference.n == found.wins == 5
    assert found.difference.low > 0.09
    assert found.p == found.smallest_p == 0.0625
    assert compare({1: 0.0}, {2: 0.0}) is None


def test_the_top_group_holds_what_cannot_be_told_from_the_best():
    shared = np.random.default_rng(7).normal(0, 5, size=5)
    table = {
        "best": dict(enumerate(shared)),
        "as good": dict(enumerate(shared + np.array([0.1, -0.2, 0.05, -0.05, -0.1]))),
        "worse": dict(enumerate(shared - 1 + np.array([0.01, -0.02, 0.0, 0.01, 0.0]))),
        "once": {0: float(shared[0]) - 50},
    }
    assert top_group(table, "higher") == ["best", "as good"]
    flipped = {label: {s: -v for s, v in values.items()} for label, values in table.items()}
    assert top_group(flipped, "lower") == ["best", "as good"]
    table["once"], table["twice"] = {0: 1e6}, {0: 1e6, 1: 1e6}  # seeds that shine, and are too few
    assert top_group(table, "higher") == ["best", "as good"]
    assert top_group({}, "higher") == []
    elsewhere = {seed + 2: value - 1e6 for seed, value in table["worse"].items()}  # three seeds in common, and one of two
    assert top_group({**table, "three": elsewhere}, "higher") == ["best", "as good"]
    fewer = {seed + 1: value for seed, value in elsewhere.items()}
    assert top_group({**table, "two": fewer}, "higher") == [], "it shares too few seeds with any other to be behind it"
    lucky = {"A": {0: -90.0, 1: -91.0, 2: -92.0, 3: -130.0, 4: -131.0}, "B": {0: -92.0, 1: -93.1, 2: -94.05}}
    assert top_group(lucky, "higher") == ["A"], "B did not run the hard seeds"


VALUES = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_subnormal=False))
TABLES = st.dictionaries(st.sampled_from("abcdef"), st.dictionaries(st.integers(0, 6), VALUES, max_size=7), max_size=5)


@settings(max_examples=300, deadline=None)
@given(TABLES, st.permutations(range(7)), st.randoms(use_true_random=False))
def test_the_best_is_ahead_over_every_set_of_common_seeds_whatever_the_order(table, seeds, random):
    group = top_group(table, "higher")
    judged = {label: values for label, values in table.items() if len(values) >= 3}
    for other in set(judged) - set(group[:1]) if group else ():
        common = judged[group[0]].keys() & judged[other].keys()
        assert len(common) >= 3
        best, behind = (math.fsum(judged[label][seed] for seed in common) for label in (group[0], other))
        assert best >= behind
    shuffled = [(label, {seeds[seed]: value for seed, value in values.items()}) for label, values in table.items()]
    random.shuffle(shuffled)
    assert top_group(dict(shuffled), "higher") == group
    assert top_group({label: {s: -x for s, x in values.items()} for label, values in shuffled}, "lower") == group
    whole = {label: values for label, values in judged.items() if values.keys() == set(range(7))}
    assert bool(top_group(whole, "higher")) == bool(whole), "with the same seeds there is a best"


def test_bold_leaves_out_a_given_variant_as_good_as_the_best_in_five_percent_of_tables_and_some_one_in_more():
    """As the report's text says: 20 equal variants of 5 seeds."""
    values = np.random.default_rng(5).normal(size=(400, 20, 5))
    groups = [top_group({f"v{i}": dict(enumerate(row.tolist())) for i, row in enumerate(table)}, "higher") for table in values]
    assert np.mean(["v0" not in group for group in groups]) < 0.06
    assert 0.08 < np.mean([len(group) < 20 for group in groups]) < 0.2


def test_rank_intervals_keep_the_pairing():
    shared = np.random.default_rng(8).normal(0, 5, size=6)
    table = {name: dict(enumerate(shared - shift)) for name, shift in (("first", 0), ("second", 0.01), ("third", 0.02))}
    assert rank_intervals(table, "higher") == {"first": (1, 1), "second": (2, 2), "third": (3, 3)}
    assert rank_intervals(table, "lower")["first"] == (3, 3)
    alike = {name: dict(enumerate(np.random.default_rng(i).normal(size=6))) for i, name in enumerate("ab")}
    assert rank_intervals(alike, "higher") == {"a": (1, 2), "b": (1, 2)}
    assert rank_intervals({"a": {0: 1.0}, "b": {1: 1.0}}, "higher") == {}


@pytest.mark.parametrize("seeds", [3, 5, 12])
def test_ranks_are_counted_over_every_pair(seeds):
    values = np.random.default_rng(2).normal(size=(9, seeds)).round(1)
    values[4] = values[5]
    draws = np.random.default_rng(0).integers(0, seeds, (9999, seeds))
    means = values[:, draws].mean(-1)
    ranks = 1 + (means[None] > means[:, None]).sum(1)
    low, high = (np.quantile(ranks, tail, axis=1, method="inverted_cdf") for tail in ((1 - 0.95) / 2, (1 + 0.95) / 2))
    found = rank_intervals({f"v{i}": dict(enumerate(row.tolist())) for i, row in enumerate(values)}, "higher")
    assert list(found.values()) == list(zip(low.tolist(), high.tolist(), strict=True))


def test_nothing_touches_global_state():
    state = np.random.get_state()[1].copy()
    interval(list(range(12)))
    sign_flip([1.0] * 18)
    rank_intervals({"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0, 1: 1.0}}, "higher")
    assert (np.random.get_state()[1] == state).all()
