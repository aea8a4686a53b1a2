"""`vae-variants status`: what is finished of a suite; and the plan that --dry-run shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from vae_variants.cli.options import Json, Plugin, Records, Runs, SuiteChoice, alone, flag, guarded
from vae_variants.plugins import load_plugins

if TYPE_CHECKING:
    from vae_variants.cli.launch import Launch
    from vae_variants.harness import Record, RunSpec, Store
    from vae_variants.harness.archive import Archive
    from vae_variants.harness.protocols import Retry


PLANNED = "Instead of a suite: every run that was ever planned in the folder of records"


@guarded
def status(
    *,
    choice: SuiteChoice,
    planned: Annotated[bool, flag(PLANNED, "--planned")] = False,
    as_json: Json = False,
    plugin: Plugin = None,
    runs: Runs = Path("runs"),
    records: Records = None,
) -> None:
    """Show which runs are finished, failed, interrupted or missing.

    Other code made a stale run; bench --retry older repeats it. Give --plugin for runs of a plug-in. JSON is {"runs": [...]}. Each run has
    variant, dataset, seeds, fidelity, epochs, state (as the table shows it), status (of each seed), stale, epochs_done, key and folder
    (null if the run is missing).
    """
    from vae_variants.cli.reporting import open_archive
    from vae_variants.harness import Store, unique

    load_plugins(plugin or ())
    alone(records, runs, planned)
    store = Store(runs)
    if records is None:
        rows = planned_rows(store) if planned else suite_rows(unique(choice.plan_from(runs)), store)
    else:
        rows = archived_rows(open_archive(choice.name, records, choice.changes, plugin or ())[0])
    if as_json:
        print(json.dumps({"runs": rows}, indent=1))
        return
    show(rows, "key" if planned else "epochs")
    if not planned and records is None and not any(row["key"] for row in rows):
        given = {**choice.changes, "runs": None if runs == Path("runs") else runs}
        options = [part for key, value in given.items() if value is not None for part in (f"--{key}", str(value))]
        options += [part for path in plugin or () for part in ("--plugin", str(path))]
        command = shlex.join(["vae-variants", "bench", choice.name, *options])
        print(f"no run of this suite has finished in {str(runs)!r}; make them with: {command}")


def suite_rows(specs: Sequence[RunSpec], store: Store) -> list[dict[str, Any]]:
    """What is finished of each run: see `status` for the parts. Of several records, those of today's data come first."""
    from vae_variants.harness.store import newest_of

    known, today = store.candidates((spec.identity for spec in specs), brief=True), cache(own_data)
    digests = {spec.identity: digest for spec in specs if spec.identity in known and (digest := today(spec.dataset, spec.fidelity))}
    newest = newest_of(known, digests)
    newest |= newest_of({identity: pairs for identity, pairs in known.items() if identity not in newest}, {})
    left = [spec for spec in specs if spec.identity not in newest or newest[spec.identity][1].interrupted]
    done, rows = store.epochs_done(left), []
    for spec in specs:
        known_of_it: dict[str, Any] = {"epochs": spec.configuration.values.get("epochs"), "epochs_done": done[spec.identity]}
        seeds, found = list(spec.seeds), newest.get(spec.identity)
        rows.append(row(spec.label, spec.dataset, seeds, spec.fidelity, found, digests.get(spec.identity), **known_of_it))
    return rows


def archived_rows(archive: Archive) -> list[dict[str, Any]]:
    """The same for every run in an archive."""
    runs = [(label, record, (archive.folder, record)) for label, record, _ in archive.runs]
    return [row(label, r.dataset["name"], r.seeds, r.fidelity, found, None) for label, r, found in runs]


def planned_rows(store: Store) -> list[dict[str, Any]]:
    """The same for every run in the store's manifests."""
    records, today, rows = {record.key: (folder, record) for folder, record in store.records(brief=True)}, cache(own_data), []
    for key, run in store.planned().items():
        digest = today(run["dataset"], run["fidelity"]) if key in records else None
        rows.append(row(run["label"], run["dataset"], run["seeds"], run["fidelity"], records.get(key), digest, key=key))
    return rows


def own_data(dataset: str, fidelity: str) -> str | None:
    """Digest of the user's own data today, "unreadable" if it cannot be read; None for published data, which does not change."""
    from vae_variants.datasets import DATASETS
    from vae_variants.harness.spec import digest_today

    name, own, _ = dataset.partition("?")[0].partition(":")
    return (digest_today(dataset, fidelity) or "unreadable") if own or name in DATASETS.foreign else None


def row(
    variant: str,
    dataset: str,
    seeds: list[int],
    fidelity: str,
    found: tuple[Path, Record] | None,
    digest: str | None,
    *,
    epochs_done: int = 0,
    **known: Any,
) -> dict[str, Any]:
    """The parts of a run; `digest` is that of its data today, if it is known."""
    folder, record = found or (None, None)
    old = record is not None and not record.current
    status, unknown = record.status if record else {}, bool(old and found and lacks_plugin(*found))
    stale = old and not unknown
    changed = record is not None and digest not in (None, record.dataset["digest"])
    more = [*["stale"] * stale, *["its plug-in is not loaded"] * unknown, *([f"{epochs_done} epochs done"] if epochs_done else [])]
    more += [f"its data {'cannot be read' if digest == 'unreadable' else 'has changed'}"] * changed
    states = [*sorted(set(status.values())), *more]
    run = {"variant": variant, "dataset": dataset, "seeds": seeds, "fidelity": fidelity}
    made = {"epochs": record and record.values.get("epochs"), "key": record and record.key, "folder": folder and str(folder)}
    state = {"state": ", ".join(states) or "missing", "status": status, "stale": stale, "epochs_done": epochs_done}
    return run | state | made | known


@lru_cache(maxsize=64)
def published(data: str, metrics: tuple[str, ...]) -> set[str]:
    """Names of these metrics in the records of a data set."""
    from vae_variants.evaluation import METRICS

    return {METRICS[name].published_for(data) for name in metrics}


def lacks_plugin(folder: Path, record: Record) -> bool:
    """Whether a part or a metric of a record that seems to be stale is not registered, so that nobody can tell whether it is."""
    from vae_variants.components import chosen
    from vae_variants.evaluation import METRICS
    from vae_variants.harness.files import read_file
    from vae_variants.harness.record import metrics_in
    from vae_variants.harness.store import RECORD

    metrics = published(record.dataset["name"], tuple(METRICS))
    parts = all(record.values[kind.key] in kind.registry for kind in chosen() if kind.key in record.values)
    names = {row["metric"] for row in record.rows} or metrics_in(read_file(folder / RECORD) or b"")  # a brief record has no rows
    return not (parts and names <= metrics)


def show(rows: Sequence[dict[str, Any]], extra: str) -> None:
    """The table of a plan, with one column more."""
    from rich.cells import cell_len
    from rich.table import Table

    from vae_variants.harness.progress import out
    from vae_variants.registry import visible

    names, lines = ("variant", "data set", "seeds", "preset", extra, "state"), list[tuple[str, ...]]()
    for each in rows:
        value = "-" if each[extra] is None else str(each[extra])[:12]
        cells = (each["variant"], each["dataset"], ",".join(map(str, each["seeds"])), each["fidelity"], value, each["state"])
        lines.append(tuple(map(visible, cells)))
    lengths = [list(map(cell_len, column)) for column in zip(names, *lines, strict=True)]
    widths = [max(column) for column in lengths]
    if sum(widths) + 2 * len(widths) - 2 <= out.width:  # nothing to fold: a fraction of the time that the table takes
        for line, taken in zip([names, *lines], zip(*lengths, strict=True), strict=True):
            print(*(cell + " " * (width - length) for cell, width, length in zip(line, widths, taken, strict=True)), sep="  ")
        return
    table = Table(box=None, pad_edge=False)
    for column in names:
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for line in lines:
        table.add_row(*line)
    out.print(table)


def show_plan(specs: Sequence[RunSpec], store: Store, launch: Launch) -> None:
    """What would run, how long, on which data, and what a run downloads first. Raises `UserError` for unreadable data."""
    from vae_variants.cli.durations import duration
    from vae_variants.datasets.factored import absent
    from vae_variants.harness.plan import is_due
    from vae_variants.harness.spec import digest_of, look_again, prepared

    lacking = {dataset: absent(dataset.partition("?")[0]) for dataset in {spec.dataset: None for spec in specs}}
    look_again(dataset for dataset, why in lacking.items() if not why)
    digests = {spec.identity: digest_of(spec.dataset, spec.fidelity) for spec in specs if not lacking[spec.dataset]}
    rows, records = suite_rows(specs, store), store.newest((spec.identity for spec in specs), digests, brief=True)
    show(rows, "epochs")
    retry = cast("Retry", launch.retry)
    left = [spec for spec in specs if spec.identity not in records or is_due(records[spec.identity][1], retry)]
    print(f"{len(left)} of {len(rows)} runs are left; nothing was run (--dry-run)")
    pairs = dict.fromkeys((spec.dataset, spec.fidelity) for spec in specs)
    data = {pair: prepared(*pair) for pair in pairs if not lacking[pair[0]]}
    if left:
        print(duration(left, data, store, launch.place.type))
    for pair in pairs:
        print(lacking[pair[0]] or f"data {pair[0]}: {data[pair].described}")
