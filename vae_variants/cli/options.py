"""Options that commands share, and the frame around each command: exit codes, errors in one line, -q and -v."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vae_variants.cli.streams import escape_unknown
from vae_variants.registry import UserError, user_path

if TYPE_CHECKING:
    from vae_variants.cli.launch import Launch
    from vae_variants.harness import Record, RunSpec
    from vae_variants.harness.tuning import Execute


def option(text: str, *names: str, panel: str | None = "Input and output", choices: Sequence[str] = (), **other: Any) -> Any:
    """An option for `Annotated`. Its help shows brackets as they are, and a shell completes its `choices`."""
    return typer.Option(*names, help=escape(text), rich_help_panel=panel, autocompletion=(lambda: choices) if choices else None, **other)


def argument(text: str, choices: Sequence[str] = (), **other: Any) -> Any:
    """The same for an argument."""
    return typer.Argument(help=escape(text), autocompletion=(lambda: choices) if choices else None, **other)


what, how = partial(option, panel="What to run"), partial(option, panel="Where and how to run it")
flag = partial(option, metavar="")

DATASET = "Data set, e.g. digits, mnist, npz:FILE, images:FOLDER. All: vae-variants list datasets"
SEEDS = "Seeds, which train together: a count, or a list, e.g. 0,3,7. Those that another run has trained are taken from it"
FIDELITY = (
    "Preset: full; thorough (adds annealing, takes 5000 posterior samples); quick (10 epochs, 10000 images at most); "
    'smoke (2 epochs, 400 images). Its options go in brackets, e.g. "thorough[chains=32]"'
)
PRESETS = ("full", "thorough", "quick", "smoke")
PRECISION = "Precision of matrix products in training: fp32, tf32, bf16"
JOBS = "Runs side by side: a count; auto (one per core, or 1 on a GPU); 0 (in this process, without limits or supervision)"
MEMORY = "Memory limit of each run: e.g. 4g; auto (its share of 90 % of the machine's); none"
RETRY = "Runs to repeat: never; failed; older (stale: made by other code); scores (keep the models, measure again); all"
TUNE = (
    "Options that the suite chooses on validation images: auto (those that were chosen before, others by trials now); "
    "again (all by trials); none (the suite's defaults)"
)
SUITE = "Suite's name (all: vae-variants list suites), or path of a .toml file"
CHANGED = {"show_default": "that of the suite"}  # of options that replace what a suite says

Dataset = Annotated[str, what(DATASET, metavar="NAME")]
Seeds = Annotated[str, what(SEEDS, metavar="SEEDS")]
Fidelity = Annotated[str, what(FIDELITY, metavar="PRESET", choices=PRESETS)]
Epochs = Annotated[int | None, what("Training epochs, e.g. 20", metavar="N", min=0, show_default="those of each variant")]
Precision = Annotated[str | None, what(PRECISION, metavar="TYPE", choices=("fp32", "tf32", "bf16"), show_default="that of each variant")]
Device = Annotated[str, how("Device: auto (a GPU if there is one), cpu, cuda, cuda:1", metavar="NAME", choices=("auto", "cpu", "cuda"))]
Jobs = Annotated[str, how(JOBS, metavar="N", choices=("auto",))]
Plugin = Annotated[list[Path] | None, option("Python file that registers components; may be repeated", metavar="FILE.py")]
Runs = Annotated[Path, option("Folder of records", metavar="FOLDER")]
ARCHIVE = "Report's folder with an archive, instead of a folder of runs, e.g. reports/digits"
FINISHED = "Report's folder with an archive, e.g. reports/mnist: its runs count as finished, and are copied to --runs"
Records = Annotated[Path | None, option(ARCHIVE, metavar="FOLDER")]
Reports = Annotated[Path, option("Folder of reports", metavar="FOLDER")]
Baseline = Annotated[Path | None, option("Earlier report or folder of records: the report shows what changed since", metavar="PATH")]
BUDGET = (
    "Time in which the suite must end, e.g. 30m, 90m, 2h. A few steps of each run are measured, and runs, epochs and preset chosen that fit"
)
Budget = Annotated[str | None, what(BUDGET, metavar="TIME", show_default="none: the whole suite")]
DryRun = Annotated[bool, flag("Show what would run and which data is missing; run nothing", "--dry-run")]
Json = Annotated[bool, flag("JSON on standard output, for programs", "--json")]
Quiet = Annotated[bool, flag("Only results, their paths, and errors", "--quiet", "-q", panel=None)]
Verbose = Annotated[bool, flag("Also versions, and the traceback of each error", "--verbose", "-v", panel=None)]


class Group:
    """Several options: a parameter of this type stands for an option for each field."""


@dataclass(frozen=True)
class SuiteChoice(Group):
    """A suite, and values that replace its own."""

    suite: Annotated[str, argument(SUITE, show_default="one that fits the data")] = ""
    dataset: Annotated[str | None, what(DATASET, metavar="NAME", **CHANGED)] = None
    seeds: Annotated[str | None, what(SEEDS, metavar="SEEDS", **CHANGED)] = None
    fidelity: Annotated[str | None, what(FIDELITY, metavar="PRESET", choices=PRESETS, **CHANGED)] = None
    epochs: Epochs = None
    precision: Precision = None
    tune: Annotated[str, what(TUNE, metavar="HOW", choices=("auto", "again", "none"))] = "auto"

    @property
    def changes(self) -> dict[str, Any]:
        """What replaces the suite's own, by option: it belongs to the command and the name of a report."""
        given = {key: value for key, value in asdict(self).items() if key != "suite"}
        return given | {"tune": "none" if self.tune == "none" else None}

    @cached_property
    def name(self) -> str:
        """The suite's name or path; without one, a suite that fits the data, said on stderr. Raises `UserError` for data that fail."""
        from vae_variants.harness.suites import fitting

        if self.suite or self.dataset is None:
            return self.suite or fitting(None)
        found = fitting(self.dataset)
        print(f"suite {found} fits {self.dataset}; to run another, name it", file=sys.stderr)
        return found

    def of(self, suite: str) -> SuiteChoice:
        """All of another suite, whose file says what the options of this one do."""
        return SuiteChoice(suite, tune="again" if self.tune == "again" else "auto")

    def plan(self, execute: Execute) -> list[RunSpec]:
        """The runs, with options chosen by trials that `execute` makes. Raises `UserError` for a suite or value that does not exist."""
        from vae_variants.harness import load_suite

        return load_suite(self.name).plan(**self.changes | {"tune": self.tune}, execute=execute)

    def plan_from(self, runs: Path, missing: list[RunSpec] | None = None) -> list[RunSpec]:
        """The runs, whose options are chosen by the trials that are in a folder of records. `missing` is given those that are not."""
        from vae_variants.harness import Store

        def found(trials: Sequence[RunSpec]) -> list[Record | None]:
            records = Store(runs).newest(trial.identity for trial in trials)
            if missing is not None:
                missing.extend(trial for trial in trials if trial.identity not in records)
            return [records[trial.identity][1] if trial.identity in records else None for trial in trials]

        return self.plan(found)


@dataclass(frozen=True)
class Execution(Group):
    """Where and how runs are made."""

    device: Device = "auto"
    engine: Annotated[str, how("Engine: local (this machine), ray (a Ray cluster)", metavar="NAME", choices=("local", "ray"))] = "local"
    address: Annotated[str | None, how("Ray cluster, e.g. 10.0.0.1:6379", metavar="ADDRESS", show_default="starts one here")] = None
    cpus: Annotated[int, how("Processors of each run on Ray", metavar="N", min=1)] = 1
    gpus: Annotated[float, how("GPUs of each run on Ray with --device cuda, e.g. 0.25", metavar="N", min=0)] = 1.0
    jobs: Jobs = "1"
    timeout: Annotated[str | None, how("Time limit of each run, e.g. 90s, 10m, 2h", metavar="TIME", show_default="none")] = None
    memory: Annotated[str, how(MEMORY, metavar="SIZE", choices=("auto", "none"))] = "auto"
    retry: Annotated[str, how(RETRY, metavar="WHICH", choices=("never", "failed", "older", "scores", "all"))] = "never"
    plugin: Plugin = None
    runs: Runs = Path("runs")
    records: Annotated[Path | None, option(FINISHED, metavar="FOLDER")] = None
    log: Annotated[str | None, option("Event files of each run and seed: tensorboard", metavar="FORMAT", choices=("tensorboard",))] = None

    def launch(self) -> Launch:
        """Raises `UserError` at the latest when runs are checked or executed."""
        from vae_variants.cli.launch import Launch

        where = (self.device, self.jobs, self.retry, self.timeout, self.memory, self.engine, self.address)
        return Launch(self.runs, *where, self.plugin or (), self.cpus, self.gpus, self.log, self.records)


class Verbosity:
    """What -q and -v ask of the command that runs now."""

    quiet = verbose = False


KEYWORD = inspect.Parameter.KEYWORD_ONLY
VERBOSITY = [inspect.Parameter(name, KEYWORD, default=False, annotation=hint) for name, hint in (("quiet", Quiet), ("verbose", Verbose))]
beginning: list[Callable[[], None]] = []  # called before each command, but not before its help


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command with -q and -v, whose errors are one line. Exit codes: 2 for bad usage or missing data, 130 when interrupted."""
    signature = inspect.signature(command, eval_str=True)
    hints = {name: p.annotation for name, p in signature.parameters.items() if isinstance(p.annotation, type)}
    groups = {name: inspect.signature(hint, eval_str=True).parameters for name, hint in hints.items() if issubclass(hint, Group)}

    @functools.wraps(command)
    def wrapper(*, quiet: bool, verbose: bool, **given: Any) -> None:
        Verbosity.quiet, Verbosity.verbose = Verbosity.quiet or quiet, Verbosity.verbose or verbose
        escape_unknown()
        try:
            given = {name: expanded(value) for name, value in given.items()}
            for name, fields in groups.items():
                given[name] = hints[name](**{field: given.pop(field) for field in fields})
            if Verbosity.verbose:
                print(", ".join(f"{name} {version(name)}" for name in ("vae-variants", "torch")), "on Python", sys.version, file=sys.stderr)
            for begin in beginning:
                begin()
            command(**given)
        except UserError as error:
            if Verbosity.verbose:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted; finished runs and completed epochs are kept, and the same command resumes", file=sys.stderr)
            raise typer.Exit(130) from None

    parts = [groups.get(name, {name: p}) for name, p in signature.parameters.items()]
    parameters = [p.replace(kind=KEYWORD) for part in parts for p in part.values()]
    wrapper.__signature__ = signature.replace(parameters=[*parameters, *VERBOSITY])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {}
    return wrapper


def expanded(value: Any) -> Any:
    """An option's value, with `~` in paths as the home folder, which a shell leaves in `--runs=~/runs`."""
    if isinstance(value, list):
        return [expanded(each) for each in value]
    return user_path(value) if isinstance(value, Path) else value


def alone(records: Path | None, runs: Path, other: bool = False) -> None:
    """Raises `UserError` if an archive is named together with another source of records."""
    if records is not None and (other or runs != Path("runs")):
        raise UserError("--records excludes --runs and --planned: records are read from one place")


def seconds(text: str | None, what: str = "timeout") -> float | None:
    """`90s`, `10m` or `2h` in seconds. Raises `UserError`, which names `what`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)", text.strip(), re.ASCII)
    if match is None or float(match[1]) == 0:
        raise UserError(f"{what} {text!r} is not a time such as 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
