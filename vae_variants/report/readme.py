"""README.md of a report: Markdown that GitHub renders."""

from collections.abc import Sequence

from markupsafe import Markup

from vae_variants.analysis.advice import TITLE
from vae_variants.analysis.comparison import options_of
from vae_variants.analysis.prominence import family
from vae_variants.analysis.run_summary import Failure
from vae_variants.report.content import ROWS, Content, Sheet
from vae_variants.report.figures import caption
from vae_variants.report.markdown import escaped, table, templates
from vae_variants.report.sections import FIGURES_ARE, likelihood_text

NAMED = 6  # values missing for one reason that get a line each, or variants that a line names


def sheet(found: Sheet) -> Markup:
    """A table, and the notes after it."""
    kept = found.kept
    rows = []
    for e, cells in found.rows:
        values = (bold(cells[i].text) if cells[i].best else cells[i].marked for i in kept)
        rows.append([f"`{e.label}`{' †' if e.flaws else ''}", *values])
    text = table(["variant", *(found.columns[i] for i in kept)], rows)
    if len(rows) < found.of:
        text += Markup(f"\n{len(rows)} of {found.of} rows: all are in [summary.csv](summary.csv).\n")
    return text + (Markup(f"\n{escaped(found.after)}\n") if found.after else "")


def bold(text: str) -> Markup:
    return Markup(f"**{escaped(text)}**")


def lost(found: Content) -> list[str]:
    """A line for each seed or value that is missing; many with the same reason get one."""
    reasons: dict[tuple[str, str], list[Failure]] = {}
    for failure in found.skipped:
        reasons.setdefault((failure.status, failure.reason), []).append(failure)
    groups, lines = [*([failure] for failure in found.failed), *reasons.values()], list[str]()
    for group in groups:
        why = f"{group[0].status}: {group[0].reason}".replace("`", "'")
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
    variants = [[f"`{e.label}`", family(e), e.record.support, options_of(e.record.values)] for e in found.shown]
    return (
        templates()
        .get_template("readme.md")
        .render(
            found=found,
            runs=found.runs,
            advice_title=TITLE,
            figures=captions,
            figures_are=FIGURES_ARE,
            likelihood_text=likelihood_text(found.advice.few),
            lost=lost(found),
            most=ROWS,
            table=sheet,
            variants=table(["variant", "family", "pixels", "configuration"], variants, right=False),
        )
    )
