"""README.md of a report: Markdown that GitHub renders."""

import html
import re
from collections.abc import Sequence

from vae_variants.analysis.advice import TITLE
from vae_variants.analysis.comparison import options_of
from vae_variants.analysis.run_summary import Failure
from vae_variants.report.content import ROWS, Content, Sheet
from vae_variants.report.figures import caption
from vae_variants.report.html import environment
from vae_variants.report.sections import FIGURES_ARE, likelihood_text

NAMED = 6  # values missing for one reason that get a line each, or variants that a line names


def plain(text: str) -> str:
    """Text from a model, library or file on one line, with Markdown and HTML escaped."""
    return re.sub(r"([\\`*_\[\]#|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column aligned left and the others right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def sheet(found: Sheet) -> str:
    """A table, and the notes after it."""
    kept = found.kept
    rows = [[f"`{e.label}`", *(f"**{c.text}**" if c.best else c.text for c in (cells[i] for i in kept))] for e, cells in found.rows]
    text = table(["variant", *(found.columns[i] for i in kept)], rows)
    if len(rows) < found.of:
        text += f"\n{len(rows)} of {found.of} rows: all are in [summary.csv](summary.csv).\n"
    return text + (f"\n{found.after}\n" if found.after else "")


def lost(found: Content) -> list[str]:
    """A line for each seed or value that is missing; many with the same reason get one."""
    reasons: dict[tuple[str, str], list[Failure]] = {}
    for failure in found.skipped:
        reasons.setdefault((failure.status, failure.reason), []).append(failure)
    groups, lines = [*([failure] for failure in found.failed), *reasons.values()], list[str]()
    for group in groups:
        why = f"{group[0].status}: {plain(group[0].reason)}"
        if len(group) <= NAMED:
            lines += [f"`{f.label}`, seed {f.seed}{f', {f.metric}' if f.metric else ''}: {why}" for f in group]
        else:
            labels, metrics = (list(dict.fromkeys(getattr(f, name) for f in group)) for name in ("label", "metric"))
            names = ", ".join(f"`{label}`" for label in labels) if len(labels) <= NAMED else f"{len(labels)} variants"
            lines.append(f"{names}: {', '.join(metrics)}: {why}")
    return lines


def readme(found: Content, figures: Sequence[str]) -> str:
    """The whole page; `figures` are names of files in figures/."""
    captions = {name: caption(name, found.entries, len(found.drawn)) for name in figures}
    variants = [[f"`{e.label}`", e.record.support, plain(options_of(e.record.values))] for e in found.shown]
    return (
        environment()
        .get_template("readme.md")
        .render(
            found=found,
            runs=found.runs,
            described=plain(found.runs["described"]),
            advice_title=TITLE,
            figures=captions,
            figures_are=FIGURES_ARE,
            likelihood_text=likelihood_text(found.advice.few),
            lost=lost(found),
            most=ROWS,
            table=sheet,
            variants=table(["variant", "pixels", "configuration"], variants).replace("--:", "---"),
        )
    )
