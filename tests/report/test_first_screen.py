"""The first screen: who wins, by how much, what is left out, and what may win nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.test_page import COMMAND, Read, entries, failed
from vae_variants.analysis.entries import Entry, trained
from vae_variants.analysis.formatting import number
from vae_variants.report import Claim
from vae_variants.report.content import Content, content
from vae_variants.report.first_screen import UNITS, Screen, first_screen, matching
from vae_variants.report.html import page


def with_value(entry: Entry, **values: float) -> Entry:
    """The same with a metric of that value at every seed, a little apart."""
    rows = [r | {"value": values[r["metric"]] + 1e-3 * r["seed"]} if r["metric"] in values else r for r in entry.record.rows]
    return replace(entry, record=replace(entry.record, rows=rows))


@pytest.fixture(scope="module")
def found() -> Content:
    """One variant is clearly the best by log p(x), but what has no active unit is better still."""
    group = entries(16)
    dead = with_value(group[0], log_likelihood=-1.0, reconstruction_mse=0.0, active_units=0.0)
    best = with_value(group[2], log_likelihood=-10.0, reconstruction_mse=0.5, probe_accuracy=2.0)
    return content("digits", [dead, group[1], best, *group[3:], failed(group[0])], COMMAND, ["not-run"])


@pytest.fixture(scope="module")
def screen(found: Content) -> Screen:
    return first_screen(found)


def test_winners_are_trained_and_sound_and_their_margins_are_paired_differences(found, screen):
    known, seen = {e.label: e for e in found.entries}, 0
    metrics = {"Likelihood": "log_likelihood", "Reconstruction": "reconstruction_mse", "Latents": "probe_accuracy"}
    for card in screen.cards:
        for line in card.lines:
            if line.label and (metric := metrics.get(card.title)):
                first = known[line.label]
                assert trained(first) and first.sound(metric)
                if line.margin:
                    difference = first.compared(metric, known[line.behind]).difference
                    scale, unit = UNITS[metric][2], UNITS[metric][1]
                    assert line.margin.removesuffix(unit).lstrip("−") == number(difference, scale=scale).lstrip("−")
                    seen += 1
    assert seen > 1
    (likelihood,) = [card for card in screen.cards if card.title == "Likelihood"]
    assert likelihood.lines[0].label == "vae-2" and not likelihood.lines[0].tied


def test_what_failed_or_is_flagged_is_named_with_the_reason(found, screen):
    groups = {group.kind: dict(group.rows) for group in screen.trouble}
    assert groups["flagged: can win nothing"]["vae-0"].startswith("no active unit")
    assert groups["failed"] == {"failed-lost": "error: lost"} and "not-run" in groups["missing"]
    flagged = {label for group in screen.trouble for label, _ in group.rows}
    assert {e.label for e in found.entries if e.flaws} <= flagged


@pytest.mark.parametrize(
    ("preset", "place", "fits"), [("full", "digits", True), ("full", "digits (quick)", False), ("quick", "digits", False)]
)
def test_claims_of_another_preset_are_left_out_with_a_word(preset, place, fits):
    group = [replace(e, record=replace(e.record, fidelity=preset)) for e in entries(4)]
    claim = Claim("blur", "Samples are blurred.", "✔ supported", "They are.", place, "../claims/digits-blur.md")
    text = Read(page(content("digits", group, COMMAND), [], [claim])).text
    assert ("✔ supported" in text) == fits
    assert (f"at another preset than this page ({place}) are left out" in text) == (not fits)
    assert matching([place], "digits", [preset]) == [fits]
    assert matching([place], "mnist", [preset]) == matching([place], "digits", [preset, "thorough"]) == [False]
