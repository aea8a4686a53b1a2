"""The explorer in a browser: axes, hovering, selecting, two variants side by side, sliders and large pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drawn import entries
from tests.report.test_page_browser import HERE, browser, opened, turn  # noqa: F401
from vae_variants.analysis.entries import Entry
from vae_variants.report.content import content
from vae_variants.report.figures import drawings, plots
from vae_variants.report.html import page

pytestmark = [pytest.mark.skipif(not HERE, reason="needs Chromium or Chrome, playwright and axe-playwright-python")]
TALLEST = 8000


@pytest.fixture(scope="module")
def group() -> list[Entry]:
    return entries(16)


@pytest.fixture(scope="module")
def address(group, tmp_path_factory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    drawn = [each for each in drawings(group) if each.name in ("samples", "reconstructions", "traversals", "latent_plane")]
    path.write_text(page(content("digits", group, "a command"), plots(drawn)), encoding="utf-8")
    return path.as_uri()


def dots(tab) -> list[str]:
    return tab.eval_on_selector_all(".scatter svg [data-name=dot] > *", "dots => dots.map(d => d.dataset.name)")


def test_the_scatter_shows_the_axes_one_chooses_and_is_linked_with_the_table(opened, group):  # noqa: F811
    tab = opened()
    assert tab.evaluate("document.documentElement.scrollHeight") < TALLEST
    form = tab.get_by_role("form", name="Axes of the scatter")
    form.get_by_label("Across", exact=True).select_option("parameters")
    form.get_by_label("Up", exact=True).select_option("reconstruction_mse")
    wanted = {e.label for e in group if e.interval("parameters") and e.interval("reconstruction_mse") and not e.collapsed}
    assert set(dots(tab)) == wanted and len(wanted) > 4
    assert tab.locator(".scatter svg").last.get_attribute("aria-label").startswith("squared error")
    assert "x=parameters" in tab.evaluate("location.hash")
    form.get_by_label("Up", exact=True).select_option("log_likelihood")
    supports = {e.record.support for e in group if e.label in dots(tab)}
    assert len(supports) == 1, "nats of one pixel type"
    tab.get_by_label("Filter").fill("made")
    assert set(dots(tab)) == {e.label for e in group if "made" in e.label}
    again = opened("#x=parameters&y=reconstruction_mse")
    assert set(dots(again)) == wanted


def test_a_dot_says_what_it_is_and_selects_its_row(opened):  # noqa: F811
    tab = opened("#x=parameters&y=reconstruction_mse")
    dot = tab.locator(".scatter svg [data-name=dot] > *").first
    dot.scroll_into_view_if_needed()
    label, box = dot.get_attribute("data-name"), dot.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector("#overview tr.near")
    named = tab.locator("#overview tr.near").get_attribute("data-variant")
    assert named in tab.locator(".scatter [data-name=tip]").text_content()
    tab.mouse.down()
    tab.mouse.up()
    assert tab.locator(f".pick[value='{named}']").get_attribute("aria-pressed") == "true" and label


def test_two_variants_stand_side_by_side_with_their_paired_differences(opened, group):  # noqa: F811
    from axe_playwright_python.sync_playwright import Axe

    tab = opened()
    a, b = [e for e in group if e.record.support == "binary" and e.interval("elbo") and e.interval("reconstruction_mse")][:2]
    for e in (a, b):
        tab.get_by_role("button", name=f"Select {e.label}", exact=True).click()
    turn(tab, "Compare two")
    assert [tab.locator(f"#compare select[name={side}]").input_value() for side in "ab"] == [a.label, b.label]
    cells = tab.eval_on_selector_all("#differences tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))")
    (row,) = [row for row in cells if row[0].startswith("ELBO")]
    expected = a.compared("elbo", b).difference
    low, high = (float(end.replace("−", "-")) for end in row[4].split(" to "))
    assert float(row[3].replace("−", "-")) == pytest.approx(expected.mean, rel=2e-3)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=2e-3) and row[5] == str(expected.n)
    clear = expected.low > 0 or expected.high < 0
    assert row[6] == (("A is better" if expected.mean > 0 else "B is better") if clear else "no difference shown")
    assert tab.locator("#compare .side svg image").count() >= 5
    found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_sliders_move_over_what_was_decoded_and_pictures_open_large(opened):  # noqa: F811
    tab = opened()
    turn(tab, "Pictures" if tab.locator("#latent").count() == 0 else "Latent space")
    source = tab.locator(".sliders select[name=source]")
    source.select_option(source.locator("option").last.get_attribute("value"))
    seen = set()
    for step in range(3):
        tab.locator(".sliders input[name=across]").fill(str(step))
        seen.add(tab.locator(".slid svg").get_attribute("viewBox"))
    up = tab.locator(".sliders input[name=up]")
    up.fill("1" if up.input_value() == "0" else "0")
    seen.add(tab.locator(".slid svg").get_attribute("viewBox"))
    assert len(seen) == 4
    turn(tab, "Pictures")
    tab.locator("#figure-samples .enlarge").first.click()
    assert tab.locator("dialog[open] svg image").count() == 1
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0


def test_arrow_keys_go_from_tab_to_tab(opened):  # noqa: F811
    tab = opened()
    tab.get_by_role("tab", name="Explore").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#compare").is_visible() and not tab.locator("#explore").is_visible()
    assert tab.evaluate("document.activeElement.id") == "tab-compare"
    tab.keyboard.press("End")
    assert tab.locator("#evidence").is_visible() and "at=evidence" in tab.evaluate("location.hash")
    assert tab.get_by_role("tab", selected=True).inner_text() == "Evidence and downloads"
