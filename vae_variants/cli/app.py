"""The command line. Help needs no torch, whose import takes seconds: commands import what they work with when they begin."""

from __future__ import annotations

import json
import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vae_variants.cli.check import check
from vae_variants.cli.compare import compare
from vae_variants.cli.examples import examples
from vae_variants.cli.export import export
from vae_variants.cli.new import new
from vae_variants.cli.options import (
    Address,
    Baseline,
    Cpus,
    Dataset,
    Device,
    DryRun,
    EngineOption,
    Epochs,
    Fidelity,
    Gpus,
    Jobs,
    LogOption,
    Memory,
    Plugin,
    Precision,
    Reports,
    RetryOption,
    Runs,
    Seeds,
    SuiteFidelity,
    Timeout,
    beginning,
    guarded,
)
from vae_variants.cli.status import status
from vae_variants.registry import UserError, closest, load_plugins, registry_of

if TYPE_CHECKING:
    from vae_variants.harness import Record

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains variants of the variational autoencoder, scores all of them alike, and writes report tables.",
    epilog=examples(""),
)

KINDS = ("variants", "datasets", "metrics", "likelihoods", "objectives", "models", "networks", "studies", "suites")


@app.command("list", epilog=examples("list"))
@guarded
def list_(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))] = "variants",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="of metrics: the page METRICS.md")] = False,
    plugin: Plugin = None,
) -> None:
    """What there is: variants, datasets, metrics, likelihoods, objectives, models, networks, studies or suites."""
    from rich.table import Table

    from vae_variants.evaluation import METRICS
    from vae_variants.harness import load_suite, suite_files
    from vae_variants.harness.progress import out
    from vae_variants.variants import VARIANTS

    load_plugins(plugin or [])
    if kind not in KINDS:
        raise UserError(closest("kind", kind, KINDS))
    if markdown:
        if kind != "metrics":
            raise UserError("--markdown is for metrics alone")
        from vae_variants.report.metrics_page import metrics_page  # brings pandas and matplotlib

        print(metrics_page(METRICS.values()), end="")
        return
    if kind == "suites":
        entries: list[dict[str, Any]] = [{"name": name, "description": load_suite(name).description} for name in suite_files()]
    else:
        registry = registry_of("study" if kind == "studies" else kind.removesuffix("s"))
        entries = [{"name": name, "description": registry.describe(name)} for name in registry]
    for entry in entries:
        if kind == "variants":
            variant = VARIANTS[entry["name"]]
            entry |= {"reference": variant.reference, "config": dict(variant.config)}
        elif kind == "metrics":
            metric = METRICS[entry["name"]]
            entry |= {"unit": metric.unit, "better": metric.better}
    if as_json:
        print(json.dumps(entries, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in [key for key in entries[0] if key != "config"]:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for entry in entries:
        table.add_row(*(str(value) for key, value in entry.items() if key != "config"))
    out.print(table)


def finish(records: list[Record]) -> None:
    if not all(record.ok for record in records):
        raise typer.Exit(1)


@app.command(epilog=examples("run"))
@guarded
def run(
    selector: Annotated[list[str], typer.Argument(help='variants, or configurations such as "vae[likelihood=gaussian,latent=2|10]"')],
    dataset: Dataset = "digits",
    seeds: Seeds = "5",
    fidelity: Fidelity = "full",
    epochs: Epochs = None,
    precision: Precision = None,
    device: Device = "auto",
    engine: EngineOption = "local",
    address: Address = None,
    cpus: Cpus = 1,
    gpus: Gpus = 1.0,
    jobs: Jobs = "1",
    timeout: Timeout = None,
    memory: Memory = "auto",
    retry: RetryOption = "never",
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    log: LogOption = None,
    dry_run: DryRun = False,
) -> None:
    """Train and score variants or configurations."""
    from vae_variants.cli.launch import Launch
    from vae_variants.harness import RunSpec, Store, parse_seeds
    from vae_variants.harness.progress import out, plan_table, results_table
    from vae_variants.harness.spec import capped
    from vae_variants.variants import configure

    load_plugins(plugin or [])
    configurations = [c for text in selector for c in configure(text, capped({}, fidelity))]
    changed = {key: value for key, value in {"epochs": epochs, "precision": precision}.items() if value is not None}
    configurations = [c.with_defaults(**changed) for c in configurations]
    specs = [RunSpec(c, dataset, parse_seeds(seeds), fidelity) for c in configurations]
    launch = Launch(runs, device, jobs, retry, timeout, memory, engine, address, plugin or [], cpus, gpus, log)
    if dry_run:
        out.print(plan_table(launch.check(specs), Store(runs)))
        return
    records = launch.execute(specs)
    out.print(results_table(records))
    finish(records)


@app.command(epilog=examples("bench"))
@guarded
def bench(
    suite: Annotated[str, typer.Argument(help="a suite's name (`list suites`), or the path of its .toml")] = "digits",
    dataset: Annotated[str | None, typer.Option(help="instead of the suite's")] = None,
    seeds: Annotated[str | None, typer.Option(help="instead of the suite's")] = None,
    fidelity: SuiteFidelity = None,
    epochs: Epochs = None,
    precision: Precision = None,
    device: Device = "auto",
    engine: EngineOption = "local",
    address: Address = None,
    cpus: Cpus = 1,
    gpus: Gpus = 1.0,
    jobs: Jobs = "1",
    timeout: Timeout = None,
    memory: Memory = "auto",
    retry: RetryOption = "never",
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    log: LogOption = None,
    baseline: Baseline = None,
    dry_run: DryRun = False,
) -> None:
    """Run what is missing of a suite, then write its report."""
    from vae_variants.cli.launch import Launch
    from vae_variants.cli.reporting import make_report
    from vae_variants.harness import Store, load_suite
    from vae_variants.harness.progress import out, plan_table

    load_plugins(plugin or [])
    given: dict[str, Any] = {"dataset": dataset, "seeds": seeds, "fidelity": fidelity, "epochs": epochs, "precision": precision}
    plan = load_suite(suite).plan(**given)
    launch = Launch(runs, device, jobs, retry, timeout, memory, engine, address, plugin or [], cpus, gpus, log)
    if dry_run:
        out.print(plan_table(launch.check(plan), Store(runs)))
        return
    records = launch.execute(plan)
    make_report(suite, plan, runs, reports, given, baseline, plugin or ())
    finish(records)


@app.command(epilog=examples("report"))
@guarded
def report(
    suite: Annotated[str, typer.Argument(help="a suite's name (`list suites`), or the path of its .toml")] = "digits",
    dataset: Annotated[str | None, typer.Option(help="instead of the suite's")] = None,
    seeds: Annotated[str | None, typer.Option(help="instead of the suite's")] = None,
    fidelity: SuiteFidelity = None,
    epochs: Epochs = None,
    precision: Precision = None,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
    baseline: Baseline = None,
) -> None:
    """Write a suite's report from the records that there are."""
    from vae_variants.cli.reporting import make_report
    from vae_variants.harness import load_suite

    load_plugins(plugin or [])
    given: dict[str, Any] = {"dataset": dataset, "seeds": seeds, "fidelity": fidelity, "epochs": epochs, "precision": precision}
    plan = load_suite(suite).plan(**given)
    make_report(suite, plan, runs, reports, given, baseline, plugin or ())


@app.command(epilog=examples("study"))
@guarded
def study(
    name: Annotated[list[str] | None, typer.Argument(help="studies (`list studies`); all of them unless named")] = None,
    dataset: Dataset = "digits",
    seeds: Annotated[str | None, typer.Option(help="instead of each study's")] = None,
    fidelity: Fidelity = "full",
    device: Device = "auto",
    jobs: Jobs = "1",
    retry: Annotated[str, typer.Option(help="make again: never; all")] = "never",
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Put claims to the test: measure what is missing, judge, and write the page of claims."""
    from rich.table import Table

    from vae_variants.cli.launch import Launch
    from vae_variants.harness import Store, parse_seeds
    from vae_variants.harness.progress import out
    from vae_variants.studies import STUDIES, Lab, load_claims  # bring matplotlib
    from vae_variants.studies.page import TRIED, effects_tables, write_claims
    from vae_variants.studies.record import run_study
    from vae_variants.studies.study import chosen

    load_claims()
    load_plugins(plugin or [])
    if retry not in ("never", "all"):
        raise UserError(closest("retry", retry, ("never", "all")))
    names = chosen(name or [])
    launch = Launch(runs, device, jobs, plugins=plugin or [])
    lab = Lab(dataset, fidelity, None if seeds is None else parse_seeds(seeds), Store(runs), launch.place, launch.engine)
    given = {"dataset": dataset, "seeds": seeds, "fidelity": None if fidelity == "full" else fidelity}
    options = [part for key, value in given.items() if value is not None for part in (f"--{key}", value)]
    options += [part for path in plugin or [] for part in ("--plugin", str(path))]
    failed = False
    with closing(launch.engine):
        for each in names:
            record, found = run_study(each, lab, shlex.join(["vae-variants", "study", each, *options]), fresh=retry == "all")
            record = write_claims(record, found, reports)
            print(f"\n{each}: {STUDIES[each].claim}")
            if record.judgement is None:
                failed = True
                print(f"failed: {record.error}")
                continue
            for header, rows in reversed(effects_tables(record.judgement.effects)):  # what decides comes last, where one looks
                table = Table(box=None, pad_edge=False)
                for column in header:
                    table.add_column(column, overflow="fold")
                for row in rows:
                    table.add_row(*row)
                out.print(table)
                print()
            print(f"{TRIED} It would be:" if record.fidelity.startswith("smoke") else "Verdict:", end=" ")
            print(f"{record.judgement.verdict.value}. {record.judgement.reason}")
    print(f"\nwrote {reports / 'claims'}")
    if failed:
        raise typer.Exit(1)


app.command(epilog=examples("status"))(status)
app.command(epilog=examples("compare"))(compare)
app.command(epilog=examples("check"))(check)
app.command(epilog=examples("new"))(new)
app.command(epilog=examples("export"))(export)


def begin() -> None:
    """What the process of a command does first; its help does without."""
    from vae_variants.process import prepare, stoppable

    stoppable()
    prepare()


def main() -> None:
    """Entry point of `vae-variants`."""
    beginning.append(begin)
    app()
