"""results.csv and summary.csv."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import pandas as pd

from vae_variants.analysis.entries import Entry

__all__ = ["COLUMNS", "metrics_of", "results", "summary", "write_csv"]

COLUMNS = ["variant", "dataset", "support", "seed", "metric", "value", "unit", "better", "kind", "status", "device", "run"]


def metrics_of(entries: Sequence[Entry]) -> list[str]:
    """Every metric that some row has, in the order of the first record that has it."""
    return list(dict.fromkeys(metric for entry in entries for metric in entry.rows))


def results(entries: Sequence[Entry]) -> pd.DataFrame:
    """Tidy: one row per value. A seed that failed is one row without metric; a metric that was skipped has no value."""
    rows, of_row = [], itemgetter(*COLUMNS[3:10])
    for entry in entries:
        r = entry.record
        first, last = (entry.label, r.dataset["name"], r.support), (r.environment.get("device", ""), r.key[:12])
        for seed in r.seeds:
            if r.status[str(seed)] != "ok":
                rows.append((*first, seed, "", None, "", "", "", r.status[str(seed)], *last))
        rows += [(*first, *of_row(row), *last) for row in r.rows]
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(entries: Sequence[Entry]) -> pd.DataFrame:
    """Wide: for each variant and metric the mean over seeds, the ends of its 95 % interval, and n; of a timing median and quartiles."""
    rows, metrics = [], metrics_of(entries)
    for entry in entries:
        status = list(entry.record.status.values())
        row: dict[str, object] = {
            "variant": entry.label,
            "dataset": entry.record.dataset["name"],
            "support": entry.record.support,
            "seeds_ok": status.count("ok"),
            "seeds_failed": len(status) - status.count("ok"),
        }
        for metric in metrics:
            found = entry.interval(metric)
            row[metric] = None if found is None else found.mean
            row[f"{metric}_low"] = None if found is None else found.low
            row[f"{metric}_high"] = None if found is None else found.high
            row[f"{metric}_n"] = 0 if found is None else found.n
        rows.append(row)
    return pd.DataFrame(rows)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")
