"""What a person sees while runs are made: a bar on a terminal, a line for each run, and tables of plans and results."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from vae_variants.harness.engines import Engine, InProcess
from vae_variants.harness.protocols import Watcher
from vae_variants.harness.record import Record
from vae_variants.harness.spec import RunSpec, prepared
from vae_variants.models.base import MODELS, MeanSampler
from vae_variants.registry import visible

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


class Left(TimeRemainingColumn):
    """The remaining time; until the speed is known, what is left of the `seconds` expected, if these are known."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self.seconds = seconds

    def render(self, task: Task) -> Text:
        if task.time_remaining is not None or not self.seconds:
            return super().render(task)
        left = max(0, round(self.seconds - (task.elapsed or 0.0)))
        return Text(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}", style="progress.remaining")


class Log(Watcher):
    """A watcher that writes to stderr. It estimates the remaining time from the runs before.

    Given an `engine` that has made no run yet, it also says why the first run takes longer than the rest. `seconds` is how long the runs
    take one after another, as far as earlier records tell.
    """

    quiet = False  # set by --quiet

    def __init__(self, specs: Sequence[RunSpec], engine: Engine | None = None, seconds: float | None = None) -> None:
        self.seconds = seconds / max(1, engine.capacity) if seconds and engine else seconds
        self.begun, self.made = time.monotonic(), 0.0
        self.engine, self.first, self.told_of_waiting = engine, True, False
        self.console = Terminal(file=sys.stderr, soft_wrap=True, quiet=self.quiet)
        self.total, self.number, self.done = len(specs), 0, 0.0
        self.running: dict[str, tuple[str, float]] = {}  # identity -> description, and how much of its work is done
        left = (TimeElapsedColumn(), TextColumn("left"), Left(self.seconds))
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
        self.made += 0.0 if reused else spec.work
        self.running.pop(spec.identity, None)
        self.update()
        parts = [*sorted(set(record.status.values())), "cached" if reused else f"{record.seconds:.1f} s", headline(record)]
        self.console.print(f"[{self.number}/{self.total}] {spec.label}: {', '.join(filter(None, parts))}{self.left()}")

    def left(self) -> str:
        """How long the remaining runs take, by the time of those made until now; empty on a terminal, where the bar says so."""
        if self.console.is_terminal or not self.made or self.number >= self.total:
            return ""
        return f"; about {in_words((time.monotonic() - self.begun) / self.made * (self.work - self.done))} left"


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
