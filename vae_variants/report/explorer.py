"""What the page's explorer shows, as JSON: every metric of every variant, with each seed."""

import json
import math
from collections.abc import Sequence
from typing import Any

from scipy.special import stdtrit

from vae_variants.analysis.entries import Entry
from vae_variants.analysis.prominence import family
from vae_variants.analysis.tables import metrics_of
from vae_variants.evaluation.metrics import data_name
from vae_variants.report.content import Content
from vae_variants.report.dots import heading
from vae_variants.report.drawing import shape_of
from vae_variants.report.overview import group_of
from vae_variants.variants import VARIANTS

DIGITS = 6  # of a number: differences of two seeds keep at least three
DEGREES = 100  # degrees of freedom up to which the quantiles of Student's t go along
AXES = ("train_seconds", "log_likelihood")  # metrics that the scatter begins with, if there are such


def explorer(found: Content) -> str:
    """The data of the explorer, safe within a script element.

    `metrics` have name, title, unit and direction. Each variant has a label, family, pixel type, whether it is flagged or collapsed, and
    by the index of a metric `means` (mean, low, high) and `seeds` (value or null for each of its `of` seeds). `t` are the 97.5 % quantiles
    of Student's t by degrees of freedom, from 1 on. `families` are all there are, so that one has the same colour on every page.
    """
    data, names = data_name(found.runs["data"]), metrics_of(found.shown)
    directions = {row["metric"]: (row["unit"], row["better"]) for e in found.shown for row in e.record.rows}
    metrics = [{"name": m, "title": heading(m, found.shown, data), "unit": directions[m][0], "better": directions[m][1]} for m in names]
    content = {
        "metrics": metrics,
        "axes": [next((m for m in (name, *names) if m in names), "") for name in AXES],
        "families": list(dict.fromkeys(v.family for v in VARIANTS.values())),
        "shape": shape_of(found.entries[0]),
        "t": [short(float(stdtrit(n, 0.975))) for n in range(1, DEGREES + 1)],
        "variants": [variant(e, names) for e in found.shown],
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def variant(entry: Entry, names: Sequence[str]) -> dict[str, Any]:
    means, seeds, of = {}, {}, sorted({row["seed"] for row in entry.record.rows})
    for i, name in enumerate(names):
        interval = entry.interval(name)
        if interval is not None and math.isfinite(interval.mean):
            values = entry.values(name)
            means[i] = [short(interval.mean), short(interval.low), short(interval.high)]
            seeds[i] = [short(values.get(seed)) for seed in of]
    flags = {"flagged": bool(entry.flaws), "collapsed": entry.collapsed}
    known = {"label": entry.label, "family": family(entry), "pixels": group_of(entry)}
    return {**known, **flags, "of": of, "means": means, "seeds": seeds}


def short(value: float | None) -> float | None:
    """The value with so many digits as are drawn; None if it is none or not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")
