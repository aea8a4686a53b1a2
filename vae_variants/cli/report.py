"""`vae-variants report`: the report of a suite, without running anything."""

from pathlib import Path

from vae_variants.cli.options import Baseline, Plugin, Reports, Runs, SuiteChoice, guarded
from vae_variants.plugins import load_plugins


@guarded
def report(
    *,
    choice: SuiteChoice,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    baseline: Baseline = None,
) -> None:
    """Write the report of a suite from finished runs."""
    from vae_variants.cli.reporting import make_report

    load_plugins(plugin or ())
    make_report(choice.suite, choice.plan_from(runs), runs, reports, choice.changes, baseline, plugin or ())
