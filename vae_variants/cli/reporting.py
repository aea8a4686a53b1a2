"""A suite's report from the records that there are."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_variants.cli.compare import cells, side
from vae_variants.harness import Record, RunSpec, Store, load_suite
from vae_variants.harness.store import slug
from vae_variants.registry import UserError

if TYPE_CHECKING:
    import pandas as pd

    from vae_variants.report import Change

__all__ = ["make_report"]


def make_report(
    suite: str,
    plan: list[RunSpec],
    runs: Path,
    reports: Path,
    options: dict[str, Any],
    baseline: Path | None = None,
    plugins: Sequence[Path] = (),
) -> None:
    """`options` replace what the suite says: they are part of the report's name, and with `plugins` of the command in it.

    Changes against `baseline`, whatever `compare` takes, are on the page. Raises `UserError` where there is no record, and for a
    baseline that is none.
    """
    from vae_variants.report import write_index, write_report  # brings pandas and matplotlib, which the rest does without
    from vae_variants.studies import load_claims
    from vae_variants.studies.page import claims_on

    held = None if baseline is None else side(baseline)  # before it is written over
    store = Store(runs)
    newest = store.newest(spec.identity for spec in plan)
    usual = load_suite(suite).fidelity
    given = {key: value for key, value in options.items() if value is not None and (key, value) != ("fidelity", usual)}
    pairs = [*given.items(), *(("plugin", path) for path in plugins)]
    command = shlex.join(["vae-variants", "bench", suite, *(part for k, v in pairs for part in (f"--{k}", str(v)))])
    kind, _, path = given.get("dataset", "").partition(":")
    parts = [Path(suite).stem, kind, Path(path.partition("?")[0]).stem, given.get("fidelity", "")]
    parts += [f"{key}-{given[key]}" for key in ("seeds", "epochs", "precision") if key in given]
    name = slug("-".join(part for part in parts if part))
    found = [(spec.label, *newest[identity]) for spec in plan if (identity := spec.identity) in newest]
    if not found:
        folders = {"runs": runs, "reports": reports}
        elsewhere = [part for key, folder in folders.items() if folder != Path(key) for part in (f"--{key}", str(folder))]
        mend = shlex.join([*shlex.split(command), *elsewhere])
        raise UserError(f"there is no record of suite {suite!r} in {str(runs)!r}; make them with: {mend}")
    digest = max(found, key=lambda item: item[2].started)[2].dataset["digest"]  # data may have changed under the same name
    found = [item for item in found if item[2].dataset["digest"] == digest]
    there = {label for label, _, _ in found}
    missing = [spec.label for spec in plan if spec.label not in there]
    entries = [(label, record, functools.partial(store.pictures, folder)) for label, folder, record in found]
    older = [label for label, record, _ in entries if not record.current]
    load_claims()
    claims = claims_on(found[0][2].dataset["name"], reports)
    changes = [] if held is None else against(held, [(label, record) for label, _, record in found])
    write_report(name, entries, reports / name, command=command, missing=missing, older=older, claims=claims, changes=changes)
    write_index(reports)
    print(f"wrote {reports / name}; open {reports / name / 'report.html'}")


def against(baseline: pd.DataFrame, found: Sequence[tuple[str, Record]]) -> list[Change]:
    """What is not as in the baseline, of the records of a report."""
    from vae_variants.analysis.comparison import KINDS, brief, compare, table_of
    from vae_variants.analysis.entries import Entry
    from vae_variants.report import Change

    now = table_of(Entry(label, record) for label, record in found)
    rows = compare(baseline[baseline.dataset.isin(now.dataset)], now).of(*(kind for kind in KINDS if kind not in ("unchanged", "advice")))
    told = [(row, cells(row, datasets=False)) for row in brief(rows)]
    return [Change(row.kind, name, metric, before, after, row.note) for row, (name, metric, before, after, *_) in told]
