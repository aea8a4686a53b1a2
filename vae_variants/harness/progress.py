"""What a person sees while runs go on: a bar on a terminal, and a line for each run in any case."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from vae_variants.harness import Record, RunSpec, Store
from vae_variants.harness.protocols import Engine, Losses
from vae_variants.harness.runner import Here
from vae_variants.harness.spec import prepared
from vae_variants.models.base import MODELS, MeanSampler

__all__ = ["Log", "out", "plan_table", "results_table", "states"]

out = Console(width=None if sys.stdout.isatty() else 240, highlight=False, markup=False)  # labels have brackets

HEADLINES = {  # metric -> column, short enough for 80 characters in all
    "elbo": "ELBO",
    "log_likelihood": "log p(x)",
    "reconstruction_mse": "MSE",
    "sharpness_ratio": "sharp",
    "probe_accuracy": "probe",
}


class Log:
    """A watcher that writes to stderr; the time left is guessed from what the runs before took.

    With an `engine` that has made no run yet it says what makes the first one longer than the rest.
    """

    quiet = False  # set by --quiet

    def __init__(self, specs: Sequence[RunSpec], engine: Engine | None = None) -> None:
        self.engine = engine
        self.console = Console(file=sys.stderr, highlight=False, quiet=self.quiet)
        self.total, self.number, self.done = len(specs), 0, 0.0
        self.waits = self.begun = False
        self.running: dict[str, tuple[str, float]] = {}  # identity -> how a run goes on, and how much of its work is done
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task = self.progress.add_task("starting", total=sum(spec.work for spec in specs))

    def __enter__(self) -> Log:
        self.console.print(f"{self.total} run{'s' * (self.total > 1)}")
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def held(self, runs: int) -> None:
        if not self.waits:
            self.waits = True
            text = f"waiting for another command on this folder, which is at the {f'{runs} runs' if runs > 1 else 'run'} left"
            self.console.print(text, markup=False, soft_wrap=True)

    def begin(self, spec: RunSpec) -> None:
        if not self.begun:
            self.begun = True
            if text := longer(self.engine, spec, self.total - self.number):
                self.console.print(text, markup=False, soft_wrap=True)
        self.waits = False
        self.show(spec, spec.label, 0.0)

    def epoch(self, spec: RunSpec, done: int, of: int) -> None:
        self.show(spec, f"{spec.label}: epoch {done}/{of}", spec.work * done / of)

    def losses(self, spec: RunSpec, found: Losses) -> None:
        """Says nothing of them."""

    def show(self, spec: RunSpec, text: str, work: float) -> None:
        self.running[spec.identity] = text, work
        description = f"{self.number + 1}/{self.total} {', '.join(text for text, _ in self.running.values())}"
        self.progress.update(self.task, description=description, completed=self.done + sum(work for _, work in self.running.values()))

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        self.number, self.done = self.number + 1, self.done + spec.work
        self.running.pop(spec.identity, None)
        self.progress.update(self.task, completed=self.done + sum(work for _, work in self.running.values()))
        state = ", ".join(sorted(set(record.status.values())))
        parts = [state, "was there" if reused else f"{record.seconds:.1f} s", headline(record)]
        text = f"[{self.number}/{self.total}] {spec.label}: {', '.join(filter(None, parts))}"
        self.console.print(text, markup=False, soft_wrap=True)


def longer(engine: Engine | None, first: RunSpec, left: int) -> str:
    """Why the first run of each process of an engine takes longer than the rest; empty where it does not, or where no others are left."""
    jobs = str(getattr(engine, "jobs", 1))  # of a cluster it may be auto
    if engine is None or (jobs.isdecimal() and left <= int(jobs)):
        return ""
    reasons = [] if isinstance(engine, Here) else ["PyTorch is loaded"]
    labels = prepared(first.dataset, first.fidelity).labels
    if labels is not None and len(labels["train"].unique()) > 1 and issubclass(MODELS[first.configuration.values["model"]], MeanSampler):
        reasons.append("the classifier by which samples are scored is trained")
    each = "" if jobs == "1" else " of each process"
    return f"the first{each} takes longer than the rest: {', and '.join(reasons)}" if reasons else ""


def results_table(records: Sequence[Record]) -> Table:
    """One line per run and seed with the figures that one looks at first; a dash is what a model has not."""
    table = Table(box=None, pad_edge=False)
    shown = [m for m in HEADLINES if any(row["metric"] == m for record in records for row in record.rows)]
    table.add_column("variant", overflow="fold", min_width=12)  # the one that gives way on a narrow terminal
    table.add_column("seed", min_width=4)
    table.add_column("status", min_width=6)
    for metric in shown:
        table.add_column(HEADLINES[metric], justify="right", min_width=7)
    for record in records:
        bounds = {row["metric"] for row in record.rows if row["kind"] == "lower-bound"}
        for seed in record.seeds:
            texts = [figure(record.value(metric, seed), metric in bounds) for metric in shown]
            table.add_row(record.label, str(seed), record.status[str(seed)], *texts)
    return table


def figure(value: float | None, bound: bool) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{'≥ ' * bound}{value:.5g}"


def headline(record: Record) -> str:
    """The figure that one would look at first, averaged over seeds, for a line of log."""
    for metric in ("log_likelihood", "reconstruction_mse", "sharpness_ratio", "probe_accuracy"):
        values = [v for s in record.seeds if (v := record.value(metric, s)) is not None]
        if values:
            bound = any(row["metric"] == metric and row["kind"] == "lower-bound" for row in record.rows)
            return f"{metric} {'≥ ' * bound}{math.fsum(values) / len(values):.4g}"
    return ""


def plan_table(specs: Sequence[RunSpec], store: Store) -> Table:
    """What is there of each run."""
    table = Table(box=None, pad_edge=False)
    for column in ("variant", "data set", "seeds", "fidelity", "epochs", "state"):
        table.add_column(column, no_wrap=column == "variant")
    newest = store.newest(spec.identity for spec in specs)
    for spec in specs:
        record = newest[identity][1] if (identity := spec.identity) in newest else None
        done = 0 if record and not record.interrupted else store.epochs_done(spec)
        begun = [f"{done} epochs done"] if done else []
        state = ", ".join([states(record), *begun] if record else begun) or "to be run"
        epochs = str(spec.configuration.values.get("epochs", "-"))
        table.add_row(spec.label, spec.dataset, ",".join(map(str, spec.seeds)), spec.fidelity, epochs, state)
    return table


def states(record: Record) -> str:
    return ", ".join([*sorted(set(record.status.values())), *([] if record.current else ["older code"])])
