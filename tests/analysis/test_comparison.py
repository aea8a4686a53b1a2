"""Two reports beside each other: planted changes, each with what is said of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vae_variants.analysis.comparison import COMPARED, Changes, brief, compare
from vae_variants.analysis.statistics import t_test, welch

SEEDS = 5
METRICS = {  # name -> unit, better, kind
    "elbo": ("nats", "higher", "lower-bound"),
    "log_likelihood": ("nats", "higher", "exact"),
    "reconstruction_mse": ("squared grey per pixel", "lower", "measurement"),
    "rate": ("nats", "none", "exact"),
    "train_seconds": ("s", "lower", "measurement"),
}


def frame(variants: tuple[str, ...] = ("a", "b", "c"), seeds: int = SEEDS) -> pd.DataFrame:
    chance = np.random.default_rng(0)
    rows = [
        (v, "digits", "binary", seed, m, chance.normal(10, 0.1), *METRICS[m], "ok", "CPU (2 threads)", f"run-{v}", "full", "d" * 64, "", "")
        for v in variants
        for m in METRICS
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=COMPARED)


def changed(table: pd.DataFrame, variant: str, metric: str, by: float, noise: float = 0.01) -> pd.DataFrame:
    table = table.copy()
    here = (table.variant == variant) & (table.metric == metric)
    table.loc[here, "value"] += by + np.random.default_rng(1).normal(0, noise, int(here.sum()))
    return table


def kinds(found: Changes, *left_out: str) -> dict[tuple[str, str], str]:
    return {(row.variant, row.metric): row.kind for row in found.rows if row.kind not in ("unchanged", *left_out)}


def test_nothing_changed() -> None:
    found = compare(frame(), frame())
    assert not found.worse and found.tests == 0 and {row.kind for row in found.rows} == {"unchanged"}
    assert len(found.rows) == 3 * len(METRICS)


@pytest.mark.parametrize(
    ("metric", "by", "kind"),
    [
        ("elbo", 1.0, "better"), ("elbo", -1.0, "worse"), ("reconstruction_mse", 1.0, "worse"), ("reconstruction_mse", -1.0, "better"),
        ("rate", 1.0, "changed"), ("rate", -1.0, "changed"), ("elbo", 1e-6, "unchanged"),
    ],
)  # fmt: skip
def test_a_shift_is_told_in_the_metrics_direction(metric: str, by: float, kind: str) -> None:
    found = compare(frame(), changed(frame(), "b", metric, by, noise=0.01 if abs(by) > 0.1 else 0.0))
    assert kinds(found) == ({} if kind == "unchanged" else {("b", metric): kind})
    assert found.worse == (kind == "worse")
    if kind != "unchanged":
        (row,) = found.of(kind)
        assert row.after is not None and row.before is not None and row.difference is not None and row.p is not None
        assert row.after - row.before == pytest.approx(row.difference.mean) == pytest.approx(by, abs=0.02)
        assert row.p < 0.05 and row.difference.n == SEEDS


def test_seeds_are_paired() -> None:
    """A shift of a hundredth of the spread over seeds, the same at each: seen by pairs alone."""
    before = frame()
    assert kinds(compare(before, changed(before, "b", "elbo", -0.001, noise=0.0))) == {("b", "elbo"): "worse"}
    mixed = changed(before, "b", "elbo", -0.001, noise=0.0)
    here = (mixed.variant == "b") & (mixed.metric == "elbo")
    mixed.loc[here, "value"] = mixed.loc[here, "value"].to_numpy()[::-1]
    assert kinds(compare(before, mixed)) == {}


def test_what_is_looked_at_together_is_adjusted_together() -> None:
    names = tuple(f"v{i}" for i in range(400))
    before, after = frame(names), frame(names)
    after["value"] += np.random.default_rng(2).normal(0, 0.1, len(after))
    found = compare(before, after)
    assert found.tests == 4 * len(names)  # timings are not tested
    assert len(found.of("worse", "better", "changed")) <= 2
    alone = [t_test(list(after.value[i : i + SEEDS] - before.value[i : i + SEEDS])) for i in range(0, len(after), SEEDS)]
    assert sum(p < 0.05 for p in alone) > 50, "so many would be called different one by one"
    perhaps = found.of("perhaps")
    assert 50 < len(perhaps) < 200 and all(row.p >= 0.05 for row in perhaps)
    assert not found.worse and not any(row.difference.low <= 0 <= row.difference.high for row in perhaps)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_cannot_tell_and_show_the_plain_difference(seeds: int) -> None:
    found = compare(frame(seeds=seeds), changed(frame(seeds=seeds), "b", "elbo", -5.0))
    assert kinds(found) == {("b", "elbo"): "cannot tell"} and not found.worse
    (row,) = found.of("cannot tell")
    assert row.note == f"no verdict under 3 seeds: {seeds} in common" and row.p is None and row.difference is not None
    assert row.difference.mean == pytest.approx(-5.0, abs=0.05) == row.after - row.before  # type: ignore[operator]
    assert (row.difference.low, row.difference.high, row.difference.n) == (None, None, seeds)


def test_other_seeds_are_compared_by_welch() -> None:
    before, after = frame(("a",)), changed(frame(("a",)), "a", "elbo", -2.0, noise=0.1)
    after["seed"] += 100
    found = compare(before, after)
    assert kinds(found, "advice", "altered") == {("a", "elbo"): "worse"} and "unpaired" in found.of("worse")[0].note
    x, y = np.random.default_rng(3).normal(0, 1, 6), np.random.default_rng(4).normal(0.5, 3, 4)
    difference, p = welch(list(x), list(y))
    known = stats.ttest_ind(x, y, equal_var=False)
    assert p == pytest.approx(known.pvalue)
    assert (difference.low, difference.high) == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_what_came_went_failed_and_was_mended() -> None:
    before, after = frame(("a", "b", "c", "gone")), frame(("a", "b", "c", "new"))
    failed = after[(after.variant == "b") & (after.seed == 3)].iloc[:1].assign(metric="", value=None, status="oom")
    after = pd.concat([after[(after.variant != "b") | (after.seed != 3)], failed])
    before = pd.concat([before[(before.variant != "c") | (before.seed != 1)], failed.assign(variant="c", seed=1, status="diverged")])
    after = after[(after.variant != "a") | (after.metric != "rate")]
    after.loc[(after.variant == "a") & (after.metric == "elbo") & (after.seed == 0), ["value", "status"]] = [None, "error"]
    found = compare(before, after)
    told = {("a", "rate"): "removed", ("a", "elbo"): "failed", ("b", ""): "failed", ("c", ""): "mended", ("gone", ""): "removed"}
    assert kinds(found) == told | {("new", ""): "added"}
    assert found.worse
    assert [row.note for row in found.of("failed", "mended")] == ["error at 1 seed", "seed 3: oom", "seed 1: diverged"]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("support", "real", "different pixel type: binary before, real after"),
        ("data", "e" * 64, "different images: digest dddddddddddd before, eeeeeeeeeeee after"),
        ("fidelity", "smoke", "different preset: full before, smoke after"),
    ],
)
def test_what_is_not_the_same_is_not_compared(column: str, value: str, words: str) -> None:
    after = changed(frame(), "b", "elbo", -5.0)
    after.loc[after.variant == "b", column] = value
    found = compare(frame(), after)
    assert kinds(found) == {("b", ""): "not compared"} and not found.worse
    assert found.of("not compared")[0].note == words
    assert kinds(compare(frame(), after.assign(**{column: ""}))) == {("b", "elbo"): "worse"}, "what is not known does not differ"


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, []),
        ({"options": "epochs=50, latent=20"}, ["epochs: 25 before, 50 after"]),
        ({"options": "epochs=25, latent=20, k=v, decay=cosine"}, ["decay: constant before, cosine after", "k: unset before, v after"]),
        ({"code": "other", "run": "run-d"}, ["other sources: fingerprint today before, other after"]),
        ({"code": "", "run": "run-d"}, ["other sources: run run-b before, run-d after"]),
        ({"code": "", "run": "run-d", "options": ""}, ["other sources or options: run run-b before, run-d after"]),
        ({"seed": 1}, ["seeds: 0, 1, 2, 3, 4 before, 1, 2, 3, 4, 5 after"]),
        (
            {"seed": 1, "options": "epochs=25, latent=2", "run": "run-d"},
            ["latent: 20 before, 2 after", "seeds: 0, 1, 2, 3, 4 before, 1, 2, 3, 4, 5 after"],
        ),
    ],
)
def test_another_run_under_the_same_name_is_said(changes: dict[str, str | int], notes: list[str]) -> None:
    before = frame().assign(options="epochs=25, latent=20", code="today")
    after = before.copy()
    for column, value in changes.items():
        here = after.variant == "b"
        after.loc[here, column] = after.loc[here, "seed"] + value if column == "seed" else value
    found = compare(before, after)
    assert [(row.variant, row.note) for row in found.of("altered")] == [("b", note) for note in notes]
    assert found.tests == (4 if "seed" in changes else 0) and not found.worse, "and it is compared all the same"


def test_sources_that_are_others_throughout_are_one_line() -> None:
    names = tuple("abcdefg")
    before = frame(names).assign(code="x", options="epochs=25")
    after = before.assign(code="y")
    after.loc[after.variant == "c", "options"] = "epochs=50"
    rows = compare(before, after).of("altered")
    assert len(rows) == len(names) + 1
    assert [(row.variant, row.note) for row in brief(rows)] == [
        ("c", "epochs: 25 before, 50 after"),
        ("7 variants", "other sources before and after"),
    ]
    assert brief(rows[:3]) == rows[:3]


def test_a_bound_is_not_compared_with_an_exact_value() -> None:
    after = changed(frame(), "b", "log_likelihood", -5.0)
    after.loc[(after.variant == "b") & (after.metric == "log_likelihood"), "kind"] = "lower-bound"
    found = compare(frame(), after)
    assert kinds(found) == {("b", "log_likelihood"): "not compared"} and not found.worse
    assert "exact in nats before, lower-bound in nats after" in found.of("not compared")[0].note


def test_timings_are_advice_on_one_device_alone() -> None:
    after = changed(frame(), "b", "train_seconds", 5.0)
    found = compare(frame(), after)
    assert kinds(found) == {("b", "train_seconds"): "advice"} and not found.worse
    assert "× 1.49, medians" in found.of("advice")[0].note
    share = changed(frame(), "b", "log_likelihood", 5.0)
    for table in (before := frame(), share):
        table["metric"] = table.metric.replace({"log_likelihood": "train_product_share"})
    assert kinds(compare(before, share)) == {("b", "train_product_share"): "advice"}
    found = compare(frame(), after.assign(device="another"))
    assert kinds(found) == {("", "timings and memory"): "not compared"} and not found.worse
