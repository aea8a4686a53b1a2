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
    from vae_variants.analysis.advice import Choice
    from vae_variants.harness import Record, RunSpec


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
    from vae_variants.cli.budget import fitted, foretell
    from vae_variants.cli.reporting import announce, make_report
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
        foretell(choice, launch)
    plan = choice.plan(launch.choose)
    records = launch.execute(plan)
    folder = make_report(choice.name, plan, execution.runs, reports, choice.changes, baseline, execution.plugin or ())
    if records and not Verbosity.quiet:
        print(*last_lines(records), sep="\n")
    announce(folder)
    finish(records)


def last_lines(records: Sequence[Record]) -> list[str]:
    """The best by likelihood, reconstruction and samples, and latents, in three lines, then a line of what failed or is flagged."""
    from vae_variants.analysis.advice import advise
    from vae_variants.analysis.entries import SUPPORTS, entries_of
    from vae_variants.analysis.notes import listed

    entries = entries_of((record.label, record, dict) for record in records)
    choices = advise(entries).choices
    likelihood = [c for c in choices if c.metric == "log_likelihood"]
    sizes = {title: sum(bool(e.values("log_likelihood")) and e.record.support == s for e in entries) for s, title in SUPPORTS.items()}
    likelihood.sort(key=lambda c: -sizes[c.purpose.partition(", ")[2]])
    more = len(likelihood) - 1
    others = f" ({more} other pixel type{'s' * (more > 1)}: see the page)" if more > 0 else ""
    quality = [said(c) for c in choices if c.purpose in ("Reconstruction", "Samples")]
    lines = [f"{said(likelihood[0])}{others}" if likelihood else "Likelihood: no run has one", "; ".join(quality)]
    lines += ["; ".join(said(c) for c in choices if c.purpose.startswith(("Latents", "Disentanglement")))]
    counted = []
    for what, names in (("failed", [r.label for r in records if not r.ok]), ("flagged", [e.label for e in entries if e.flaws])):
        counted.append(f"{len(names)} {what}" + (f" ({listed(names, '')})" if names else ""))
    return [*lines, f"Of {len(records)} runs: {'; '.join(counted)}"]


def said(choice: Choice) -> str:
    """The purpose and what is best for it, in a few words."""
    purpose = choice.purpose.replace(" and compression", "")
    if not choice.best:
        return f"{purpose}: {choice.text.partition('. ')[0].rstrip('.').replace('`', '')}"
    if choice.verdict == "none":
        return f"{purpose}: {choice.best[0]}, with no other to compare"
    tied = len(choice.best) - 1
    return f"{purpose}: {choice.best[0]}{f', tied with {tied} other' + 's' * (tied > 1) if tied else ''}"
