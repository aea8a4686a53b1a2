"""The study of ranks: signs, ties, groups, and what it makes of planted tables."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import kendalltau, spearmanr

from bench.claims.better_elbo import (
    LIKELIHOODS,
    QUALITIES,
    BetterElbo,
    by_seed,
    correlations,
    inversion,
    labels,
    means,
    summary,
    unsharpness,
)
from vae_variants.harness import Record, Store
from vae_variants.registry import UserError
from vae_variants.studies import STUDIES, Findings, Lab, Table, Verdict

GOOD = {"fd": -1.0, "coverage": 0.1, "precision": 0.1, "spectral_distance": -1.0, "unsharpness": -0.1}  # per step of quality


def planted(quality, variants=6, seeds=(0, 1, 2), pixels="binary") -> Table:
    """Variant i has an ELBO of -100 + i, and samples as good as `quality(i, seed)` steps."""
    rows = []
    for i, seed in itertools.product(range(variants), seeds):
        row = {"pixels": pixels, "variant": f"v{i}", "seed": seed, "elbo": -100.0 + i + 0.1 * seed, "log_likelihood": -95.0 + i}
        rows.append(row | {name: 20 * abs(step) + step * quality(i, seed) for name, step in GOOD.items()})
    return Table.of("values", rows, folded=True)


def both(*tables: Table) -> Table:
    return Table("values", tables[0].columns, tuple(row for table in tables for row in table.rows), True)


def judged(values: Table):
    return BetterElbo().judge({"values": values})


def test_agreement_is_plus_one_whichever_way_is_better() -> None:
    found = correlations(planted(lambda i, seed: i))
    assert {(c.likelihood, c.quality) for c in found} == set(itertools.product(LIKELIHOODS, QUALITIES))
    assert [c.spearman for c in found] == pytest.approx([1.0] * len(found))
    assert [c.kendall for c in found] == pytest.approx([1.0] * len(found))
    assert [c.spearman for c in correlations(planted(lambda i, seed: -i))] == pytest.approx([-1.0] * len(found))
    assert {c.variants for c in found} == {6}


def test_each_seed_has_its_own_correlation() -> None:
    order = [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5, 4], [5, 1, 2, 3, 4, 0]]
    found = [c for c in correlations(planted(lambda i, seed: order[seed][i])) if (c.likelihood, c.quality) == ("elbo", "fd")]
    for c in found:
        assert c.spearman == pytest.approx(spearmanr(range(6), order[c.seed]).statistic)
        assert c.kendall == pytest.approx(kendalltau(range(6), order[c.seed]).statistic)
    assert [c.kendall for c in found] == pytest.approx([1.0, 1 - 2 / 15, 1 - 18 / 15])
    (row,) = (r for r in summary(found))
    assert row["kendall"] == pytest.approx((1 + 13 / 15 - 3 / 15) / 3)
    assert row["n"] == 3


def test_a_variant_with_fewer_seeds_and_a_missing_figure_are_left_out() -> None:
    values = planted(lambda i, seed: i)
    columns = values.columns
    rows = [row for row in values.rows if not (row[1] == "v5" and row[2] > 0)]
    rows = [
        tuple(None if name == "coverage" and row[1] == "v0" and row[2] == 1 else v for name, v in zip(columns, row, strict=True))
        for row in rows
    ]
    found = correlations(Table("values", columns, tuple(rows)))
    assert {c.quality: c.variants for c in found} == {**dict.fromkeys(QUALITIES, 5), "coverage": 4}
    assert {c.seed for c in found} == {0, 1, 2}


def test_ranks_are_within_one_kind_of_pixels() -> None:
    other = planted(lambda i, seed: -10 + i, pixels="real")
    shifted = Table("", other.columns, tuple((*row[:3], row[3] + 900, *row[4:]) for row in other.rows))  # better ELBO, worse samples
    values = both(planted(lambda i, seed: i), shifted)
    assert min(c.spearman for c in correlations(values)) == pytest.approx(1.0)
    assert judged(values).verdict is Verdict.SUPPORTED


def test_agreement_is_supported_and_has_no_inversion() -> None:
    found = judged(planted(lambda i, seed: i))
    assert found.verdict is Verdict.SUPPORTED
    assert [e.where["quality"] for e in found.effects] == ["fd", "coverage"]
    assert "instead of the ELBO they are between 1.00 and 1.00" in found.reason
    assert "yet its samples" not in found.reason
    assert "are above 0.5 for binary pixels (1.00 by Fréchet distance, 1.00 by coverage)." in found.reason
    assert found.reason.count(". ") == 1


def test_a_quality_without_a_vote_that_goes_the_other_way_changes_nothing_but_the_table() -> None:
    values = planted(lambda i, seed: i)
    at = values.columns.index("precision")
    turned = Table("", values.columns, tuple((*row[:at], 5 - row[at], *row[at + 1 :]) for row in values.rows))
    assert judged(turned) == judged(values)
    assert {r["spearman"] for r in summary(correlations(turned)) if r["quality"] == "precision"} == {-1.0}


def test_the_reverse_is_not_supported_and_names_the_worst_pair() -> None:
    found = judged(planted(lambda i, seed: -i))
    assert found.verdict is Verdict.REFUTED
    said = "v5 has a better ELBO than v0 (-94.9 against -99.9 nats), and yet its samples are worse (Fréchet distance 25 against 20)."
    assert said in found.reason
    assert "are not both above 0.5 for binary pixels (-1.00 by Fréchet distance, -1.00 by coverage)" in found.reason
    assert found.reason.count(". ") == 2


def test_groups_that_disagree_are_a_condition() -> None:
    found = judged(both(planted(lambda i, seed: i), planted(lambda i, seed: -i, pixels="real")))
    assert found.verdict is Verdict.CONDITIONAL
    assert {e.where["pixels"] for e in found.effects if e.verdict is Verdict.REFUTED} == {"real"}
    assert "are above 0.5 for binary pixels" in found.reason
    assert "and are not both above 0.5 for grey pixels as a density on the real line" in found.reason


def test_a_group_has_to_agree_in_both_qualities() -> None:
    values = planted(lambda i, seed: i)
    at = values.columns.index("coverage")
    split = Table("", values.columns, tuple((*row[:at], 5 - row[at], *row[at + 1 :]) for row in values.rows))
    found = judged(split)
    assert [e.verdict for e in found.effects] == [Verdict.SUPPORTED, Verdict.REFUTED]
    assert found.verdict is Verdict.REFUTED  # within one group, that is no condition
    lacking = Table("", values.columns, tuple((*row[:at], None, *row[at + 1 :]) for row in values.rows))
    assert judged(lacking).verdict is Verdict.INCONCLUSIVE


def test_a_group_that_cannot_be_told_is_no_support() -> None:
    open_one = planted(lambda i, seed: i * (1 if seed else -1), pixels="real")
    assert judged(both(planted(lambda i, seed: i), open_one)).verdict is Verdict.INCONCLUSIVE
    found = judged(both(planted(lambda i, seed: -i), open_one))
    assert found.verdict is Verdict.REFUTED
    assert "and cannot both be told from 0.5 for grey pixels as a density on the real line" in found.reason


def test_nothing_measured_is_no_verdict() -> None:
    for tables in ({}, {"values": Table("", (), ())}):
        assert BetterElbo().judge(tables).verdict is Verdict.INCONCLUSIVE
    blank = planted(lambda i, seed: i)
    for name in ("elbo", "fd"):
        at = blank.columns.index(name)
        without = Table("", blank.columns, tuple((*row[:at], None, *row[at + 1 :]) for row in blank.rows))
        assert judged(without).verdict is Verdict.INCONCLUSIVE


def test_data_without_labels_are_one_line_before_anything_is_trained(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    lab.dataset = replace(lab.dataset, labels=None)
    with pytest.raises(UserError, match=r"^data set 'digits' has no labels, which this study needs$"):
        BetterElbo().measure(lab)
    assert not list(tmp_path.rglob("record.json"))


def test_small_groups_are_not_judged() -> None:
    values = both(planted(lambda i, seed: i), planted(lambda i, seed: -i, variants=4, pixels="real"))
    assert judged(values).verdict is Verdict.SUPPORTED
    assert {c.pixels for c in correlations(values)} == {"binary", "real"}
    alone = judged(planted(lambda i, seed: i, variants=4))
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert "5 variants" in alone.reason


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_too_few_seeds_are_never_a_verdict(seeds, sign) -> None:
    assert judged(planted(lambda i, seed: sign * i, seeds=seeds)).verdict is Verdict.INCONCLUSIVE


def test_ranks_that_differ_from_seed_to_seed_are_inconclusive() -> None:
    assert judged(planted(lambda i, seed: i * (1 if seed else -1))).verdict is Verdict.INCONCLUSIVE


def test_the_worst_inversion_is_large_in_both() -> None:
    quality = [0.0, 4.0, 1.0, 2.0, 3.5, 3.4]  # v1 before v2 .. v5; by both differences v5 - v1 is one of four, v3 - v1 of two
    found = inversion(planted(lambda i, seed: quality[i]), "binary", "coverage")
    assert found is not None
    assert (found.better, found.worse) == ("v3", "v1")
    assert found.values == pytest.approx((2.2, 2.4))
    assert inversion(planted(lambda i, seed: i), "binary", "fd") is None


def test_an_inversion_that_seeds_do_not_agree_on_is_none() -> None:
    values = planted(lambda i, seed: (2 - i) + (8 * i if seed == 1 else 0), variants=2)
    assert inversion(values, "binary", "coverage") is None
    assert inversion(planted(lambda i, seed: 2 - i, variants=2), "binary", "coverage") is not None


def test_every_figure_comes_from_the_record(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    figures = {"elbo": -25.0, "log_likelihood": -24.0, "fd-digitscnn": 3.0, "coverage": 0.6, "precision": 0.7, "spectral_distance": 5.0}
    figures |= {"sharpness_ratio": 0.5, "noise_ratio": 1.1, "distortion": 20.0}
    rows = [{"seed": seed, "metric": name, "value": value + seed} for name, value in figures.items() for seed in (0, 1)]
    record = Record("k", "vae-x", {}, {"name": "digits"}, "binary", "smoke", [0, 1], {"0": "ok", "1": "ok"}, rows=rows)
    first, second = by_seed({"vae-x": record}, lab)
    assert first == {
        "pixels": "binary",
        "variant": "vae-x",
        "seed": 0,
        **{name: figures[name] for name in ("elbo", "log_likelihood", "coverage", "precision", "spectral_distance")},
        "fd": 3.0,
        "unsharpness": math.log(2),
    }
    assert (second["seed"], second["fd"], second["unsharpness"]) == (1, 4.0, math.log(1.5))


def test_rows_of_the_suite_that_have_an_elbo_are_asked_for(tmp_path) -> None:
    asked = labels(Lab("digits", "full", None, Store(tmp_path), torch.device("cpu")))
    assert {"vae-bernoulli", "iwae-64", "vae-linear", "vae-categorical", "vae-gaussian[sigma=0.03]"} <= set(asked)
    assert not {"ae", "gan", "made", "reference-data", "reference-pca-2"} & set(asked)
    assert len({"vae-bernoulli", "vae-latent-20"} & set(asked)) == 1  # one run under two names


def test_unsharpness_is_the_same_for_twice_and_for_half() -> None:
    assert unsharpness(2.0 / 1.5, 1.0) == pytest.approx(unsharpness(1.5 / 2.0, 1.0)) == pytest.approx(math.log(4 / 3))
    assert unsharpness(1.0, 0.97) == 0
    assert unsharpness(7.0, 1.0) is None  # sharper than anything real
    assert unsharpness(0.9, 0.5) is None  # noise
    assert unsharpness(None, None) is None


def test_means_are_sorted_by_the_elbo() -> None:
    rows = means(planted(lambda i, seed: i))
    assert [row["variant"] for row in rows] == [f"v{i}" for i in (5, 4, 3, 2, 1, 0)]
    assert rows[0]["elbo"] == pytest.approx(-94.9)


def test_the_figure_names_every_variant() -> None:
    values = both(planted(lambda i, seed: i), planted(lambda i, seed: -i, variants=2, pixels="real"))
    (picture,) = STUDIES["better-elbo-better-samples"]().draw(Findings({"values": values}))
    assert {t.get_text() for t in picture.figure.legends[0].get_texts()} == {f"v{i}" for i in range(6)}
