"""The leaderboard in a browser: no error and no request, the matrix of any metric, and use on a narrow screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.test_board import two_sources
from tests.report.test_page_browser import browser, opened, pytestmark  # noqa: F401
from vae_variants.report.board import PAGE, write_leaderboard


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("board") / "board"
    write_leaderboard(two_sources(), folder)
    return (folder / PAGE).as_uri()


def cells(tab) -> list[list[str]]:
    text = "rows => rows.filter(r => r.offsetParent).map(r => [...r.cells].map(c => c.innerText.trim()))"
    return tab.eval_on_selector_all("#cells tr[data-variant]", text)


def test_the_matrix_shows_the_metric_that_is_chosen(opened):  # noqa: F811
    tab = opened()
    first = {name: values for name, *values in cells(tab)}
    assert first["iwae-8"][0].startswith("−21.998") and first["iwae-8"][0].endswith("1 of 3")
    assert first["vae-samples-8"][1] == "" and first["vae-samples-8"][0].endswith("†")
    assert "reference-data" not in first
    tab.locator("select[name=metric]").select_option("fd-{data}cnn")
    second = {name: values for name, *values in cells(tab)}
    assert "reference-data" in second and second["iwae-8"][1].endswith("1 of 2") and second != first
    assert tab.locator("#matrix [role=status]").inner_text().startswith(f"{len(second)} of")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_no_violation_and_no_scrolling_sideways(opened, scheme, width):  # noqa: F811
    from axe_playwright_python.sync_playwright import Axe

    tab = opened(width=width, scheme=scheme)
    tab.evaluate("for (const e of document.querySelectorAll('details')) e.open = true")
    found = Axe().run(tab).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_without_script_the_first_metric_is_there(opened):  # noqa: F811
    tab, other = opened(script=False), opened()
    assert {tuple(row) for row in cells(other)} <= {tuple(row) for row in cells(tab)}
    assert not tab.locator("#matrix form").is_visible() and "matrix.csv" in tab.locator("[data-without-script]").inner_text()
