"""A suite's report, from the records in a store."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_variants.cli.compare import cells, side
from vae_variants.harness import Record, RunSpec, Store, load_suite, suite_files
from vae_variants.harness.store import named, newest_of
from vae_variants.registry import UserError

if TYPE_CHECKING:
    import pandas as pd

    from vae_variants.harness.archive import Archive
    from vae_variants.report import Change
    from vae_variants.report.context import Context

SHOWN = 8  # labels in a line


def make_report(
    suite: str,
    plan: list[RunSpec],
    runs: Path,
    reports: Path,
    options: dict[str, Any],
    baseline: Path | None = None,
    plugins: Sequence[Path] = (),
) -> Path:
    """Write the report of a suite from the records of its `plan`, and return its folder; `options` and `plugins` are part of its command.

    `baseline` is what `compare` takes; the page shows differences from it.

    Raises:
        UserError: without a record or for a wrong baseline.
    """
    from vae_variants.report import write_index, write_report  # imports pandas and matplotlib
    from vae_variants.studies import load_claims
    from vae_variants.studies.page import claims_on

    held = None if baseline is None else side(baseline)  # read before the report replaces it
    store = Store(runs)
    known = store.candidates(spec.identity for spec in plan)
    newest = newest_of(known, chosen_contents(store, plan, known))
    command, name = called(suite, options, plugins)
    found = [(spec.label, *newest[spec.identity]) for spec in plan if spec.identity in newest]
    if not found:
        folders = {"runs": runs, "reports": reports}
        elsewhere = [part for key, folder in folders.items() if folder != Path(key) for part in (f"--{key}", str(folder))]
        raise UserError(f"there is no record of suite {suite!r} in {str(runs)!r}; make them with: {shlex.join([*command, *elsewhere])}")
    digest = max(found, key=lambda item: item[2].age)[2].dataset["digest"]  # data may have changed under the same name
    found = [item for item in found if item[2].dataset["digest"] == digest]
    there = {label for label, _, _ in found}
    load_claims()
    write_report(
        name,
        [(label, record, functools.partial(store.pictures, folder)) for label, folder, record in found],
        reports / name,
        command=shlex.join(command),
        missing=[spec.label for spec in plan if spec.label not in there],
        stale=[label for label, _, record in found if not record.current],
        claims=claims_on(found[0][2].dataset["name"], reports),
        changes=[] if held is None else against(held, [(label, record) for label, _, record in found]),
    )
    write_index(reports)
    return reports / name


def remake_report(
    suite: str,
    records: Path,
    reports: Path,
    options: dict[str, Any],
    baseline: Path | None = None,
    plugins: Sequence[Path] = (),
    mark_stale: bool = False,
) -> None:
    """Write the report of a suite again, from the archive in its folder `records`: the same bytes as before.

    With a `baseline` the page shows differences from that instead of the former ones. With `mark_stale` the report marks the runs that
    today's code makes stale, instead of those that were stale when it was written.

    Raises:
        UserError: without an archive, for a damaged one, for that of another report, or for a wrong baseline.
    """
    from vae_variants.analysis.entries import entries_of
    from vae_variants.report import write_index
    from vae_variants.report.drawing import shown_of

    held = None if baseline is None else side(baseline)
    archive, was = open_archive(suite, records, options, plugins)
    today = [label for label, record, _ in archive.runs if not record.current]
    stale = today if mark_stale else list(was.stale)
    changes = was.changes if held is None else against(held, [(label, record) for label, record, _ in archive.runs])
    write_again(archive, replace(was, stale=tuple(stale), changes=tuple(changes)), reports / was.suite)
    write_index(reports)
    announce(reports / was.suite)
    of = f"of {len(archive.runs)} runs"
    if unmarked := [label for label in today if label not in stale]:
        print(f"{len(unmarked)} {of} have become stale: {few(unmarked)}; --mark-stale marks them in the report", file=sys.stderr)
    if lost := archive.lacks_pictures({entry.record.key for entry in shown_of(entries_of(archive.runs))}):
        print(f"no pictures of {len(lost)} {of} that figures should show: {few(lost)}; --runs has them", file=sys.stderr)


def rewrite(records: Path, folder: Path) -> None:
    """Write the report of the archive in `records` to another folder, with the archive.

    Raises:
        UserError: without an archive, or for a damaged one.
    """
    from vae_variants.harness.archive import read_archive
    from vae_variants.report.context import context_of

    archive = read_archive(records)
    write_again(archive, context_of(records, archive.report), folder)


def write_again(archive: Archive, was: Context, folder: Path) -> None:
    """Write a report from its archive, and what it says beside its runs."""
    from vae_variants.report import write_report

    write_report(
        was.suite,
        archive.runs,
        folder,
        command=was.command,
        missing=was.missing,
        stale=was.stale,
        claims=was.claims,
        changes=was.changes,
        archive=archive,
    )


def open_archive(suite: str, folder: Path, options: dict[str, Any], plugins: Sequence[Path]) -> tuple[Archive, Context]:
    """The archive in a report's folder, and what the report says beside its runs.

    Raises:
        UserError: without an archive, for a damaged one, or for that of another report than `suite` has with these `options`.
    """
    from vae_variants.harness.archive import read_archive
    from vae_variants.report.context import context_of

    archive = read_archive(folder)
    was, (_, name) = context_of(folder, archive.report), called(suite, options, plugins)
    if name != was.suite:
        raise UserError(f"{str(folder)!r} has the records of report {was.suite!r}, not of {name!r}; it was made by: {was.command}")
    return archive, was


def few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")


def announce(folder: Path) -> None:
    print(f"wrote {folder}; open {folder / 'report.html'}")


def chosen_contents(store: Store, plan: Sequence[RunSpec], known: Mapping[str, list[tuple[Path, Record]]]) -> dict[str, str]:
    """Identity -> digest of the data to show, if the store has several contents under one name: today's data, or else the latest."""
    from vae_variants.harness.spec import digest_today

    wanted: dict[str, str] = {}
    for dataset, fidelity in dict.fromkeys((spec.dataset, spec.fidelity) for spec in plan):
        identities = [spec.identity for spec in plan if (spec.dataset, spec.fidelity) == (dataset, fidelity)]
        records = [record for identity in identities for _, record in known.get(identity, [])]
        digests = {record.dataset["digest"] for record in records}
        if len(digests) > 1:
            chosen, which = max(records, key=lambda record: record.age).dataset["digest"], "the newest run"
            if (today := digest_today(dataset, fidelity)) in digests:
                chosen, which = today, "today's data"
            wanted |= dict.fromkeys(identities, chosen)
            print(f"{store.root}: {len(digests)} contents of data {dataset!r}; the report has the runs of {which}", file=sys.stderr)
    return wanted


def called(suite: str, changes: dict[str, Any], plugins: Sequence[Path]) -> tuple[list[str], str]:
    """The command that makes a report, and the report's name."""
    usual = load_suite(suite).fidelity
    given = {key: value for key, value in changes.items() if value is not None and (key, value) != ("fidelity", usual)}
    pairs = [*given.items(), *(("plugin", path) for path in plugins)]
    command = ["vae-variants", "bench", suite, *(part for k, v in pairs for part in (f"--{k}", str(v)))]
    data = given.get("dataset", "")
    kind, _, path = data.partition(":")
    options = [given.get("fidelity", ""), *(f"{key}-{given[key]}" for key in ("seeds", "epochs", "precision", "tune") if key in given)]
    shown = [Path(suite).stem, kind, Path(path.partition("?")[0]).stem, *options]
    own = suite.removesuffix(".toml")  # a suite in this folder, unless another has its name
    whole = [suite if own in suite_files() else own, data.removesuffix(".npz") if kind == "npz" else data, *options]
    return command, named(*("-".join(part for part in parts if part) for parts in (shown, whole)))


def against(baseline: pd.DataFrame, found: Sequence[tuple[str, Record]]) -> list[Change]:
    """Differences of a report's records from the baseline."""
    from vae_variants.analysis.comparison import KINDS, brief, compare, table_of
    from vae_variants.analysis.entries import entries_of
    from vae_variants.report import Change

    now = table_of(entries_of((label, record, dict) for label, record in found))
    rows = compare(baseline[baseline.dataset.isin(now.dataset)], now).of(*(kind for kind in KINDS if kind not in ("unchanged", "advice")))
    told = [(row, cells(row)) for row in brief(rows)]
    return [Change(row.kind, name, metric, before, after, row.note) for row, (name, metric, before, after, *_) in told]
