"""What is said of the values of estimators, on planted tables: laws, ratios, and whether a sharp peak is the reason."""

from __future__ import annotations

import pytest

from bench.claims.one_sample import estimator_values
from bench.claims.one_sample.estimator_models import STAR
from bench.claims.one_sample.estimator_verdicts import DECIDING, IMAGES, NARROWED, UNITS, checks, peak
from vae_variants.studies import Effect, Table, Verdict


def judge(found: dict[str, Table]) -> tuple[list[Effect], str]:
    """Effects, and all sentences as one text."""
    effects, sentences = estimator_values.judge(found)
    return effects, " ".join(sentences)


def tables(
    seeds: int = 3,
    r: float = 0.03,
    power: float = -1.0,
    z: float = 0.5,
    share: float = 1.2,
    width: float = 4.0,
    first: float = 1.0,
    trace: float = -0.5,
    narrow: float = 2.0,
) -> dict[str, Table]:
    """As `measure` gives them, with the truth written in: r, the slope in K, the bias, the share of the closed form, its power in t.

    And of the peak: rank correlation with the trace of q, variance of a narrow unit over that of a wider one. vae-gaussian is collapsed,
    and what is planted for the others is not true of it.
    """
    spread, batch, biases, bound, images, widths, units = (list[dict[str, object]]() for _ in range(7))
    for seed in range(seeds):
        jitter = 1 + 0.01 * seed
        for name in STAR:
            for age, more in (("early", 2.0), ("final", 1.0)):
                where = {"model": name, "age": age, "seed": seed}
                wide = more * (2.0 if name == "vae-latent-2" else 1.0)
                for letter, factor in (("B, KL in closed form", 1.0), ("A, all sampled", 0.5)):
                    row = {"within (nats²)": 10 * factor, "r": r * wide * factor * jitter, "slope in K": power + 0.01 * (seed - 1)}
                    spread.append({**where, "estimator": letter, **row})
                    biases.append({**where, "estimator": letter, "K": 1, "bias (nats)": z * 0.01, "standard error (nats)": 0.01, "z": z})
                row = {"rank correlation": 0.9 * jitter, "rank correlation with trace of q": trace * jitter, "active units": 2}
                if name == "vae-gaussian":
                    row = {"rank correlation": -0.1, "rank correlation with trace of q": -trace, "active units": 0}
                images.append({**where, "variance / closed form": share * jitter, **row})
            final = {"model": name, "age": "final", "seed": seed}
            for b in (1, 16, 256):
                batch.append({**final, "B": b, "K": 1, "variance (nats²)": 100 * jitter * b**power, "formula (nats²)": 100 / b})
            sums = {"sum there, L_K − L_S (nats)": -19 * first * jitter, "sum there, formula (nats)": -20.0}
            if name != "vae-gaussian-learnt":
                bound += [{**final, "K": 64, "images": 50, "images where it applies": 40, **sums}]
            bound += [{**final, "K": 1, "images": 50, "images where it applies": 0, **dict.fromkeys(sums, 0.0)}]
            widths += [
                {**final, "t": t, "variance (nats²)": jitter * t**width, "closed form (nats²)": t**3.8} for t in (0.25, 0.5, 1.0, 2.0)
            ]
            row = {"variance, narrow (nats²)": narrow * jitter, "variance, wider (nats²)": 1.0, "closed form, narrow (nats²)": 0.45}
            units.append({**final, **(dict.fromkeys(row) if name == "vae-gaussian" else row)})
    rows = {"value_spread": spread, "value_batch": batch, "value_bias": biases, "value_bound": bound}
    rows |= {"sharp_images": images, "sharp_widths": widths, "sharp_units": units}
    return {name: Table.of(name, some) for name, some in rows.items()}


def verdicts(part: str, quantity: str, **planted: float) -> set[Verdict]:
    effects, _ = judge(tables(**planted))  # type: ignore[arg-type]
    found = {e.verdict for e in effects if e.where["part"] == part and quantity in e.where["quantity"]}
    assert found
    return found


YES, NO, UNKNOWN = {Verdict.SUPPORTED}, {Verdict.REFUTED}, {Verdict.INCONCLUSIVE}


def test_what_is_true_is_supported() -> None:
    effects, text = judge(tables())
    told = [e for e in effects if e.where["part"] != "peak" and e.where["quantity"] != "within, B / A"]
    assert not {str(e.where): e.verdict for e in told if e.verdict != Verdict.SUPPORTED}
    assert verdicts("estimators", "B / A") == NO  # A was planted to vary less
    assert "0.061 times" in text and "(vae-latent-2; after one epoch 0.12)" in text  # r = 0.06 there, 0.0606 over the seeds
    assert "2 to 2 times as much as with all sampled in 5 of 5 trained variants (Kingma & Welling expect less)" in text


@pytest.mark.parametrize(
    ("part", "quantity", "planted"),
    [
        ("values", "r = within", {"r": 5.0}),
        ("laws", "variance in K", {"power": -0.8}),
        ("laws", "variance in K", {"power": -1.2}),
        ("laws", "variance in B: ", {"power": -0.8}),
        ("laws", "smallest p", {"z": 5.0}),
        ("laws", "bias of the ELBO of K draws: largest", {"z": 90.0}),
        ("why", "variance / closed", {"share": 0.1}),
        ("why", "exponent", {"width": 2.0}),
        ("estimators", "bias of L_K", {"first": 2.0}),
    ],
)
def test_what_is_false_is_not(part: str, quantity: str, planted: dict[str, float]) -> None:
    assert verdicts(part, quantity, **planted) == NO


def test_two_seeds_are_too_few_for_anything() -> None:
    effects, _ = judge(tables(seeds=2))
    assert {e.verdict for e in effects} == UNKNOWN
    effects, _ = judge(tables(seeds=2, r=5.0))
    assert {e.verdict for e in effects} == UNKNOWN


def test_laws_are_checked_one_by_one() -> None:
    assert checks(judge(tables())[0]) == dict.fromkeys(DECIDING, Verdict.SUPPORTED)
    assert checks([]) == dict.fromkeys(DECIDING, Verdict.INCONCLUSIVE)


def test_the_test_of_the_bias_has_a_verdict_of_its_own() -> None:
    """Biases of half a nat leave their size undecided; a test that sees nothing in them has still been passed."""
    found = tables()
    half = {**found, "value_bias": Table.of("", [{**row, "bias (nats)": 0.5, "z": 0.5} for row in found["value_bias"]])}
    verdicts = checks(judge(half)[0])
    assert verdicts[DECIDING[3]] is Verdict.INCONCLUSIVE and verdicts[DECIDING[4]] is Verdict.SUPPORTED
    large = {**found, "value_bias": Table.of("", [{**row, "bias (nats)": 9.0, "z": 0.5} for row in found["value_bias"]])}
    assert checks(judge(large)[0])[DECIDING[3]] is Verdict.REFUTED and checks(judge(large)[0])[DECIDING[4]] is Verdict.SUPPORTED
    assert checks(judge(tables(seeds=2))[0])[DECIDING[4]] is Verdict.INCONCLUSIVE


# what is planted -> is it because q is a sharp peak
PEAKS = [
    ({"trace": 0.5, "narrow": 0.3}, Verdict.SUPPORTED, "that q is a sharp peak is the reason"),
    ({"trace": 0.5, "narrow": 2.0}, Verdict.REFUTED, "that q is a sharp peak is not the reason"),
    ({"trace": -0.5, "narrow": 0.3}, Verdict.REFUTED, "that q is a sharp peak is not the reason"),
    ({"trace": 0.5, "narrow": 0.3, "width": 0.1}, Verdict.REFUTED, "that q is a sharp peak is not the reason"),
    ({"trace": 0.5, "narrow": 1.0}, Verdict.INCONCLUSIVE, "whether the reason is that q is a sharp peak is undecided"),
    ({"trace": 0.5, "narrow": 0.3, "seeds": 2}, Verdict.INCONCLUSIVE, "is undecided"),
]


@pytest.mark.parametrize(("planted", "answer", "says"), PEAKS)
def test_whether_a_sharp_peak_is_the_reason_is_answered(planted: dict[str, float], answer: Verdict, says: str) -> None:
    if planted["narrow"] == 1.0:
        planted = {**planted, "narrow": 0.99}  # 0.99 to 1.01 over the seeds
    effects, text = judge(tables(**planted))  # type: ignore[arg-type]
    assert peak(effects)[0] is answer and says in text
    assert {e.where["model"] for e in effects if e.where["part"] in ("peak", "why") and "r with" not in e.where["quantity"]} == {
        name
        for name in STAR
        if name != "vae-gaussian"  # collapsed
    }


def test_one_variant_that_says_otherwise_leaves_the_reason_open() -> None:
    found = tables(trace=0.5, narrow=0.3)
    rows = [row | ({"variance, narrow (nats²)": 2.0} if row["model"] == "vae-latent-2" else {}) for row in found["sharp_units"]]
    effects, text = judge({**found, "sharp_units": Table.of("", rows)})
    assert peak(effects)[0] is Verdict.INCONCLUSIVE
    assert (
        "of 4 variants, over images the variance rises with the width of q in 4, narrow units add less variance than wider ones in 3 "
        in text
    )
    assert "(the opposite in 1), and narrowing" in text and "(a narrow unit adds 0.3 to 2 nats², by the closed form 0.45 to 0.45)" in text


def test_without_single_units_nothing_is_decided_for_the_peak() -> None:
    found = tables(trace=0.5, narrow=0.3)
    del found["sharp_units"]
    effects, _ = judge(found)
    assert {e.where["quantity"] for e in effects if e.where["part"] == "peak"} == {IMAGES, NARROWED} != {UNITS}
    assert peak(effects)[0] is Verdict.INCONCLUSIVE


def test_the_bias_of_the_bound_is_told_by_variant_with_what_it_covers() -> None:
    effects, _ = judge(tables())
    mine = [e for e in effects if "bias of L_K" in e.where["quantity"]]
    assert [e.where["model"] for e in mine] == [name for name in STAR if name != "vae-gaussian-learnt"]  # it applies nowhere there
    assert {e.criterion for e in mine} == {"below 0.25; applies to 120 of 300 pairs of image and K"}


def test_tables_without_rows_are_survived() -> None:
    said = "No fully trained model could be measured."
    for found in ({}, {name: Table.of("", []) for name in tables()}):
        assert judge(found) == ([], said)
    for name in tables():
        assert judge({**tables(), name: Table.of("", [])})[0]
