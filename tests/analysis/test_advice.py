"""Which variant for this data: on planted tables, where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.made_up import made_up
from vae_variants.analysis.advice import TITLE, Advice, Choice, advise
from vae_variants.analysis.entries import Entry
from vae_variants.analysis.statistics import LEAST_SEEDS
from vae_variants.harness import RunSpec
from vae_variants.report.content import content, figure
from vae_variants.report.readme import readme
from vae_variants.variants import configure

BINARY = "Likelihood and compression, binary pixels"
SIZES = {"train": 60_000, "validation": 10_000, "test": 10_000}


def entry(selector: str, values: dict[str, list[float]] | None = None, *, seeds: int = 5, sizes=SIZES, **changes) -> Entry:
    """A made-up run with those values, one for each seed, instead of what chance gave it; None takes the metric away."""
    (configuration,) = configure(selector)
    record = made_up(RunSpec(configuration, "digits", tuple(range(seeds)), "full"))
    given = values or {}
    rows = [r | {"value": given[r["metric"]][r["seed"]] if r["metric"] in given else r["value"]} for r in record.rows]
    return Entry(selector, replace(record, rows=rows, dataset=record.dataset | {"sizes": sizes}, **changes))


def about(mean: float, spread: float = 0.1, seeds: int = 5, turn: int = 0) -> list[float]:
    return (mean + spread * np.random.default_rng(turn).standard_normal(seeds)).tolist()


def found(advice: Advice, purpose: str) -> Choice:
    (choice,) = [c for c in advice.choices if c.purpose == purpose]
    return choice


def likelihoods(**means: float) -> list[Entry]:
    return [entry(label.replace("_", "-"), {"log_likelihood": about(m, turn=i)}) for i, (label, m) in enumerate(means.items())]


def test_a_clear_winner_is_named_with_its_lead_over_the_default():
    entries = likelihoods(vae_bernoulli=-100.0, iwae_8=-95.0, beta_vae_4=-110.0)
    choice = found(advise(entries), BINARY)
    assert (choice.verdict, choice.best, choice.baseline) == ("told", ("iwae-8",), "vae-bernoulli")
    difference = [a - b for a, b in zip(about(-95.0, turn=1), about(-100.0, turn=0), strict=True)]
    assert choice.gain.mean == pytest.approx(np.mean(difference))
    assert choice.gain.low < 5.0 < choice.gain.high + 0.5
    assert "significantly better than all 2 others" in choice.text
    assert "better than the default `vae-bernoulli` by 5" in choice.text
    assert "5 common seeds" in choice.text
    assert "(≥ −94.98 ± 0.11)" in choice.text


def test_where_lower_is_better_a_gain_is_positive_and_also_a_share():
    values = {"vae-bernoulli": 0.040, "vae-latent-20": 0.030, "ae": 0.050}
    entries = [entry(v, {"reconstruction_mse": about(m, 1e-4, turn=i)}) for i, (v, m) in enumerate(values.items())]
    choice = found(advise(entries), "Reconstruction")
    assert choice.best == ("vae-latent-20",)
    assert 0 < choice.gain.low < 0.010 < choice.gain.high < 0.011
    assert "(25 %)" in choice.text


SEEDS = st.dictionaries(st.integers(0, 4), st.floats(-200, -50).map(lambda x: round(x, 1)), min_size=2, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(SEEDS, min_size=3, max_size=3))
@example([{0: -92.0, 1: -93.1, 2: -94.05}, {0: -90.0, 1: -91.0, 2: -92.0, 3: -130.0, 4: -131.0}, {0: -95.0, 1: -96.0, 2: -97.0}])
@example([{0: -60.0, 1: -140.0, 2: -130.0}, {0: -50.0, 1: -51.0, 2: -52.0}, {0: -60.0, 1: -61.0, 2: -62.1}])  # a noisy default
@example([{0: -50.0, 1: -50.0, 2: -76.0}, {0: -50.0, 1: -50.0, 2: -50.0}, {0: -50.0, 1: -50.0, 2: -50.0}])  # a default that is set aside
def test_the_advice_never_contradicts_the_difference_it_shows(tables):
    names = ("vae-bernoulli", "iwae-8", "beta-vae-4")
    choice = found(advise([planted(name, table) for name, table in zip(names, tables, strict=True)]), BINARY)
    assert choice.verdict in ("told", "tied", "open", "none")
    if choice.verdict not in ("told", "tied") or choice.gain is None:
        return
    best, base = (tables[names.index(label)] for label in (choice.best[0], choice.baseline))
    common = sorted(base.keys() & best.keys())
    difference = [best[s] - base[s] for s in common]
    assert choice.gain.mean == pytest.approx(np.mean(difference))
    assert len(common) < LEAST_SEEDS or choice.gain.mean >= 0
    if "better than the default" in choice.text.replace("not significantly better than the default", ""):
        assert choice.gain.low > 0


def planted(selector: str, values: dict[int, float]) -> Entry:
    """A made-up run whose log p(x) has those values, by seed, and no other figure."""
    e = DEFAULTS.setdefault(selector, entry(selector))
    rows = [r | {"value": values[r["seed"]]} for r in e.record.rows if r["metric"] == "log_likelihood" and r["seed"] in values]
    return Entry(selector, replace(e.record, rows=rows))


DEFAULTS: dict[str, Entry] = {}


def test_a_tie_is_no_win():
    entries = likelihoods(vae_bernoulli=-100.0, iwae_8=-100.02, beta_vae_4=-100.01)
    choice = found(advise(entries), BINARY)
    assert choice.verdict == "tied"
    assert set(choice.best) == {"vae-bernoulli", "iwae-8", "beta-vae-4"}
    assert "has the best mean; statistically tied with all 2 others" in choice.text
    assert "better than the default" not in choice.text.replace("not significantly better than the default", "")


def test_a_default_that_cannot_be_told_from_the_best_is_not_said_to_be_beaten():
    entries = likelihoods(vae_bernoulli=-100.0, iwae_8=-99.99, beta_vae_4=-110.0)
    choice = found(advise(entries), BINARY)
    assert set(choice.best) == {"vae-bernoulli", "iwae-8"}
    assert "statistically tied with `" in choice.text
    assert ("It is not significantly better than the default" in choice.text) != ("It is the default" in choice.text)


@pytest.mark.parametrize("seeds", [1, LEAST_SEEDS - 1])
def test_few_seeds_carry_no_verdict_however_far_apart(seeds):
    entries = [
        entry(v, {"log_likelihood": about(m, seeds=seeds, turn=i)}, seeds=seeds)
        for i, (v, m) in enumerate([("vae-bernoulli", -100.0), ("iwae-8", -50.0)])
    ]
    advice = advise(entries)
    choice = found(advice, BINARY)
    assert (choice.verdict, choice.best, choice.gain) == ("open", (), None)
    assert choice.text.startswith("No verdict. `iwae-8` (≥ −") and "has the highest mean" in choice.text
    assert advice.few.startswith("No variant is called best: a verdict needs 3 seeds per run, and these have")
    assert {c.verdict for c in advice.choices} <= {"open", "measured", "none"}
    assert "better than" not in choice.text


@pytest.mark.parametrize("fidelity", ["smoke", "quick", "quick[bound_samples=20]"])
def test_a_trial_carries_no_verdict(fidelity):
    entries = [entry(v, {"log_likelihood": about(m)}, fidelity=fidelity) for v, m in (("vae-bernoulli", -100.0), ("iwae-8", -50.0))]
    advice = advise(entries)
    assert found(advice, BINARY).verdict == "open"
    assert f"preset {fidelity.partition('[')[0]}" in found(advice, BINARY).text
    assert "--fidelity full" in advice.limits[0].text


def test_kinds_of_pixels_are_never_held_against_each_other():
    advice = advise([*likelihoods(vae_bernoulli=-100.0, iwae_8=-90.0), *likelihoods(vae_gaussian=500.0, vae_linear=600.0)])
    assert found(advice, BINARY).best == ("iwae-8",)
    real = found(advice, "Likelihood, continuous pixels on the real line")
    assert (real.best, real.baseline) == (("vae-linear",), "vae-gaussian")
    assert "`vae-gaussian` (the first row without a flaw)" in real.text
    assert "not a file size" in real.text
    assert "not photographs" in found(advice, BINARY).text


def test_a_single_variant_of_its_kind_is_no_choice():
    advice = advise([*likelihoods(vae_bernoulli=-100.0, iwae_8=-90.0), *likelihoods(vae_gaussian=500.0)])
    real = found(advice, "Likelihood, continuous pixels on the real line")
    assert real.verdict == "none"
    assert "there is no choice" in real.text


def test_failed_runs_are_said_and_those_that_lived_are_judged():
    dead = entry("beta-vae-4", status=dict.fromkeys("01234", "error"))
    dead = replace(dead, record=replace(dead.record, rows=[]))
    half = entry("vae-free-bits", {"log_likelihood": about(-120.0)}, status={s: "ok" if s == "0" else "oom" for s in "01234"})
    half = replace(half, record=replace(half.record, rows=[r for r in half.record.rows if r["seed"] == 0]))
    advice = advise([*likelihoods(vae_bernoulli=-100.0, iwae_8=-90.0), dead, half])
    choice = found(advice, BINARY)
    assert choice.best == ("iwae-8",)
    assert "Not compared, with fewer than 3 seeds: `vae-free-bits`" in choice.text
    (line,) = [str(limit) for limit in advice.limits if "failed" in limit.text]
    assert "`beta-vae-4` (5 of 5 seeds) and `vae-free-bits` (4 of 5 seeds)" in line


def test_where_all_failed_there_is_nothing_to_go_by():
    dead = replace(entry("vae-bernoulli").record, rows=[], status=dict.fromkeys("01234", "oom"))
    advice = advise([Entry("vae-bernoulli", dead)])
    assert {c.verdict for c in advice.choices} == {"none"}
    assert all("No evidence" in c.text for c in advice.choices)


def test_without_labels_it_says_why_codes_cannot_be_judged_and_samples_are_by_their_spectrum():
    def unlabelled(e: Entry) -> Entry:
        reason = "the data set has no labels"
        gone = {"probe_accuracy", "fd-digitscnn"}
        rows = [r | {"value": None, "status": "skipped", "reason": reason} if r["metric"] in gone else r for r in e.record.rows]
        return replace(e, record=replace(e.record, rows=rows))

    advice = advise([unlabelled(e) for e in likelihoods(vae_bernoulli=-100.0, iwae_8=-90.0)])
    codes = found(advice, "Latents for classification")
    assert (codes.verdict, codes.text) == ("none", "No evidence: the data set has no labels.")
    samples = found(advice, "Samples")
    assert samples.metric == "spectral_distance"
    assert "Without labels" in samples.text


def test_rows_that_were_not_trained_are_for_scale_and_never_chosen():
    entries = [
        entry("vae-bernoulli", {"probe_accuracy": about(0.80, 0.002)}),
        entry("ae", {"probe_accuracy": about(0.90, 0.002, turn=1)}),
        entry("reference-pixels", {"probe_accuracy": about(0.95, 0.0)}),
    ]
    choice = found(advise(entries), "Latents for classification")
    assert choice.best == ("ae",)
    assert "Baseline: `reference-pixels` (95" in choice.text
    assert "which no variant reaches" in choice.text
    assert "percentage points" in choice.text


def test_one_autoencoder_under_two_names_is_no_rival_of_itself():
    values = {"reconstruction_mse": about(0.03, 1e-4), "probe_accuracy": about(0.9, 1e-3)}
    entries = [entry("vae-bernoulli", {"reconstruction_mse": about(0.04, 1e-4, turn=1)}), entry("ae", values), entry("ae-gmm", values)]
    choice = found(advise(entries), "Reconstruction")
    assert (choice.verdict, choice.best) == ("told", ("ae",))
    assert "`ae-gmm` is the model of `ae`" in choice.text and "the other one" in choice.text
    wider = [entry("ae", values), entry("ae-gmm[latent=5]", values), entries[0]]
    assert found(advise(wider), "Reconstruction").verdict == "tied", "equal by chance: another model"
    unlike = values | {"reconstruction_mse": about(0.05, 1e-4)}
    entries = [entry("ae", values), entry("ae-gmm", unlike), entry("vae-bernoulli", {"probe_accuracy": about(0.8, 1e-3)})]
    text = found(advise(entries), "Latents for classification").text
    assert "is the model of" not in text, "so few test images have equal accuracies by chance"


def test_a_throughput_under_that_of_single_images_is_marked_and_never_the_fastest():
    speeds = {"encode_images_per_second": [5000.0] * 5, "encode_latency": [0.018] * 5}
    slow = {"encode_images_per_second": [4000.0] * 5, "encode_latency": [1.0] * 5}
    entries = [entry("ae", speeds), entry("vae-bernoulli", slow), entry("made", slow | {"encode_images_per_second": [10.0] * 5})]
    assert "fastest to encode is `vae-bernoulli`" in found(advise([*entries, entry("iwae-8", slow)]), "Speed").text
    assert figure(entries[0], "encode_images_per_second").text.startswith("busy: ")
    assert figure(entries[1], "encode_images_per_second").text == "4 000"


def test_a_mean_over_fewer_seeds_than_the_row_has_says_so():
    e = entry("ae", {"probe_accuracy": [0.9, 0.8, None, 0.9, None]})
    assert figure(e, "probe_accuracy").text.endswith("(n = 3)")
    assert "n =" not in figure(e, "reconstruction_mse").text


def test_speed_is_measured_and_not_tested():
    times = {"vae-bernoulli": 1000.0, "ae": 2000.0, "fvbn": 10.0}
    names = ("sample_images_per_second", "encode_images_per_second")
    entries = [entry(v, {name: [t] * 5 for name in names} | {"train_seconds": [5 * t] * 5}) for v, t in times.items()]
    choice = found(advise(entries), "Speed")
    assert (choice.verdict, choice.gain) == ("measured", None)
    assert "fastest to encode is `ae` (2 000 images/s; 2.0 times as fast as `vae-bernoulli`)" in choice.text
    assert "fastest to train is `fvbn` (50 s for all seeds; 100.0 times as fast as `vae-bernoulli`)" in choice.text


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        ([1020.0] * 5, "about as fast as"),
        ([900.0, 1500.0, 1510.0, 1520.0, 2000.0], "1.5 times as fast as"),
        ([900.0, 950.0, 1300.0, 1310.0, 1320.0], "about as fast as"),
    ],
)
def test_what_noise_explains_is_no_factor_of_speed(mine, words):
    theirs = [900.0, 990.0, 1000.0, 1010.0, 1300.0]
    entries = [entry(v, {"encode_images_per_second": t}) for v, t in (("vae-bernoulli", theirs), ("ae", mine))]
    text = found(advise(entries), "Speed").text
    assert f"fastest to encode is `ae` ({int(sorted(mine)[2]):,} images/s; {words} `vae-bernoulli`)".replace(",", " ") in text
    assert "1.0 times" not in text


def test_small_data_and_one_length_of_training_are_said():
    sizes = {"train": 358, "validation": 71, "test": 100}
    entries = [entry(v, {"probe_accuracy": about(a, 0.0)}, sizes=sizes) for v, a in (("vae-bernoulli", 0.5), ("ae", 0.8))]
    text = " ".join(map(str, advise(entries).limits))
    assert "358 training images" in text
    assert "100 test images" in text
    assert "One image is 1 percentage points" in text
    assert "±4.0" in text  # 100 sqrt(0.8 * 0.2 / 100)
    assert "One training length" in text
    large = " ".join(map(str, advise(likelihoods(vae_bernoulli=-1.0, iwae_8=-2.0)).limits))
    assert "test images" not in large
    assert "training images" not in large


def test_the_page_has_it():
    entries = likelihoods(vae_bernoulli=-100.0, iwae_8=-95.0)
    page = readme(content("mine", entries, "vae-variants bench mine"), [])
    before, section = page.split(f"## {TITLE}\n")
    assert "## Likelihood" not in before
    section = section.split("\n## ")[0]
    assert all(f"- **{c.purpose}.** {c.text}" in section for c in advise(entries).choices)
    assert all(f"- {limit}" in section for limit in advise(entries).limits)


def test_it_is_a_pure_function_whatever_the_order_of_rows():
    entries = likelihoods(vae_bernoulli=-100.0, iwae_8=-95.0, beta_vae_4=-95.01)
    turned = [replace(e, record=replace(e.record, rows=e.record.rows[::-1])) for e in entries]
    assert advise(entries) == advise(turned) == advise(entries)
