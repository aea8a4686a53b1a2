"""The study of codes as features: what it takes for a gain, and what it makes of planted ones."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bench.claims.features import (
    ENCODERS,
    METRICS,
    PIXELS,
    TRAINED,
    Features,
    cells,
    gains,
    probed,
    verdict_of,
)
from vae_variants.harness import Store
from vae_variants.registry import UserError
from vae_variants.studies import STUDIES, Findings, Lab, Verdict, by_seed, table

SPREAD = (-0.004, 0.001, 0.003)
BASE = {"VAE": 0.80, "autoencoder": 0.78, "PCA": 0.70, "untrained encoder": 0.60, "random projection": 0.61, PIXELS: 0.90}


def planted(change=lambda kind, units, labels, seed: 0.0, seeds=(0, 1, 2), sizes=(2, 50)) -> pd.DataFrame:
    """Accuracies with a draw of labels that all encoders share, so that only pairing tells small gains from it."""
    rows = []
    for kind in (*ENCODERS, PIXELS):
        for units in (784,) if kind == PIXELS else sizes:
            for labels in METRICS:
                for seed in seeds:
                    value = BASE[kind] + 10 * SPREAD[seed % 3] + change(kind, units, labels, seed)
                    rows.append({"encoder": kind, "units": units, "labels per class": labels, "seed": seed, "accuracy": value})
    return table("accuracy", rows)


def judged(accuracy: pd.DataFrame):
    return Features().judge({"accuracy": accuracy})


def cell(accuracy: pd.DataFrame, encoder: str, units: int, labels: str):
    (found,) = (e for e in cells(accuracy, encoder) if (e.where["units"], e.where["labels per class"]) == (str(units), labels))
    return found


def test_a_gain_is_ours_less_theirs_of_the_same_size_seed_by_seed() -> None:
    accuracy = planted(lambda kind, units, labels, seed: (units == 50) * 0.01 * (kind == "PCA"), seeds=(0, 2, 1))
    assert gains(accuracy, "VAE", 2, "10", "PCA") == pytest.approx([0.1] * 3)
    assert gains(accuracy, "VAE", 50, "10", "PCA") == pytest.approx([0.09] * 3)
    assert gains(accuracy, "autoencoder", 50, "all", "untrained encoder") == pytest.approx([0.18] * 3)
    assert gains(accuracy, "VAE", 2, "10", PIXELS) == pytest.approx([-0.1] * 3)


def test_a_gain_everywhere_is_supported_and_says_where_it_is_largest() -> None:
    found = judged(planted(lambda kind, units, labels, seed: 0.05 * (kind == "VAE" and units == 50 and labels == "100")))
    assert found.verdict is Verdict.SUPPORTED
    assert len(found.effects) == 2 * 2 * 4
    largest = max(found.effects, key=lambda e: e.value)
    assert tuple(largest.where.values()) == ("VAE", "50", "100", "PCA") and largest.value == pytest.approx(0.15)
    assert "the VAE gains in 8 of 8 and loses in 0, the autoencoder gains in 8 of 8 and loses in 0" in found.reason


def test_high_accuracy_without_a_gain_is_not_supported() -> None:
    found = judged(planted(lambda kind, units, labels, seed: 0.25 * (kind == "PCA") + 0.01 * SPREAD[seed % 3]))
    assert found.verdict is Verdict.REFUTED
    assert {e.where["smallest gain is over"] for e in found.effects} == {"PCA"}


@pytest.mark.parametrize("baseline", ["PCA", "untrained encoder"])
def test_one_baseline_that_is_better_is_enough_against_it(baseline) -> None:
    accuracy = planted(lambda kind, units, labels, seed: 0.3 * (kind == baseline))
    effect = cell(accuracy, "VAE", 2, "all")
    assert effect.verdict is Verdict.REFUTED
    assert effect.where["smallest gain is over"] == baseline
    assert effect.value == pytest.approx(0.8 - BASE[baseline] - 0.3)


def test_it_depends_where_large_codes_lose() -> None:
    found = judged(planted(lambda kind, units, labels, seed: 0.2 * (kind == "PCA" and units == 50)))
    assert found.verdict is Verdict.CONDITIONAL
    assert {e.where["units"] for e in found.effects if e.verdict is Verdict.SUPPORTED} == {"2"}
    assert {e.where["units"] for e in found.effects if e.verdict is Verdict.REFUTED} == {"50"}


def test_it_depends_where_large_codes_cannot_be_told_from_components() -> None:
    found = judged(planted(lambda kind, units, labels, seed: (0.1 + SPREAD[seed % 3] * 5) * (kind == "PCA" and units == 50)))
    assert found.verdict is Verdict.CONDITIONAL
    assert Verdict.REFUTED not in {e.verdict for e in found.effects if e.where["encoder"] == "VAE"}


def test_one_number_of_labels_that_cannot_be_told_is_not_the_whole_claim() -> None:
    accuracy = planted(lambda kind, units, labels, seed: (0.07 + SPREAD[seed % 3] * 5) * (kind == "PCA" and labels == "all"))
    assert judged(accuracy).verdict is Verdict.CONDITIONAL


LOUD = (-0.02, 0.0, 0.02)


def few_losses(kind: str, units: int, labels: str, seed: int) -> float:
    """Neither encoder gains or loses anything that can be told, but for two cells of the VAE that lose by the unadjusted interval."""
    base = BASE[kind] - BASE["PCA"]
    if kind not in TRAINED:
        return 0.0
    low = kind == "VAE" and units == 50 and labels in ("100", "all")
    return -base + (-0.034 + 2 * SPREAD[seed % 3] if low else LOUD[seed % 3])


def test_two_losses_of_many_before_holm_are_no_verdict_against_the_claim() -> None:
    accuracy = planted(few_losses)
    lost = [e for e in cells(accuracy, "VAE") if e.high is not None and e.high < 0]
    assert {(e.where["units"], e.where["labels per class"]) for e in lost} == {("50", "100"), ("50", "all")}
    assert {e.verdict for e in lost} == {Verdict.INCONCLUSIVE}
    found = judged(accuracy)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_one_encoder_that_loses_leaves_the_other_open() -> None:
    accuracy = planted(lambda kind, units, labels, seed: few_losses(kind, units, labels, seed) - (kind == "VAE") * 5)
    assert (verdict_of(cells(accuracy, "VAE")), verdict_of(cells(accuracy, "autoencoder"))) == (Verdict.REFUTED, Verdict.INCONCLUSIVE)
    found = judged(accuracy)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the VAE gains in 0 of 8 and loses in 8, the autoencoder gains in 0 of 8 and loses in 0" in found.reason


def test_both_that_lose_somewhere_without_a_gain_are_not_supported() -> None:
    def change(kind, units, labels, seed):
        return -0.3 * (kind in TRAINED) if units == 2 else few_losses(kind, units, labels, seed)

    assert {verdict_of(cells(planted(change), kind)) for kind in TRAINED} == {Verdict.REFUTED}
    assert judged(planted(change)).verdict is Verdict.REFUTED


def test_one_encoder_that_gains_somewhere_is_a_condition() -> None:
    accuracy = planted(lambda kind, units, labels, seed: -0.3 * (kind == "VAE" or (kind == "autoencoder" and labels != "10")))
    assert judged(accuracy).verdict is Verdict.CONDITIONAL
    assert verdict_of(cells(accuracy, "VAE")) is Verdict.REFUTED


def test_holm_is_over_the_cells_of_one_encoder() -> None:
    """A gain whose p is between 0.025 / 8 and 0.025 counts alone, and not among eight that are as weak."""
    d = (0.09, 0.10, 0.13)  # t = 8.9, p = 0.006
    accuracy = planted(lambda kind, units, labels, seed: (d[seed] - 0.1) * (kind == "VAE"))
    one = accuracy[accuracy["units"].isin((2, 784)) & (accuracy["labels per class"] == "all")]
    assert [e.verdict for e in cells(one, "VAE")] == [Verdict.SUPPORTED]
    assert {e.verdict for e in cells(accuracy, "VAE")} == {Verdict.INCONCLUSIVE}


def test_missing_baselines_or_nothing_at_all_is_no_verdict() -> None:
    accuracy = planted()
    for kept in ((), ("VAE",), ("VAE", "PCA"), ("PCA", "untrained encoder", PIXELS)):
        found = judged(accuracy[accuracy["encoder"].isin(kept)])
        assert found.verdict is Verdict.INCONCLUSIVE
    assert judged(pd.DataFrame()).verdict is Features().judge({}).verdict is Verdict.INCONCLUSIVE
    vae = judged(accuracy[accuracy["encoder"] != "autoencoder"])
    assert vae.verdict is Verdict.CONDITIONAL
    assert "the autoencoder was not measured" in vae.reason


def test_data_without_labels_are_one_line_before_anything_is_trained(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    monkeypatch.setattr(Lab, "dataset", replace(lab.dataset, labels=None))
    with pytest.raises(UserError, match=r"^data set 'digits' has no labels, which this study needs$"):
        Features().measure(lab)
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("gain", [-0.3, 0.0])
def test_too_few_seeds_are_never_a_verdict(seeds, gain) -> None:
    accuracy = planted(lambda kind, units, labels, seed: gain * (kind in ("VAE", "autoencoder")), seeds=seeds)
    assert judged(accuracy).verdict is Verdict.INCONCLUSIVE


def test_a_gain_within_the_noise_is_inconclusive() -> None:
    accuracy = planted(lambda kind, units, labels, seed: -0.095 * (kind == "VAE") + SPREAD[seed % 3] * 2 * (kind == "PCA"))
    effect = cell(accuracy, "VAE", 2, "10")
    assert effect.verdict is Verdict.INCONCLUSIVE


def test_raw_pixels_have_no_vote() -> None:
    weak, strong = (planted(lambda kind, units, labels, seed, c=c: c * (kind == PIXELS)) for c in (-0.5, 0.0))
    assert min(gains(weak, "VAE", 2, "10", PIXELS)) > 0 > max(gains(strong, "VAE", 2, "10", PIXELS))
    assert judged(weak).verdict is judged(strong).verdict is Verdict.SUPPORTED


def test_the_figure_has_a_panel_for_each_number_of_labels() -> None:
    found = STUDIES["features"]().draw(Findings({"accuracy": planted()}))
    assert [ax.get_title() for ax in found[0].figure.axes] == [*(f"{k} labels per class" for k in (10, 100, 1000)), "all labels"]
    assert "raw pixels" in {text.get_text() for text in found[0].figure.legends[0].get_texts()}


def test_what_has_no_chance_is_probed_with_every_draw_of_labels(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0, 1), Store(tmp_path), torch.device("cpu"))
    asked = {"pca[latent=20]": ("PCA", 20), "pixels": (PIXELS, 64)}
    seen, accuracy = probed(lab.records(list(asked)), asked).values()
    assert set(accuracy["labels per class"]) == {"10", "all"}  # 400 images have no 100 of each class
    few, every = (by_seed(accuracy, "accuracy", encoder="PCA", units=20, **{"labels per class": k}) for k in ("10", "all"))
    assert set(few.index) == set(every.index) == {0, 1}
    assert few[0] != few[1]  # the labelled images are drawn
    assert every[0] == every[1]
    assert (seen["units in use"][0], seen["n"][0]) == (20, 2)
    assert 0.5 < few[0] < every[0] < 1
