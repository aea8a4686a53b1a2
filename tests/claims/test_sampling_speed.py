"""The study of sampling speed: the samplers that it times, the work that it counts, and what it makes of planted times."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from bench.claims.sampling_speed import (
    KEPT,
    NAIVE,
    SLOW,
    VAE_NAME,
    SamplingSpeed,
    Way,
    linear_weights,
    multiply_adds_kept,
    ratios,
    timed,
    ways,
    whole_passes,
)
from vae_variants.harness import Store
from vae_variants.models.base import MODELS
from vae_variants.models.fvbn import FVBN
from vae_variants.models.made import MADE
from vae_variants.studies import Findings, Lab, Verdict, table
from vae_variants.variants import build, configure

SHAPE = (1, 2, 5)
BATCHES = (1, 16, 256)


def planted(naive, kept, repeats: int = 4) -> pd.DataFrame:
    """Times of one call: the VAE takes 1 ms for any batch (more in later turns, as do the others), others so many times that."""
    rows = []
    for repeat in range(repeats):
        for batch in BATCHES:
            load = 1e-3 * (1 + 0.2 * repeat) * (1 + 0.01 * (-1) ** repeat)
            rows.append({"sampler": VAE_NAME, "batch": batch, "repeat": repeat, "seconds": 1e-3 * (1 + 0.2 * repeat)})
            for name, times in [*((n, naive(batch)) for n in NAIVE), *((n, kept(batch)) for n in KEPT)]:
                if times is not None:
                    rows.append({"sampler": name, "batch": batch, "repeat": repeat, "seconds": times * load})
    return table("times", rows)


def judged(times: pd.DataFrame):
    return SamplingSpeed().judge({"times": times})


def test_whole_passes_draw_the_same_images() -> None:
    model = MODELS["fvbn"](SHAPE).double()
    assert isinstance(model, FVBN)
    with torch.no_grad():
        model.weight.copy_(2 * torch.randn(10, 10))
        model.bias.copy_(torch.randn(10))
        torch.manual_seed(3)
        kept = model.sample(500)
        torch.manual_seed(3)
        assert torch.equal(whole_passes(model, 500), kept)
    assert 0.05 < kept.mean() < 0.95


def test_multiply_adds_are_counted_by_hand() -> None:
    made = MADE(SHAPE, hidden=(7, 5))
    assert linear_weights(made) == 10 * 7 + 7 * 5 + 5 * 10
    assert multiply_adds_kept(made) == 10 * (7 + 7 * 5 + 5)
    one = MADE(SHAPE, hidden=(7,))
    assert multiply_adds_kept(one) == linear_weights(one)  # no more than a single pass


def test_every_way_has_its_depth_and_work(tiny) -> None:
    vae, fvbn, made = (build(configure(s)[0], tiny) for s in ("vae[hidden=6,latent=3]", "fvbn", "made[hidden=7]"))
    found = {way.name: way for way in ways(vae, fvbn, made)}
    assert {name: way.depth for name, way in found.items()} == {VAE_NAME: 1, **dict.fromkeys((*NAIVE, *KEPT), 10)}
    assert found[VAE_NAME].multiply_adds == 3 * 6 + 6 * 10
    assert [found[name].multiply_adds for name in (*NAIVE, *KEPT)] == [1000, 10 * 140, 100, 140]
    with torch.no_grad():
        assert all(way.draw(4).shape == (4, 10) for way in found.values())
    with torch.no_grad():
        draws = []
        for name in (NAIVE[1], KEPT[1]):
            torch.manual_seed(0)
            draws.append(found[name].draw(50))
    assert torch.equal(*draws)


def test_a_slow_sampler_ends_and_stays_away() -> None:
    calls = []

    def draw(name, per):
        def one(n):
            calls.append((name, n))
            return per * n

        return one

    every = [Way("quick", draw("quick", 1e-6), 1, 5), Way("slow", draw("slow", SLOW / 10), 9, 7)]
    rows = timed(every, (64, 1, 16), 2, lambda work: work())
    assert calls == 2 * [("quick", 1), ("slow", 1), ("quick", 16), ("slow", 16), ("quick", 64)]
    assert [r["repeat"] for r in rows] == [0] * 5 + [1] * 5
    assert [r["seconds"] for r in rows[:5]] == pytest.approx([1e-6, SLOW / 10, 16e-6, 1.6 * SLOW, 64e-6])


def test_ratios_are_above_one_where_the_vae_is_faster_and_pair_the_turns() -> None:
    times = planted(lambda b: 30.0, lambda b: 0.5)
    assert ratios(times, NAIVE[0], 16) == pytest.approx([30.3, 29.7, 30.3, 29.7])
    assert ratios(times, KEPT[1], 1) == pytest.approx([0.505, 0.495, 0.505, 0.495])


def test_faster_everywhere_is_supported() -> None:
    found = judged(planted(lambda b: 500.0 / b**0.5, lambda b: 60.0 / b**0.5))
    assert found.verdict is Verdict.SUPPORTED
    assert len(found.effects) == 4 * len(BATCHES)
    assert "between 31.2 times" in found.reason
    assert "and 500 times" in found.reason
    kept = [e.value for e in found.effects if e.where["VAE against"] == KEPT[1]]
    assert (kept[0], kept[-1]) == (pytest.approx(60, rel=1e-3), pytest.approx(3.75, rel=1e-3))


def test_faster_but_not_ten_times_is_not_supported() -> None:
    assert judged(planted(lambda b: 500.0 / b, lambda b: 60.0)).verdict is Verdict.REFUTED


def test_what_is_too_slow_to_be_timed_does_not_count() -> None:
    found = judged(planted(lambda b: 500.0 if b < 256 else None, lambda b: 60.0))
    assert found.verdict is Verdict.SUPPORTED
    assert {e.where["batch"] for e in found.effects if e.where["VAE against"] in NAIVE} == {"1", "16"}


def test_it_depends_on_the_sampler() -> None:
    found = judged(planted(lambda b: 500.0, lambda b: 60.0 / b))
    assert found.verdict is Verdict.CONDITIONAL
    assert {e.where["batch"] for e in found.effects if e.verdict is Verdict.REFUTED} == {"256"}


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("naive", [500.0, 2.0])
def test_too_few_repeats_are_never_a_verdict(repeats, naive) -> None:
    assert judged(planted(lambda b: naive, lambda b: 0.5, repeats)).verdict is Verdict.INCONCLUSIVE


def test_n_counts_repeats_of_one_model_and_says_so() -> None:
    found = judged(planted(lambda b: 500.0, lambda b: 60.0))
    assert {(e.n, e.of) for e in found.effects} == {(4, "repeats of one model, no seeds")}
    assert "a timing has no seeds" in SamplingSpeed.criterion
    assert "a timing has no seeds" in (SamplingSpeed.__doc__ or "")


def test_nothing_or_not_everything_timed_is_not_supported() -> None:
    whole = planted(lambda b: 500.0, lambda b: 60.0)
    assert judged(whole).verdict is Verdict.SUPPORTED
    assert SamplingSpeed().judge({}).verdict is judged(pd.DataFrame()).verdict is Verdict.INCONCLUSIVE
    for left_out in (VAE_NAME, *NAIVE, *KEPT):
        assert judged(whole[whole["sampler"] != left_out]).verdict is Verdict.INCONCLUSIVE


def test_the_figure_has_a_curve_for_each_sampler() -> None:
    found = Findings({"times": planted(lambda b: 500.0 if b < 256 else None, lambda b: 60.0)})
    (picture,) = SamplingSpeed().draw(found)
    assert {line.get_label(): len(line.get_xdata()) for line in picture.figure.axes[0].lines} == {
        VAE_NAME: 3,
        **dict.fromkeys(NAIVE, 2),
        **dict.fromkeys(KEPT, 3),
    }


def test_it_measures_every_sampler(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    found = SamplingSpeed().measure(lab).tables
    assert list(found["work"]["sampler"]) == [VAE_NAME, NAIVE[0], KEPT[0], NAIVE[1], KEPT[1]]
    assert found["work"]["multiply-adds per image"][0] == 20 * 64 + 64 * 64
    assert len(found["times"]) == 5 * 2 * 3 and found["times"]["seconds"].min() > 0
    assert len(SamplingSpeed().judge(found).effects) == 4 * 2
