"""Variance of gradients: verdicts on planted tables."""

from __future__ import annotations

import pytest

from bench.claims.one_sample import estimator_gradients
from bench.claims.one_sample.estimator_gradients import COSINE, KS, OBJECTIVE_NAMES, PREDICTIONS
from bench.claims.one_sample.estimator_models import STAR
from vae_variants.studies import Effect, Table, Verdict


def judge(found: dict[str, Table]) -> tuple[list[Effect], str]:
    """Effects, and all sentences as one text."""
    effects, sentences = estimator_gradients.judge(found)
    return effects, " ".join(sentences)


def tables(seeds: int = 3, best: float = 0.8, slopes: dict[tuple[str, str], float] | None = None) -> dict[str, Table]:
    """As `measure` gives them, with the best K and the powers of K of the SNR written in."""
    truth = {("iwae", "encoder"): -0.3, **(slopes or {})}
    spreads, ratios = list[dict[str, object]](), list[dict[str, object]]()
    for seed in range(seeds):
        jitter = 1 + 0.02 * seed
        for network in ("encoder", "decoder", "both", "log-scale head"):
            for age in ("early", "final"):
                for name in STAR:
                    row = {"model": name, "age": age, "seed": seed, "network": network}
                    spreads.append({**row, "r": best**2, "K*": best * jitter, COSINE: 0.9})
                for objective in OBJECTIVE_NAMES:
                    power = truth.get((objective, network), 0.3) + 0.01 * (seed - 1)
                    row = {"age": age, "seed": seed, "objective": objective, "network": network}
                    ratios += [{**row, "K": k, "SNR²": (0.5 * jitter * k**power) ** 2} for k in KS]
    return {"gradient_spread": Table.of("spread", spreads), "gradient_snr": Table.of("signal", ratios)}


def test_what_is_true_is_supported() -> None:
    effects, text = judge(tables())
    assert {e.verdict for e in effects} == {Verdict.SUPPORTED}
    assert len([e for e in effects if e.where["part"] == "gradients"]) == 2 * 2 * len(STAR)
    assert "39% to 39% in the encoder's gradient and 39% to 39% in the decoder's" in text  # 0.64 / 1.64
    assert "Of 30 expectations of gradients 30 held and 0 failed." in text


@pytest.mark.parametrize(("objective", "network"), list(PREDICTIONS))
def test_a_slope_of_the_other_sign_is_not(objective: str, network: str) -> None:
    other = 0.3 if (objective, network) == ("iwae", "encoder") else -0.3
    effects, _ = judge(tables(slopes={(objective, network): other}))
    against = [e for e in effects if e.verdict == Verdict.REFUTED]
    assert len(against) == 2 and all(f"{objective}, {network}" in e.where["quantity"] for e in against)
    assert all(e.value == pytest.approx(64 ** (2 * other), rel=0.1) for e in against)


def test_a_best_k_above_one_is_not() -> None:
    effects, _ = judge(tables(best=3.0))
    assert {e.verdict for e in effects if e.where["part"] == "gradients"} == {Verdict.REFUTED}


def test_two_seeds_are_too_few_for_anything() -> None:
    for best in (0.1, 30.0):
        effects, _ = judge(tables(seeds=2, best=best))
        assert {e.verdict for e in effects} == {Verdict.INCONCLUSIVE}


def test_seeds_without_a_signal_are_left_out() -> None:
    found = tables()
    rows = [row if row["seed"] else {**row, "SNR²": -0.01 if row["K"] == 1 else 0.2} for row in found["gradient_snr"]]
    effects, _ = judge({**found, "gradient_snr": Table.of("signal", rows)})
    assert {e.verdict for e in effects if e.where["part"] == "signal"} == {Verdict.INCONCLUSIVE}


def without(found: dict[str, Table], seeds: tuple[int, ...], **where: str) -> dict[str, Table]:
    """The same, where K* and r of these seeds cannot be measured in the rows of `where`."""

    def lost(row: dict[str, object]) -> bool:
        return row["seed"] in seeds and all(row[name] == value for name, value in where.items())

    rows = [{**row, "K*": None, "r": None} if lost(row) else row for row in found["gradient_spread"]]
    return {**found, "gradient_spread": Table.of("spread", rows)}


@pytest.mark.parametrize("best", [0.1, 30.0])
def test_a_seed_without_a_best_k_leaves_its_row_open(best: float) -> None:
    """Its r is too large to be measured: the mean of the others is too small, whatever it is."""
    where = {"model": STAR[0], "age": "final", "network": "encoder"}
    effects, _ = judge(without(tables(seeds=10, best=best), (4,), **where))
    mine = [e for e in effects if e.where["part"] == "gradients"]
    (row,) = (e for e in mine if e.verdict == Verdict.INCONCLUSIVE)
    assert row.where == {"part": "gradients", "quantity": "best K for the encoder", "model": STAR[0], "age": "final"}
    assert (row.n, "1 of 10 seeds without a K*" in row.criterion) == (9, True)
    assert len(mine) == 2 * 2 * len(STAR)


def test_a_row_without_any_best_k_is_still_an_expectation() -> None:
    effects, text = judge(without(tables(), (0, 1, 2), model=STAR[0], age="final", network="encoder"))
    assert len(effects) == 29 and "Of 30 expectations of gradients 29 held and 0 failed." in text
    assert "39% to 100% in the encoder's gradient" in text  # endless draws take all of it away


def test_the_reason_says_how_many_expectations_held_and_which_failed() -> None:
    _, text = judge(tables(best=3.0))
    assert "Of 30 expectations of gradients 10 held and 20 failed (two draws beat one for the encoder of latent-2 (early), " in text
    assert "two draws beat one for the decoder of" in text and "90% to 90% in the encoder's gradient" in text
    _, text = judge(tables(slopes={("dreg", "encoder"): -0.3}))
    assert text.endswith("28 held and 2 failed (K = 64 / K = 1: dreg, encoder (early), (final)).")


def test_the_value_stands_beside_the_gradients() -> None:
    values = [{"model": name, "age": "final", "seed": 0, "estimator": "B, KL in closed form", "r": 0.25} for name in STAR]
    _, text = judge({**tables(), "value_spread": Table.of("values", values)})
    assert "20% to 20% in its ELBO, 39% to 39% in the encoder's gradient and" in text


def test_nothing_measured_is_nothing_said() -> None:
    for found in ({}, {name: Table.of("", []) for name in tables()}):
        assert judge(found) == ([], "No gradient could be measured.")
    half = {**tables(), "gradient_snr": Table.of("", [])}
    assert "Of 20 expectations" in judge(half)[1]
