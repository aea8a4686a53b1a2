"""A run that is made on a machine without the store: in a child process there, with its files going to and fro as bytes."""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from vae_variants.datasets import Dataset
from vae_variants.harness.engines import TICK
from vae_variants.harness.failures import Death
from vae_variants.harness.limits import ceiling
from vae_variants.harness.locks import Due
from vae_variants.harness.protocols import Losses, Terms
from vae_variants.harness.record import Record
from vae_variants.harness.spec import BROUGHT
from vae_variants.harness.store import Store
from vae_variants.harness.worker import Worker
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

__all__ = ["Flight", "Task", "make"]

# plug-ins -> where their files are, as long as this process lives: its own, and those that it starts, read them there
places: dict[tuple[str, ...], tempfile.TemporaryDirectory[str]] = {}
# those, and the GPUs that one was started with, which stay its own -> processes of this one that wait
idle: defaultdict[tuple[tuple[str, ...], str | None], list[Worker]] = defaultdict(list)


@dataclass
class Flight:
    """A run that is somewhere in a cluster, as the driver sees it."""

    due: Due
    sent: int = 0
    epochs: tuple[int, int] | None = None
    back: set[str] = field(default_factory=set)  # names of the files that came back
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


class Task(NamedTuple):
    """What goes to a machine that shares no files with this one; `files` are those of the run's folder, `plugins` their texts."""

    due: Due
    terms: Terms
    files: dict[str, bytes]
    plugins: tuple[str, ...]
    jobs: int
    threads: int
    auto: bool = False  # whether the ceiling of memory is that machine's own


def place(plugins: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of these plug-ins, which this process has loaded."""
    if plugins in places:
        return tuple(sorted(Path(places[plugins].name).glob("*.py")))
    kept = tempfile.TemporaryDirectory(prefix="vae-variants-")
    paths = tuple(Path(kept.name) / f"plugin_{i:03}.py" for i in range(len(plugins)))
    for path, text in zip(paths, plugins, strict=True):
        path.write_text(text, encoding="utf-8")
    load_plugins(paths, quiet=True)
    places[plugins] = kept
    return paths


def make(task: Task, images: Dataset) -> Iterator[object]:
    """On that machine: about once a second epochs and the files that have changed, at last the record, an error or a death."""
    with tempfile.TemporaryDirectory(prefix="vae-variants-") as root:
        store, seen, epochs, told = Store(Path(root) / "runs"), dict[str, float](), None, time.monotonic()
        folder, paths = store.folder(task.due.spec, task.due.key), place(task.plugins)
        store.unpack(folder, task.files)
        BROUGHT[task.due.spec.dataset, task.due.spec.fidelity] = images
        jobs = min(task.jobs, os.cpu_count() or 1)
        memory = task.terms.memory and min(task.terms.memory, ceiling() or task.terms.memory)  # this machine may have less
        terms = task.terms._replace(
            store=store, memory=ceiling(max(1, min(jobs, (os.cpu_count() or 1) // task.threads))) if task.auto else memory
        )
        waiting = idle[task.plugins, os.environ.get("CUDA_VISIBLE_DEVICES")]
        worker = waiting.pop() if waiting else Worker(paths)
        worker.give(task.due, terms, jobs, task.threads)
        while True:
            found = worker.answer() if worker.pipe.poll(TICK) else worker.exceeded()
            if isinstance(found, Death) and worker.made and worker.began is None:  # it was no more when the run came
                worker = Worker(paths)
                worker.give(task.due, terms, jobs, task.threads)
                continue
            if isinstance(found, Death):
                found = store.get(task.due.spec, task.due.key) or found  # it may have been killed with its work done
                break
            if isinstance(found, Record):
                waiting.append(worker)
            if isinstance(found, (Record, UserError)):
                break
            epochs = epochs if found is None or isinstance(found, Losses) else found  # losses come with the record
            if time.monotonic() - told > 1:
                told = time.monotonic()
                yield epochs, store.packed(folder, seen)
        yield epochs, store.packed(folder, seen)
        yield found
