"""`bench --budget`: says what a suite takes on this machine, and writes the part of it that fits into a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_variants.cli.launch import Launch
from vae_variants.cli.options import Execution, SuiteChoice, Verbosity, seconds
from vae_variants.cli.reporting import called
from vae_variants.evaluation import fidelity
from vae_variants.harness import RunSpec, Store, Suite, load_suite
from vae_variants.harness.budget import EPOCHS, Choice, Cost, Machine, Row, choose, run_seconds, settings, total
from vae_variants.harness.choices import committed, written
from vae_variants.harness.costs import Surroundings, measure_all
from vae_variants.harness.derived import first_trials, part_of, rows_of
from vae_variants.harness.engines import Workers
from vae_variants.harness.files import make_folder, replace_file
from vae_variants.harness.plan import is_due
from vae_variants.harness.progress import in_words
from vae_variants.harness.spec import digest_of, prepared
from vae_variants.harness.store import slug
from vae_variants.registry import UserError

FOLDER = "budgets"  # of the store, for suites that were fitted into a budget
SHARE = 1 / 6  # of the budget, for measuring at most
LOOK = 10.0  # seconds of measuring without a budget
ENOUGH = 0.5  # of the runs, measured; one of 31 foretold four times what they took
REPORT = (10.0, 0.5)  # seconds of writing a report: once, and for each row


@dataclass(frozen=True)
class Found:
    """What is known of a suite before it starts. `costs` has the reason why a row has none; rows that were not measured are not there."""

    suite: Suite
    specs: Sequence[RunSpec]  # the plan
    due: Sequence[RunSpec]  # those of it that are to be made
    missing: frozenset[str]  # identities of trials
    costs: dict[str, Cost | str]
    around: Surroundings
    jobs: int

    @property
    def rows(self) -> list[Row]:
        """Those that are due and measured."""
        tuning, labels = self.suite.tuning if self.missing else None, {spec.label for spec in self.due}
        known = {label: cost for label, cost in self.costs.items() if isinstance(cost, Cost) and label in labels}
        return rows_of(self.specs, tuning, self.missing, known)

    def machine(self, rows: int) -> Machine:
        shared = max((row.cost.shared for row in self.rows), default=0.0)
        return Machine(max(1, self.jobs), self.around.start, self.around.classifier + shared, REPORT[0] + REPORT[1] * rows)


def look(choice: SuiteChoice, launch: Launch, limit: float) -> Found | None:
    """Measures the runs of a suite that are due, for so many seconds. None if nothing is due, or runs are made elsewhere."""
    suite, trials = load_suite(choice.name), list[RunSpec]()
    specs = launch.check(choice.plan_from(launch.runs, trials))
    known = Store(launch.runs).newest(
        (s.identity for s in specs), {s.identity: digest_of(s.dataset, s.fidelity) for s in specs}, brief=True
    )
    missing = frozenset(trial.identity for trial in trials) - {spec.identity for spec in specs}
    due = [s for s in specs if s.identity not in known or is_due(known[s.identity][1], launch.retry) or starts(suite, s, missing)]  # type: ignore[arg-type]
    if not due or launch.kind != "local":
        return None
    jobs = launch.engine.jobs if isinstance(launch.engine, Workers) else 0
    order = [row.label for row in sorted(rows_of(specs, None, (), {s.label: Cost() for s in due}), key=lambda row: row.importance)]
    by_label = {spec.label: spec for spec in due}
    pairs = [(by_label[label], starts(suite, by_label[label], missing)) for label in order]
    around, costs = measure_all(pairs, launch.place, jobs, tuple(launch.plugins), limit)
    found = {label: cost for label, cost in zip(order, costs, strict=True) if cost is not None}
    return Found(suite, specs, due, missing, found, around, jobs)


def starts(suite: Suite, spec: RunSpec, missing: frozenset[str]) -> list[RunSpec]:
    """The first of a run's trials that are to be made, and those that may train in one stack with it."""
    left = [trial for trial in first_trials(spec, suite.tuning) if trial.identity in missing]
    return [trial for trial in left if trial is left[0] or (trial.stack and trial.stack == left[0].stack)]


def foretell(choice: SuiteChoice, launch: Launch) -> None:
    """Says how long a suite takes, from a few steps of at least half of its runs; if there is time for fewer, it says nothing."""
    if fidelity(choice.fidelity or load_suite(choice.name).fidelity).epochs is not None:
        return
    found = look(choice, launch, LOOK)
    if found is None or len(rows := found.rows) < ENOUGH * len(found.due):
        return
    how = settings(found.due[0].fidelity, prepared(found.due[0].dataset, found.due[0].fidelity).sizes, tuning_of(found), True)[0]
    epochs = max(row.epochs for row in rows)
    every = total(rows, epochs, how, found.machine(len(found.specs))) * len(found.due) / len(rows)
    measured = f"measured on a few steps of {len(rows)} of {len(found.due)} runs"
    print(
        f"time: about {in_words(every)}, {processes(found.jobs)} ({measured}); --budget 30m fits a suite into 30 minutes", file=sys.stderr
    )


def processes(jobs: int) -> str:
    return f"{jobs} runs side by side" if jobs > 1 else "one run after another"


def tuning_of(found: Found) -> tuple[float, int] | None:
    return (found.suite.tuning.share, found.suite.tuning.extend) if found.suite.tuning and found.missing else None


def fitted(choice: SuiteChoice, execution: Execution, launch: Launch, budget: str) -> SuiteChoice:
    """The part of a suite that fits into a time, which it says, written as a suite of its own.

    If an earlier such command wrote it, it stands, so that the same command resumes.

    Raises:
        UserError: If runs are made elsewhere, or nothing fits.
    """
    limit, begin = seconds(budget, "budget") or 0.0, time.monotonic()
    if launch.kind != "local":
        raise UserError("--budget measures this machine, so it goes with --engine local")
    path = execution.runs / FOLDER / f"{slug(called(choice.name, choice.changes, execution.plugin or ())[1])}-{slug(budget)}.toml"
    if path.is_file():
        print(f"budget {budget}: resumes {path}, which an earlier command chose; to choose again, remove it", file=sys.stderr)
        return choice.of(str(path))
    found = look(choice, launch, SHARE * limit)
    if found is None:
        print(f"budget {budget}: all runs of the suite are finished", file=sys.stderr)
        return choice
    preset, sizes = found.specs[0].fidelity, prepared(found.specs[0].dataset, found.specs[0].fidelity).sizes  # as they were measured
    most = max((spec.configuration.values.get("epochs", 0) for spec in found.specs), default=0)
    machine, parts = found.machine(len(found.specs)), EPOCHS if choice.epochs is None else EPOCHS[:1]
    ways = settings(preset, sizes, tuning_of(found), choice.fidelity is not None)
    chosen = choose(found.rows, limit - (time.monotonic() - begin), most, ways, machine, parts)
    replaced = {key: each for key, each in choice.changes.items() if key in ("dataset", "seeds", "precision")}
    replaced |= {"fidelity": chosen.setting.preset, "epochs": chosen.epochs}
    make_folder(path.parent)
    replace_file(path, part_of(found.suite, chosen.labels, replaced, bool(chosen.setting.share)).encode())
    if found.suite.source and choice.tune == "auto" and (before := committed(found.suite.source.path)):
        replace_file(path.with_suffix(".tuning.json"), written(before).encode())
    say(found, chosen, budget, path, time.monotonic() - begin)
    return choice.of(str(path))


def say(found: Found, chosen: Choice, budget: str, path: Path, taken: float) -> None:
    """What is going to run, how long each row and all of it takes, and what is left out and why."""
    if Verbosity.quiet:
        return
    rows = {row.label: row for row in found.rows}
    more = f"{chosen.epochs} epochs, {chosen.setting.words}"
    print(f"budget {budget}: {len(chosen.labels)} of {len(found.specs)} runs, {more}", file=sys.stderr)
    for label in chosen.labels:
        each = run_seconds(rows[label], chosen.epochs, chosen.setting)
        print(f"  {label}: {in_words(each)}", file=sys.stderr)
    reasons = {label: cost for label, cost in found.costs.items() if isinstance(cost, str)} | dict(chosen.left)
    for spec in found.specs:
        if spec.label not in chosen.labels:
            print(f"  left out: {spec.label}: {reasons.get(spec.label, 'there was no time to measure it')}", file=sys.stderr)
    print(f"time: about {in_words(chosen.seconds)} from now, {processes(found.jobs)}; measuring took {in_words(taken)}", file=sys.stderr)
    print(f"the choice is the suite {path}; the same command resumes it", file=sys.stderr)
