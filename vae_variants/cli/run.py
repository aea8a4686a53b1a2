"""`vae-variants run`: variants and configurations, without a suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vae_variants.cli.options import Dataset, DryRun, Epochs, Execution, Fidelity, Precision, Seeds, Verbosity, argument, guarded
from vae_variants.cli.status import show_plan
from vae_variants.plugins import load_plugins

if TYPE_CHECKING:
    from vae_variants.harness import Record


SELECTOR = 'Variants, or configurations such as "vae[latent=2|10]"'


@guarded
def run(
    selector: Annotated[list[str], argument(SELECTOR)],
    *,
    dataset: Dataset = "digits",
    seeds: Seeds = "5",
    fidelity: Fidelity = "full",
    epochs: Epochs = None,
    precision: Precision = None,
    execution: Execution,
    dry_run: DryRun = False,
) -> None:
    """Train and score variants or configurations.

    Finished runs are reused. The exit code is 1 if a run failed.
    """
    from vae_variants.harness import RunSpec, Store, parse_seeds
    from vae_variants.harness.progress import out, results_table
    from vae_variants.harness.spec import capped
    from vae_variants.variants import configure

    load_plugins(execution.plugin or ())
    configurations = [c for text in selector for c in configure(text, capped({}, fidelity))]
    changed = {key: value for key, value in {"epochs": epochs, "precision": precision}.items() if value is not None}
    specs = [RunSpec(c.with_defaults(**changed), dataset, parse_seeds(seeds), fidelity) for c in configurations]
    launch = execution.launch()
    if dry_run:
        show_plan(launch.check(specs), Store(execution.runs), launch)
        return
    records = launch.execute(specs)
    if Verbosity.quiet:
        found = Store(execution.runs).newest(spec.identity for spec in specs)
        print(*(folder for folder, _ in found.values()), sep="\n")
    else:
        out.print(results_table(records))
    finish(records)


def finish(records: Sequence[Record]) -> None:
    """Exits with code 1 if a run failed; with -v the tracebacks come first."""
    if Verbosity.verbose:
        for record in records:
            if trace := record.failure.get("traceback"):
                print(f"{record.label}:\n{trace}", file=sys.stderr)
    if not all(record.ok for record in records):
        raise typer.Exit(1)
