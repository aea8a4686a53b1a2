"""`vae-variants report`: the report of a suite, without running anything."""

from pathlib import Path
from typing import Annotated

from vae_variants.cli.options import Baseline, Plugin, Records, Reports, Runs, SuiteChoice, alone, flag, guarded
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

MARK = "With --records: mark the runs that are stale by today's code, instead of those that were when the report was written"


@guarded
def report(
    *,
    choice: SuiteChoice,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    records: Records = None,
    mark_stale: Annotated[bool, flag(MARK, "--mark-stale")] = False,
    reports: Reports = Path("reports"),
    baseline: Baseline = None,
) -> None:
    """Write the report of a suite from finished runs.

    Each report has an archive of its records and pictures beside it. With --records the report is written again from that alone, the
    same bytes as before.
    """
    from vae_variants.cli.reporting import announce, make_report, remake_report

    load_plugins(plugin or ())
    alone(records, runs)
    if records is not None:
        remake_report(choice.name, records, reports, choice.changes, baseline, plugin or (), mark_stale)
        return
    if mark_stale:
        raise UserError("--mark-stale needs --records; a report from finished runs marks those that are stale")
    announce(make_report(choice.name, choice.plan_from(runs), runs, reports, choice.changes, baseline, plugin or ()))
