"""`vae-variants bench`: a suite, from its runs to its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vae_variants.cli.options import Baseline, Budget, DryRun, Execution, Reports, SuiteChoice, Verbosity, guarded
from vae_variants.cli.run import finish
from vae_variants.cli.status import show_plan
from vae_variants.plugins import load_plugins

if TYPE_CHECKING:
    from vae_variants.harness import Record, RunSpec


METRICS = ("reconstruction_mse", "probe_accuracy")  # after log_likelihood
SHOWN = 3  # variants for each metric


@guarded
def bench(
    *,
    choice: SuiteChoice,
    budget: Budget = None,
    execution: Execution,
    reports: Reports = Path("reports"),
    baseline: Baseline = None,
    dry_run: DryRun = False,
) -> None:
    """Run a suite and write its report.

    Finished runs are reused. The exit code is 1 if a run failed; the report is written all the same. With --budget baselines come first,
    then one variant of each family, then the others. All rows have the same epochs. The part of the suite that fits is written to
    budgets/ in the folder of runs, so that the same command resumes it.
    """
    from vae_variants.cli.budget import announce, fitted
    from vae_variants.cli.reporting import make_report
    from vae_variants.evaluation.fidelities import VALIDATION
    from vae_variants.harness import Store

    load_plugins(execution.plugin or ())
    launch = execution.launch()
    if budget is not None:
        choice = fitted(choice, execution, launch, budget)
    if dry_run:
        trials: list[RunSpec] = []
        show_plan(launch.check(choice.plan_from(execution.runs, trials)), Store(execution.runs), launch)
        if trials := [trial for trial in trials if trial.fidelity == VALIDATION.name]:
            print(f"tuning: at least {len(trials)} short trials come first, to choose options on validation images; without: --tune none")
        return
    if budget is None and not Verbosity.quiet:
        announce(choice, launch)
    plan = choice.plan(launch.choose)
    records = launch.execute(plan)
    if not Verbosity.quiet:
        show_best(records)
    make_report(choice.name, plan, execution.runs, reports, choice.changes, baseline, execution.plugin or ())
    finish(records)


def show_best(records: Sequence[Record]) -> None:
    """The best three means by log p(x) and by each of `METRICS`, of trained variants; nats of each pixel type apart."""
    from rich.table import Table

    from vae_variants.api import rank
    from vae_variants.harness.progress import out

    trained = [record for record in records if "epochs" in record.values]
    groups = {f"log_likelihood, {r.support}": [one for one in trained if one.support == r.support] for r in trained}
    table = Table("metric", f"best {SHOWN} means over seeds, and the 95 % interval of their ranks", box=None, pad_edge=False)
    for name, group in {**groups, **dict.fromkeys(METRICS, trained)}.items():
        metric = name.partition(",")[0]
        if any(row["metric"] == metric and row["value"] is not None for record in group for row in record.rows):
            best = [(label, mean, f" ({ranks[0]}-{ranks[1]})" if ranks else "") for label, mean, ranks in rank(group, metric)[:SHOWN]]
            table.add_row(name, "\n".join(f"{label} {mean:.4g}{ranks}" for label, mean, ranks in best))
    out.print(table)
