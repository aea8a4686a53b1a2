"""results.csv and summary.csv."""

import math
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from vae_variants.analysis.entries import Entry
from vae_variants.analysis.statistics import Interval

FORMULA = tuple("=+-@\t\r'")  # begins of cells that a spreadsheet calculates, or that are guarded already
COLUMNS = ["variant", "dataset", "support", "seed", "metric", "value", "unit", "better", "kind", "status", "device", "run"]


def metrics_of(entries: Sequence[Entry]) -> list[str]:
    """Every recorded metric, in the order of the first record that has it."""
    return list(dict.fromkeys(metric for entry in entries for metric in entry.rows))


def results(entries: Sequence[Entry]) -> pd.DataFrame:
    """Tidy table, one row per value. A failed seed has one row without a metric; a skipped metric has no value."""
    rows, of_row = [], itemgetter(*COLUMNS[3:10])
    for entry in entries:
        r = entry.record
        first, last = (entry.label, r.dataset["name"], r.support), (r.environment.get("device", ""), r.key[:12])
        failed = [(seed, "", None, "", "", "", status) for seed in r.seeds if (status := r.status[str(seed)]) != "ok"]
        rows += [(*first, *row, *last) for row in (*failed, *map(of_row, r.rows))]
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(entries: Sequence[Entry]) -> pd.DataFrame:
    """Wide table, one row per variant: mean over seeds, both ends of the 95 % interval and n of each metric."""
    rows, metrics, none = [], metrics_of(entries), Interval(math.nan, None, None, 0)
    for entry in entries:
        record = entry.record
        ok = list(record.status.values()).count("ok")
        row: list[object] = [entry.label, record.dataset["name"], record.support, ok, len(record.status) - ok]
        for metric in metrics:
            row += entry.interval(metric) or none
        rows.append(row)
    columns = [metric + part for metric in metrics for part in ("", "_low", "_high", "_n")]
    return pd.DataFrame(rows, columns=["variant", "dataset", "support", "seeds_ok", "seeds_failed", *columns])


def read_csv(path: Path) -> pd.DataFrame:
    """A table that `write_csv` wrote. A missing value is an empty cell: `nan`, `null`, `NA`, `007` and `1e5` are names, if a name is there.

    Raises:
        OSError, ValueError: the file cannot be read, or is no table.
    """
    texts = {name: str for name in (*COLUMNS, "study", "fidelity", "claim_verdict") if name not in ("seed", "value")}
    found = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    for name in texts.keys() & set(found.columns):
        found[name] = found[name].map(unguarded)
    return found.rename(columns=unguarded)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    safe = frame.copy(deep=False)
    for name in frame.select_dtypes(["object", "string"]).columns:
        safe[name] = frame[name].map({value: guarded(value) for value in frame[name].unique()})
    safe.rename(columns=guarded).to_csv(path, index=False, lineterminator="\n", errors="backslashreplace")


def guarded(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def unguarded(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and value.startswith("'") and value[1:].startswith(FORMULA) else value
