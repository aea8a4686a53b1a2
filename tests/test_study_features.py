"""The study of codes as features: what it takes for a gain, and what it makes of planted ones."""

from __future__ import annotations

import pytest
import torch

from vae_variants.harness import Store
from vae_variants.studies import STUDIES, Findings, Lab, Table, Verdict
from vae_variants.studies.features import ENCODERS, METRICS, PIXELS, Features, decided, gains, means, pixels_beaten, probed

SPREAD = (-0.004, 0.001, 0.003)
BASE = {"VAE": 0.80, "autoencoder": 0.78, "PCA": 0.70, "untrained encoder": 0.60, "random projection": 0.61, PIXELS: 0.90}


def planted(change=lambda kind, units, labels, seed: 0.0, seeds=(0, 1, 2), sizes=(2, 50)) -> Table:
    """Accuracies with a draw of labels that all encoders share, so that only pairing tells small gains from it."""
    rows = []
    for kind in (*ENCODERS, PIXELS):
        for units in (784,) if kind == PIXELS else sizes:
            for labels in METRICS:
                for seed in seeds:
                    value = BASE[kind] + 10 * SPREAD[seed % 3] + change(kind, units, labels, seed)
                    rows.append({"encoder": kind, "units": units, "labels per class": labels, "seed": seed, "accuracy": value})
    return Table.of("accuracy", rows, folded=True)


def judged(table: Table):
    return Features().judge({"accuracy": table})


def test_a_gain_is_ours_less_theirs_of_the_same_size_seed_by_seed() -> None:
    table = planted(lambda kind, units, labels, seed: (units == 50) * 0.01 * (kind == "PCA"), seeds=(0, 2, 1))
    assert gains(table, "VAE", 2, "10", "PCA") == pytest.approx([0.1] * 3)
    assert gains(table, "VAE", 50, "10", "PCA") == pytest.approx([0.09] * 3)
    assert gains(table, "autoencoder", 50, "all", "untrained encoder") == pytest.approx([0.18] * 3)
    assert gains(table, "VAE", 2, "10", PIXELS) == pytest.approx([-0.1] * 3)


def test_a_gain_everywhere_is_supported_and_says_where_it_is_largest() -> None:
    found = judged(planted(lambda kind, units, labels, seed: 0.05 * (kind == "VAE" and units == 50 and labels == "100")))
    assert found.verdict is Verdict.SUPPORTED
    assert len(found.effects) == 2 * 2 * 4
    assert "VAE with 50 units and 100 labels per class, +0.150 over PCA" in found.reason
    assert "in 16 (" in found.reason
    assert "so with 2 and 50 units" in found.reason
    assert "beaten in 0 and were better in 16" in found.reason


def test_high_accuracy_without_a_gain_is_not_supported() -> None:
    found = judged(planted(lambda kind, units, labels, seed: 0.25 * (kind == "PCA") + 0.01 * SPREAD[seed % 3]))
    assert found.verdict is Verdict.REFUTED
    assert {e.where["smallest gain is over"] for e in found.effects} == {"PCA"}


@pytest.mark.parametrize("baseline", ["PCA", "untrained encoder"])
def test_one_baseline_that_is_better_is_enough_against_it(baseline) -> None:
    table = planted(lambda kind, units, labels, seed: 0.3 * (kind == baseline))
    effect = decided(table, "VAE", 2, "all")
    assert effect is not None
    assert effect.verdict is Verdict.REFUTED
    assert effect.where["smallest gain is over"] == baseline
    assert effect.value == pytest.approx(0.8 - BASE[baseline] - 0.3)


def test_it_depends_where_large_codes_lose() -> None:
    found = judged(planted(lambda kind, units, labels, seed: 0.2 * (kind == "PCA" and units == 50)))
    assert found.verdict is Verdict.CONDITIONAL
    assert "At every number of labels they did so with 2 units" in found.reason
    assert {e.where["units"] for e in found.effects if e.verdict is Verdict.REFUTED} == {"50"}


def test_it_depends_where_large_codes_cannot_be_told_from_components() -> None:
    found = judged(planted(lambda kind, units, labels, seed: (0.1 + SPREAD[seed % 3] * 5) * (kind == "PCA" and units == 50)))
    assert found.verdict is Verdict.CONDITIONAL
    assert Verdict.REFUTED not in {e.verdict for e in found.effects if e.where["encoder"] == "VAE"}


def test_one_number_of_labels_that_cannot_be_told_leaves_everything_open() -> None:
    table = planted(lambda kind, units, labels, seed: (0.07 + SPREAD[seed % 3] * 5) * (kind == "PCA" and labels == "all"))
    assert judged(table).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("gain", [-0.3, 0.0])
def test_too_few_seeds_are_never_a_verdict(seeds, gain) -> None:
    table = planted(lambda kind, units, labels, seed: gain * (kind in ("VAE", "autoencoder")), seeds=seeds)
    assert judged(table).verdict is Verdict.INCONCLUSIVE


def test_a_gain_within_the_noise_is_inconclusive() -> None:
    table = planted(lambda kind, units, labels, seed: -0.095 * (kind == "VAE") + SPREAD[seed % 3] * 2 * (kind == "PCA"))
    effect = decided(table, "VAE", 2, "10")
    assert effect is not None
    assert effect.verdict is Verdict.INCONCLUSIVE


def test_raw_pixels_have_no_vote_but_are_counted() -> None:
    weak, strong = (planted(lambda kind, units, labels, seed, c=c: c * (kind == PIXELS)) for c in (-0.5, 0.0))
    assert (pixels_beaten(weak), pixels_beaten(strong)) == ((16, 0), (0, 16))
    assert judged(weak).verdict is judged(strong).verdict is Verdict.SUPPORTED


def test_means_are_over_seeds_and_a_missing_encoder_is_no_number() -> None:
    table = planted()
    without = Table(table.caption, table.columns, tuple(row for row in table.rows if row[0] != "random projection"))
    row = next(r for r in means(without, (2,)) if r["labels per class"] == "100")
    assert row["VAE"] == pytest.approx(0.80)
    assert row[PIXELS] == pytest.approx(0.90)
    assert row["random projection"] is None


def test_the_figure_has_a_panel_for_each_number_of_labels() -> None:
    found = STUDIES["features"]().draw(Findings({"accuracy": planted()}))
    assert [ax.get_title() for ax in found[0].figure.axes] == [*(f"{k} labels per class" for k in (10, 100, 1000)), "all labels"]
    assert "raw pixels" in {text.get_text() for text in found[0].figure.legends[0].get_texts()}


def test_what_has_no_chance_is_probed_with_every_draw_of_labels(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0, 1), Store(tmp_path), torch.device("cpu"))
    asked = {"pca[latent=20]": ("PCA", 20), "pixels": (PIXELS, 64)}
    rows, seen = probed(lab.records(list(asked)), asked)
    table = Table.of("", rows)
    assert {row["labels per class"] for row in table} == {"10", "all"}  # 400 images have no 100 of each class
    few, every = (table.by_seed("accuracy", encoder="PCA", units=20, **{"labels per class": k}) for k in ("10", "all"))
    assert few.keys() == every.keys() == {0, 1}
    assert few[0] != few[1]  # the labelled images are drawn
    assert every[0] == every[1]
    assert (seen[0]["units in use"], seen[0]["n"]) == (20, 2)
    assert 0.5 < few[0] < every[0] < 1
