"""Every committed report that has an archive is what today's code makes of it, byte for byte.

If this fails after a change of the report's code, `nox -s reports` writes them again: look at the difference, and commit it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vae_variants import report
from vae_variants.cli.app import app
from vae_variants.harness.archive import HEADER, RECORDS
from vae_variants.report import LEADERBOARD, write_index
from vae_variants.report.context import drawing_versions
from vae_variants.report.figures import FIGURES, Drawing, Plot, caption

REPORTS = Path(__file__).parents[2] / "reports"
ARCHIVED = sorted(path.parent.name for path in REPORTS.glob(f"*/{HEADER}"))
SMALLEST = min(ARCHIVED, key=lambda name: (REPORTS / name / RECORDS).stat().st_size)  # figures are most of a report's time
PANELS = re.compile(r'<div class="panels[^>]*><svg id="plot-(\w+)-0".*?</svg></div>', re.DOTALL)


def header(name: str) -> dict:
    return json.loads((REPORTS / name / HEADER).read_text(encoding="utf-8"))["report"]


def written_again(name: str, folder: Path) -> Path:
    """The report that its own command writes from its archive."""
    _, _, suite, *options = shlex.split(header(name)["command"])
    result = CliRunner().invoke(app, ["report", suite, *options, "--records", str(REPORTS / name), "--reports", str(folder)])
    assert result.exit_code == 0, result.output
    return folder / name


def differing(one: Path, other: Path) -> list[str]:
    """Files of either folder that are not the same in both."""
    a, b = ({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} for folder in (one, other))
    return sorted(str(name) for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def reuse_figures(name: str, patch: pytest.MonkeyPatch) -> None:
    """Has a report take its figures from the committed one; their names, places and captions are made again."""
    page = (REPORTS / name / "report.html").read_text(encoding="utf-8")
    bodies = {found[1]: found[0] for found in PANELS.finditer(page)}
    assert len(bodies) == page.count('<div class="panels') > 5

    def drawings(entries, shown):
        return [Drawing(figure, caption(figure, entries, len(shown)), None) for figure in FIGURES if figure in bodies]

    def write_figures(found, folder):
        shutil.copytree(REPORTS / name / "figures", folder)
        return [each.name for each in found if FIGURES[each.name].readme]

    def plots(found):
        return [Plot(n, FIGURES[n].title, words, FIGURES[n].section, bodies[n]) for n, words, _ in found]

    for function in (drawings, write_figures, plots):
        patch.setattr(report, function.__name__, function)


def drawn_elsewhere(name: str) -> bool:
    """Whether other versions than those here drew the figures."""
    return header(name)["drawn_by"] != drawing_versions()


@pytest.mark.parametrize("name", [name for name in ARCHIVED if name != SMALLEST or drawn_elsewhere(name)])
def test_a_committed_report_is_that_of_its_records(name, tmp_path, monkeypatch):
    reuse_figures(name, monkeypatch)
    versions = {HEADER} if drawn_elsewhere(name) else set()  # which the header names
    assert set(differing(REPORTS / name, written_again(name, tmp_path))) <= versions


def test_the_smallest_committed_report_is_drawn_again(tmp_path):
    if drawn_elsewhere(SMALLEST):
        pytest.skip(f"its figures were drawn by {header(SMALLEST)['drawn_by']}, and here is {drawing_versions()}")
    assert differing(REPORTS / SMALLEST, written_again(SMALLEST, tmp_path)) == []


@pytest.mark.parametrize("name", ARCHIVED)
def test_items_of_a_list_have_lines_of_their_own_and_sentences_a_space_between(name):
    advice = (REPORTS / name / "README.md").read_text(encoding="utf-8").partition("What these results")[0].partition("\n## ")[2]
    assert advice.count("\n- **") == advice.count("- **") > 3
    assert re.findall(r"[a-z]\.[0-9A-Z].*", advice) == []


def test_the_committed_leaderboard_is_that_of_all_archives(tmp_path):
    for name in ARCHIVED:
        shutil.copytree(REPORTS / name, tmp_path / name, ignore=shutil.ignore_patterns("figures"))
    output = tmp_path / LEADERBOARD
    result = CliRunner().invoke(app, ["leaderboard", *(str(tmp_path / name) for name in ARCHIVED), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert differing(REPORTS / LEADERBOARD, output) == []


def test_the_index_is_that_of_the_committed_reports(tmp_path):
    shutil.copytree(REPORTS / LEADERBOARD, tmp_path / LEADERBOARD)
    for path in REPORTS.glob("*/README.md"):
        (tmp_path / path.parent.name).mkdir()
        for file in (path, path.with_name(HEADER)):
            if file.is_file():
                shutil.copy(file, tmp_path / path.parent.name)
    write_index(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (REPORTS / "README.md").read_text(encoding="utf-8")


def test_the_page_of_digits_can_be_sent_by_mail():
    assert (REPORTS / "digits" / "report.html").stat().st_size < 4_000_000
