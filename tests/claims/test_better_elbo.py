"""The study of ranks: signs, ties, groups, and what it makes of planted tables."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from bench.claims.better_elbo import QUALITIES, BetterElbo, correlations, labels, measured, variants
from vae_variants.harness import Record, Store
from vae_variants.registry import UserError
from vae_variants.studies import STUDIES, Findings, Lab, Verdict, table

GOOD = {"fd": -1.0, "coverage": 0.1}  # per step of quality


def planted(quality, variants=6, seeds=(0, 1, 2), pixels="binary") -> pd.DataFrame:
    """Variant i has an ELBO of -100 + i, and samples as good as `quality(i, seed)` steps."""
    rows = []
    for i, seed in itertools.product(range(variants), seeds):
        row = {"pixels": pixels, "variant": f"v{i}", "seed": seed, "elbo": -100.0 + i + 0.1 * seed}
        rows.append(row | {name: 20 * abs(step) + step * quality(i, seed) for name, step in GOOD.items()})
    return table("values", rows)


def both(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def judged(values: pd.DataFrame):
    return BetterElbo().judge({"values": values})


@pytest.mark.parametrize("quality", QUALITIES)
def test_agreement_is_plus_one_whichever_way_is_better(quality) -> None:
    for sign in (1, -1):
        found = correlations(planted(lambda i, seed, sign=sign: sign * i), "binary", quality)
        assert found == (6, pytest.approx([sign] * 3), pytest.approx((sign, sign)))


def test_each_seed_has_its_own_correlation() -> None:
    order = [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4], [5, 1, 2, 3, 4, 0]]
    _, found, _ = correlations(planted(lambda i, seed: order[seed][i]), "binary", "fd")
    assert found == pytest.approx([spearmanr(range(6), each).statistic for each in order])
    assert found == pytest.approx([1.0, 1 - 12 / 210, 1 - 300 / 210])  # 1 - 6 sum d^2 / (n (n^2 - 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 9))
def test_the_interval_is_over_variants_and_never_leaves_minus_one_to_one(chance, count) -> None:
    """The same ranks in every seed leave no spread over seeds; which variants were chosen still decides."""
    ranks = np.random.default_rng(chance).permutation(count)
    n, found, (low, high) = correlations(planted(lambda i, seed: int(ranks[i]), variants=count), "binary", "fd")
    assert n == count and found == pytest.approx([spearmanr(range(count), ranks).statistic] * 3)
    assert -1 <= low <= found[0] + 1e-9 and found[0] - 1e-9 <= high <= 1
    assert (high - low > 0.1) == (abs(found[0]) < 1 - 1e-9)
    (effect, _) = judged(planted(lambda i, seed: int(ranks[i]), variants=count)).effects
    assert (effect.low, effect.high) == (low, high)
    assert effect.verdict is (Verdict.SUPPORTED if low > 0.5 else Verdict.REFUTED if high < 0.5 else Verdict.INCONCLUSIVE)


def test_a_variant_with_fewer_seeds_and_a_missing_value_are_left_out() -> None:
    values = planted(lambda i, seed: i)
    values = values[(values["variant"] != "v5") | (values["seed"] == 0)]
    values.loc[(values["variant"] == "v0") & (values["seed"] == 1), "coverage"] = None
    assert [correlations(values, "binary", quality)[0] for quality in QUALITIES] == [5, 4]
    assert len(correlations(values, "binary", "coverage")[1]) == 3


def test_ranks_are_within_one_pixel_type() -> None:
    other = planted(lambda i, seed: -10 + i, pixels="real").assign(elbo=lambda t: t["elbo"] + 900)  # better ELBO, worse samples
    values = both(planted(lambda i, seed: i), other)
    assert min(rho for pixels in ("binary", "real") for rho in correlations(values, pixels, "fd")[1]) == pytest.approx(1.0)
    assert judged(values).verdict is Verdict.SUPPORTED


def test_agreement_is_supported() -> None:
    found = judged(planted(lambda i, seed: i))
    assert found.verdict is Verdict.SUPPORTED
    assert [e.where["quality"] for e in found.effects] == ["fd", "coverage"]
    assert "are above 0.5 for binary pixels (1.00 by Fréchet distance, 1.00 by coverage)." in found.reason


def test_the_reverse_is_not_supported() -> None:
    found = judged(planted(lambda i, seed: -i))
    assert found.verdict is Verdict.REFUTED
    assert "are not both above 0.5 for binary pixels (-1.00 by Fréchet distance, -1.00 by coverage)" in found.reason


def test_groups_that_disagree_are_a_condition() -> None:
    found = judged(both(planted(lambda i, seed: i), planted(lambda i, seed: -i, pixels="real")))
    assert found.verdict is Verdict.CONDITIONAL
    assert {e.where["pixels"] for e in found.effects if e.verdict is Verdict.REFUTED} == {"real"}
    assert "are above 0.5 for binary pixels" in found.reason
    assert "and are not both above 0.5 for continuous pixels on the real line" in found.reason


def test_a_group_has_to_agree_in_both_qualities() -> None:
    values = planted(lambda i, seed: i)
    found = judged(values.assign(coverage=5 - values["coverage"]))
    assert [e.verdict for e in found.effects] == [Verdict.SUPPORTED, Verdict.REFUTED]
    assert found.verdict is Verdict.REFUTED  # within one group, that is no condition
    assert judged(values.assign(coverage=float("nan"))).verdict is Verdict.INCONCLUSIVE


def test_a_group_that_cannot_be_told_is_no_support() -> None:
    open_one = planted(lambda i, seed: i * (1 if seed else -1), pixels="real")
    assert judged(both(planted(lambda i, seed: i), open_one)).verdict is Verdict.INCONCLUSIVE
    found = judged(both(planted(lambda i, seed: -i), open_one))
    assert found.verdict is Verdict.REFUTED
    assert "and are not both significantly different from 0.5" in found.reason


def test_nothing_measured_is_no_verdict() -> None:
    assert BetterElbo().judge({}).verdict is judged(pd.DataFrame()).verdict is Verdict.INCONCLUSIVE
    for name in ("elbo", "fd"):
        assert judged(planted(lambda i, seed: i).assign(**{name: float("nan")})).verdict is Verdict.INCONCLUSIVE


def test_data_without_labels_are_one_line_before_anything_is_trained(tmp_path, monkeypatch) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    monkeypatch.setattr(Lab, "dataset", replace(lab.dataset, labels=None))
    with pytest.raises(UserError, match=r"^data set 'digits' has no labels, which this study needs$"):
        BetterElbo().measure(lab)
    assert not list(tmp_path.rglob("record.json"))


def test_small_groups_are_not_judged() -> None:
    values = both(planted(lambda i, seed: i), planted(lambda i, seed: -i, variants=4, pixels="real"))
    assert judged(values).verdict is Verdict.SUPPORTED
    assert [correlations(values, pixels, "fd")[0] for pixels in ("binary", "real")] == [6, 4]
    alone = judged(planted(lambda i, seed: i, variants=4))
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert "5 variants" in alone.reason


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_too_few_seeds_are_never_a_verdict(seeds, sign) -> None:
    assert judged(planted(lambda i, seed: sign * i, seeds=seeds)).verdict is Verdict.INCONCLUSIVE


def test_ranks_that_differ_from_seed_to_seed_are_inconclusive() -> None:
    assert judged(planted(lambda i, seed: i * (1 if seed else -1))).verdict is Verdict.INCONCLUSIVE


def test_every_value_comes_from_the_record(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    figures = {"elbo": -25.0, "fd-digitscnn": 3.0, "coverage": 0.6}
    rows = [{"seed": seed, "metric": name, "value": value + seed} for name, value in figures.items() for seed in (0, 1)]
    record = Record("k", "vae-x", {}, {"name": "digits"}, "binary", "smoke", [0, 1], {"0": "ok", "1": "ok"}, rows=rows)
    first, second = measured({"vae-x": record}, lab)
    assert first == {"pixels": "binary", "variant": "vae-x", "seed": 0, "elbo": -25.0, "fd": 3.0, "coverage": 0.6}
    assert (second["seed"], second["fd"]) == (1, 4.0)


def test_rows_of_the_suite_that_have_an_elbo_are_asked_for(tmp_path) -> None:
    asked = labels(Lab("digits", "full", None, Store(tmp_path), torch.device("cpu")))
    assert {"vae-bernoulli", "iwae-8", "vae-linear", "vae-free-bits", "vae-gaussian[sigma=0.03]"} <= set(asked)
    assert not {"ae", "gan", "made", "vae-categorical", "vae-samples-8", "reference-data", "reference-pca-2"} & set(asked)
    assert len({"vae-bernoulli", "vae-latent-20"} & set(asked)) == 1  # one run under two names


def test_variants_are_sorted_by_the_elbo() -> None:
    assert variants(planted(lambda i, seed: i), "binary") == [f"v{i}" for i in (5, 4, 3, 2, 1, 0)]


def test_the_figure_names_every_variant() -> None:
    values = both(planted(lambda i, seed: i), planted(lambda i, seed: -i, variants=2, pixels="real"))
    (picture,) = STUDIES["better-elbo-better-samples"]().draw(Findings({"values": values}))
    assert {t.get_text() for t in picture.figure.legends[0].get_texts()} == {f"v{i}" for i in range(6)}
