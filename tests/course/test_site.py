"""The site of `nox -s docs`: its build fails if a page is in no table of contents."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def contents() -> dict[str, dict[str, list[str]]]:
    """Page -> heading -> patterns of the pages below it, as the site's configuration says."""
    tree = ast.parse((ROOT / "docs" / "site" / "conf.py").read_text(encoding="utf-8"))
    (found,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONTENTS")
    return ast.literal_eval(found)


def test_each_page_is_in_a_table_of_contents() -> None:
    listed = {ROOT / "README.md"}
    for page, headings in contents().items():
        patterns = [pattern + suffix for group in headings.values() for pattern in group for suffix in (".md", ".py")]
        below = {path for pattern in patterns for path in (ROOT / page).parent.glob(pattern)}
        assert below, page
        listed |= below
    pages = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/course/**/*.py"), *ROOT.glob("reports/**/*.md")}
    assert not sorted(path.relative_to(ROOT).as_posix() for path in pages - listed)
