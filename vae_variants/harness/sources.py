"""The runs of somebody's folder, a report with its archive or a folder of records: every byte is checked, and nothing is changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vae_variants.evaluation.fidelities import VALIDATION
from vae_variants.harness.archive import HEADER, Run, read_archive
from vae_variants.harness.files import read_file, unseal
from vae_variants.harness.record import NewerSchema, Record
from vae_variants.harness.store import RECORD
from vae_variants.registry import UserError

LAYOUTS = (RECORD, f"*/{RECORD}", f"*/*/{RECORD}")  # of a run, of the runs on a data set, of a folder of records


@dataclass(frozen=True)
class Source:
    """Verified runs. `report` is what the report says beside them, empty for a folder of records."""

    folder: Path
    runs: tuple[Run, ...]
    report: dict[str, Any]

    @property
    def name(self) -> str:
        """The report's name, or else the folder's."""
        return str(self.report.get("suite", self.folder.resolve().name))


def read_source(folder: Path) -> Source:
    """The runs of a report's folder with an archive, or of a folder of records: of each variant, data set and preset the newest one.

    Raises:
        UserError: there is none, a newer version wrote one, one has no digest, or any byte was changed; the message names the file or run.
    """
    if (folder / HEADER).is_file():
        archive = read_archive(folder)
        return Source(folder, archive.runs, archive.report)
    paths = [path for layout in LAYOUTS for path in sorted(folder.glob(layout))]
    if not paths:
        raise UserError(f"{str(folder)!r} has neither an archive ({HEADER}) nor records; give a report's folder, or a folder such as runs")
    records = sorted((verified(path) for path in paths), key=lambda record: record.age)
    kept = {(r.dataset["digest"], r.label, r.fidelity): r for r in records if r.fidelity != VALIDATION.name}
    return Source(folder, tuple((r.label, r, dict) for r in sorted(kept.values(), key=lambda r: (r.dataset["name"], r.label))), {})


def verified(path: Path) -> Record:
    """The record in a file. Raises as `read_source` does."""
    content = read_file(path)
    try:
        text = (content or b"").decode()
        record = Record.from_json(text)
    except NewerSchema as error:
        raise UserError(f"{str(path)!r} has {error}: update vae-variants") from error
    except ValueError as error:
        refuse(path, str(error))
    if unseal(text) is text:
        refuse(path, "it has no digest")
    return record


def refuse(path: Path, why: str, what: str = "record") -> NoReturn:
    line = "".join(c if c.isprintable() else "?" for c in why)[:200]
    raise UserError(f"the {what} {str(path)!r} was changed or damaged: {line}; get it again from where it was made")
