"""What of a suite is done."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_variants.cli.options import Plugin, Runs, SuiteFidelity, guarded
from vae_variants.plugins import load_plugins

if TYPE_CHECKING:
    from vae_variants.harness import Store

__all__ = ["status"]


@guarded
def status(
    suite: Annotated[str, typer.Argument(help="a suite's name (`list suites`), or the path of its .toml")] = "digits",
    dataset: Annotated[str | None, typer.Option(help="instead of the suite's")] = None,
    seeds: Annotated[str | None, typer.Option(help="instead of the suite's")] = None,
    fidelity: SuiteFidelity = None,
    planned: Annotated[bool, typer.Option("--planned", help="instead of a suite: what was ever planned in the folder of records")] = False,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
) -> None:
    """What of a suite is done, failed, begun or missing."""
    from vae_variants.harness import Store, load_suite, unique
    from vae_variants.harness.progress import out, plan_table

    load_plugins(plugin or [])
    if planned:
        show_planned(Store(runs))
        return
    plan, store = load_suite(suite).plan(dataset=dataset, seeds=seeds, fidelity=fidelity), Store(runs)
    out.print(plan_table(unique(plan), store))
    if not store.newest(spec.identity for spec in plan):
        given = {"dataset": dataset, "seeds": seeds, "fidelity": fidelity}
        options = [part for key, value in given.items() if value is not None for part in (f"--{key}", value)]
        options += [part for path in plugin or [] for part in ("--plugin", str(path))]
        options += [] if runs == Path("runs") else ["--runs", str(runs)]
        print(f"no run of it has ended in {str(runs)!r}; make them with: {shlex.join(['vae-variants', 'bench', suite, *options])}")


def show_planned(store: Store) -> None:
    """What the manifests say, beside the records that there are."""
    from rich.table import Table

    from vae_variants.harness.progress import out, states

    records = {record.key: record for _, record in store.records()}
    table = Table(box=None, pad_edge=False)
    for column in ("variant", "data set", "seeds", "fidelity", "key", "state"):
        table.add_column(column, no_wrap=column == "variant")
    for key, run in store.planned().items():
        state = states(records[key]) if key in records else "missing"
        table.add_row(run["label"], run["dataset"], ",".join(map(str, run["seeds"])), run["fidelity"], key[:12], state)
    out.print(table)
