"""The study of sampling speed: the samplers that it times, the work that it counts, and what it makes of planted times."""

from __future__ import annotations

import math

import pytest
import torch

from bench.claims.sampling_speed import (
    KEPT,
    NAIVE,
    SLOW,
    VAE_NAME,
    SamplingSpeed,
    Way,
    bound,
    crossing,
    linear_weights,
    multiply_adds_kept,
    ratios,
    row,
    speeds,
    timed,
    ways,
    whole_passes,
)
from vae_variants.harness import Store
from vae_variants.models.base import MODELS
from vae_variants.models.fvbn import FVBN
from vae_variants.models.made import MADE
from vae_variants.studies import Findings, Lab, Table, Verdict
from vae_variants.variants import build, configure

SHAPE = (1, 2, 5)
BATCHES = (1, 16, 256)


def planted(naive, kept, repeats: int = 4) -> Table:
    """Times of one call: the VAE takes 1 ms for any batch (more in later turns, as do the others), others so many times that."""
    rows = []
    for repeat in range(repeats):
        for batch in BATCHES:
            load = 1e-3 * (1 + 0.2 * repeat) * (1 + 0.01 * (-1) ** repeat)
            rows.append({"sampler": VAE_NAME, "batch": batch, "repeat": repeat, "seconds": 1e-3 * (1 + 0.2 * repeat)})
            for name, times in [*((n, naive(batch)) for n in NAIVE), *((n, kept(batch)) for n in KEPT)]:
                if times is not None:
                    rows.append({"sampler": name, "batch": batch, "repeat": repeat, "seconds": times * load})
    return Table.of("times", rows, folded=True)


def scoring(exact: float = 1.0, each: float = 0.4) -> Table:
    rows = [row("MADE", None, repeat, exact, -97.0, 100) for repeat in range(3)]
    rows += [row(VAE_NAME, k, repeat, each * (1 + k), -100.0, 100 * k) for k in (1, 2, 4, 8) for repeat in range(3)]
    return Table.of("scoring", rows)


def judged(times: Table):
    return SamplingSpeed().judge({"times": times, "scoring": scoring()})


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


@pytest.mark.parametrize("chunk", [1, 7, 4000])
def test_the_bound_is_a_log_mean_of_weights_for_each_image(chunk, tiny) -> None:
    model = build(configure("vae[hidden=6,latent=2]")[0], tiny).double()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        x = tiny.as_(model.support).test[:3].double()
        k = max(chunk, 50)
        torch.testing.assert_close(bound(model, x, k, chunk), torch.full((3,), -10 * math.log(2), dtype=torch.float64))
        list(model.encoder.modules())[-1].bias[:2] = 0.5  # q is no longer the prior: weights differ, their mean does not
        found = bound(model, x, 4000, max(chunk, 400))
    torch.testing.assert_close(found, torch.full((3,), -10 * math.log(2), dtype=torch.float64), atol=0.06, rtol=0)  # mean of logs: 0.25 off


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
    table = speeds(every, rows)
    assert table[1]["batch 64"] is None
    assert table[1]["batch 16"] == pytest.approx(10 / SLOW)
    assert table[0]["batch 64"] == pytest.approx(1e6)


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
    assert "60 times at 1 at a time and 3.75 times at 256" in found.reason


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
    empty, whole = Table("", (), ()), planted(lambda b: 500.0, lambda b: 60.0)
    assert SamplingSpeed().judge({}).verdict is Verdict.INCONCLUSIVE
    assert SamplingSpeed().judge({"times": empty, "scoring": empty}).verdict is Verdict.INCONCLUSIVE
    for left_out in (VAE_NAME, *NAIVE, *KEPT):
        part = Table("", whole.columns, tuple(row for row in whole.rows if row[0] != left_out))
        assert SamplingSpeed().judge({"times": part, "scoring": empty}).verdict is Verdict.INCONCLUSIVE
    alone = SamplingSpeed().judge({"times": whole, "scoring": empty})
    assert alone.verdict is Verdict.SUPPORTED
    for rows in (scoring().where(model="MADE"), scoring().where(model=VAE_NAME)):
        assert SamplingSpeed().judge({"times": whole, "scoring": Table.of("", rows)}).reason == alone.reason
    assert judged(whole).reason.count(". ") == 2


def test_the_bound_is_dearer_from_where_it_takes_longer() -> None:
    assert "costs more from K = 2 on, and 3.6 times as much at K = 8" in crossing(scoring())
    assert "costs less at every K" in crossing(scoring(exact=10.0))


def test_the_figure_has_a_curve_for_each_sampler() -> None:
    found = Findings({"times": planted(lambda b: 500.0 if b < 256 else None, lambda b: 60.0), "scoring": scoring()})
    (picture,) = SamplingSpeed().draw(found)
    left, right = picture.figure.axes
    assert {line.get_label(): len(line.get_xdata()) for line in left.lines} == {
        VAE_NAME: 3,
        **dict.fromkeys(NAIVE, 2),
        **dict.fromkeys(KEPT, 3),
    }
    assert len(right.lines) == 2


def test_it_measures_every_sampler_and_scores_by_every_model(tmp_path) -> None:
    lab = Lab("digits", "smoke", (0,), Store(tmp_path), torch.device("cpu"))
    found = SamplingSpeed().measure(lab).tables
    assert [row["sampler"] for row in found["speed"]] == [VAE_NAME, NAIVE[0], KEPT[0], NAIVE[1], KEPT[1]]
    assert len(found["times"].rows) == 5 * 2 * 3
    assert len(SamplingSpeed().judge(found).effects) == 4 * 2
    model = lab.models(lab.configurations("fvbn")[0], (0,))[0]
    exact = model.log_prob(lab.evaluation(model, 0).test[:100]).mean().item()
    assert [row["log p(x) or bound, nats"] for row in found["scoring"].where(model="FVBN")] == pytest.approx([exact] * 3, rel=1e-5)
    bounds = [found["scoring"].where(model=VAE_NAME, draws=k)[0]["log p(x) or bound, nats"] for k in (1, 10)]
    assert bounds[0] < bounds[1]
    assert found["scoring"].where(model=VAE_NAME, draws=10)[0]["multiply-adds per image"] == (64 * 64 + 64 * 40) + 10 * (20 * 64 + 64 * 64)
