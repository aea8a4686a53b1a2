"""What the commands that make runs share: where runs are made, on which terms, and what is said of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast, get_args

import torch

from vae_variants.cli.options import seconds
from vae_variants.components import chosen
from vae_variants.datasets import parse
from vae_variants.evaluation import METRICS
from vae_variants.harness import Record, RunSpec, Store, run_all, unique
from vae_variants.harness.engines import choose_engine
from vae_variants.harness.environment import choose_device
from vae_variants.harness.limits import parse_memory
from vae_variants.harness.progress import Log
from vae_variants.harness.protocols import Engine, Retry, Together
from vae_variants.harness.spec import prepared
from vae_variants.integrations.tensorboard import LOGS, Events, needs_tensorboard
from vae_variants.registry import UserError, closest

__all__ = ["Launch"]

SHOWN = 8  # labels in a line


@dataclass(frozen=True)
class Launch:
    """The options of a command line that say how runs are made, not which; wrong ones raise `UserError`, at the latest in `check`."""

    runs: Path
    device: str = "auto"
    jobs: str = "1"
    retry: str = "never"
    timeout: str | None = None
    memory: str = "auto"
    kind: str = "local"
    address: str | None = None
    plugins: Sequence[Path] = ()
    cpus: int = 1
    gpus: float = 1.0
    log: str | None = None

    @cached_property
    def place(self) -> torch.device:
        if self.kind == "ray" and self.device == "cuda":  # which the machines of the cluster have, if not this one
            return torch.device("cuda")
        return choose_device(self.device)

    @property
    def limits(self) -> tuple[float | None, int | None]:
        """Seconds and bytes of each run. On a cluster each machine sees to its own `auto`."""
        return seconds(self.timeout), parse_memory(self.memory, getattr(self.engine, "jobs", 1) if self.kind == "local" else 1)

    @cached_property
    def engine(self) -> Engine:
        if self.kind not in ("local", "ray"):
            raise UserError(closest("engine", self.kind, ("local", "ray")))
        if self.kind == "local" and self.address is not None:
            raise UserError("--address is that of a Ray cluster: say --engine ray too")
        if self.kind == "local":
            return choose_engine(self.jobs, self.place, self.plugins)
        from vae_variants.harness.cluster import Cluster

        choose_engine(self.jobs, self.place)
        if self.jobs == "0":
            raise UserError("jobs 0, in this process, goes with --engine local")
        return Cluster(self.jobs, self.address, tuple(self.plugins), self.cpus, self.gpus, self.memory == "auto")

    def check(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """Those that are different, after a look at every option; touches no data."""
        if self.retry not in get_args(Retry):
            raise UserError(closest("retry", self.retry, get_args(Retry)))
        if self.log not in (None, *LOGS):
            raise UserError(closest("log", self.log or "", LOGS))
        if self.log == "tensorboard":
            needs_tensorboard()
        assert self.engine
        assert self.limits
        for dataset in {spec.dataset for spec in specs}:
            parse(dataset)
        return unique(specs)

    def execute(self, specs: Sequence[RunSpec]) -> list[Record]:
        """Runs what is missing, and says what failed, and what older code made -> the records."""
        specs = self.check(specs)
        for dataset, fidelity in dict.fromkeys((spec.dataset, spec.fidelity) for spec in specs):
            prepared(dataset, fidelity)  # what is wrong with the data is said before anything else
        retry = cast(Retry, self.retry)
        store = Store(self.runs)
        with closing(self.engine), Log(specs, self.engine) as log, closing(Events(store)) as events:
            watcher = Together(log, events) if self.log == "tensorboard" else log
            records = run_all(specs, store, self.place, retry, *self.limits, watcher=watcher, engine=self.engine)
        bad, older = [record for record in records if not record.ok], [record.label for record in records if not record.current]
        for record in bad:
            for seed, reason in record.reason.items():
                print(f"{record.label} seed {seed}: {record.status[seed]}: {reason}", file=sys.stderr)
        if any(record.interrupted for record in bad):
            print("runs that were interrupted go on when the same command is started again", file=sys.stderr)
        if not all(record.interrupted for record in bad):
            print("failed runs are kept as rows; --retry failed makes them again", file=sys.stderr)
        suspects = [pair for record in records for pair in self.suspects(record)]
        for file, sure in {file: (file, True) in suspects for file, _ in suspects}.items():
            what = f"what {file} registers {'failed' if sure else 'may be what failed'}"
            print(f"{what}; what is wrong with it says: vae-variants check {shlex.quote(str(file))}", file=sys.stderr)
        if older:
            names = ", ".join(older[:SHOWN]) + (", ..." if len(older) > SHOWN else "")
            print(f"{len(older)} of {len(records)} runs were made by older code ({names}); --retry older makes them again", file=sys.stderr)
        return records

    def suspects(self, record: Record) -> list[tuple[Path, bool]]:
        """Plug-ins, and whether it is known that they failed: those in the traceback of a run and those whose metrics failed.

        Without one in the traceback it may be any that the run was made of.
        """
        files = {file: str(Path(file).absolute()) for file in self.plugins}
        wrong, data = {row["metric"] for row in record.rows if row["status"] == "error"}, record.dataset["name"]
        places = {METRICS.places[name].file for name, m in METRICS.items() if m.published_for(data) in wrong}
        found = [(file, True) for file, path in files.items() if path in places]
        if "error" not in record.status.values():
            return found
        if named := [(file, True) for file, path in files.items() if f'File "{path}"' in record.failure.get("traceback", "")]:
            return found + named
        parts = [(kind.registry, str(record.values.get(kind.key))) for kind in chosen()]
        places = {registry.places[name].file for registry, name in parts if name in registry}
        return found + [(file, False) for file, path in files.items() if path in places]
