"""A run on a machine without the store: made in a child process there, with its files sent as bytes. Knows nothing of Ray."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from vae_variants.datasets import Dataset
from vae_variants.harness.engines import Workers
from vae_variants.harness.limits import ceiling
from vae_variants.harness.locks import PendingRun
from vae_variants.harness.protocols import LastEpoch, Settings
from vae_variants.harness.record import Record
from vae_variants.harness.spec import receive_dataset
from vae_variants.harness.store import Store
from vae_variants.plugins import load_plugins
from vae_variants.registry import UserError

plugin_folders: dict[tuple[str, ...], str] = {}  # plug-ins -> a folder with their files, which lasts as long as this process
# plug-ins, visible GPUs (a child keeps those it started with) and share of the machine -> an engine with its idle child
engines: dict[tuple[object, ...], Workers] = {}
pipes: list[subprocess.Popen[bytes]] = []  # which stay open as long as this process


class RemoteTask(NamedTuple):
    """What a machine that shares no files with the driver needs for a run.

    `files` are the tensors in the run's folder, `before` the record that it replaces, and `plugins` the texts of plug-in files.
    `code` is the driver's fingerprint of the sources.
    The machine makes `jobs` runs at a time with `threads` each. With `auto_memory`, each gets its share of the machine's memory.
    """

    run: PendingRun
    settings: Settings
    files: dict[str, bytes]
    before: Record | None
    plugins: tuple[str, ...]
    jobs: int
    threads: int
    auto_memory: bool
    code: str


def make_remotely(task: RemoteTask, images: Dataset) -> Iterator[tuple[tuple[int, int], dict[str, bytes]] | Record]:
    """Makes a run. Yields its epochs and the files that have changed, about once a second, and at last its record."""
    receive_dataset(task.run.spec, images)
    cpus = os.cpu_count() or 1
    jobs = min(task.jobs, cpus)
    memory = task.settings.memory and min(task.settings.memory, ceiling() or task.settings.memory)  # this machine may have less
    if task.auto_memory:
        memory = ceiling(max(1, min(jobs, cpus // task.threads)))
    key = (task.plugins, os.environ.get("CUDA_VISIBLE_DEVICES"), jobs, task.threads)
    engine = engines.setdefault(key, Workers(1, plugin_files(task.plugins), (jobs, task.threads)))
    if task.run.spec.code != task.code:
        raise UserError(f"code differs on {socket.gethostname()}: install the same vae-variants and plug-ins as on this machine there")
    with tempfile.TemporaryDirectory(dir=scratch()) as root:
        store, seen, last, told = Store(Path(root) / "runs", task.settings.store.latest), dict[str, float](), LastEpoch(), time.monotonic()
        folder = store.folder(task.run.spec, task.run.key)
        if task.before is not None:  # how often it was interrupted counts
            store.put(folder, task.before)
        store.unpack(folder, task.files)
        with closing(engine([task.run], task.settings._replace(store=store, memory=memory), last)) as records:
            for record in records:
                if record is not None or time.monotonic() - told > 1:
                    told = time.monotonic()
                    yield last.epochs, store.packed(folder, seen)
                if record is not None:
                    yield record


@lru_cache(maxsize=1)
def scratch() -> str:
    """A folder for the files of this process. A shell removes it when the process ends, however it ends."""
    folder = tempfile.mkdtemp(prefix="vae-variants-")
    script = 'exec 3<&0; (trap "" HUP INT TERM; read _ <&3; sleep 1; rm -rf "$0") &'  # outlives this process, whose end closes the pipe
    null = subprocess.DEVNULL
    command = ["sh", "-c", script, folder]
    pipes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True))
    return folder


def plugin_files(texts: tuple[str, ...]) -> tuple[Path, ...]:
    """Files with these texts, loaded in this process."""
    if texts not in plugin_folders:
        plugin_folders[texts] = tempfile.mkdtemp(dir=scratch())
    paths = tuple(Path(plugin_folders[texts]) / f"plugin_{i:03}.py" for i in range(len(texts)))
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    load_plugins(paths, quiet=True)
    return paths
