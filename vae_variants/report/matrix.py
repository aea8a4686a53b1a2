"""Every variant against every other, seed by seed: a table with coloured cells."""

from __future__ import annotations

from collections.abc import Sequence

from vae_variants.analysis.entries import SUPPORTS, Entry, distinct, prominent
from vae_variants.analysis.formatting import number
from vae_variants.analysis.statistics import LEAST_SEEDS, Comparison
from vae_variants.report.plot import Plot
from vae_variants.report.svg import escaped, fitted, tag

__all__ = ["MOST", "differences", "excludes"]

METRIC = "log_likelihood"
MOST = 24  # variants of a table
UP, DOWN = "0,114,178", "213,94,0"  # that the row is above, below: blue and vermilion, which all eyes tell apart
CAPTION = (
    "Row less column in log p(x), nats per image, mean over the seeds that both have: blue where the row is above, orange where below. "
    "Full colour and bold: the 95 % interval of the difference is on one side of 0; these intervals are not adjusted for their number. "
    "Pale: it holds 0, or there are fewer than three seeds. Best rows on top; a bound stands for log p(x) where there is no more."
)
CELL = (
    "padding:2px 5px;text-align:right;white-space:nowrap;font-size:11.5px;font-variant-numeric:tabular-nums;border:1px solid var(--paper)"
)
NAME = "padding:2px 6px;font-size:12px;font-weight:400;white-space:nowrap;color:var(--ink)"
ROW = f"{NAME};text-align:right;text-indent:0;max-width:none"
UPRIGHT = f"{NAME};writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;vertical-align:bottom"


def excludes(found: Comparison) -> bool:
    """Whether the interval of the difference is on one side of 0, over as many seeds as a verdict takes."""
    low, high = found.difference.low, found.difference.high
    return found.difference.n >= LEAST_SEEDS and low is not None and high is not None and (low > 0 or high < 0)


def cell(row: Entry, column: Entry) -> str:
    if row.record.key == column.record.key:
        return tag("td", "·", style=f"{CELL};text-align:center;color:var(--muted)")
    found = row.compared(METRIC, column)
    if found is None:
        return tag("td", "–", style=f"{CELL};color:var(--muted)", title="no seed is in both")
    clear, d = excludes(found), found.difference
    shade = f"rgba({UP if d.mean > 0 else DOWN},{0.42 if clear else 0.1})" if d.mean else "none"
    weight = ";font-weight:600" if clear else ";color:var(--muted)"
    words = f"{row.label} less {column.label}: {number(d, sign=True)}, above in {found.wins} of {d.n} seeds"
    kind = "clear" if clear else "unclear"
    return tag("td", brief(d.mean), class_=kind, style=f"{CELL}{weight};background:{shade}", title=words)


def brief(value: float) -> str:
    """Three digits, with the sign."""
    size = abs(value)
    return f"{value:+.{0 if size >= 100 else 1 if size >= 10 else 2}f}".replace("-", "−")


def differences(shown: Sequence[Entry]) -> list[Plot]:
    """A table for each kind of pixels of which there are two variants with log p(x)."""
    found = []
    for support, title in SUPPORTS.items():
        group = [e for e in distinct(shown) if e.record.support == support and e.interval(METRIC)]
        few = prominent(group, MOST)
        if len(few) < 2:
            continue
        few.sort(key=lambda e: -p.mean if (p := e.interval(METRIC)) else 0.0)
        blank = tag("td", "", style=CELL)
        heads = [tag("th", escaped(fitted(e.label, 150, 12)), scope="col", style=UPRIGHT, title=e.label) for e in few]
        rows = [
            tag(
                "tr",
                tag(
                    "th",
                    escaped(fitted(e.label, 190, 12)),
                    scope="row",
                    style=ROW,
                    title=e.label,
                ),
                *(cell(e, other) for other in few),
                data_variant=e.label,
            )
            for e in few
        ]
        style = "border-collapse:collapse;margin:0;width:auto"
        table = tag("table", tag("thead", tag("tr", blank, *heads)), tag("tbody", *rows), class_="matrix", style=style)
        named = f"differences in log p(x), {title}"
        body = tag("div", table, class_="wide", role="region", tabindex=0, aria_label=named)
        left_out = f" Shown: {len(few)} of {len(group)} variants, the first and the best." if len(few) < len(group) else ""
        found.append(Plot(f"differences-{support}", f"Paired differences: {title}", CAPTION + left_out, "quality", body))
    return found
