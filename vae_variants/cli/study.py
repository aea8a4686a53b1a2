"""`vae-variants study`: claims, put to the test."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_variants.cli.options import (
    SEEDS,
    Dataset,
    Device,
    Fidelity,
    Jobs,
    Plugin,
    Reports,
    Runs,
    Verbosity,
    argument,
    flag,
    guarded,
    how,
    what,
)
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError, closest

if TYPE_CHECKING:
    from vae_variants.studies.record import StudyRecord


RETRY = ("never", "all")


@guarded
def study(
    *,
    name: Annotated[list[str] | None, argument("Studies (all: vae-variants list studies)", show_default="all of them")] = None,
    dataset: Dataset = "digits",
    seeds: Annotated[str | None, what(SEEDS, metavar="SEEDS", show_default="those of each study")] = None,
    fidelity: Fidelity = "full",
    device: Device = "auto",
    jobs: Jobs = "1",
    retry: Annotated[str, how("Studies to repeat: never, all", metavar="WHICH", choices=RETRY)] = "never",
    page_only: Annotated[
        bool, flag("Judge the tables in the reports folder again and rewrite its pages, without measuring", "--page-only")
    ] = False,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Test claims about VAEs and write a page of verdicts.

    Finished measurements are reused. The exit code is 1 if a study failed.
    """
    from vae_variants.cli.launch import Launch
    from vae_variants.harness import Store, parse_seeds
    from vae_variants.studies import STUDIES, Lab, load_claims  # imports matplotlib
    from vae_variants.studies.page import rewrite_claims, write_claims
    from vae_variants.studies.record import run_study
    from vae_variants.studies.study import chosen

    load_claims()
    load_plugins(plugin or ())
    if retry not in RETRY:
        raise UserError(closest("retry", retry, RETRY))
    names = chosen(name or ())
    failed = False
    if page_only:
        for record in rewrite_claims(names, reports):
            print(f"\n{record.name} on {record.dataset['name']}: {record.claim}")
            show_verdict(record)
            failed |= record.judgement is None
        if failed:
            raise typer.Exit(1)
        return
    launch = Launch(runs, device, jobs, plugins=plugin or ())
    lab = Lab(dataset, fidelity, None if seeds is None else parse_seeds(seeds), Store(runs), launch.place, launch.engine)
    lab.say(f"data {dataset}: {lab.dataset.described}")
    given = {"dataset": dataset, "seeds": seeds, "fidelity": None if fidelity == "full" else fidelity}
    options = [part for key, value in given.items() if value is not None for part in (f"--{key}", value)]
    options += [part for path in plugin or () for part in ("--plugin", str(path))]
    with closing(launch.engine):
        for each in names:
            record, found = run_study(each, lab, shlex.join(["vae-variants", "study", each, *options]), fresh=retry == "all")
            record = write_claims(record, found, reports)
            print(f"\n{each}: {STUDIES[each].claim}")
            failed |= record.judgement is None
            show_verdict(record)
    print(f"\nwrote {reports / 'claims'}")
    if failed:
        raise typer.Exit(1)


def show_verdict(record: StudyRecord) -> None:
    """The verdict, after the effects that it rests on."""
    from rich.table import Table

    from vae_variants.harness.progress import out
    from vae_variants.studies.page import HEADER, effects_table, tried

    if record.judgement is None:
        print(f"failed: {record.error}")
        return
    if not Verbosity.quiet:
        table = Table(*HEADER, box=None, pad_edge=False)
        for row in effects_table(record.judgement.effects):
            table.add_row(*row)
        out.print(table)
        print()
    print(f"{tried(record) or 'Verdict:'} {record.judgement.verdict.value}. {record.judgement.reason}")
