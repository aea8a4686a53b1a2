"""The study of blur: three measures that have to agree, a control for noise, and where the blur comes from."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from bench.claims.blur import (
    BATTERY,
    EPOCHS,
    LENGTHS,
    MEASURED,
    Blur,
    causes,
    contest,
    decoded,
    differences,
    lengths,
    relative_sharpness,
    staged,
)
from vae_variants.evaluation import Evaluation, fidelity
from vae_variants.harness import Record, Store
from vae_variants.registry import UserError
from vae_variants.studies import Findings, Lab, Verdict, table
from vae_variants.training.loop import Training
from vae_variants.training.population import Population
from vae_variants.variants import build, configure

REAL = {"sharpness_ratio": 1.0, "high_frequency_ratio": 1.0, "blur_sigma": 0.0, "noise_ratio": 0.97, "coverage": 0.96}
SHARP = {"sharpness_ratio": 0.9, "high_frequency_ratio": 0.8, "blur_sigma": 0.1, "noise_ratio": 0.95, "coverage": 0.5}
SOFT = {"sharpness_ratio": 0.4, "high_frequency_ratio": 0.5, "blur_sigma": 0.6, "noise_ratio": 1.1, "coverage": 0.6}
NOISE = {"sharpness_ratio": 7.0, "high_frequency_ratio": 4.0, "blur_sigma": 0.0, "noise_ratio": 0.4, "coverage": 0.5}
TWICE = {**SHARP, "sharpness_ratio": 1.1}


def planted(variants, seeds=(0, 1, 2), stages=None) -> dict[str, pd.DataFrame]:
    """Measures of variants, each a little off in each seed; `stages`: epochs -> the GAN after so many, of which 8 are the suite's."""
    rows, trained = [], []
    for label, found in {"reference-data": REAL, **variants}.items():
        for seed in seeds:
            value = {name: found.get(name) for name in MEASURED}
            shift = 0.01 * (seed - 1) * (1 if label != "gan" else -1)
            rows.append({"variant": label, "seed": seed, **{k: v if v is None else v + shift for k, v in value.items()}})
    for epochs, found in (stages or {}).items():
        for seed in seeds:
            measured = {name: found[name] - 0.01 * (seed - 1) for name in MEASURED}
            trained.append({EPOCHS: epochs, "of the suite's": epochs / 8, "seed": seed, **measured})
    return {"seeds": table("all", rows), "lengths": table("lengths", trained)}


def without(tables: dict[str, pd.DataFrame], metric: str, variant: str, seeds=(0, 1, 2)) -> dict[str, pd.DataFrame]:
    """The same tables with no value of a metric for some seeds of a variant."""
    found = tables["seeds"].copy()
    found.loc[(found["variant"] == variant) & found["seed"].isin(seeds), metric] = None
    return {**tables, "seeds": found}


def test_blurrier_by_all_three_is_supported_and_says_why() -> None:
    found = Blur().judge(planted({"vae-a": SOFT, "vae-b": SOFT, "gan": SHARP}))
    assert found.verdict is Verdict.SUPPORTED
    assert len(found.effects) == 6
    assert {e.where["measure"]: e.value for e in found.effects} == pytest.approx(
        {"sharpness_ratio": -0.5, "high_frequency_ratio": -0.3, "blur_sigma": 0.5}
    )
    assert "2 of 2 VAEs are blurrier than the GAN (vae-a and vae-b)" in found.reason


def test_as_sharp_as_the_gan_is_not_blurrier() -> None:
    assert Blur().judge(planted({"vae-a": SHARP, "gan": SOFT})).verdict is Verdict.REFUTED


@pytest.mark.parametrize("measure", ["sharpness_ratio", "high_frequency_ratio", "blur_sigma"])
def test_each_of_the_three_measures_has_a_veto(measure) -> None:
    gan = {**SHARP, measure: 2 * SOFT[measure] - SHARP[measure]}  # as far on the other side
    found = Blur().judge(planted({"vae-a": SOFT, "gan": gan}))
    assert found.verdict is Verdict.REFUTED
    assert [e.where["measure"] for e in found.effects if e.verdict is Verdict.REFUTED] == [measure]


def test_sharpness_that_is_noise_proves_nothing() -> None:
    found = Blur().judge(planted({"vae-a": SOFT, "gan": NOISE}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert {e.verdict for e in found.effects} == {Verdict.INCONCLUSIVE}
    assert "the sharpness of the GAN is noise in 3 of 3 seeds (noise control down to 0.39" in found.reason


def test_a_vae_that_is_noise_refutes_nothing() -> None:
    found = Blur().judge(planted({"vae-a": NOISE, "vae-b": SOFT, "gan": SHARP}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert {e.verdict for e in found.effects if e.where["variant"] == "vae-b"} == {Verdict.SUPPORTED}
    assert "nothing can be said of vae-a, since the sharpness of vae-a is noise in 3 of 3 seeds" in found.reason


@pytest.mark.parametrize(
    ("metric", "variant", "said"),
    [
        ("coverage", "gan", "coverage of the GAN"),
        ("noise_ratio", "gan", "noise control of the GAN could not be measured"),
        ("noise_ratio", "vae-a", "noise control of vae-a could not be measured"),
        ("sharpness_ratio", "gan", "sharpness of the GAN could not be measured"),
        ("sharpness_ratio", "vae-a", "sharpness of vae-a could not be measured"),
    ],
)
@pytest.mark.parametrize("seeds", [(0, 1, 2), (1,)])
@pytest.mark.parametrize(("vae", "gan"), [(SOFT, SHARP), (SHARP, SOFT)])
def test_a_control_that_is_missing_is_not_passed(metric, variant, said, seeds, vae, gan) -> None:
    whole = planted({"vae-a": vae, "gan": gan})
    assert Blur().judge(whole).verdict in (Verdict.SUPPORTED, Verdict.REFUTED)
    found = Blur().judge(without(whole, metric, variant, seeds))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert said in found.reason
    assert {e.verdict for e in found.effects} == {Verdict.INCONCLUSIVE}


@pytest.mark.parametrize("metric", ["high_frequency_ratio", "blur_sigma"])
def test_a_vae_that_lacks_a_measure_leaves_the_claim_open(metric) -> None:
    tables = planted({"vae-a": SOFT, "vae-b": SOFT, "gan": SHARP})
    assert Blur().judge(without(tables, metric, "vae-b")).verdict is Verdict.INCONCLUSIVE


def test_nothing_measured_is_no_verdict() -> None:
    for tables in ({}, {"seeds": pd.DataFrame(), "lengths": pd.DataFrame()}, planted({"gan": SHARP})):
        assert Blur().judge(tables).verdict is Verdict.INCONCLUSIVE
    assert Blur().judge({"seeds": planted({"vae-a": SOFT, "gan": SHARP})["seeds"]}).verdict is Verdict.SUPPORTED


def test_the_verdict_is_that_of_the_suites_length_and_effects_show_the_others() -> None:
    def by_length(found) -> dict[str, set[Verdict]]:
        verdicts: dict[str, set[Verdict]] = {}
        for e in found.effects:
            if "GAN trained for" in e.where:
                verdicts.setdefault(e.where["GAN trained for"], set()).add(e.verdict)
        return verdicts

    found = Blur().judge(planted({"vae-a": SOFT, "vae-b": SOFT, "gan": SHARP}, stages={2: SHARP, 4: SHARP, 8: SHARP, 16: NOISE}))
    supported = {f"{n} epochs": {Verdict.SUPPORTED} for n in (2, 4, 8)}
    assert found.verdict is Verdict.SUPPORTED and by_length(found) == {**supported, "16 epochs": {Verdict.INCONCLUSIVE}}
    assert [e.where["variant"] for e in found.effects if e.where.get("GAN trained for") == "16 epochs"] == ["vae-a", "vae-b"]
    late = Blur().judge(planted({"vae-a": SOFT, "gan": NOISE}, stages={4: SHARP, 8: NOISE, 16: {**SHARP, "coverage": 0.02}}))
    assert late.verdict is Verdict.INCONCLUSIVE
    assert list(by_length(late).values()) == [{Verdict.SUPPORTED}, {Verdict.INCONCLUSIVE}, {Verdict.INCONCLUSIVE}]
    early = Blur().judge(planted({"vae-a": SOFT, "gan": SHARP}, stages={4: {**SHARP, "sharpness_ratio": 0.2}, 8: SHARP}))
    assert early.verdict is Verdict.SUPPORTED and list(by_length(early).values()) == [{Verdict.REFUTED}, {Verdict.SUPPORTED}]


def test_a_stage_stands_in_the_place_of_the_gan() -> None:
    tables = planted({"vae-a": SOFT, "gan": SHARP}, stages={8: SHARP, 16: TWICE})
    same, later = (contest(staged(tables["seeds"], tables["lengths"], n), ["vae-a"]) for n in (8, 16))
    assert [e.value for e in same.effects] == pytest.approx([e.value for e in contest(tables["seeds"], ["vae-a"]).effects])
    assert later.effects[0].value == pytest.approx(SOFT["sharpness_ratio"] - 1.1)


def test_a_gan_of_the_suites_length_is_scored_as_in_its_record(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0, 1), Store(tmp_path), torch.device("cpu"))
    record = lab.records(["gan"])["gan"]
    rows = lengths(lab, record)
    epochs = record.configuration.recipe.epochs
    assert {row[EPOCHS] for row in rows} == {max(1, round(share * epochs)) for share in LENGTHS}
    assert [row["seed"] for row in rows if row["of the suite's"] == 1] == [0, 1]
    for row in rows:
        same = [row[name] == record.value(name, row["seed"]) for name in MEASURED]
        assert all(same) if row[EPOCHS] == epochs else not all(same)


def test_a_shorter_training_at_a_constant_rate_is_a_stage_of_a_longer_one(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    short, long = (lab.configurations("gan")[0].with_defaults(epochs=n, decay="constant") for n in (1, 3))
    population = Population(lambda: build(long, lab.dataset), (0,), lab.device)
    training = Training(population, lab.dataset.as_(long.support), long.recipe, lab.dataset.digest)
    training.run_epoch()
    assert training.average is not None
    training.average.swap()  # a training that ends here has these weights
    stage, whole = next(iter(population.members())).state_dict(), lab.models(short, (0,))[0].state_dict()
    assert all(torch.equal(stage[name], whole[name]) for name in whole)


def test_data_without_labels_are_one_line_before_anything_is_trained(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    monkeypatch.setattr(Lab, "dataset", replace(lab.dataset, labels=None))
    with pytest.raises(UserError, match=r"^data set 'digits' has no labels, which this study needs$"):
        Blur().measure(lab)
    lab.dataset = replace(lab.dataset, labels={"train": torch.zeros(400, dtype=torch.long)})
    with pytest.raises(UserError, match="labels of one class only"):
        Blur().measure(lab)
    assert not list(tmp_path.rglob("record.json"))


def test_one_noisy_seed_is_enough() -> None:
    tables = planted({"vae-a": SOFT, "gan": SHARP})
    changed = tables["seeds"].copy()
    changed.loc[(changed["variant"] == "gan") & (changed["seed"] == 2), "noise_ratio"] = 0.5
    assert Blur().judge({**tables, "seeds": changed}).verdict is Verdict.INCONCLUSIVE


def test_a_gan_that_shows_one_image_is_no_gan_to_compare_with() -> None:
    found = Blur().judge(planted({"vae-a": SOFT, "gan": {**SHARP, "coverage": 0.02}}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "only 2.0% of the real images" in found.reason


def test_it_depends_on_the_vae() -> None:
    sharper = {**SHARP, "sharpness_ratio": 1.1, "high_frequency_ratio": 1.1, "blur_sigma": -0.3}
    found = Blur().judge(planted({"vae-a": SOFT, "vae-b": sharper, "gan": SHARP}))
    assert found.verdict is Verdict.CONDITIONAL
    assert "1 of 2 VAEs are blurrier than the GAN (vae-a), and by at least one 1 is not (vae-b)" in found.reason


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize(("vae", "gan"), [(SOFT, SHARP), (SHARP, SOFT)])
def test_too_few_seeds_are_never_a_verdict(seeds, vae, gan) -> None:
    assert Blur().judge(planted({"vae-a": vae, "gan": gan}, seeds)).verdict is Verdict.INCONCLUSIVE


def test_differences_pair_the_seeds() -> None:
    rows = [
        {"variant": v, "seed": s, "x": x} for v, s, x in [("a", 0, 1.0), ("a", 1, 5.0), ("gan", 1, 2.0), ("gan", 0, 0.5), ("gan", 7, 9.0)]
    ]
    assert differences(table("", rows), "x", "a") == [0.5, 3.0]


def test_relative_sharpness_goes_with_the_square_of_the_contrast() -> None:
    real = torch.rand(50, 64, dtype=torch.float64)
    assert relative_sharpness(0.5 * real, real, (1, 8, 8)) == pytest.approx(0.25)
    assert relative_sharpness(real + 3 * (real > 0.999), real, (1, 8, 8)) == pytest.approx(1.0, rel=0.05)  # clamped


def test_a_draw_from_q_is_its_mean_where_q_is_a_point(digits) -> None:
    model = build(configure("vae[hidden=8,latent=3]")[0], digits).eval()
    with torch.no_grad():
        list(model.encoder.modules())[-1].bias[3:] = -30.0  # log s
        at_mean, at_draw = decoded(Evaluation(model, digits, 0, fidelity("smoke")))
        torch.testing.assert_close(at_mean, at_draw, atol=1e-5, rtol=0)
        list(model.encoder.modules())[-1].bias[3:] = 1.0
        wide_mean, wide_draw = decoded(Evaluation(model, digits, 0, fidelity("smoke")))
    assert len(wide_draw) == len(digits.test)
    torch.testing.assert_close(wide_mean, at_mean, atol=1e-5, rtol=0)
    assert (wide_draw - wide_mean).abs().mean() > 1e-3


def test_causes_are_measured_for_each_seed(tmp_path, digits) -> None:
    lab = Lab("digits", "smoke", (0, 1), Store(tmp_path), torch.device("cpu"))
    (configuration,) = lab.configurations("vae-gaussian[hidden=8]")
    record = Record("k", "vae-gaussian", dict(configuration.values), {"name": "digits"}, "real", "smoke", [0, 1], {"0": "ok", "1": "ok"})
    rows = causes(lab, "vae-gaussian", record)
    assert [row["seed"] for row in rows] == [0, 1]
    for row, (seed, model) in zip(rows, lab.models(configuration, (0, 1)).items(), strict=True):
        e = lab.evaluation(model, seed)
        assert row["samples"] == pytest.approx(relative_sharpness(e.sample_means, lab.dataset.grey(), (1, 8, 8)))
        assert row["at the mean code"] == pytest.approx(relative_sharpness(e.reconstructions, lab.dataset.grey(), (1, 8, 8)), rel=1e-4)


def test_the_figure_shows_every_variant_and_the_gan_at_each_length() -> None:
    tables = planted({"vae-a": SOFT, "gan": SHARP}, stages={2: SHARP, 4: SHARP, 8: SHARP})
    (picture,) = Blur().draw(Findings(tables))
    panels = picture.figure.axes
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ["gan", "vae-a", "real images"]
    assert [list(line.get_xdata()) for line in panels[-1].lines if len(line.get_xdata()) > 2] == [[2, 4, 8]]
    assert len(Blur().draw(Findings({"seeds": tables["seeds"]}))) == 1


def test_the_limits_of_a_panel_hold_every_bar() -> None:
    wide = planted({"vae-a": SOFT, "gan": SHARP})["seeds"]
    for metric in BATTERY:
        wide[metric] += 3.0 * (wide["seed"] - 1) * (wide["variant"] == "gan")
    for ax in Blur().draw(Findings({"seeds": wide}))[0].figure.axes:
        low, high = ax.get_xlim()
        ends = [x for bars in ax.collections for segment in bars.get_segments() for x in segment[:, 0]]
        assert not ends or low < min(ends) <= max(ends) < high
