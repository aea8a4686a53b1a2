"""Event files for TensorBoard: curves of each run and seed during training, and its metrics afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from vae_variants.harness import Record, RunSpec, Store
from vae_variants.harness.files import StoreError
from vae_variants.harness.protocols import Losses, Watcher
from vae_variants.registry import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["FOLDER", "LOGS", "Events", "needs_tensorboard"]

LOGS = ("tensorboard",)
FOLDER = "tensorboard"  # in a run's folder, with a folder for each seed
SECONDS = 5  # between writes


def needs_tensorboard() -> None:
    """Raises `UserError` if the package is not installed."""
    if find_spec("tensorboard") is None:
        raise UserError("--log tensorboard needs the package tensorboard; install it: python -m pip install 'vae-variants[tensorboard]'")


class Events(Watcher):
    """A watcher that writes event files: `tensorboard --logdir runs` shows them.

    Scalars are `curves/...` by epoch and `metrics/...` at the end; the page HPARAMS shows the metrics beside the configuration. Epochs
    that were not reported (of a cached run, a reused model, or a run on a cluster) are taken from the record.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writers: dict[str, list[SummaryWriter]] = {}  # identity -> one for each seed
        self.told: dict[str, int] = {}  # identity -> epochs reported

    def begin(self, spec: RunSpec) -> None:
        self.leave(spec)
        self.told[spec.identity] = 0
        self.writers[spec.identity] = self.fresh(spec, spec.key())

    def losses(self, spec: RunSpec, found: Losses) -> None:
        writers, first = self.writers[spec.identity], found.done - max(map(len, found.rows.values()), default=0)
        self.told[spec.identity] += found.done - first
        for name, rows in found.rows.items():
            for epoch, values in enumerate(rows, first + 1):
                for writer, value in zip(writers, values, strict=True):
                    written(writer.add_scalar, f"curves/{name}", value, epoch)

    def end(self, spec: RunSpec, record: Record, reused: bool) -> None:
        place = self.store.locate(spec, record.key) / FOLDER
        if reused and any(place.glob("seed-*/events.out.tfevents.*")):
            return
        epochs = max((len(row) for rows in record.curves.values() for row in rows), default=0)
        if self.told.get(spec.identity, -1) != epochs:
            self.leave(spec)
            self.writers[spec.identity] = self.fresh(spec, record.key)
            begin = datetime.fromisoformat(record.started).timestamp()
            times = [begin + seconds for seconds in accumulate(record.epoch_seconds)]
            for name, epoch, s, value in points(record):
                writer = self.writers[spec.identity][s]
                written(writer.add_scalar, f"curves/{name}", value, epoch, times[epoch - 1] if epoch <= len(times) else None)
        for seed, writer in zip(record.seeds, self.writers[spec.identity], strict=True):
            figures = {f"metrics/{r['metric']}": r["value"] for r in record.rows if r["seed"] == seed and r["value"] is not None}
            for name, value in figures.items():
                written(writer.add_scalar, name, value, epochs)
            written(summarised, writer, hyperparameters(record, seed), figures)
        self.leave(spec)

    def fresh(self, spec: RunSpec, key: str) -> list[SummaryWriter]:
        """A writer for each seed. Event files of an earlier invocation are removed, because all epochs are written again."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        folder = self.store.locate(spec, key) / FOLDER
        for path in folder.glob("seed-*/events.out.tfevents.*"):
            written(path.unlink)
        return [written(SummaryWriter, str(folder / f"seed-{seed}"), flush_secs=SECONDS) for seed in spec.seeds]

    def leave(self, spec: RunSpec) -> None:
        self.told.pop(spec.identity, None)
        for writer in self.writers.pop(spec.identity, []):
            written(writer.close)

    def close(self) -> None:
        """Closes every file, also those of interrupted runs."""
        for writer in (writer for writers in self.writers.values() for writer in writers):
            written(writer.close)
        self.writers.clear()


def points(record: Record) -> Iterator[tuple[str, int, int, float]]:
    """Name, epoch, index of the seed and value of every finite point of a record's curves."""
    for name, rows in record.curves.items():
        for s, row in enumerate(rows):
            yield from ((name, epoch, s, value) for epoch, value in enumerate(row, 1) if value is not None and math.isfinite(value))


def hyperparameters(record: Record, seed: int) -> dict[str, Any]:
    values = {key: "-".join(map(str, value)) if isinstance(value, list) else value for key, value in record.values.items()}
    return {**values, "label": record.label, "dataset": record.dataset["name"], "fidelity": record.fidelity, "seed": seed}


def summarised(writer: SummaryWriter, values: dict[str, Any], figures: dict[str, float]) -> None:
    """Write hyperparameters and metrics for the page HPARAMS into the file of the curves."""
    from torch.utils.tensorboard.summary import hparams

    file: Any = writer.file_writer
    for summary in hparams(values, figures):
        file.add_summary(summary)


def written(do: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`do(...)`, whose OSError becomes one line."""
    try:
        return do(*args, **options)
    except OSError as error:
        raise StoreError(f"cannot write event files: {error.strerror or error}") from error
