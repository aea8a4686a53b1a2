"""README.md of a report: tables that GitHub renders."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from vae_variants.analysis.advice import TITLE, Advice
from vae_variants.analysis.entries import Entry
from vae_variants.analysis.formatting import short
from vae_variants.analysis.run_summary import Failure, failed_runs, failed_values, same_runs
from vae_variants.evaluation import METRICS
from vae_variants.report.content import ROWS, Cell, Content, Sheet
from vae_variants.report.figures import CAPTIONS, WHOLE
from vae_variants.report.sections import FIGURES_ARE, LEFT_OUT, likelihood_text

__all__ = ["readme"]

NAMED = 6  # runs that one reason takes a value from, or variants, that a line still names


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown, the first column to the left and the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join("--:" if i else "---" for i in range(len(header))) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def cell(found: Cell) -> str:
    return f"**{found.text}**" if found.best else found.text


def sheet(level: str, found: Sheet) -> list[str]:
    """A table with its heading, and what is said before and after it."""
    rows = [[f"`{e.label}`", *(cell(cells[i]) for i in found.kept)] for e, cells in found.rows]
    lines = [f"{level} {found.title}", "", *([found.text, ""] if found.text else [])]
    lines += table(["variant", *(found.columns[i] for i in found.kept)], rows)
    return [*lines, *left_out(len(rows), found.of), *([found.after, ""] if found.after else [])]


def left_out(rows: int, of: int, what: str = "rows") -> list[str]:
    """A line that says what a table does not show."""
    return [f"{rows} of {of} {what}: all are in [summary.csv](summary.csv).", ""] if rows < of else []


def some(lines: Sequence[str], rest: str = "and {} more") -> list[str]:
    """The first of them, and how many are left out."""
    return [*lines[:ROWS], *([rest.format(len(lines) - ROWS)] if len(lines) > ROWS else [])]


def plain(text: str) -> str:
    """Text that a model, a library or a file had a part in, as text: neither markup nor HTML, and on one line."""
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def failure(found: Failure) -> str:
    metric = f", {found.metric}" if found.metric else ""
    return f"- `{found.label}`, seed {found.seed}{metric}: {found.status}: {plain(found.reason)}"


def notes(entries: Sequence[Entry], missing: Sequence[str], older: Sequence[str]) -> list[str]:
    lines = []
    same = [f"`{label}` is the same run as `{first}`" for label, first in same_runs(entries)]
    lines += [f"{'; '.join(some(same))}.", ""] if same else []
    lines += [f"Not run yet: {', '.join(some([f'`{label}`' for label in missing]))}.", ""] if missing else []
    lines += [f"Made by older code than this page: {', '.join(some([f'`{label}`' for label in older]))}.", ""] if older else []
    failed = [*map(failure, failed_runs(entries)), *without_value(entries)]
    rest = "- and {} more, with their status in [results.csv](results.csv)"
    return [*lines, *(["## Failed or skipped", "", *some(failed, rest), ""] if failed else [])]


def without_value(entries: Sequence[Entry]) -> list[str]:
    """A line for each value that is not there; what one reason takes from many is one line."""
    reasons: dict[tuple[str, str], list[Failure]] = {}
    for found in failed_values(entries):
        reasons.setdefault((found.status, found.reason), []).append(found)
    lines = list[str]()
    for (status, reason), group in reasons.items():
        if len(group) <= NAMED:
            lines += map(failure, group)
        else:
            labels, metrics = (list(dict.fromkeys(getattr(each, name) for each in group)) for name in ("label", "metric"))
            names = ", ".join(f"`{label}`" for label in labels) if len(labels) <= NAMED else f"{len(labels)} variants"
            lines.append(f"- {names}: {', '.join(metrics)}: {status}: {plain(reason)}")
    return lines


def which(found: Advice) -> list[str]:
    """The section that a reader with data of their own looks for."""
    lines = [f"## {TITLE}", "", *([found.few, ""] if found.few else [])]
    lines += [*(f"- **{choice.purpose}.** {choice.text}" for choice in found.choices), ""]
    return [*lines, "What the evidence does not say:", "", *(f"- {limit}" for limit in found.limits), ""]


def readme(found: Content, figures: Sequence[str]) -> str:
    """The whole page. Intervals are 95 % t-intervals over seeds; n is how many seeds there are."""
    f, entries = found.facts, found.entries
    lines = [
        f"# {found.suite}",
        "",
        f"Made by `{found.command}` on {f.day}, {', '.join(f.devices)}, Python {f.python}, {', '.join(f.packages)}.",
        "",
        f"Data: `{f.data}`, {f.shape} pixels, {f.sizes} training, validation and test images, digest `{f.digest}`. {FIGURES_ARE} "
        "Everything is measured on the test images; every value is in [results.csv](results.csv), means in [summary.csv](summary.csv).",
        "",
    ]
    few = found.drawn < len(entries)
    lines += [LEFT_OUT.format(all=len(entries), shown=len(found.shown), drawn=found.drawn), ""] if few else []

    def shows(name: str) -> list[str]:
        some = f" Shown: {found.drawn} of {len(entries)} variants, see above." if few and name not in WHOLE else ""
        return [f"![{name.replace('_', ' ')}](figures/{name}.png)\n*{CAPTIONS[name]}{some}*", ""]

    if "samples" in figures:
        lines += shows("samples")
    lines += which(found.advice)
    lines += ["## Likelihood", "", *likelihood_text(found.advice.few), ""]
    for each in found.likelihood:
        lines += sheet("###", each)
    for each in found.sheets:
        lines += sheet("##", each)
    lines += notes(entries, found.missing, found.older)
    lines += ["## Figures", ""]
    for name in figures:
        if name != "samples":
            lines += shows(name)
    lines += ["## Variants", ""]
    rows = [
        [f"`{e.label}`", e.record.support, ", ".join(f"{k}={plain(short(v))}" for k, v in e.record.values.items())] for e in found.shown
    ]
    lines += ["| variant | pixels | configuration |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows), ""]
    lines += left_out(len(rows), len(entries), "variants")
    lines += ["## What the metrics are", ""]
    recorded = {r["metric"] for e in entries for r in e.record.rows}
    names = {m.published_for(f.data): m for m in METRICS.values()}
    lines += [f"- `{name}` ({m.unit}): {m.description}" for name, m in names.items() if name in recorded]
    return "\n".join(lines) + "\n"
