"""What the commands that make runs share: the options that say where and how, and what is reported afterwards."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast, get_args

import torch

from vae_variants.cli.durations import expected
from vae_variants.cli.options import Verbosity, seconds
from vae_variants.components import chosen
from vae_variants.datasets import parse
from vae_variants.evaluation import METRICS
from vae_variants.evaluation.fidelities import VALIDATION
from vae_variants.evaluation.given_networks import check_given
from vae_variants.harness import Record, RunSpec, Store, run_all, unique
from vae_variants.harness.archive import adopt
from vae_variants.harness.engines import Engine, Workers, choose_engine
from vae_variants.harness.environment import choose_device
from vae_variants.harness.limits import parse_memory
from vae_variants.harness.plan import due
from vae_variants.harness.progress import Log
from vae_variants.harness.protocols import Retry, Watchers
from vae_variants.harness.spec import look_again, prepared
from vae_variants.integrations.tensorboard import LOGS, Events, needs_tensorboard
from vae_variants.registry import UserError, closest

SHOWN = 8  # labels in a line


@dataclass(frozen=True)
class Launch:
    """The options of a command line that say where and how runs are made. A wrong one raises `UserError`, at the latest in `check`."""

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
    records: Path | None = None

    def __post_init__(self) -> None:
        Log.quiet = Verbosity.quiet

    @cached_property
    def place(self) -> torch.device:
        if self.kind == "ray" and self.device == "cuda":  # the GPUs are the cluster's
            return torch.device("cuda")
        return choose_device(self.device)

    @property
    def limits(self) -> tuple[float | None, int | None]:
        """Seconds and bytes for each run."""
        return seconds(self.timeout), parse_memory(self.memory, self.engine.jobs if isinstance(self.engine, Workers) else 1)

    @cached_property
    def engine(self) -> Engine:
        local = choose_engine(self.jobs, self.place, self.plugins)
        if self.kind not in ("local", "ray"):
            raise UserError(closest("engine", self.kind, ("local", "ray")))
        if self.kind == "local":
            if self.address is not None:
                raise UserError("--address is that of a Ray cluster: say --engine ray too")
            return local
        if self.jobs == "0":
            raise UserError("jobs 0, in this process, goes with --engine local")
        from vae_variants.harness.cluster import Cluster

        return Cluster(self.jobs, self.address, tuple(self.plugins), self.cpus, self.gpus, self.memory == "auto")

    def check(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """Checks every option without loading data, and drops runs that are the same as an earlier one."""
        if self.retry not in get_args(Retry):
            raise UserError(closest("retry", self.retry, get_args(Retry)))
        if self.log not in (None, *LOGS):
            raise UserError(closest("log", self.log or "", LOGS))
        if self.log == "tensorboard":
            needs_tensorboard()
        check_given()
        assert self.limits  # makes the engine
        for dataset in {spec.dataset for spec in specs}:
            parse(dataset)
        _ = self.adopted  # before finished runs are looked for
        return unique(specs)

    @cached_property
    def adopted(self) -> int:
        """How many runs were copied from the archive in `records`."""
        return 0 if self.records is None else adopt(self.records, Store(self.runs))

    def execute(self, specs: Sequence[RunSpec]) -> list[Record]:
        """Makes the runs that are missing, and reports on stderr which failed and which are stale."""
        specs = self.check(specs)
        look_again(spec.dataset for spec in specs)
        for dataset, fidelity in dict.fromkeys((spec.dataset, spec.fidelity) for spec in specs):
            said = f"data {dataset}: {prepared(dataset, fidelity).described}"  # a mistake in the data is raised before anything else
            if not Verbosity.quiet:
                print(said, file=sys.stderr, flush=True)
        records = self.make(specs)
        for line in self.remarks(records):
            print(line, file=sys.stderr)
        return records

    def make(self, specs: Sequence[RunSpec]) -> list[Record]:
        """Makes the runs that are missing."""
        store = Store(self.runs)
        left = due(specs, store, cast(Retry, self.retry))
        seconds_left = self.seconds(left, store) if left else 0.0
        with closing(self.engine), Log(specs, self.engine, seconds_left) as log, closing(Events(store)) as events:
            watcher = Watchers(log, events) if self.log == "tensorboard" else log
            return run_all(specs, store, self.place, cast(Retry, self.retry), *self.limits, watcher=watcher, engine=self.engine)

    def seconds(self, left: Sequence[RunSpec], store: Store) -> float | None:
        """How long these runs take, as far as records tell."""
        data = {pair: prepared(*pair) for pair in dict.fromkeys((spec.dataset, spec.fidelity) for spec in left)}
        return expected(left, data, store, self.place.type)

    def choose(self, trials: Sequence[RunSpec]) -> list[Record]:
        """Makes the runs by which options are chosen, which may fail. Raises `UserError` for wrong options or data before the first."""
        trials = self.check(trials)
        look_again(trial.dataset for trial in trials)
        for dataset, fidelity in dict.fromkeys((trial.dataset, trial.fidelity) for trial in trials):
            prepared(dataset, fidelity)
        if not Verbosity.quiet and trials[0].fidelity == VALIDATION.name:  # else they are the runs themselves: see `tuning.tune`
            seeds = ", ".join(map(str, trials[0].seeds))
            count = f"{len(trials)} trial{'s' * (len(trials) > 1)}"
            print(f"tuning: {count} of options, on validation images, seeds {seeds}", file=sys.stderr, flush=True)
        return self.make(trials)

    def remarks(self, records: Sequence[Record]) -> list[str]:
        """A line for each failed seed, what to do about failed and stale runs, and which plug-ins are at fault."""
        bad, stale = [record for record in records if not record.ok], [record.label for record in records if not record.current]
        lines = [f"{r.label} seed {seed}: {r.status[seed]}: {reason}" for r in bad for seed, reason in r.reason.items()]
        if any(record.interrupted for record in bad):
            lines.append("runs that were interrupted resume when the same command is started again")
        if not all(record.interrupted for record in bad):
            lines.append("failed runs are kept as rows; --retry failed reruns them")
        suspects = {pair: None for record in records for pair in self.suspects(record)}
        for file in {file: None for file, _ in suspects}:
            what = f"what {file} registers {'failed' if (file, True) in suspects else 'may be what failed'}"
            lines.append(f"{what}; to see what is wrong with it: vae-variants check {shlex.quote(str(file))}")
        if stale:
            names = ", ".join(stale[:SHOWN]) + (", ..." if len(stale) > SHOWN else "")
            lines.append(f"{len(stale)} of {len(records)} runs are stale: older code made them ({names}); --retry older reruns them")
        return lines

    def suspects(self, record: Record) -> list[tuple[Path, bool]]:
        """Plug-ins that failed in a run (True), or may have (False).

        A plug-in failed if its metric failed or if it is in the traceback. Without one in the traceback, any plug-in that the run
        was made of may have.
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
