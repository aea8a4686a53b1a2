"""What a report judges, and what it does not: verdicts take three seeds, and codes that carry nothing are called so."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.drawn import bold, described, entries, labelled, panels
from vae_variants.analysis.advice import advise
from vae_variants.analysis.cards import cards
from vae_variants.analysis.entries import Entry, best
from vae_variants.models.likelihoods import LIKELIHOODS
from vae_variants.report.content import Content, content
from vae_variants.report.figures import drawings
from vae_variants.report.html import page
from vae_variants.report.overview import overview
from vae_variants.report.readme import readme

TAKES = "a verdict needs 3 seeds"
BOLD = re.compile("statistically tied with the best|significantly different from the best|cannot be told from")


def apart(entry: Entry, by: float) -> Entry:
    """The same with all of its values further from those of others than their seeds are from each other."""
    return replace(entry, record=replace(entry.record, rows=[row | {"value": by * row["value"]} for row in entry.record.rows]))


def group(seeds: int, variants: int = 16) -> list[Entry]:
    return [apart(e, 1.0 + i) for i, e in enumerate(entries(variants, tuple(range(seeds))))]


def marked(found: Content) -> list[str]:
    """Whatever says of a variant that it is best, in the tables, the page, the Markdown and the plots."""
    drawn, first = drawings(found.entries), overview(found)
    text, markdown = page(found), readme(found, ["samples"])
    said = ["a cell" for sheet in (*found.likelihood, *found.sheets) for _, cells in sheet.rows for cell in cells if cell.best]
    said += ["a cell of the summary" for g in first.groups for _, cells in g.rows for cell, _ in cells if cell.best]
    said += ["the best of a column" for _ in first.best]
    said += ["bold in the page" for _ in re.findall(r"<td[^>]*><b>", text)]
    said += ["bold in Markdown" for line in markdown.splitlines() if line.startswith("| `") and "**" in line]
    said += ["bold is explained" for words in (text, markdown, *(each.caption for each in drawn)) if BOLD.search(words)]
    for each in drawn:
        for title, ax in panels(each.figure).items():
            said += [f"bold in {each.name}, {title}" for _ in bold(ax)]
            said += [f"a clear difference in {each.name}" for _ in labelled(ax.patches, "clear")]
            said += [f"{each.name} in words" for _ in BOLD.findall(described(ax))]
    return said


@pytest.mark.parametrize("seeds", [1, 2])
def test_under_three_seeds_nothing_is_called_best_and_it_is_said_once_why(seeds):
    found = content("mine", group(seeds), "vae-variants bench mine")
    assert marked(found) == []
    assert {choice.verdict for choice in found.advice.choices} == {"open", "measured"}
    assert not any(choice.best for choice in found.advice.choices if choice.verdict == "open")
    for text in (page(found), readme(found, [])):
        assert text.count(TAKES) == 1
        assert not re.search(r"significantly better|better than the default|has the best mean", text)


def test_with_three_seeds_it_is_judged():
    found = content("mine", group(3), "vae-variants bench mine")
    assert {said.partition(" in ")[0] for said in marked(found)} >= {"a cell", "the best of a column", "bold", "bold is explained"}
    assert found.advice.few == ""
    assert TAKES not in page(found) + readme(found, [])


def test_a_variant_of_two_seeds_that_shines_is_not_judged_among_others():
    full = group(3, 24)
    binary = [e for e in full if e.record.support == "binary" and len(e.values("log_likelihood")) > 2]
    record = binary[0].record
    short = replace(record, key="short", seeds=[0, 1], status={"0": "ok", "1": "ok"}, rows=[r for r in record.rows if r["seed"] < 2])
    scaled = [r | {"value": 1e-3 * r["value"]} if r["unit"] == "nats" else r for r in short.rows]
    shining = Entry("shining", replace(short, rows=scaled))
    together = [*binary, shining]
    assert best(together, "log_likelihood") == best(binary, "log_likelihood") != []
    assert best([shining, binary[0]], "log_likelihood") == [], "one that could be judged has nothing to be held against"
    advice = advise(together)
    assert advice.few == ""
    assert "Not compared, with fewer than 3 seeds: `shining`" in advice.choices[0].text
    assert all("shining" not in choice.best for choice in advice.choices if choice.verdict != "measured")
    assert "shining" not in {e.label for b in overview(content("mine", together, "")).best for e in b.entries}


def test_runs_that_are_but_trials_are_not_judged():
    found = content("mine", [replace(e, record=replace(e.record, fidelity="smoke")) for e in group(3)], "")
    assert {choice.verdict for choice in found.advice.choices} == {"open", "measured"}
    assert not overview(found).best
    assert not [cell for sheet in (*found.likelihood, *found.sheets) for _, cells in sheet.rows for cell in cells if cell.best]


def blurred(entry: Entry, by: float, noise_ratio: float = 1.0) -> Entry:
    values = {"blur_sigma": by, "noise_ratio": noise_ratio, "sharpness_ratio": 1.0}
    rows = [r | {"value": values.get(r["metric"], r["value"])} for r in entry.record.rows]
    return replace(entry, record=replace(entry.record, rows=rows))


def test_what_noise_has_sharpened_is_not_the_sharpest():
    first, *others = [e for e in group(3) if e.values("blur_sigma")][:4]
    others = [blurred(e, 1.0 + i) for i, e in enumerate(others)]

    def sharpest(entry: Entry) -> str:
        (column,) = [b for b in overview(content("mine", [entry, *others], "")).best if "blur" in b.title]
        return column.entries[0].label

    assert sharpest(blurred(first, 0.0)) == first.label
    assert sharpest(blurred(first, 0.0, noise_ratio=0.1)) == others[0].label


def test_what_a_plug_in_brings_is_said(monkeypatch):
    found = group(3)
    assert not [limit for limit in advise(found).limits if "from a plug-in" in limit.text]
    place = LIKELIHOODS.places["bernoulli"]
    monkeypatch.setitem(LIKELIHOODS.places, "bernoulli", replace(place, file="/elsewhere/mine.py"))
    (line,) = [str(limit) for limit in advise(found).limits if "from a plug-in" in limit.text]
    assert "(likelihood bernoulli)" in line and "vae-variants check" in line


def moved(entry: Entry, by: int) -> Entry:
    """The same under other seeds."""
    r = entry.record
    status = {str(int(seed) + by): state for seed, state in r.status.items()}
    rows = [row | {"seed": row["seed"] + by} for row in r.rows]
    return replace(entry, record=replace(r, seeds=[s + by for s in r.seeds], status=status, rows=rows))


def test_of_variants_without_a_seed_in_common_none_is_called_best():
    one, other = [e for e in group(3) if e.record.support == "binary" and len(e.values("log_likelihood")) > 2][:2]
    assert advise([one, other]).choices[0].verdict == "told"
    assert best([one, moved(other, 3)], "log_likelihood") == best([one, moved(other, 1)], "log_likelihood") == []
    found = content("mine", [one, moved(other, 3)], "")
    assert (found.advice.choices[0].verdict, found.advice.choices[0].best) == ("open", ())
    assert "too few common seeds" in found.advice.choices[0].text
    assert not [cells for g in overview(found).groups for _, cells in g.rows for cell, _ in cells if cell.best]


def test_where_seeds_failed_more_seeds_are_not_the_mend():
    whole = group(3, 4)
    failed = [replace(e, record=replace(e.record, status={"0": "ok", "1": "diverged", "2": "diverged"})) for e in whole]
    few = [replace(e, record=replace(e.record, rows=[r for r in e.record.rows if r["seed"] == 0])) for e in failed]
    assert advise(few).few.endswith("Seeds failed: rerun them with `--retry failed`.")
    assert advise(group(2, 4)).few.endswith("Rerun with `--seeds 5`.")


def silent(entry: Entry, *seeds: int) -> Entry:
    rows = [r | {"value": 0.0 if r["seed"] in seeds else 3.0} if r["metric"] == "active_units" else r for r in entry.record.rows]
    return replace(entry, record=replace(entry.record, rows=rows))


def test_codes_that_carry_nothing_are_called_so():
    first, second, third, *_ = [e for e in group(3) if e.values("active_units")]
    found = content("mine", [silent(first, 0, 1, 2), silent(second, 1), silent(third)], "")
    (line,) = [str(limit) for limit in found.advice.limits if "flagged" in limit.text]
    assert f"`{first.label}` (no active unit; lower the learning rate" in line
    assert f"`{second.label}` (no active unit in 1 of 3 seeds;" in line
    assert third.label not in line.replace(f"`{first.label}`", "").replace(f"`{second.label}`", "")
    said = {card.entry.label: card.flaws for card in cards(found.entries)}
    assert "no active unit" in said[first.label][0] and "lr=" in said[first.label][0]
    assert "1 of 3 seeds" in said[second.label][0]
    assert said[third.label] == ()
    assert page(found).count("<p><b>Flagged") == 2
    assert not [limit for limit in advise([silent(third), silent(first)]).limits if "flagged" in limit.text]


@pytest.mark.parametrize(
    ("others", "words"),
    [(0, ""), (1, "in 3 runs: twin-0 is the same run as"), (2, "in 3 runs: 2 labels name a run that")],
)
def test_the_header_says_why_there_are_fewer_runs_than_variants(others, words):
    first, *more = group(3)[:3]
    twins = [replace(first, label=f"twin-{i}") for i in range(others)]
    lead = page(content("mine", [first, *more, *twins], "")).partition('<p class="lead">')[2].partition("</p>")[0]
    text = re.sub(r"<[^>]*>", "", lead)
    assert text.startswith(f"{3 + others} variants")
    assert words in text
    assert "3 runs ok, 0 failed" in text
    assert (", in 3 runs" in text) == bool(others)


def test_where_none_is_shown_to_be_better_it_is_said_so():
    def alike(row: dict) -> dict:
        return row if row["better"] == "none" else row | {"value": -9.0 + 0.1 * row["seed"]}

    same = [replace(e, record=replace(e.record, rows=[alike(r) for r in e.record.rows])) for e in group(3, 8)]
    text = page(content("mine", same, ""))
    assert "statistically tied with all" in text
    assert "can be told from it" not in text
