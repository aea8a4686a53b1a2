"""Where scoring takes its time: CPU seconds of each run of a suite, by metric family. `python bench/speed/families.py --help`.

Models come from the folder of runs, and are trained there first if they are missing. A family is a module of `vae_variants/evaluation/`.
What several families need counts for the first that asks. CPU seconds of one thread hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vae_variants.cli.options import SuiteChoice
from vae_variants.evaluation import METRICS, metrics
from vae_variants.harness import RunSpec, Store, measured, runner
from vae_variants.harness.environment import commit, cpu_name, share
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.process import prepare
from vae_variants.harness.protocols import Settings, Watcher

COLUMNS = ["commit", "machine", "run", "seeds", "family", "cpu_seconds"]
FAMILY_OF = {each: m.module.rpartition(".")[2] for each, m in METRICS.items()}
HEAD = """# CPU seconds of scoring, by metric family

`python bench/speed/families.py`: one thread, all seeds of a run. A family is a module of `vae_variants/evaluation/`. What several families
need counts for the first that asks. What the first run of a process needs once has a row of its own. A training step is traced here
if the models come from the folder of runs, and before if they were trained in the same process. Every measurement:
[seconds.csv](seconds.csv)."""
FIRST, OTHER = "once for each process", "other"
spent: Counter[str] = Counter()


def counted(family: Callable[..., str], fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its CPU seconds added to a family, less those of counted functions that it calls."""

    def call(*args: Any, **kwargs: Any) -> Any:
        begin, inner = time.process_time(), spent.total()
        try:
            return fn(*args, **kwargs)
        finally:
            spent[family(*args)] += time.process_time() - begin - (spent.total() - inner)

    return call


def watch() -> None:
    """Counts the functions that scoring consists of."""
    metrics.value_of = counted(lambda m, e: FAMILY_OF[m.name], metrics.value_of)  # type: ignore[assignment]
    measured.costs = counted(lambda *_: "training step", measured.costs)
    runner.pictures = counted(lambda *_: "pictures", runner.pictures)
    runner.trained = counted(lambda *_: "training", runner.trained)
    runner.train_and_evaluate = counted(lambda *_: OTHER, runner.train_and_evaluate)


def scored(spec: RunSpec, settings: Settings) -> dict[str, float]:
    """CPU seconds by family."""
    spent.clear()
    with runner.shared(spec, settings.store):
        runner.train_and_evaluate(PendingRun(spec, spec.key()), settings, Watcher(), {"status": {}, "reason": {}})
    return {family: seconds for family, seconds in spent.items() if family != "training"}


def measure(specs: list[RunSpec], runs: Path) -> pd.DataFrame:
    """One row for each run and family. What the first run needs once in a process is a run of its own."""
    settings, rows = Settings(Store(runs), torch.device("cpu")), list[list[object]]()
    head = [commit() or "", cpu_name()]
    for spec in specs:
        found = {spec.label: scored(spec, settings)}
        if not rows:
            again = scored(spec, settings)
            found = {FIRST: {key: max(0.0, value - again.get(key, 0.0)) for key, value in found[spec.label].items()}, spec.label: again}
        for name, families in found.items():
            rows += [[*head, name, len(spec.seeds), family, round(seconds, 4)] for family, seconds in families.items()]
            print(f"{name}: {sum(families.values()):.2f} s", flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def with_others(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows, after those of other commits and machines that a file has."""
    if not path.exists():
        return frame
    kept = pd.read_csv(path)
    same = (kept[COLUMNS[:2]] == frame[COLUMNS[:2]].iloc[0]).all(axis=1)
    return pd.concat([kept[~same], frame], ignore_index=True)


def page(frame: pd.DataFrame) -> str:
    """All measurements, the latest first, in Markdown."""
    parts = [HEAD]
    for (code, machine), rows in reversed(list(frame.groupby(COLUMNS[:2], sort=False))):
        parts += [f"## Commit {code}, {machine}", table(rows)]
    return "\n\n".join(parts) + "\n"


def table(frame: pd.DataFrame) -> str:
    """Runs as rows, the most expensive families first, in Markdown."""
    wide = frame.pivot_table("cpu_seconds", "run", "family", "sum", fill_value=0.0, sort=False)
    wide = wide[wide.sum().sort_values(ascending=False).index]
    wide.insert(0, "all", wide.sum(axis=1))
    wide.loc["**sum**"] = wide.sum()
    lines = [["run", *wide.columns], ["---", *["--:"] * len(wide.columns)]]
    lines += [[str(name), *(f"{value:.2f}" if value >= 0.005 else "–" for value in row)] for name, row in zip(wide.index, wide.to_numpy())]  # noqa: B905
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suite", nargs="?", default="digits", help="a suite's name or path")
    parser.add_argument("--only", nargs="*", default=(), help="labels of runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs")
    parser.add_argument("--out", type=Path, default=Path("reports/speed/families"), help="folder of seconds.csv and README.md")
    given = parser.parse_args()
    prepare()
    share(1, 1)
    plan = SuiteChoice(given.suite).plan_from(given.runs)
    watch()
    frame = measure([spec for spec in plan if not given.only or spec.label in given.only], given.runs)
    given.out.mkdir(parents=True, exist_ok=True)
    frame = with_others(frame, given.out / "seconds.csv")
    frame.to_csv(given.out / "seconds.csv", index=False)
    (given.out / "README.md").write_text(page(frame), encoding="utf-8")


if __name__ == "__main__":
    main()
