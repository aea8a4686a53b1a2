"""A run that is made on a machine without the store: in a child process there, with its files going to and fro as bytes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vae_variants.datasets import Dataset
from vae_variants.harness.claims import Due
from vae_variants.harness.engines import TICK
from vae_variants.harness.limits import ceiling
from vae_variants.harness.record import Record
from vae_variants.harness.spec import BROUGHT
from vae_variants.harness.store import Store
from vae_variants.harness.terms import Losses, Terms
from vae_variants.harness.worker import Death, Worker
from vae_variants.registry import UserError, load_plugins

__all__ = ["Task", "make"]

idle: dict[tuple[str, ...], list[Worker]] = {}  # plug-ins -> processes of this one that have loaded them, and wait


class Task(NamedTuple):
    """What goes to a machine that shares no files with this one; `files` are those of the run's folder, `plugins` their texts."""

    due: Due
    terms: Terms
    files: dict[str, bytes]
    plugins: tuple[str, ...]
    jobs: int
    threads: int


def make(task: Task, images: Dataset) -> Iterator[object]:
    """On that machine: about once a second epochs and the files that have changed, at last the record, an error or a death."""
    with tempfile.TemporaryDirectory(prefix="vae-variants-") as root:
        store, seen, epochs, told = Store(Path(root) / "runs"), dict[str, float](), None, time.monotonic()
        folder, paths = store.folder(task.due.spec, task.due.key), [Path(root) / f"plugin_{i}.py" for i in range(len(task.plugins))]
        store.unpack(folder, task.files)
        for path, text in zip(paths, task.plugins, strict=True):
            path.write_text(text, encoding="utf-8")
        if task.plugins not in idle:
            load_plugins(paths, quiet=True)
            idle[task.plugins] = []
        BROUGHT[task.due.spec.dataset, task.due.spec.fidelity] = images
        worker = idle[task.plugins].pop() if idle[task.plugins] else Worker(tuple(paths))
        memory = task.terms.memory and min(task.terms.memory, ceiling() or task.terms.memory)  # this machine may have less
        worker.give(task.due, task.terms._replace(store=store, memory=memory), min(task.jobs, os.cpu_count() or 1), task.threads)
        while True:
            found = worker.answer() if worker.pipe.poll(TICK) else worker.exceeded()
            if isinstance(found, (Record, UserError, Death)):
                break
            epochs = epochs if found is None or isinstance(found, Losses) else found  # losses come with the record
            if time.monotonic() - told > 1:
                told = time.monotonic()
                yield epochs, store.packed(folder, seen)
        yield epochs, store.packed(folder, seen)
        if isinstance(found, Record):
            idle[task.plugins].append(worker)
        yield found
