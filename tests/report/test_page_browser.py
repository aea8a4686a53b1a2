"""report.html in a browser: no error and no request, sorting, filtering, state in the address, and use by ear, key and narrow screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.report.test_families import named
from tests.report.test_page import entries, whole_page
from vae_variants.analysis.cards import tags
from vae_variants.analysis.entries import Entry
from vae_variants.report.content import content
from vae_variants.report.figures import drawings, plots
from vae_variants.report.html import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
HERE = BROWSER is not None and all(map(find_spec, ("playwright", "axe_playwright_python")))
pytestmark = pytest.mark.skipif(not HERE, reason="needs Chromium or Chrome, playwright and axe-playwright-python")


EVERYTHING = """for (const e of document.querySelectorAll('main details')) e.open = true;
    for (const e of document.querySelectorAll('.panel')) e.classList.add('now')"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        started = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def group() -> list[Entry]:
    return entries(16)


@pytest.fixture(scope="module")
def address(group, tmp_path_factory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(whole_page(group), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, address):
    """Opens the page; at the end there must have been no error and no request but for the page itself."""
    contexts, wrong = [], []

    def open_(fragment: str = "", width: int = 1400, scheme: str = "light", script: bool = True):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(5000)
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: wrong.append(request.url) if request.url.partition("#")[0] != address else None)
        tab.goto(address + fragment)
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def turn(tab, name: str) -> None:
    """Opens a part of the report."""
    tab.get_by_role("tab", name=name, exact=True).click()


def rows(tab, body: str = "#overview tbody[data-group=binary]") -> list[str]:
    """Labels of the rows that are seen, in their order."""
    return tab.eval_on_selector_all(f"{body} tr[data-variant]", "rows => rows.filter(r => r.offsetParent).map(r => r.dataset.variant)")


def values(tab, column: int) -> list[float]:
    text = "(rows, i) => rows.filter(r => r.offsetParent && r.cells[i].dataset.v).map(r => Number(r.cells[i].dataset.v))"
    return tab.eval_on_selector_all("#overview tbody[data-group=binary] tr[data-variant]", text, column)


def test_rows_are_sorted_by_click_and_by_key_within_their_kind_of_pixels(opened):
    tab = opened()
    before, groups = rows(tab), tab.eval_on_selector_all("#overview tbody", "bodies => bodies.map(b => b.dataset.group)")
    button = tab.locator("#overview thead th[data-column=log_likelihood] button")
    button.click()
    assert values(tab, 2) == sorted(values(tab, 2), reverse=True) != []
    assert tab.locator("#overview th[aria-sort=descending]").get_attribute("data-column") == "log_likelihood"
    assert tab.locator("#overview th[aria-sort=none]").count() == tab.locator("#overview thead th").count() - 1
    button.press("Enter")
    assert values(tab, 2) == sorted(values(tab, 2))
    assert "Sorted by log p(x)\u00a0↑, ascending" in tab.locator(".tools [role=status]").inner_text()
    button.press("Space")
    assert rows(tab) == before
    assert tab.eval_on_selector_all("#overview tbody", "bodies => bodies.map(b => b.dataset.group)") == groups
    turn(tab, "Tables")
    other = tab.locator("#table-1 thead button").nth(1)
    other.click()
    found = tab.eval_on_selector_all("#table-1 tbody tr", "rows => rows.map(r => Number(r.cells[1].dataset.v))")
    assert found == sorted(found, reverse=True)


def test_rows_are_filtered_everywhere(opened, group):
    tab = opened()
    tab.get_by_label("Filter").fill("made")
    wanted = {e.label for e in group if "made" in e.label}
    assert set(rows(tab, "#overview")) == wanted and len(wanted) < len(group)
    turn(tab, "Tables")
    assert set(rows(tab, "#table-1")) == wanted
    turn(tab, "Figures")
    hidden = tab.eval_on_selector_all(".drawing [data-variant]", "e => e.filter(x => getComputedStyle(x).visibility === 'hidden').length")
    assert hidden == len(group) - len(wanted)
    turn(tab, "Explore")
    assert f"{len(wanted)} of " in tab.locator(".tools [role=status]").inner_text()
    tab.get_by_label("Filter").fill("no-likelihood")
    assert set(rows(tab, "#overview")) == {e.label for e in group if "no-likelihood" in tags(e)} != set()
    tab.get_by_label("Filter").fill("")
    tab.locator("select[name=group]").select_option("real")
    assert set(rows(tab, "#overview")) == {e.label for e in group if e.record.support == "real" and e.interval("log_likelihood")}
    tab.get_by_role("button", name="Reset").click()
    assert len(rows(tab, "#overview")) == len(group) + 1


def test_a_view_is_in_its_address(opened, address):
    tab = opened()
    tab.locator("#overview thead th[data-column=elbo] button").click()
    tab.get_by_label("Filter").fill("vae")
    tab.locator(".columns summary").click()
    tab.get_by_label("blur in pixels").uncheck()
    tab.get_by_role("button", name="Select vae-0", exact=True).click()
    tab.get_by_role("button", name="Dark colours").click()
    fragment = tab.evaluate("location.hash")
    seen = rows(tab, "#overview")
    again = opened(fragment)
    assert rows(again, "#overview") == seen
    assert again.locator("#overview th[aria-sort=descending]").get_attribute("data-column") == "elbo"
    assert not again.locator("#overview th[data-column=blur_sigma]").is_visible()
    assert again.evaluate("document.documentElement.dataset.theme") == "dark"
    assert again.locator(".pick[aria-pressed=true]").get_attribute("value") == "vae-0"
    assert again.locator("#overview tr.on").count() == 1
    assert again.evaluate("location.hash") == fragment
    strange = opened("#filter=%3Cscript%3E&sort=overview+nothing+ascending&sort=x&pick=nobody&theme=pink&group=none-such&at=nowhere")
    assert strange.locator("#overview").is_visible()


def test_a_variant_is_shown_everywhere_when_it_is_selected(opened):
    tab = opened()
    turn(tab, "Figures")
    tab.locator(".drawing [data-variant='vae-0']").click()
    faint = tab.eval_on_selector_all(".drawing [data-variant]", "e => e.filter(x => getComputedStyle(x).opacity < 0.5).length")
    assert faint == 15
    turn(tab, "Explore")
    assert tab.locator(".pick[value='vae-0']").get_attribute("aria-pressed") == "true"
    tab.get_by_label("only selected").check()
    assert rows(tab, "#overview") == ["vae-0"]


def test_light_and_dark_follow_the_system_until_one_says_otherwise(opened):
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = opened(), opened(scheme="dark")
    assert light.evaluate(ground) == "rgb(255, 255, 255)" != dark.evaluate(ground)
    dark.get_by_role("button", name="Light colours").click()
    assert dark.evaluate(ground) == "rgb(255, 255, 255)"
    colour = "getComputedStyle(document.querySelector('.drawing rect')).fill"
    before = light.evaluate(colour)
    light.get_by_role("button", name="Dark colours").click()
    assert light.evaluate(colour) != before


@pytest.mark.parametrize(("width", "scheme"), [(380, "dark"), (1400, "light")])
def test_no_serious_fault_for_those_who_see_or_hear_otherwise(opened, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    tab = opened(width=width, scheme=scheme)
    tab.evaluate(EVERYTHING)
    found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")] == []


MORE = """[...document.querySelectorAll('.wide')].filter(e => e.clientWidth).map(e => [
    e.scrollWidth > e.clientWidth,
    getComputedStyle(e, '::before').content.includes('sideways') && getComputedStyle(e, '::before').display !== 'none'])"""


@pytest.mark.parametrize("script", [True, False])
def test_a_table_that_is_wider_than_the_screen_says_so(opened, script):
    tab = opened(width=500, script=script)
    tab.wait_for_timeout(200)
    found = tab.evaluate(MORE)
    assert [True, True] in found
    assert all(said for wider, said in found if wider)
    if script:
        assert all(wider == said for wider, said in found)
        tab.set_viewport_size({"width": 1400, "height": 900})
        tab.wait_for_timeout(200)
        assert all(wider == said for wider, said in tab.evaluate(MORE))
        assert sum(said for _, said in tab.evaluate(MORE)) < sum(said for _, said in found)


def test_long_names_are_whole_in_tables(browser, tmp_path):
    long = ["vae[likelihood=my_plugin:student_t,latent=20]", "vae[likelihood=my_plugin:laplace,b=0.05]"]
    group = [replace(e, label=label) for e, label in zip(entries(3), [*long, "vae-continuous-bernoulli-of-some-length"], strict=True)]
    group += [e for e in entries(16) if e.record.support == "binary"][1:]
    (tmp_path / "report.html").write_text(page(content("digits", group, "a command"), plots(drawings(group))), encoding="utf-8")
    tab = browser.new_page()
    tab.goto((tmp_path / "report.html").as_uri())
    tab.evaluate(EVERYTHING)
    cut = """[...document.querySelectorAll('tbody th[scope=row]')].filter(e => e.offsetParent).map(e => {
        const words = document.createRange(); words.selectNodeContents(e);
        const [a, b] = [words.getBoundingClientRect(), e.getBoundingClientRect()];
        return [e.textContent.trim(), a.left >= b.left - 1 && a.right <= b.right + 1]})"""
    for width in (380, 500, 1400):
        tab.set_viewport_size({"width": width, "height": 900})
        found = tab.evaluate(cut)
        assert len(found) > 20 and [label for label, whole in found if not whole] == [], width
    figures = tab.locator("figure").all()
    pictures = [(figure.locator("svg[role=img]").count(), figure.locator("details.saves button, h3 button").count()) for figure in figures]
    assert all(there == buttons for there, buttons in pictures)
    assert [there > 8 for there, _ in pictures] == [figure.locator("details.saves").count() == 1 for figure in figures]
    tab.close()


@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("script", [True, False])
def test_the_page_itself_never_scrolls_sideways(opened, width, script):
    tab = opened(width=width, script=script)
    if script:
        tab.evaluate(EVERYTHING)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    box = tab.locator("body").bounding_box()
    assert box is not None and box["width"] <= width
    tab.keyboard.press("End")
    tab.mouse.wheel(400, 0)
    tab.wait_for_timeout(50)
    assert tab.locator("body").bounding_box()["x"] >= 0


def test_without_script_there_are_all_rows_and_nothing_that_does_nothing(opened, group):
    tab = opened(script=False)
    assert tab.locator("#overview tr[data-variant]").count() == len(group) + 1
    assert tab.locator("#overview tr[data-variant]").first.is_visible()
    assert tab.locator(".drawing svg").is_visible()
    assert not [b for b in tab.locator("button, input, select").all() if b.is_visible()]
    tab.get_by_role("link", name="Tables", exact=True).click()
    assert tab.url.endswith("#tables")


def test_a_figure_and_a_table_can_be_taken_away(opened, tmp_path):
    tab = opened()
    turn(tab, "Figures")
    with tab.expect_download() as found:
        tab.get_by_role("button", name="Save as SVG: A plot").click()
    text = Path(found.value.path()).read_text(encoding="utf-8")
    assert found.value.suggested_filename == "x.svg"
    assert 'xmlns="http://www.w3.org/2000/svg"' in text and "fill: rgb(0, 114, 178)" in text
    turn(tab, "Evidence and downloads")
    with tab.expect_download() as found:
        tab.get_by_role("link", name="summary.csv").click()
    assert Path(found.value.path()).read_text(encoding="utf-8") == "variant,metric\nvae-0,1\n"


def test_a_link_opens_what_it_leads_to_and_is_in_the_address(opened):
    tab = opened()
    tab.locator("#overview tr[data-variant='vae-0'] a").click()
    assert tab.evaluate("document.activeElement.id") == "card-1"
    assert "at=card-1" in tab.evaluate("location.hash")
    again = opened("#at=card-3")
    assert again.evaluate("document.activeElement.id") == "card-3"


def test_rows_are_sorted_and_filtered_by_family(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(content("digits", named("digits"), "command")), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(file.as_uri())
    tab.locator("#overview thead th[data-column=family] button").click()
    shown = [tab.locator(f"#overview tr[data-variant='{label}'] td.family").inner_text() for label in rows(tab)]
    assert shown == ["baseline", "baseline", "bound", "prior"]
    tab.get_by_label("Family").select_option("prior")
    assert rows(tab, "#overview") == ["vae-vamp"] and "family=prior" in tab.evaluate("location.hash")
    tab.reload()
    assert rows(tab, "#overview") == ["vae-vamp"]
    tab.get_by_role("button", name="Reset").click()
    assert len(rows(tab, "#overview")) == 5 and tab.get_by_label("Family").input_value() == ""
    tab.close()
