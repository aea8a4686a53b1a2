"""Answers to the textbook's questions, on planted rows."""

from __future__ import annotations

import pytest

from tests.analysis.test_advice import about, entry
from vae_variants.analysis.questions import MOSTLY, NO, OPEN, PARTLY, YES, Answer, answers


def answer(entries, study: str) -> Answer | None:
    return next((found for found in answers(entries) if found.study == study), None)


@pytest.mark.parametrize(("gain", "spread", "verdict"), [(0.2, 0.1, YES), (3.0, 0.1, NO), (1.0, 0.5, OPEN), (-2.0, 0.1, YES)])
def test_one_sample_is_enough_if_more_gain_less_than_a_nat(gain, spread, verdict):
    one, many = (
        entry("vae-bernoulli", {"log_likelihood": [-100.0] * 5}),
        entry("vae-samples-8", {"log_likelihood": about(gain - 100, spread)}),
    )
    assert answer([one, many], "one-sample").verdict == verdict
    assert answer([one, entry("iwae-8", {"log_likelihood": about(-90.0)})], "one-sample") is None, "another objective"
    other = entry("vae-samples-8[latent=5]", {"log_likelihood": about(-90.0)})
    assert answer([one, other], "one-sample") is None, "another size"


def sharp(selector: str, ratio: float, **changes) -> object:
    values = {m: about(ratio, 0.01) for m in ("sharpness_ratio", "high_frequency_ratio")}
    return entry(selector, values | {"noise_ratio": [1.0] * 5} | changes)


def test_vaes_are_blurry_if_all_are_less_sharp_than_real_images():
    soft, crisp, gan = sharp("vae-bernoulli", 0.5), sharp("iwae-8", 1.05), sharp("gan", 0.9)
    assert answer([soft, gan], "blur").verdict == YES and "`gan` has 0.9" in answer([soft, gan], "blur").text
    assert answer([soft, crisp], "blur").verdict == PARTLY
    assert answer([soft, sharp("vae-warm-up", 0.6), crisp], "blur").verdict == MOSTLY
    assert answer([crisp, gan], "blur").verdict == NO
    assert answer([gan], "blur") is None
    assert answer([sharp("vae-bernoulli", 0.5, noise_ratio=[0.1] * 5)], "blur") is None, "noise is no sharpness"


def test_a_trial_or_a_flaw_answers_nothing():
    trial = [entry(v, {"log_likelihood": about(-90.0)}, fidelity="quick") for v in ("vae-bernoulli", "vae-samples-8")]
    assert answers(trial) == []
    assert answer([sharp("vae-bernoulli", 0.5, active_units=[0.0] * 5)], "blur") is None
