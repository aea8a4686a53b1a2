"""What a person sees while runs are made: a bar on a terminal, a line for each run, and tables of plans and results."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from vae_variants.harness.engines import Engine, InProcess
from vae_variants.harness.protocols import Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.models.base import MODELS, MeanSampler
from vae_variants.registry import visible

GUESS = 0.01  # weight of the guess, where a run has 1
HEADLINES = {  # metric -> column, short enough for 80 characters in all
    "elbo": "ELBO",
    "log_likelihood": "log p(x)",
    "reconstruction_mse": "MSE",
    "sharpness_ratio": "sharp",
    "probe_accuracy": "probe",
}


class Terminal(Console):
    """A console on which no text can control the terminal. Labels have brackets, so that there is no markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


out = Terminal(width=None if sys.stdout.isatty() else 240)


class Left(ProgressColumn):
    """The remaining time, or dashes."""

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        super().__init__()
        self.seconds = seconds

    def render(self, task: Task) -> Text:
        left = None if (seconds := self.seconds()) is None else max(0, round(seconds))
        shown = "-:--:--" if left is None else f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        return Text(shown, style="progress.remaining")


class Log(Watcher):
    """A watcher that writes to stderr. It estimates the remaining time from the runs before.

    Given an `engine` that has made no run yet, it also says why the first run takes longer than the rest. `seconds` is how long the runs
    take one after another, as far as earlier records tell.
    """

    quiet = False  # set by --quiet

    def __init__(self, specs: Sequence[RunSpec], engine: Engine | None = None, seconds: float | None = None) -> None:
        self.seconds = seconds / max(1, engine.capacity) if seconds and engine else seconds
        self.end_expected = time.monotonic() + self.seconds if self.seconds else None
        self.unmade, self.made = {spec.identity: spec.work for spec in specs}, list[tuple[float, float]]()  # work, seconds
        self.engine, self.first, self.told_of_waiting = engine, True, False
        self.console = Terminal(file=sys.stderr, soft_wrap=True, quiet=self.quiet)
        self.total, self.number, self.done = len(specs), 0, 0.0
        self.running: dict[str, tuple[str, float]] = {}  # identity -> description, and how much of its work is done
        left = (TimeElapsedColumn(), TextColumn("left"), Left(self.left))
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), *left)
        self.progress = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.work = sum(spec.work for spec in specs)
        self.task = self.progress.add_task("starting", total=self.work)

    def __enter__(self) -> Log:
        about = f", about {in_words(self.seconds)}" if self.seconds else ""
        self.console.print(f"{self.total} run{'s' * (self.total > 1)}{about}")
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def waiting(self, runs: int) -> None:
        if not self.told_of_waiting:
            self.told_of_waiting = True
            self.console.print(f"waiting: another command is making the remaining {f'{runs} runs' if runs > 1 else 'run'}")

    def begin(self, spec: RunSpec) -> None:
        if self.first and (text := longer_first(self.engine, spec, self.total - self.number)):
            self.console.print(text)
        self.first = self.told_of_waiting = False
        self.show(spec, spec.label, 0.0)

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        self.show(spec, f"{spec.label}: epoch {done}/{of}", spec.work * done / of)

    def show(self, spec: RunSpec, text: str, work: float) -> None:
        self.running[spec.identity] = text, work
        self.update(f"{self.number + 1}/{self.total} {', '.join(text for text, _ in self.running.values())}")

    def update(self, description: str | None = None) -> None:
        completed = self.done + sum(work for _, work in self.running.values())
        self.progress.update(self.task, completed=completed, description=description and visible(description))

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        self.number, self.done = self.number + 1, self.done + spec.work
        work = self.unmade.pop(spec.identity, spec.work)
        if not reused:
            self.made.append((work, record.seconds))
            together = 1 if self.engine is None else min(self.engine.capacity, max(1, len(self.unmade)))
            self.end_expected = time.monotonic() + remaining(self.made, list(self.unmade.values())) / together
        self.running.pop(spec.identity, None)
        self.update()
        parts = [*sorted(set(record.status.values())), "cached" if reused else f"{record.seconds:.1f} s", headline(record)]
        self.console.print(f"[{self.number}/{self.total}] {spec.label}: {', '.join(filter(None, parts))}{self.left_in_words()}")

    def left(self) -> float | None:
        """Seconds until all runs are made, by those that were made, before the first by earlier records."""
        return None if self.end_expected is None else self.end_expected - time.monotonic()

    def left_in_words(self) -> str:
        """How long the remaining runs take; empty on a terminal, where the bar says so."""
        if self.console.is_terminal or not self.made or not self.unmade:
            return ""
        return f"; about {in_words(max(0.0, self.left() or 0.0))} left"


def remaining(made: Sequence[tuple[float, float]], works: Sequence[float]) -> float:
    """Seconds of runs of these works, one after another: each has a time of its own, for its scores, and one by its work.

    Both are fitted to the (work, seconds) of the runs that were `made`, from the guess that they are equal in a mean run of those.
    """
    mean = max(float(np.mean([work for work, _ in made])), 1e-9)
    rows = np.array([*([1.0, work / mean] for work, _ in made), [GUESS, -GUESS]])
    seconds = np.array([*(s for _, s in made), 0.0])
    one_alone = [column @ seconds / (column @ column) * unit for column, unit in zip(rows.T, np.eye(2), strict=True)]
    fits = [np.linalg.lstsq(rows, seconds)[0], *one_alone]
    fixed, by_work = next(fit for fit in fits if (fit >= 0).all())
    return float(fixed * len(works) + by_work * sum(works) / mean)


def in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def longer_first(engine: Engine | None, first: RunSpec, left: int) -> str:
    """Why the first run of each process takes longer than the rest; empty if it does not, or if there is no other run."""
    if engine is None or left <= engine.capacity:
        return ""
    reasons = [] if isinstance(engine, InProcess) else ["PyTorch is loaded"]
    labels = prepared(first.dataset, first.fidelity).labels
    if labels is not None and len(labels["train"].unique()) > 1 and issubclass(MODELS[first.configuration.values["model"]], MeanSampler):
        reasons.append("the classifier that scores samples is trained")
    each = "" if engine.capacity == 1 else " of each process"
    return f"the first{each} takes longer than the rest: {', and '.join(reasons)}" if reasons else ""


def results_table(records: Sequence[Record]) -> Table:
    """One line for each run and seed with the main metrics; a dash for metrics that the model does not have."""
    table = Table(box=None, pad_edge=False)
    shown = [m for m in HEADLINES if any(row["metric"] == m for record in records for row in record.rows)]
    table.add_column("variant", overflow="fold", min_width=12)  # the column that shrinks on a narrow terminal
    table.add_column("seed", min_width=4)
    table.add_column("status", min_width=6)
    for metric in shown:
        table.add_column(HEADLINES[metric], justify="right", min_width=7)
    for record in records:
        for seed in record.seeds:
            texts = [figure(record, metric, [record.value(metric, seed)], 5) or "-" for metric in shown]
            table.add_row(record.label, str(seed), record.status[str(seed)], *texts)
    return table


def figure(record: Record, metric: str, values: Sequence[float | None], digits: int) -> str:
    """The mean of the values, marked if the metric is a lower bound; empty if there is none."""
    known = [value for value in values if value is not None]
    bound = any(row["metric"] == metric and row["kind"] == "lower-bound" for row in record.rows)
    return f"{'≥ ' * bound}{math.fsum(known) / len(known):.{digits}g}" if known else ""


def headline(record: Record) -> str:
    """The first of the main metrics that the run has, averaged over its seeds."""
    for metric in ("log_likelihood", "reconstruction_mse", "sharpness_ratio", "probe_accuracy"):
        if text := figure(record, metric, [record.value(metric, seed) for seed in record.seeds], 4):
            return f"{metric} {text}"
    return ""
